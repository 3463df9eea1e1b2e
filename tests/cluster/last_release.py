"""The last landed release: its chart, and its code as one more layer on this release's images.

The layer goes straight into the node's store: building and loading such images anew would take minutes.
"""

import compileall
import hashlib
import io
import json
import py_compile
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipelines.kind_cluster import CONTEXT

COMMIT = "f7fabe0"
TAG, PRESENT_TAG = "0.0.9", "0.1.0"
STAGES = ("data", "train", "serve", "monitor")
PLACES = {folder: f"app/{folder}" for folder in ("feedrank", "components", "pipelines", "serving")} | {
    "config": "etc/feedrank"
}
"""Folders of the project in the images."""
HIDES_WHAT_IS_BELOW = ".wh..wh..opq"


def check_out(folder: Path) -> None:
    """Writes the release's files there. Its packages are those of this release but for one that was added since."""
    if subprocess.run(["git", "cat-file", "-e", COMMIT], capture_output=True, check=False).returncode:
        pytest.skip(f"a checkout without the history: it lacks {COMMIT}, the last landed release")
    archive = subprocess.run(["git", "archive", COMMIT], check=True, capture_output=True).stdout
    subprocess.run(["tar", "--extract", f"--directory={folder}"], check=True, input=archive)


def put_images_on_the_node(folder: Path) -> None:
    """Images of the files in a folder, tagged TAG; this release's must be on the node."""
    layer = layer_of(folder)
    for stage in STAGES:
        manifest = json.loads(content(target(f"feedrank-{stage}:{PRESENT_TAG}")))
        config = json.loads(content(manifest["config"]["digest"]))
        config["rootfs"]["diff_ids"].append(digest(layer))
        config["history"].append({"created_by": f"the code of {COMMIT}"})
        blobs = [json.dumps(config).encode(), layer]
        manifest["config"] |= described(blobs[0])
        manifest["layers"].append(manifest["layers"][-1] | described(layer))
        on_node("images", "import", "-", given=archive_of(manifest, blobs, name=f"feedrank-{stage}:{TAG}"))


def layer_of(folder: Path) -> bytes:
    """The tar that lays the release's folders over those of an image."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for source, place in PLACES.items():
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
            compileall.compile_dir(folder / source, quiet=1, invalidation_mode=unchecked)
            tar.addfile(tarfile.TarInfo(f"{place}/{HIDES_WHAT_IS_BELOW}"))
            tar.add(folder / source, place, filter=_of_root)
    return buffer.getvalue()


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    mode = 0o755 if entry.isdir() else 0o644
    return entry.replace(uid=0, gid=0, uname="root", gname="root", mode=mode, deep=False)


def archive_of(manifest: Mapping[str, Any], blobs: list[bytes], *, name: str) -> bytes:
    """An OCI archive without the layers that the node has."""
    text = json.dumps(manifest).encode()
    entry = {"mediaType": manifest["mediaType"], **described(text)}
    entry["annotations"] = {"io.containerd.image.name": f"docker.io/library/{name}"}
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
    }
    files |= {f"blobs/sha256/{digest(blob).removeprefix('sha256:')}": blob for blob in [*blobs, text]}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    """As registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def described(data: bytes) -> dict[str, Any]:
    """What refers to a blob."""
    return {"digest": digest(data), "size": len(data)}


def target(image: str) -> str:
    """The digest of an image's manifest on the node."""
    listed = on_node("images", "ls", f"name==docker.io/library/{image}").decode().splitlines()
    return listed[1].split()[2]


def content(blob: str) -> bytes:
    """A blob of the node's store."""
    return on_node("content", "get", blob)


def on_node(*command: str, given: bytes = b"") -> bytes:
    """Runs containerd's client on the only node."""
    node = f"{CONTEXT.removeprefix('kind-')}-control-plane"
    whole = ["docker", "exec", "--interactive", node, "ctr", "--namespace=k8s.io", *command]
    return subprocess.run(whole, check=True, input=given, capture_output=True).stdout
