"""Prints manifests with each InferenceService as the Pod that KServe makes of it: policy checkers know no CRDs.

Usage: python -m manifests.pods FILE
"""

import sys
from pathlib import Path
from typing import Any

import yaml

NOT_OF_A_POD = {
    "annotations",
    "autoScaling",
    "deploymentStrategy",
    "labels",
    "maxReplicas",
    "minReplicas",
    "scaleMetric",
    "scaleTarget",
}
NOT_CHECKED = {"PrometheusRule", "ServiceMonitor"}
"""Custom resources without a pod; kubeconform has looked at them."""


def as_pod(service: dict[str, Any]) -> dict[str, Any]:
    """The predictor's pod; a Service of KServe selects it."""
    predictor, metadata = service["spec"]["predictor"], service["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name']}-predictor",
            "namespace": metadata["namespace"],
            "labels": predictor["labels"],
        },
        "spec": {key: value for key, value in predictor.items() if key not in NOT_OF_A_POD},
    }


def main() -> None:
    """Entry point."""
    documents = [d for d in yaml.safe_load_all(Path(sys.argv[1]).read_text(encoding="utf-8")) if d]
    known = [
        as_pod(document) if document["kind"] == "InferenceService" else document
        for document in documents
        if document["kind"] not in NOT_CHECKED
    ]
    yaml.safe_dump_all(known, sys.stdout, sort_keys=False)


if __name__ == "__main__":
    main()
