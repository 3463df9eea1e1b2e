#!/usr/bin/env bash
# Writes images/NAME.txt, the pinned, hashed packages of each image at the versions of all.txt, and images/build.txt,
# what the images are built with. torch is in none of them: train adds it (images/torch.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet
  -c requirements/all.txt -c requirements/torch.txt)
torch_only=$(grep -oE '^[a-z0-9-]+==' requirements/torch.txt | tr -d '=')
skip=(); for package in $torch_only; do skip+=(--no-emit-package "$package"); done

# image NAME EXTRAS [WITHOUT...]: the packages of the extras, without some and what only those need.
image() {
  local extras=() extra
  for extra in $2; do extras+=(--extra "$extra"); done
  uv pip compile "${options[@]}" "${skip[@]}" "${extras[@]}" pyproject.toml - -o "requirements/images/$1.txt" \
    --excludes <(printf '%s\n' "${@:3}")
}
image data "data pipelines" < /dev/null
image train "data train pipelines registry-server" < /dev/null
# Unused parts of what we use: the image perturbations of alibi-detect; in serve, MLflow beyond its client, and the
# protobuf compiler that KServe asks for.
image monitor "monitor pipelines" opencv-python scikit-image < /dev/null
image serve "serve" mlflow grpcio-tools <<< "mlflow-skinny"
printf '%s\n' hatchling setuptools | uv pip compile "${options[@]}" - -o requirements/images/build.txt
