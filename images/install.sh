#!/bin/sh
# Installs packages, or a project's folder, for the Python of the image; what is an sdist is built by the pinned tools.
# Usage: install.sh [--target FOLDER] REQUIREMENT...
set -eu
target=
if [ "$1" = --target ]; then target=$2; shift 2; fi
wheels=$(mktemp -d)
tools/bin/pip wheel --quiet --no-build-isolation --wheel-dir "$wheels" "$@"
tools/bin/pip --python /opt/feedrank/bin/python install --quiet --no-index --no-compile ${target:+--target "$target"} \
  "$wheels"/*.whl
rm -r "$wheels"
