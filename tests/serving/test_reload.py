"""Models and online features that come, change or can't be used while the predictor answers."""

import json
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
import tritonclient.grpc as triton_grpc
from conftest import log_lines, running
from live_traffic import Traffic, assert_logged_once, copy

from feedrank.features.snapshot import SnapshotInfo, publish_snapshot
from feedrank.model.bundle import CHECKSUMS_FILE


def test_without_a_model_it_lives_but_is_not_ready_and_takes_the_model_when_it_comes(models, tmp_path):
    folder = tmp_path / "model"
    with running(tmp_path, folder, ready=False) as predictor:
        predictor.wait(lambda: predictor.health()["problems"])
        assert predictor.http.get("/v2/health/live").status_code == 200
        assert predictor.http.get("/v2/health/ready").status_code == 503
        assert predictor.http.get("/v1/models/feedrank-ranker").status_code == 503
        assert predictor.http.get("/health").status_code == 503
        assert predictor.health()["status"] == "not_ready"
        refused = predictor.predict(1, [1])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        for path in ("/v1/models/feedrank-ranker:predict", "/v2/models/feedrank-ranker/infer"):
            assert predictor.http.post(path, json={"instances": [], "inputs": []}).status_code == 503
        rpc = triton_grpc.InferenceServerClient(f"127.0.0.1:{predictor.grpc_port}")
        assert rpc.is_server_live()
        assert not rpc.is_server_ready()
        copy(models["v1.0.0"], folder)
        predictor.wait_ready()
        assert predictor.predict(1, [1]).status_code == 200
        assert predictor.health()["problems"] == []


def test_reloads_under_load_fail_no_request_and_lose_no_row(models, tmp_path):
    link = tmp_path / "champion"
    link.symlink_to(models["v1.0.0"])
    with running(tmp_path / "run", link) as predictor:
        with Traffic.to(predictor) as traffic:
            for version in ("v1.0.1", "v2.0.0", "v1.0.0", "v2.0.0"):
                fresh = tmp_path / "new"
                fresh.symlink_to(models[version])
                fresh.rename(link)
                predictor.wait(lambda: predictor.health()["model_version"] == version)  # noqa: B023
        assert predictor.http.post("/admin/reload").json() == {"reloaded": False, "model_version": "v2.0.0"}
        assert predictor.metric("feedrank_reloads_total", result="ok") == 5
        assert predictor.stop() == 0
    assert traffic.failures == []
    assert set(traffic.answered.values()) == {"v1.0.0", "v1.0.1", "v2.0.0"}
    assert_logged_once(predictor, traffic.answered)


def spoil(model: Path, how: str) -> None:
    if how == "truncated":
        file = next((model / "arrays").glob("item_embedding*"))
        os.truncate(file, file.stat().st_size // 2)
    elif how == "tampered":
        metadata = model / "model_metadata.json"
        metadata.write_text(metadata.read_text().replace('"metrics": {}', '"metrics": {"auc": 1.0}'))
    elif how == "another schema":
        metadata = model / "model_metadata.json"
        text = json.loads(metadata.read_text())
        metadata.write_text(json.dumps(text | {"feature_fingerprint": "0" * 16}))
        sums = json.loads((model / CHECKSUMS_FILE).read_text())
        digest = subprocess.run(["sha256sum", metadata], capture_output=True, check=True, text=True).stdout.split()[0]
        (model / CHECKSUMS_FILE).write_text(json.dumps(sums | {"model_metadata.json": digest}))
    else:
        (model / "model_config.json").unlink()


def test_a_model_that_cannot_be_used_keeps_the_old_one_serving_and_shows(models, tmp_path):
    link = tmp_path / "champion"
    link.symlink_to(models["v1.0.0"])
    with running(tmp_path / "run", link) as predictor:
        for number, how in enumerate(("truncated", "tampered", "another schema", "incomplete"), start=1):
            bad = copy(models["v1.0.1"], tmp_path / how.replace(" ", "-"))
            spoil(bad, how)
            (tmp_path / "new").symlink_to(bad)
            (tmp_path / "new").rename(link)
            response = predictor.http.post("/admin/reload", timeout=60)
            assert response.status_code == 409, how
            assert str(bad.resolve()) in response.json()["reason"]
            health = predictor.health()
            assert (health["status"], health["model_version"]) == ("degraded", "v1.0.0")
            assert health["problems"][0].startswith("model: ")
            assert predictor.metric("feedrank_reloads_total", result="failed") >= number
            assert predictor.predict(1, [1]).json()["model_version"] == "v1.0.0"
        assert any("can't load the model" in line["message"] for line in log_lines(predictor))
        link.unlink()
        assert predictor.http.post("/admin/reload").status_code == 409
        link.symlink_to(models["v1.0.1"])
        assert predictor.http.post("/admin/reload", timeout=60).json()["model_version"] == "v1.0.1"
        assert predictor.health()["status"] == "healthy"


def test_online_features_are_those_published_once_they_are_newer_than_the_models(models, tmp_path):
    published = tmp_path / "online"
    newer = copy(models["v1.0.1"] / "snapshot", tmp_path / "newer")
    info = SnapshotInfo.model_validate_json((newer / "snapshot.json").read_text())
    cutoff = info.cutoff + timedelta(days=1)
    (newer / "snapshot.json").write_text(info.model_copy(update={"cutoff": cutoff}).model_dump_json())

    def scores():
        answer = predictor.predict(5, [1, 2], timestamp="2024-12-16T00:00:00Z").json()
        return {p["item_id"]: p["score"] for p in answer["predictions"]}

    with running(tmp_path / "run", models["v1.0.0"], "--snapshot", str(published / "current")) as predictor:
        own = scores()
        publish_snapshot(newer, published)
        predictor.wait(lambda: predictor.health()["snapshot_cutoff"] == cutoff.isoformat())
        assert predictor.metric("feedrank_snapshot_cutoff_timestamp_seconds") == cutoff.timestamp()
        assert scores() != pytest.approx(own)
        publish_snapshot(models["v1.0.1"] / "snapshot", published)
        predictor.wait(lambda: predictor.metric("feedrank_reloads_total", result="ok") == 3)
        assert scores() == pytest.approx(own)


def test_reload_is_for_this_machine_only(models, tmp_path):
    addresses = [a.address for nics in psutil.net_if_addrs().values() for a in nics if a.family.name == "AF_INET"]
    other = next((a for a in addresses if not a.startswith("127.")), None)
    if other is None:
        pytest.skip("this machine has no other address")
    with running(tmp_path, models["v1.0.0"], "--host", "0.0.0.0") as predictor:
        assert httpx.post(f"http://{other}:{predictor.http_port}/admin/reload").status_code == 403
        forwarded = {"x-forwarded-for": "10.0.0.1"}
        assert predictor.http.post("/admin/reload", headers=forwarded).status_code == 403
        assert predictor.http.post("/admin/reload").status_code == 200
