#!/bin/sh
# Installs torch as requirements/install.sh does: the CPU build where its index answers, else the registry's, which
# comes with CUDA's libraries. Without a GPU some are loaded all the same; those that never are stay out.
# Usage: torch.sh INDEX
set -eu
torch=$(grep -oE '^torch==[0-9.]+' torch.txt)
install() { tools/bin/pip --python /opt/feedrank/bin/python install --quiet --no-compile --require-hashes "$@"; }
if tools/bin/python -c 'import sys; from urllib.request import urlopen; urlopen(sys.argv[1], timeout=5)' \
  "$1/torch/" 2> /dev/null; then
  echo "images: $torch, CPU build"
  install --index-url "$1" -r torch-cpu.txt
else
  echo "images: $torch, from the package registry (the CPU index does not answer)"
  awk '/^[^ ]/ { on = !/^triton==/ } on' torch.txt > without-triton.txt
  install -r without-triton.txt
  find /opt/feedrank/lib -path '*/nvidia/*' \
    \( -name 'libcudnn_*' -o -name 'libcusolver*' -o -name 'libnvrtc.alt*' \) -delete
fi
