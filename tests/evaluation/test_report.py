"""The evaluation's page says the verdict in words and holds its plots; importance finds what the score rests on."""

import re

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.predict_bundle import END
from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.model import EvaluationConfig, Gates
from feedrank.evaluation.evaluate import Evaluation, Metrics, check_gates, evaluate
from feedrank.evaluation.importance import permutation_importance
from feedrank.evaluation.metrics import roc_auc, roc_curve
from feedrank.evaluation.report import headline, write_report
from feedrank.model.bundle import DateRange, ModelMetadata

METADATA = ModelMetadata(
    model_id="0000",
    model_version="v1.0.0",
    training_date=END,
    mlflow_run_id="",
    model_type="two_tower",
    metrics={},
    feature_schema_version="1",
    feature_fingerprint="",
    training_data_date_range=DateRange(start="2024-01-01", end="2024-02-01"),
    config_fingerprint="",
    data_fingerprint="",
    git_commit="",
)
EPOCHS = [{"epoch": n, "train_loss": 0.4, "validation_loss": 0.5, "validation_auc": 0.7} for n in (1, 2)]


def feature_table(rows: int, *, seed: int) -> pa.Table:
    """Random features, of which `item_ctr` is the probability of a click."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(0, 2, rows).astype(np.int8) for name in Feed().fields.names}
    columns["item_ctr"] = rng.beta(0.4, 2.0, rows).astype(np.float32)
    return pa.table(
        {
            schema.TARGET: (rng.random(rows) < columns["item_ctr"]).astype(np.int8),
            schema.USER_ID: rng.integers(0, 30, rows),
            schema.ITEM_ID: rng.integers(0, 50, rows),
            **columns,
        }
    )


TRAIN, TEST = feature_table(2_000, seed=1), feature_table(1_500, seed=2)


def item_ctr(features: pa.Table) -> np.ndarray:
    return features["item_ctr"].to_numpy().astype(np.float64)


class ItemCtrModel:
    """Stands for a bundle whose score is one feature."""

    feed = Feed()

    def score_table(self, features: pa.Table) -> np.ndarray:
        return item_ctr(features)


@pytest.fixture(scope="module")
def judged() -> Evaluation:
    return evaluate(
        item_ctr(TEST), train=TRAIN, test=TEST, feed=Feed(), config=EvaluationConfig(), gates=Gates(), oracle=item_ctr
    )


def test_an_evaluation_survives_the_way_to_json_and_back(judged):
    again = Evaluation.model_validate_json(judged.model_dump_json())
    assert again.model_dump_json() == judged.model_dump_json()
    undefined = judged.ranker.model_copy(update={"auc": float("nan")})
    assert np.isnan(Metrics.model_validate_json(undefined.model_dump_json()).auc)


def test_the_page_holds_the_verdict_the_plots_and_every_figure(judged, tmp_path):
    evaluation = judged.model_copy(update={"importance": {"item_ctr": 0.2, "recency_score": -0.001}})
    write_report(
        evaluation,
        epochs=EPOCHS,
        targets=TEST[schema.TARGET].to_numpy(),
        scores=item_ctr(TEST),
        metadata=METADATA,
        config=EvaluationConfig(),
        directory=tmp_path,
    )
    assert {p.stem for p in tmp_path.glob("*.png")} == {
        *("learning_curve", "roc", "precision_recall", "calibration", "baselines"),
    }
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert not re.search(r"(src|href)=\"(?!data:)", page), "the page must need no other file"
    for text in (
        "gates passed",
        f"{judged.ranker.auc:.4f}",
        f"{judged.ranker.gauc:.4f}",
        "gradient boosted trees",
        "known users",
        "+0.2000",
        "100.0%",
    ):
        assert text in page


def test_the_headline_is_honest(judged):
    assert headline(judged).startswith(f"The ranker passes every gate: {figures(judged.ranker)}, 100% of what")
    assert "does not order a user's items better than item CTR" in headline(judged)
    weak = judged.ranker.model_copy(update={"auc": 0.51, "gauc": 0.4})
    gates = check_gates(weak, Gates(), item_ctr=judged.baselines["item_ctr"])
    missed = judged.model_copy(update={"ranker": weak, "gates": gates, "oracle": None})
    expected = f"The ranker misses AUC: {figures(weak)}. It does not order a user's items better than constant"
    assert headline(missed).startswith(expected)
    knows_users = judged.model_copy(update={"ranker": judged.ranker.model_copy(update={"auc": 0.99})})
    assert "does not order a user's items better than item CTR" in headline(knows_users)
    strong = judged.model_copy(update={"ranker": judged.ranker.model_copy(update={"gauc": 0.99, "ndcg_at_10": 0.99})})
    assert "better than every baseline, gradient-boosted trees by" in headline(strong)


def figures(ranker: Metrics) -> str:
    return f"GAUC {ranker.gauc:.4f}, AUC {ranker.auc:.4f}"


def test_importance_finds_the_feature_that_the_score_rests_on():
    importance = permutation_importance(ItemCtrModel(), TEST, config=EvaluationConfig(importance_max_rows=1_000))
    assert next(iter(importance)) == "item_ctr"
    assert importance.pop("item_ctr") > 0.1
    assert set(importance.values()) == {0.0}
    assert "device_mobile" not in importance


def test_the_area_under_the_roc_points_is_the_auc():
    targets, scores = TEST[schema.TARGET].to_numpy(), np.round(item_ctr(TEST), 2)
    fpr, tpr, threshold = roc_curve(targets, scores, points=1_000)
    assert np.trapz([0, *tpr], [0, *fpr]) == pytest.approx(roc_auc(targets, scores))
    assert (np.diff(threshold) < 0).all()
    assert (fpr[-1], tpr[-1]) == (1, 1)
    assert not len(roc_curve(np.zeros(3), np.ones(3), points=5)[0])
