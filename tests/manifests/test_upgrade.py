"""What the chart makes of objects that it finds on the cluster: helm asks a stand-in API server for them."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.manifests.chart import only, rendered

CORE, KSERVE = "/api/v1", "/apis/serving.kserve.io/v1beta1"
KINDS = {
    CORE: {"persistentvolumeclaims": "PersistentVolumeClaim", "configmaps": "ConfigMap", "pods": "Pod"},
    KSERVE: {"inferenceservices": "InferenceService"},
}


@pytest.fixture(autouse=True)
def _no_other_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", os.devnull)


def live(api: str, plural: str, name: str, **content: Any) -> dict[str, Any]:
    """An object, and the list of its kind, by their paths."""
    metadata = {"name": name, "namespace": "feedrank"}
    found = {"apiVersion": api.split("/", 2)[2], "kind": KINDS[api][plural], "metadata": metadata, **content}
    whole = {"apiVersion": found["apiVersion"], "kind": f"{found['kind']}List", "items": [found]}
    folder = f"{api}/namespaces/feedrank/{plural}"
    return {folder: whole, f"{folder}/{name}": found}


@contextmanager
def cluster(objects: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A cluster with these objects; yields the options with which helm looks there."""
    answers = objects | {
        api: {
            "kind": "APIResourceList",
            "resources": [{"name": plural, "kind": kind, "namespaced": True} for plural, kind in kinds.items()],
        }
        for api, kinds in KINDS.items()
    }

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps(found or {"kind": "Status", "reason": "NotFound", "code": 404}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield "--dry-run=server", f"--kube-apiserver=http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("left", [True, False])
def test_an_upgrade_takes_away_what_an_earlier_chart_had_kserve_fetch(left: bool) -> None:
    uris = {"storageUris": [{"uri": "s3://bucket/served/v1.0.0/", "mountPath": "/mnt/models"}]}
    service = live(KSERVE, "inferenceservices", "feedrank", spec={"predictor": uris if left else {}})
    with cluster(service) as options:
        predictor = only(rendered("s3", *options), "InferenceService", "feedrank")["spec"]["predictor"]
    assert predictor.get("storageUris") == ([] if left else None)


@pytest.mark.parametrize(
    ("claim", "wanted", "existing", "refused"),
    [
        ("ReadWriteOnce", "ReadWriteOnce", False, False),
        ("ReadWriteOnce", "ReadWriteMany", False, True),
        ("ReadWriteMany", "ReadWriteOnce", False, True),
        ("ReadWriteOnce", "ReadWriteMany", True, True),
        ("ReadWriteMany", "ReadWriteOnce", True, False),
    ],
)
def test_another_access_mode_than_the_claims_is_refused_where_it_would_fail(
    claim: str, wanted: str, existing: bool, refused: bool
) -> None:
    name = "mine" if existing else "feedrank-data"
    values = f"storage.data.accessMode={wanted},storage.data.existingClaim={'mine' if existing else ''}"
    with cluster(live(CORE, "persistentvolumeclaims", name, spec={"accessModes": [claim]})) as options:
        if not refused:
            assert rendered("default", f"--set={values}", *options)
            return
        with pytest.raises(RuntimeError) as refusal:
            rendered("default", f"--set={values}", *options)
    assert f"storage.data.accessMode: {wanted}, but the claim {name} is {claim}" in str(refusal.value)


@pytest.mark.parametrize(("mounted", "kept"), [("feedrank-config", True), ("feedrank-jobs", False)])
def test_the_configuration_of_an_earlier_chart_stays_while_pods_mount_it(mounted: str, kept: bool) -> None:
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "config", "configMap": {"name": mounted}}]
    pods = live(CORE, "pods", "feedrank-predictor-1", spec={"volumes": volumes})
    files = {"serving_config.yaml": "log:\n  when_full: shed\n"}
    with cluster(pods | live(CORE, "configmaps", "feedrank-config", data=files)) as options:
        found = [m for m in rendered("default", *options) if m["kind"] == "ConfigMap"]
    assert [m["data"] for m in found if m["metadata"]["name"] == "feedrank-config"] == ([files] if kept else [])
    assert "feedrank-jobs" in {m["metadata"]["name"] for m in found}
