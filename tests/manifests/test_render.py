"""Nothing is kept twice by hand, and `kubectl apply -k` gives what the chart gives."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from manifests import render
from tests.manifests.chart import rendered


@pytest.mark.parametrize("files", [render.wanted_files, render.wanted_manifests])
def test_derived_files_are_up_to_date(files: object) -> None:
    assert callable(files)
    stale = [str(path) for path, text in files().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run python -m manifests.render"


@pytest.mark.parametrize(("folder", "profile"), [("base", "default"), ("overlays/kind", "kind")])
def test_kustomize_gives_the_charts_objects(folder: str, profile: str) -> None:
    command = ["kubectl", "kustomize", str(render.ROOT / "manifests" / folder)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    built = {render.key_of(m): m for m in yaml.safe_load_all(text)}
    namespace = built.pop(("Namespace", "feedrank"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert built == {render.key_of(m): render.without_helm(m) for m in rendered(profile)}


def test_patches_lead_from_one_to_the_other() -> None:
    old = {"a": 1, "b": {"c/d": [1], "e~f": 2}, "gone": 0}
    new = {"a": 1, "b": {"c/d": [2], "new": {}}, "g": 3}
    assert render.patch_operations(old, new) == [
        {"op": "replace", "path": "/b/c~1d", "value": [2]},
        {"op": "remove", "path": "/b/e~0f"},
        {"op": "add", "path": "/b/new", "value": {}},
        {"op": "add", "path": "/g", "value": 3},
        {"op": "remove", "path": "/gone"},
    ]


def kserve_source() -> Path:
    """KServe's own manifests, as the Go module has them."""
    try:
        listed = subprocess.run(
            ["go", "mod", "download", "-json", "github.com/kserve/kserve@v0.20.0"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("KServe's Go module can't be had here")
    return Path(json.loads(listed.stdout)["Dir"])


def test_the_platform_is_pinned_and_its_patches_fit_kserve(tmp_path: Path) -> None:
    platform = render.ROOT / "manifests" / "platform"
    remotes = [
        resource
        for path in platform.glob("*/kustomization.yaml")
        for resource in yaml.safe_load(path.read_text(encoding="utf-8"))["resources"]
    ]
    assert sorted("2.17.0" in remote or "v0.20.0" in remote for remote in remotes) == [True] * 3
    for path in (platform / "kserve").iterdir():
        text = path.read_text(encoding="utf-8")
        (tmp_path / path.name).write_text(
            text.replace("https://github.com/kserve/kserve/releases/download/v0.20.0/", ""), encoding="utf-8"
        )
    source = kserve_source() / "install" / "v0.20.0" / "kserve.yaml"
    (tmp_path / "kserve.yaml").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    built = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    parts = [p for p in built.split("\n---\n") if p.startswith("apiVersion") and "kind: ConfigMap\n" in p]
    objects = {render.key_of(m): m for m in map(yaml.safe_load, parts)}
    config = objects["ConfigMap", "inferenceservice-config"]["data"]
    assert json.loads(config["deploy"]) == {"defaultDeploymentMode": "Standard"}
    assert json.loads(config["ingress"])["disableIngressCreation"] is True
    assert "image" in json.loads(config["storageInitializer"])
