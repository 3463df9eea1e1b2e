#!/usr/bin/env bash
# Deletes the kind cluster with all that is on it.
set -euo pipefail
cd "$(dirname "$0")/.."
[ ! -x ../shared/cluster/down ] || exec ../shared/cluster/down
kind delete cluster --name feed
