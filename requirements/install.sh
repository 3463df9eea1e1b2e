#!/usr/bin/env bash
# Makes the virtual environment of `make`: pinned, hashed packages, torch's CPU build where its index answers.
# Usage: install.sh VENV
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 torch_index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
python=$(command -v python3.11 || command -v python3)
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
  { echo "install: needs Python 3.11, found $("$python" --version)" >&2; exit 1; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
uv=$(command -v uv || true)
if [ -z "$uv" ] || ! "$uv" --version > /dev/null 2>&1; then
  "$venv/bin/python" -m pip install --quiet uv
  uv=$venv/bin/uv
fi
install() { "$uv" pip install --quiet --python "$venv/bin/python" --no-deps "$@"; }
echo "install: packages"
install --require-hashes -r requirements/all.txt
install --require-hashes -r requirements/samples.txt
torch=$(grep -oE '^torch==[0-9.]+' requirements/torch.txt)
if "$venv/bin/python" -c 'import importlib.metadata as m, sys; sys.exit(m.version("torch").split("+")[0] != sys.argv[1])' "${torch#*==}" 2> /dev/null; then
  echo "install: $torch is there"
elif curl -sfI -m 5 "$torch_index/torch/" > /dev/null 2>&1; then
  echo "install: $torch, CPU build"
  install --index-url "$torch_index" "$torch+cpu"
else
  echo "install: $torch, from PyPI (the CPU index does not answer)"
  install --require-hashes -r requirements/torch.txt
fi
install -e .
