#!/usr/bin/env bash
# Rewrites the pinned, hashed requirements from pyproject.toml: all.txt for every package but torch, torch.txt
# for torch as PyPI has it (the CUDA build, with its libraries), images/ for the images. No index address is written.
# What is pinned stays pinned where it can; `lock.sh --upgrade` takes the newest of everything.
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet)
full=$(mktemp); trap 'rm -f "$full"' EXIT
cat requirements/all.txt requirements/torch.txt > "$full"
uv pip compile "${options[@]}" "$@" --all-extras pyproject.toml -o "$full"
torch_only=$(grep -oE '^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' "$full" | tr -d '=')
skip=(); for package in $torch_only; do skip+=(--no-emit-package "$package"); done
uv pip compile "${options[@]}" --all-extras "${skip[@]}" pyproject.toml -c "$full" -o requirements/all.txt
awk -v names="$torch_only" 'BEGIN { n = split(names, a, "\n"); for (i = 1; i <= n; i++) keep[a[i]] = 1 }
  /^[a-zA-Z]/ { split($0, p, "=="); on = p[1] in keep } on' "$full" > requirements/torch.txt
./requirements/lock-images.sh
