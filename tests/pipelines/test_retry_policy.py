"""Whether KFP retries failed tasks, read from its ConfigMap through the Kubernetes client against a stand-in API."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from kfp_stand_in import running
from typer.testing import CliRunner

from feedrank.cli import app
from manifests.render import ROOT
from pipelines.retry_policy import CONFIG_MAP, check_retries, retry_policy
from serving.cluster import api_client

KFPS_OWN = "spec: {templateDefaults: {retryStrategy: {limit: '2', retryPolicy: OnError}}}"


class Kubernetes(BaseHTTPRequestHandler):
    """Has one ConfigMap in `kubeflow`, and refuses all else."""

    def do_GET(self) -> None:
        known = self.path == f"/api/v1/namespaces/kubeflow/configmaps/{CONFIG_MAP}"
        body = json.dumps({"data": {"workflowDefaults": KFPS_OWN}} if known else {"reason": "Forbidden"}).encode()
        self.send_response(200 if known else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The path of a kubeconfig that is not there."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    api_client.cache_clear()
    yield tmp_path / "config"
    api_client.cache_clear()


@pytest.fixture
def cluster(no_cluster: Path) -> Iterator[None]:
    """A kubeconfig of the stand-in."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Kubernetes) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        kubeconfig = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "me", "user": {}}],
        }
        no_cluster.write_text(yaml.safe_dump(kubeconfig))
        yield
        server.shutdown()


@pytest.mark.usefixtures("cluster")
def test_a_server_that_does_not_retry_is_named_with_the_remedy():
    warning = check_retries("kubeflow")
    assert "KFP does not retry failed tasks" in warning
    assert "retryPolicy: OnError; set it to Always" in warning


@pytest.mark.usefixtures("cluster")
def test_what_may_not_be_read_is_said_in_one_line():
    assert check_retries("other") == (
        "whether KFP retries failed tasks is not known: "
        f"the ConfigMap {CONFIG_MAP} in the namespace other can't be read from here"
    )


@pytest.mark.usefixtures("no_cluster")
def test_without_a_cluster_it_is_not_known():
    assert "is not known" in check_retries("kubeflow")


@pytest.mark.usefixtures("cluster")
def test_the_upload_warns():
    with running() as kfp:
        done = CliRunner().invoke(app, ["pipelines", "upload", f"--host={kfp.url}"])
        assert done.exit_code == 0, done.output
        assert len(kfp.kept["recurringruns"]) == 3
    assert "KFP does not retry failed tasks" in done.output


@pytest.mark.parametrize(
    ("text", "policy"), [("", "OnFailure"), ("spec: {ttlStrategy: {}}", "OnFailure"), (KFPS_OWN, "OnError")]
)
def test_a_missing_policy_is_argos_own(text, policy):
    assert retry_policy({"workflowDefaults": text}) == policy


def test_our_platform_retries():
    patch = ROOT / "manifests" / "platform" / "kfp" / "workflow-controller-configmap.yaml"
    config_map = yaml.safe_load(patch.read_text(encoding="utf-8"))
    assert config_map["metadata"] == {"name": CONFIG_MAP, "namespace": "kubeflow"}
    assert retry_policy(config_map["data"]) == "Always"
    kustomization = yaml.safe_load(patch.with_name("kustomization.yaml").read_text(encoding="utf-8"))
    assert {"path": patch.name} in kustomization["patches"]
