"""A published snapshot that can't be used: the model is served all the same, and it shows."""

import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import Predictor, log_lines, running
from live_traffic import copy

from feedrank.errors import BundleError
from feedrank.features.snapshot import SnapshotInfo, publish_snapshot
from serving import online_snapshot
from serving.online_snapshot import OnlineSnapshot
from serving.sources import Revision
from tests.bit_flips import flip_bit

UNREACHABLE = "s3://bucket/online?endpoint_override=127.0.0.1:9&scheme=http&region=x"


def later(source: Path, target: Path, *, days: int = 1, **changes: str) -> Path:
    """A copy of a snapshot that is newer by some days."""
    path = copy(source, target) / "snapshot.json"
    info = SnapshotInfo.model_validate_json(path.read_text())
    path.write_text(info.model_copy(update={"cutoff": info.cutoff + timedelta(days=days)} | changes).model_dump_json())
    return target


def of_the_next_schema(source: Path, target: Path) -> Path:
    changes = {"feature_schema_version": "99.0.0", "feature_fingerprint": "f" * 16}
    return later(source, target, days=2, **changes)


def point(link: Path, target: Path) -> None:
    """As publishing and promotion do."""
    fresh = link.with_name(f"{link.name}-new")
    fresh.symlink_to(target)
    fresh.rename(link)


def cutoff(snapshot: Path) -> str:
    return SnapshotInfo.model_validate_json((snapshot / "snapshot.json").read_text()).cutoff.isoformat()


def assert_served_but_degraded(predictor: Predictor, model: Path, reason: str, *, version: str = "v1.0.0") -> None:
    assert predictor.http.get("/v2/health/ready").status_code == 200
    assert predictor.predict(1, [1, 2]).json()["model_version"] == version
    health = predictor.health()
    assert (health["status"], health["model_version"]) == ("degraded", version)
    assert health["snapshot_cutoff"] == cutoff(model / "snapshot")
    [problem] = health["problems"]
    assert problem.startswith("snapshot: ")
    assert reason in problem
    predictor.wait(lambda: predictor.metric("feedrank_snapshot_failing") == 1)
    assert predictor.metric("feedrank_reloads_total", result="failed") >= 1
    warnings = [line["message"] for line in log_lines(predictor) if line["level"] == "warning"]
    assert [reason in warning for warning in warnings] == [True], "one line, however often it is tried"


def test_a_model_is_served_and_healthy_while_no_snapshot_was_published(models, tmp_path):
    with running(tmp_path / "run", models["v1.0.0"], "--snapshot", str(tmp_path / "online" / "current")) as predictor:
        assert predictor.predict(1, [1]).status_code == 200
        assert (predictor.health()["status"], predictor.metric("feedrank_snapshot_failing")) == ("healthy", 0)


@pytest.mark.parametrize("how", ["of the next schema", "truncated", "a bit flipped"])
def test_a_predictor_starts_with_its_models_snapshot_while_the_published_one_cannot_be_used(models, tmp_path, how):
    model, current = models["v1.0.0"], tmp_path / "current"
    if how == "truncated":
        bad, reason = later(model / "snapshot", tmp_path / "bad"), "items.parquet"
        os.truncate(bad / "items.parquet", 1000)
    elif how == "a bit flipped":
        bad, reason = later(model / "snapshot", tmp_path / "bad"), "users.parquet"
        flip_bit(bad / "users.parquet", 0.1)  # the ids
    else:
        bad, reason = of_the_next_schema(model / "snapshot", tmp_path / "bad"), "feature schema 99.0.0"
    point(current, bad)
    with running(tmp_path / "run", model, "--snapshot", str(current)) as predictor:
        assert_served_but_degraded(predictor, model, reason)
        answer = predictor.http.post("/admin/reload", timeout=60)
        assert (answer.status_code, answer.json()["model_version"]) == (200, "v1.0.0")
        assert reason in answer.json()["snapshot_problem"]
        good = later(model / "snapshot", tmp_path / "good")
        point(current, good)
        predictor.wait(lambda: predictor.health()["status"] == "healthy")
        assert predictor.health()["snapshot_cutoff"] == cutoff(good)
        predictor.wait(lambda: predictor.metric("feedrank_snapshot_failing") == 0)


def test_a_predictor_starts_with_its_models_snapshot_while_the_store_is_unreachable(models, tmp_path):
    secrets = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in secrets.items():
            patch.setenv(name, value)
        with running(tmp_path / "run", models["v1.0.0"], "--snapshot", UNREACHABLE) as predictor:
            assert_served_but_degraded(predictor, models["v1.0.0"], "127.0.0.1")


def test_a_rollback_works_after_an_etl_with_the_next_schema(models, tmp_path):
    champion, published = tmp_path / "champion", tmp_path / "online"
    champion.symlink_to(models["v1.0.1"])
    good = later(models["v1.0.1"] / "snapshot", tmp_path / "good")
    publish_snapshot(good, published)
    with running(tmp_path / "run", champion, "--snapshot", str(published / "current")) as predictor:
        assert predictor.health()["snapshot_cutoff"] == cutoff(good)
        point(published / "current", of_the_next_schema(good, published / "next"))
        predictor.wait(lambda: predictor.health()["problems"])
        health = predictor.health()
        assert (health["model_version"], health["snapshot_cutoff"]) == ("v1.0.1", cutoff(good)), "nothing is lost"
        point(champion, models["v1.0.0"])
        answer = predictor.http.post("/admin/reload", timeout=60)
        assert (answer.status_code, answer.json()["model_version"]) == (200, "v1.0.0")
        assert predictor.health()["snapshot_cutoff"] == cutoff(good), "the last good one serves the other model, too"
    with running(tmp_path / "new-pod", champion, "--snapshot", str(published / "current")) as predictor:
        assert_served_but_degraded(predictor, models["v1.0.0"], "feature schema 99.0.0")


def test_a_failing_snapshot_slows_no_rollback_and_a_bad_model_is_not_blamed_on_it(models, tmp_path):
    champion, current = tmp_path / "champion", tmp_path / "current"
    point(current, of_the_next_schema(models["v1.0.0"] / "snapshot", tmp_path / "bad"))
    champion.symlink_to(models["v1.0.0"])
    environment = {"RELOAD__MAX_BACKOFF_SECONDS": "600"}
    with running(tmp_path / "run", champion, "--snapshot", str(current), environment=environment) as predictor:
        for _ in range(8):
            predictor.http.post("/admin/reload", timeout=60)  # the next try by itself is minutes away
        point(champion, models["v1.0.1"])
        predictor.wait(lambda: predictor.health()["model_version"] == "v1.0.1")
        point(current, later(models["v1.0.1"] / "snapshot", tmp_path / "good"))
        predictor.wait(lambda: predictor.health()["status"] == "healthy")
        (tmp_path / "empty").mkdir()
        point(champion, tmp_path / "empty")
        predictor.wait(lambda: predictor.health()["problems"])
        assert [problem.split(":")[0] for problem in predictor.health()["problems"]] == ["model"]


class Published:
    """A snapshot's place, as a test wants it."""

    location = "s3://bucket/online"

    def __init__(self) -> None:
        self.found: Revision | Exception | None = None
        self.asked = 0

    def revision(self) -> Revision | None:
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(online_snapshot.time, "monotonic", lambda: now[0])
    return now


def test_an_unreachable_place_is_asked_again_with_growing_pauses(published: Published, clock: list[float]):
    failures: list[None] = []
    online = OnlineSnapshot(published, max_backoff_seconds=60, on_failure=lambda: failures.append(None))  # type: ignore[arg-type]
    published.found = BundleError("unreachable")
    for _ in range(400):
        assert online.candidates(now=False) == [None]
        online.settled(None, {})
        clock[0] += 0.5
    assert 6 < published.asked == len(failures) < 12, "after 1, 2, 4, ... 60 s"
    online.candidates(now=True)
    assert published.asked == len(failures)
    published.found = good = Revision(Path("good"), "good")
    assert online.candidates(now=True) == [good, None]
    online.settled(good, {})
    assert online.problem is None
    published.found = None
    assert online.candidates(now=False) == [good, None]
    online.settled(good, {})
    assert "gone" in (online.problem or "")


def test_a_store_that_hangs_is_waited_for_by_one_thread_however_often_it_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(online_snapshot, "FETCH_SECONDS", 0.05)
    answers, started, good = threading.Event(), [], Revision(Path("good"), "good")

    class Hanging(Published):
        def revision(self) -> Revision | None:
            started.append(None)
            answers.wait(20)
            return good

    online = OnlineSnapshot(Hanging(), max_backoff_seconds=60)  # type: ignore[arg-type]
    for _ in range(3):
        assert online.candidates(now=True) == [None]
        assert "not fetched within" in (online.problem or "")
    assert len(started) == 1
    answers.set()
    monkeypatch.setattr(online_snapshot, "FETCH_SECONDS", 20)
    assert online.candidates(now=True) == [good, None]
