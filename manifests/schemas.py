"""Writes the JSON schemas that kubeconform needs for some manifests, from Kubernetes' definitions and from CRDs.

Usage: python -m manifests.schemas OUTPUT --definitions FILE --crds FILE... --manifests FILE...
FILE of --definitions is `_definitions.json` of the package kubernetes-validate (its strict variant).
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]
PREFIX = "/api/_definitions.json#/$defs/"


def file_name(api_version: str, kind: str) -> str:
    """`deployment-apps-v1.json`, `pod-v1.json`: kubeconform's {{.ResourceKind}}{{.KindSuffix}}."""
    group, _, version = api_version.rpartition("/")
    return "-".join(part for part in (kind.lower(), group.split(".")[0], version) if part) + ".json"


def kinds_in(manifests: list[Path]) -> set[str]:
    """The file names of the schemas that manifests need."""
    documents = (d for path in manifests for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d)
    return {file_name(document["apiVersion"], document["kind"]) for document in documents}


def of_kubernetes(definitions: Schema) -> Iterator[tuple[str, Schema]]:
    """Each kind of Kubernetes itself, with the definitions that it refers to."""
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", [])[:1]:
            group = f"{kind['group']}/" if kind["group"] else ""
            yield file_name(f"{group}{kind['version']}", kind["kind"]), {"$ref": f"#/$defs/{name}"}


def with_definitions(schema: Schema, definitions: Schema) -> Schema:
    """A schema that stands alone."""
    found: Schema = {}
    waiting = [schema]
    while waiting:
        for name in re.findall(r'"\$ref": "[^"]*#/\$defs/([^"]+)"', json.dumps(waiting.pop())):
            if name not in found:
                found[name] = definitions[name]
                waiting.append(definitions[name])
    text = json.dumps({**schema, "$defs": found}).replace(PREFIX, "#/$defs/")
    stand_alone: Schema = json.loads(text)
    return stand_alone


def of_crds(crds: list[Path]) -> Iterator[tuple[str, Schema]]:
    """Each version of each custom resource; unknown fields are refused where the CRD does not keep them."""
    for path in crds:
        for crd in yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader):
            if crd and crd["kind"] == "CustomResourceDefinition":
                spec = crd["spec"]
                for version in spec["versions"]:
                    schema = version["schema"]["openAPIV3Schema"]
                    api_version = f"{spec['group']}/{version['name']}"
                    yield file_name(api_version, spec["names"]["kind"]), strict(schema)


def strict(schema: Any) -> Any:
    """An OpenAPI schema as a JSON schema that takes no unknown fields."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    fields = schema.get("properties")
    if isinstance(fields, dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--definitions", type=Path, required=True)
    parser.add_argument("--crds", type=Path, nargs="*", default=[])
    parser.add_argument("--manifests", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    wanted = kinds_in(arguments.manifests)
    definitions = json.loads(arguments.definitions.read_text(encoding="utf-8"))["$defs"]
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, schema in of_kubernetes(definitions):
        if name in wanted:
            (arguments.output / name).write_text(json.dumps(with_definitions(schema, definitions)), encoding="utf-8")
    for name, schema in of_crds(arguments.crds):
        if name in wanted:
            (arguments.output / name).write_text(json.dumps(schema), encoding="utf-8")


if __name__ == "__main__":
    main()
