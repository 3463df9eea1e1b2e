#!/usr/bin/env bash
# Builds the images and prints what each adds to its base.
# Usage: build.sh [NAME...]. TORCH_INDEX and PIP_INDEX_URL are passed on.
set -euo pipefail
cd "$(dirname "$0")/.."
docker version > /dev/null 2>&1 || { echo "images: no Docker answers; start it and run this again" >&2; exit 1; }
[ $# -gt 0 ] || set -- data serve monitor train
version=$(sed -nE 's/^version = "(.*)"/\1/p' pyproject.toml)
revision=$(git rev-parse --short=12 HEAD 2> /dev/null || echo unknown)
for name in "$@"; do
  echo "images: feedrank-$name:$version"
  docker build --file images/Dockerfile --tag "feedrank-$name:$version" \
    --build-arg IMAGE="$name" --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    --build-arg TORCH_INDEX --build-arg PIP_INDEX_URL .
done
size() { docker image inspect --format '{{.Size}}' "$1"; }
base=$(size python:3.11-slim-bookworm)
printf '%-24s %9s %14s\n' image MB 'MB over base'
for name in "$@"; do
  bytes=$(size "feedrank-$name:$version")
  printf '%-24s %9d %14d\n' "feedrank-$name:$version" $((bytes / 1000000)) $(((bytes - base) / 1000000))
done
