#!/usr/bin/env bash
# Enforces NetworkPolicies on the kind node of ../shared/cluster, whose network lacks what kind's own has: kube-router's
# firewall as a service of the node. Does nothing when it runs.
set -euo pipefail
node=feed-control-plane version=v2.1.0
tools=${XDG_CACHE_HOME:-$HOME/.cache}/feedrank-checks/bin
docker exec "$node" systemctl is-active --quiet kube-router && exit 0
if [ ! -x "$tools/kube-router-$version" ]; then
  echo "network-policies: building kube-router $version"
  GOBIN="$tools" CGO_ENABLED=0 go install "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@$version"
  mv "$tools/kube-router" "$tools/kube-router-$version"
fi
docker cp --quiet "$tools/kube-router-$version" "$node:/usr/local/bin/kube-router"
docker exec --interactive "$node" bash -euo pipefail <<'NODE'
command -v ipset > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends ipset; } > /dev/null
cat > /etc/systemd/system/kube-router.service <<UNIT
[Unit]
After=kubelet.service
[Service]
ExecStart=/usr/local/bin/kube-router --run-firewall=true --run-router=false --run-service-proxy=false \
  --run-loadbalancer=false --kubeconfig=/etc/kubernetes/admin.conf --hostname-override=$(hostname) \
  --service-cluster-ip-range=10.96.0.0/16
Restart=always
[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --quiet --now kube-router
NODE
echo "network-policies: enforced"
