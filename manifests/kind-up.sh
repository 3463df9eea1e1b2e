#!/usr/bin/env bash
# Makes the kind cluster of kind-config.yaml (context kind-feed) with KServe and, where images can be pulled, KFP.
# Beside this checkout, ../shared/cluster makes one without pulling anything (and without KFP).
# Usage: kind-up.sh [--no-kfp]
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -x ../shared/cluster/up ]; then
  ../shared/cluster/up --config "$PWD/kind-config.yaml"
  exec manifests/network-policies.sh
fi
for program in docker kind kubectl; do
  command -v "$program" > /dev/null || { echo "kind-up: $program is missing; install it and run this again" >&2; exit 1; }
done
if ! kind get clusters 2> /dev/null | grep -qx feed; then
  kind create cluster --config kind-config.yaml --wait 180s
fi
manifests/platform/install.sh kind-feed "$@"
