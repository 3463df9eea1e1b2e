"""Writes what follows from the chart and from `config/`, so that nothing is kept twice by hand.

helm/feedrank/config/            the chart's copy of config/*.yaml
helm/feedrank/values.schema.json the part about `config`, from the configuration's own types
manifests/base/feedrank.yaml     the chart with its default values
manifests/overlays/kind/         what the profile values-kind.yaml changes in it

Usage: python -m manifests.render [--check]. Needs helm on the PATH. With --check nothing is written, and files that
are out of date are named.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from feedrank.config import Config, file_name

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "feedrank"
FILES = ("feed", "data", "model", "monitoring", "pipelines", "promotion", "serving", "upkeep")
"""Of config/, those that the chart carries."""
RELEASE = NAMESPACE = "feedrank"
KUBE_VERSION = "1.34.0"
HEADER = "# Rendered from helm/feedrank by manifests/render.py; change the chart, not this file.\n"

Manifest = dict[str, Any]


def helm_template(*options: str) -> list[Manifest]:
    """The chart's objects, without its test.

    Raises:
        RuntimeError: helm refuses; the message is its own.
    """
    command = ["helm", "template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", f"--kube-version={KUBE_VERSION}"]
    done = subprocess.run([*command, "--skip-tests", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def without_helm(value: Any) -> Any:
    """A manifest without what only means something to Helm."""
    if isinstance(value, list):
        return [without_helm(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: without_helm(item) for key, item in value.items() if not _is_helms(key)}
    return {key: item for key, item in kept.items() if item or key not in ("annotations", "labels")}


def _is_helms(key: str) -> bool:
    return key == "app.kubernetes.io/managed-by" or key.startswith(("helm.sh/", "meta.helm.sh/"))


def key_of(manifest: Manifest) -> tuple[str, str]:
    """Kind and name, which no two objects share."""
    return manifest["kind"], manifest["metadata"]["name"]


def patch_operations(old: Any, new: Any, path: str = "") -> list[Manifest]:
    """The JSON patch (RFC 6902) from one value to another; lists are replaced as a whole."""
    if old == new:
        return []
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [{"op": "replace", "path": path, "value": new}]
    operations: list[Manifest] = []
    for key in sorted(old.keys() | new.keys()):
        place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in new:
            operations.append({"op": "remove", "path": place})
        elif key not in old:
            operations.append({"op": "add", "path": place, "value": new[key]})
        else:
            operations += patch_operations(old[key], new[key], place)
    return operations


def kustomization(base: list[Manifest], wanted: list[Manifest]) -> tuple[Manifest, list[Manifest]]:
    """The overlay that makes `wanted` of `base`, and the objects that it adds."""
    before, after = {key_of(m): m for m in base}, {key_of(m): m for m in wanted}
    patches: list[Manifest] = []
    for key, manifest in before.items():
        if key not in after:
            gone = {k: manifest[k] for k in ("apiVersion", "kind")} | {"metadata": {"name": key[1]}, "$patch": "delete"}
            patches.append({"target": dict(zip(("kind", "name"), key, strict=True)), "patch": _dump(gone)})
        elif operations := patch_operations(manifest, after[key]):
            # Kustomize trims a patch, and with it a text's last line break: hence the comment.
            text = f"{_dump(operations)}# end\n"
            patches.append({"target": dict(zip(("kind", "name"), key, strict=True)), "patch": text})
    added = [manifest for key, manifest in after.items() if key not in before]
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../base", *(["added.yaml"] if added else [])],
        "patches": patches,
    }
    return overlay, added


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _dump(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1000)


def _dump_all(manifests: list[Manifest]) -> str:
    return HEADER + "---\n".join(_dump(manifest) for manifest in manifests)


def schema() -> str:
    """values.schema.json with the types of the configuration in it."""
    path = CHART / "values.schema.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    config = Config.model_json_schema()
    definitions = _rules_only(config.pop("$defs"))
    _allow_parts_of_features(definitions)
    own = {name: definition for name, definition in whole["$defs"].items() if name[0].islower()}
    used = {name: _rules_only(config["properties"][name]) for name in FILES}
    whole["properties"]["config"]["properties"] = used
    whole["$defs"] = own | _reachable(definitions, used)
    return json.dumps(whole, indent=2) + "\n"


def _allow_parts_of_features(definitions: Manifest) -> None:
    """What is given of a feature is merged with the default declaration, and null takes the feature out."""
    features = definitions["Feed"]["properties"]["features"]
    forms = [definitions[form["$ref"].rpartition("/")[2]] for form in features["additionalProperties"]["oneOf"]]
    known: Manifest = {}
    for form in forms:
        known = form["properties"] | known
    part = {"type": ["object", "null"], "properties": known, "additionalProperties": False}
    definitions["Feed"]["properties"]["features"] = {"type": "object", "additionalProperties": part}


def _reachable(definitions: Manifest, start: Any) -> Manifest:
    """The definitions that are referred to, directly or not."""
    found: Manifest = {}
    waiting = [start]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found[name] = definitions[name]
                waiting.append(found[name])
            waiting += value.values()
    return dict(sorted(found.items()))


def _rules_only(value: Any) -> Any:
    """A JSON schema without what only describes: the files of config/ do that."""
    if isinstance(value, list):
        return [_rules_only(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _rules_only(item) for key, item in value.items() if key not in ("default", "title", "description")}


def wanted_files() -> dict[Path, str]:
    """Every derived file with its content."""
    files = {
        CHART / "config" / file_name(name): (ROOT / "config" / file_name(name)).read_text(encoding="utf-8")
        for name in FILES
    }
    files[CHART / "values.schema.json"] = schema()
    return files


def wanted_manifests() -> dict[Path, str]:
    """The rendered manifests; the chart's own derived files must be up to date."""
    base = [without_helm(manifest) for manifest in helm_template()]
    kind = [without_helm(manifest) for manifest in helm_template(f"--values={CHART / 'values-kind.yaml'}")]
    overlay, added = kustomization(base, kind)
    folder = ROOT / "manifests"
    return {
        folder / "base" / "feedrank.yaml": _dump_all(base),
        folder / "overlays" / "kind" / "kustomization.yaml": HEADER + _dump(overlay),
        folder / "overlays" / "kind" / "added.yaml": _dump_all(added),
    }


def main() -> int:
    """Writes or compares; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for files in (wanted_files, wanted_manifests):
        for path, text in files().items():
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path.relative_to(ROOT))
                if not check:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path}: {'out of date; run python -m manifests.render' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
