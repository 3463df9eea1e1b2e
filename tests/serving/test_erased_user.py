"""An erased user leaves the served model without a restart and without a failed request."""

from pathlib import Path

import numpy as np
import pytest
from conftest import running
from live_traffic import Traffic, copy

from feedrank import delta, schema
from feedrank.erasure.person import People
from feedrank.features.snapshot import publish_snapshot
from feedrank.model.bundle import USER_IDS, load_bundle
from feedrank.model.forget import forget_users

TEST_TIME = "2024-11-15T12:00:00Z"
NOBODY = 10**9


def test_the_user_is_unknown_within_seconds_and_no_build_keeps_the_vector(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = int(np.load(models["v1.0.0"] / "arrays" / f"{USER_IDS}.npy")[3])
    people = People.of([str(user)])
    rows = delta.Rows((schema.USER_ID,), people.rows)
    versions, online, scratch = (tmp_path / name for name in ("versions", "online", "tmp"))
    for version in ("v1.0.0", "v1.0.1"):
        copy(models[version], versions / version)
    publish_snapshot(models["v1.0.0"] / "snapshot", online)
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    current = versions / "current"
    current.symlink_to("v1.0.1")
    options = ("--snapshot", str(online / "current"))
    with running(tmp_path, current, *options) as predictor:
        point_to(current, "v1.0.0")
        predictor.wait(lambda: predictor.health()["model_version"] == "v1.0.0")

        def scores(user_id: int) -> list[float]:
            answer = predictor.predict(user_id, [1, 2, 3], device="mobile", timestamp=TEST_TIME)
            assert answer.status_code == 200
            return [item["score"] for item in answer.json()["predictions"]]

        assert scores(user) != scores(NOBODY)
        assert len(list(scratch.rglob("*.model"))) == 2, "the earlier champion is ready for a rollback"
        with Traffic.to(predictor) as traffic:
            for version in ("v1.0.0", "v1.0.1"):
                assert forget_users(versions / version, ids=people.ids, rows=rows)
                load_bundle(versions / version)
            predictor.wait(lambda: scores(user) == scores(NOBODY) and predictor.health()["status"] == "healthy")
        assert traffic.answered and not traffic.failures
        predictor.wait(lambda: len(list(scratch.rglob("*.model"))) == 1)


def point_to(link: Path, name: str) -> None:
    fresh = link.with_name("fresh")
    fresh.symlink_to(name)
    fresh.replace(link)
