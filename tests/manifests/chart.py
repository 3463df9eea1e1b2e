"""What the tests ask of the chart: its objects with some values, and their pods."""

from collections.abc import Iterator
from typing import Any

from manifests.pods import as_pod
from manifests.render import CHART, helm_template

PROFILES: dict[str, tuple[str, ...]] = {
    "default": (),
    "kind": (f"--values={CHART / 'values-kind.yaml'}",),
    "production": (f"--values={CHART / 'values-production.yaml'}",),
    "kfp": (
        f"--values={CHART / 'values-kind.yaml'}",
        "--set=retraining.runner=kfp,pipelines.token=true,pipelines.protectApi.enabled=true",
        "--set=predictor.token.existingSecret=token,monitor.alerts.existingSecret=alerts",
        "--set=storage.s3.existingSecret=s3,storage.s3.endpoint=http://s3:9000,mlflow.artifacts=s3://bucket/mlflow",
    ),
    "s3": (
        f"--values={CHART / 'values-production.yaml'}",
        "--set=predictor.modelUri=s3://bucket/served/,storage.s3.existingSecret=s3,storage.s3.endpoint=http://s3:9000",
    ),
}


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Name, pod spec and pod labels of everything that runs."""
    for manifest in manifests:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind == "InferenceService":
            pod = as_pod(manifest)
            yield name, pod["spec"], pod["metadata"]["labels"]
        elif kind == "CronJob":
            template = manifest["spec"]["jobTemplate"]["spec"]["template"]
            yield name, template["spec"], template["metadata"]["labels"]
        elif kind in ("Deployment", "Job"):
            template = manifest["spec"]["template"]
            yield name, template["spec"], template["metadata"]["labels"]


def only(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The object of a kind and name."""
    found = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} objects {kind} {name}"
    return found[0]


def rendered(profile: str = "default", *options: str) -> list[dict[str, Any]]:
    """The chart's objects in a profile."""
    return helm_template(*PROFILES[profile], *options)
