"""The peers are pinned, installed beside our environment or with a clear failure, and compared on the same ranking."""

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.ranker import TorchRanker
from benchmarks.peers.start import HERE, PEERS, packages, requirements
from benchmarks.predict_bundle import Size, write_random_bundle
from benchmarks.predict_wire import Ranking, decoded, encoded, refuse_differing
from feedrank import schema
from feedrank.config.model import ModelConfig
from feedrank.model.bundle import load_bundle
from feedrank.scoring import Scorer

SIZE = Size(users=50, items=200, interactions=2_000)
BODY = b'{"user_id": 7, "item_ids": [3, 1], "context": {"device": "mobile", "timestamp": "2024-11-16T10:30:00Z"}}'
RANKING: Ranking = [(3, 0.5), (1, 0.25)]


def test_each_peer_has_its_packages_and_a_server_that_compiles() -> None:
    assert {file.stem for file in HERE.glob("*.txt")} == set(PEERS)
    assert {file.stem.removesuffix("_peer") for file in HERE.glob("*_peer.py")} == set(PEERS)
    for file in HERE.glob("*_peer.py"):
        compile(file.read_text(encoding="utf-8"), file, "exec")


@pytest.mark.parametrize("name", PEERS)
def test_every_package_of_a_peer_is_pinned_and_no_host_is_named(name: str) -> None:
    lines = requirements(name).read_text(encoding="utf-8").splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[0-9a-z.]+", line)] == []
    ours = {line.split("==")[0] for line in lines} & {"numpy", "torch"}
    assert not ours, "these are our environment's"


def test_a_peer_that_cannot_be_installed_is_said_by_name_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {"XDG_CACHE_HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(SystemExit, match=r"the peer bentoml can't be installed; .*bentoml\.txt: .*No matching"):
        packages("bentoml")
    assert not list((tmp_path / "feedrank-peers").iterdir())


@pytest.mark.parametrize("kind", ["two_tower", "deep_mlp"])
def test_the_peers_model_ranks_as_the_predictor(kind: str, tmp_path: Path) -> None:
    bundle = write_random_bundle(tmp_path / "model", config=ModelConfig(model_type=kind), size=SIZE)
    items, time = np.arange(0, 200, 2), datetime(2024, 11, 16, 10, 30, tzinfo=UTC)
    loaded = load_bundle(bundle)
    device = schema.DEVICES.index("tablet")
    ranking = Scorer.build(loaded, loaded.snapshot).rank(
        7, items.tolist(), time_us=round(time.timestamp() * 1_000_000), device=device
    )
    expected = list(zip(ranking.item_ids, ranking.scores, strict=True))
    torch = zip(*TorchRanker(bundle).rank(7, items, device="tablet", time=time), strict=True)
    refuse_differing({"predictor": expected, "torch": list(torch)})


def test_all_protocols_carry_the_same_request_and_ranking() -> None:
    own = b'{"predictions": [{"item_id": 3, "score": 0.5}, {"item_id": 1, "score": 0.25}]}'
    tensors = b'{"outputs": [{"data": [3, 1]}, {"data": [0.5, 0.25]}]}'
    answers = {
        "/predict": own,
        "/v1/models/ranker:predict": b'{"predictions": [%b]}' % own,
        "/v2/models/r/infer": tensors,
    }
    for path, answer in answers.items():
        assert decoded(path, answer) == RANKING
        assert b"[3, 1]" in encoded(path, BODY)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([(3, 0.5), (2, 0.25)], "ranked other items"),
        ([(3, 0.5)], "ranked other items"),
        ([(3, 0.5), (1, 0.2502)], "peer scored item 1 0.2502, predictor 0.25"),
        ([(1, 0.25), (3, 0.5)], "did not rank by its scores"),
    ],
)
def test_a_peer_that_ranks_otherwise_is_refused(other: Ranking, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        refuse_differing({"predictor": RANKING, "peer": other})


def test_rounding_is_no_other_ranking() -> None:
    refuse_differing({"predictor": RANKING, "peer": [(3, 0.50002), (1, 0.24998)]})
