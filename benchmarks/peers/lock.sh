#!/usr/bin/env bash
# Rewrites the peers' pinned requirements: all that each needs, in our own versions where it takes them. numpy and torch
# are not among them: a peer has those of our environment. No index address is written.
set -euo pipefail
cd "$(dirname "$0")/../.."
lock() { # NAME REQUIREMENT...
  local pins=benchmarks/peers/$1.txt
  shift
  grep -oE '^[^ ]+==[^ ]+' requirements/all.txt > "$pins" # what uv finds in its output it keeps where it can
  printf '%s\n' "$@" | uv pip compile --python-version 3.11 --no-header --no-annotate --no-emit-index-url --quiet \
    -c <(grep -oE '^numpy==[^ ]+' requirements/all.txt) --no-emit-package numpy - -o "$pins" > /dev/null
}
lock mlserver mlserver==1.7.1 'uvloop<0.22' # MLServer 1.7.1's worker does not start on a later one
lock bentoml bentoml==1.4.40
lock rayserve 'ray[serve]==2.60.0'
