#!/usr/bin/env bash
# Installs the pinned platform on a cluster, from the internet: cert-manager, KServe and, unless told otherwise, KFP.
# Usage: install.sh CONTEXT [--no-kfp]
set -euo pipefail
cd "$(dirname "$0")"
context=${1:?usage: install.sh CONTEXT [--no-kfp]}
CERT_MANAGER=https://github.com/cert-manager/cert-manager/releases/download/v1.17.0/cert-manager.yaml
k() { kubectl --context "$context" "$@"; }
apply() { k apply --server-side --force-conflicts "$@" > /dev/null; }
rolled_out() { k -n "$1" rollout status deployment/"$2" --timeout=600s; }

apply -f "$CERT_MANAGER"
for name in cert-manager cert-manager-cainjector cert-manager-webhook; do rolled_out cert-manager "$name"; done
# What depends on KServe's own CRDs and webhooks is refused until these answer: the second try takes it.
for _ in 1 2 3 4 5 6; do
  apply -k kserve && break
  sleep 10
done
rolled_out kserve kserve-controller-manager
apply -k kserve
if [ "${2:-}" != --no-kfp ]; then
  apply -k kfp-crds
  k wait --for=condition=Established --timeout=60s crd/applications.app.k8s.io
  apply -k kfp
  for name in mysql metadata-grpc-deployment ml-pipeline; do rolled_out kubeflow "$name"; done
fi
