"""How long a promotion waits for KServe's roll-out, through the Kubernetes client against a stand-in API."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from feedrank.config.promotion import TargetConfig
from feedrank.promotion.serving_target import NotServedError
from serving import kserve_target
from serving.cluster import api_client
from serving.kserve_target import VERSION_ANNOTATION, InferenceServiceTarget

ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


@dataclass
class Rollout:
    """A Deployment whose pods are replaced one after the other, so many seconds each."""

    replicas: int
    pod_seconds: float
    strategy: dict[str, Any] = field(default_factory=lambda: ROLLING)
    scaled_to: int = 0
    """What an autoscaler makes of the replicas once the first pod is new."""
    conditions: list[dict[str, str]] = field(default_factory=list)
    """Of the pod that is not ready."""
    started: float = field(default_factory=time.monotonic)

    def answer(self, path: str) -> dict[str, Any] | None:
        if path.startswith("/apis/apps/v1/namespaces/ns/deployments/feed-predictor"):
            return self.deployment()
        if path.startswith("/api/v1/namespaces/ns/pods?"):
            pod = {"metadata": {"name": "feed-new"}, "status": {"conditions": self.conditions}}
            return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]}
        return None

    def deployment(self) -> dict[str, Any]:
        new = int((time.monotonic() - self.started) / self.pod_seconds)
        replicas = self.scaled_to if self.scaled_to and new else self.replicas
        new = min(new, replicas)
        total = replicas if new == replicas else replicas + 1
        labels = {"app": "feed"}
        template = {"metadata": {"labels": labels, "annotations": {VERSION_ANNOTATION: "v2.0.0"}}}
        return {
            "metadata": {"name": "feed-predictor", "generation": 2},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "strategy": self.strategy,
                "template": {**template, "spec": {"containers": [{"name": "c"}]}},
            },
            "status": {
                "observedGeneration": 2,
                "replicas": total,
                "updatedReplicas": new,
                "availableReplicas": replicas,
            },
        }


def handler_of(rollout: Rollout) -> type[BaseHTTPRequestHandler]:
    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = rollout.answer(self.path)
            body = json.dumps(answer or {"reason": "Forbidden"}).encode()
            self.send_response(200 if answer else 403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Api


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    monkeypatch.setattr(kserve_target, "POLL_SECONDS", 0.05)
    api_client.cache_clear()
    yield tmp_path / "config"
    api_client.cache_clear()


def waits_for(rollout: Rollout, kubeconfig: Path, *, base: float = 0.2, pod: float = 0.4) -> float:
    """The seconds that a promotion waited for a roll-out."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(rollout)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        content = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "me", "user": {}}],
        }
        kubeconfig.write_text(yaml.safe_dump(content), encoding="utf-8")
        config = TargetConfig(inference_service="feed", namespace="ns", deadline_seconds=base, pod_deadline_seconds=pod)
        rollout.started = started = time.monotonic()
        try:
            InferenceServiceTarget(config).smoke("v2.0.0")
        finally:
            server.shutdown()
        return time.monotonic() - started


def test_six_pods_that_are_replaced_one_by_one_have_six_times_the_time(kubeconfig: Path) -> None:
    assert waits_for(Rollout(replicas=6, pod_seconds=0.3), kubeconfig) > 6 * 0.3


def test_pods_that_an_autoscaler_adds_meanwhile_have_their_time_too(kubeconfig: Path) -> None:
    assert waits_for(Rollout(replicas=1, pod_seconds=0.3, scaled_to=6), kubeconfig) > 6 * 0.3


def test_a_roll_out_that_hangs_ends_after_its_time_with_what_the_pods_wait_for(kubeconfig: Path) -> None:
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
    started = time.monotonic()
    with pytest.raises(NotServedError) as refused:
        waits_for(Rollout(replicas=2, pod_seconds=60, conditions=[said]), kubeconfig)
    assert 1 <= time.monotonic() - started < 5
    text = str(refused.value)
    assert "v2.0.0 is not rolled out after 1 s: Deployment feed-predictor: 0 of 2 pods are new" in text
    assert text.endswith("pod feed-new: Unschedulable: 0/3 nodes are available")


@pytest.mark.parametrize(
    ("replicas", "rolling", "seconds"),
    [
        (1, {"maxSurge": 1, "maxUnavailable": 0}, 60 + 120),
        (6, {"maxSurge": 1, "maxUnavailable": 0}, 60 + 6 * 120),
        (6, {"maxSurge": 2, "maxUnavailable": 0}, 60 + 3 * 120),
        (7, {"maxSurge": 2, "maxUnavailable": 1}, 60 + 3 * 120),
        (6, {"maxSurge": "50%", "maxUnavailable": "0%"}, 60 + 2 * 120),
        (6, {"maxSurge": "100%", "maxUnavailable": 0}, 60 + 120),
        (8, {"maxSurge": "25%", "maxUnavailable": "25%"}, 60 + 2 * 120),
        (0, {"maxSurge": 1, "maxUnavailable": 0}, 60),
    ],
)
def test_the_time_grows_with_the_pods_that_are_replaced_at_a_time(
    replicas: int, rolling: dict[str, Any], seconds: float
) -> None:
    rollout = Rollout(replicas=replicas, pod_seconds=60, strategy={"type": "RollingUpdate", "rollingUpdate": rolling})
    assert kserve_target.rollout_seconds(typed(rollout.deployment()), TargetConfig()) == seconds


def typed(deployment: dict[str, Any]) -> Any:
    """A Deployment as the client reads it."""
    from kubernetes import client

    @dataclass
    class Answer:
        data: str

    return client.ApiClient().deserialize(Answer(json.dumps(deployment)), "V1Deployment")
