"""Training: it learns, it repeats, it goes on after an interruption, and it refuses what can't be learnt."""

import warnings
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.small_data import small_model, split_features
from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig, ModelType
from feedrank.errors import DataError
from feedrank.evaluation.metrics import roc_auc
from feedrank.model import forward
from feedrank.model.bundle import rows_of, score_table
from feedrank.model.inputs import inputs_of
from feedrank.model.networks import build_ranker
from feedrank.model.rows import recency_of
from feedrank.model.training import Epoch, Trained, Trainer, train_best
from feedrank.tables import US_PER_DAY, timestamps_us

INPUTS = inputs_of(Feed())

MODEL_TYPES = get_args(ModelType)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for each other make such small networks slow on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fit(config: ModelConfig, *, checkpoint: Path | None = None, on_epoch=lambda _: None) -> Trained:
    train, validation, _ = split_features()
    return Trainer(config, Feed(), train=train, validation=validation, checkpoint=checkpoint, on_epoch=on_epoch).run()


def assert_same(one: Trained, other: Trained) -> None:
    assert one.arrays.keys() == other.arrays.keys()
    assert all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)
    assert one.best_epoch == other.best_epoch
    # The figures may differ in their last bits: matrix kernels depend on where in memory a batch happens to lie.
    assert losses(one) == pytest.approx(losses(other), rel=1e-6)


def losses(trained: Trained) -> list[float]:
    return [loss for epoch in trained.epochs for loss in (epoch.train_loss, epoch.validation_loss)]


class InterruptedRunError(Exception):
    """Stands for a kill: nothing after the checkpoint is written."""


def interrupt_after(epochs: int):
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == epochs:
            raise InterruptedRunError

    return stop


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("validated", [True, False])
def test_the_mean_score_of_rows_that_training_has_not_seen_is_about_the_click_rate(
    model_type: ModelType, validated: bool
):
    train, validation, test = split_features()
    known = pa.concat_tables([train, validation])

    config = small_model(model_type, training={"calibration_clicks": known.num_rows})
    trained = Trainer(
        config, Feed(), train=train if validated else known, validation=validation if validated else None
    ).run()

    rate = known[schema.TARGET].to_numpy().mean()
    assert scored(trained, test, model_type).mean() == pytest.approx(rate, rel=0.08)


def scored(trained: Trained, table: pa.Table, model_type: ModelType) -> np.ndarray:
    return score_table(trained.arrays, model_type, Feed(), table)


def test_both_models_learn():
    _, _, test = split_features()
    targets = test[schema.TARGET].to_numpy()
    for model_type in MODEL_TYPES:
        trained = fit(small_model(model_type))
        scores = scored(trained, test, model_type)
        assert roc_auc(targets, scores) > 0.6, model_type
        assert trained.epochs[trained.best_epoch - 1].validation_loss < trained.epochs[0].validation_loss, model_type


@pytest.mark.parametrize("embedding_learning_rate", [0.0, 0.01])
def test_the_same_seed_gives_the_same_arrays(embedding_learning_rate):
    config = small_model(training={"epochs": 2, "batch_size": 512, "embedding_learning_rate": embedding_learning_rate})
    assert_same(fit(config), fit(config))


def test_another_seed_gives_other_arrays():
    one, other = (fit(small_model(training={"epochs": 1, "seed": seed})) for seed in (1, 2))
    assert not np.array_equal(one.arrays["cross.0.weight"], other.arrays["cross.0.weight"])


@pytest.mark.parametrize("embedding_learning_rate", [0.0, 0.01])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, model_type, embedding_learning_rate):
    training = {"epochs": 3, "batch_size": 512, "embedding_learning_rate": embedding_learning_rate}
    config, checkpoint = small_model(model_type, training=training), tmp_path / "checkpoint"
    with pytest.raises(InterruptedRunError):
        fit(config, checkpoint=checkpoint, on_epoch=interrupt_after(2))
    seen: list[Epoch] = []
    resumed = fit(config, checkpoint=checkpoint, on_epoch=seen.append)
    assert [epoch.epoch for epoch in seen] == [3]
    assert_same(resumed, fit(config))


def test_a_kill_inside_an_epoch_costs_that_epoch_only(tmp_path):
    config, checkpoint = small_model(training={"epochs": 2, "batch_size": 512}), tmp_path / "checkpoint"
    train, validation, _ = split_features()

    def stop_in_the_second_epoch(rows: int, _loss: float) -> None:
        if checkpoint.exists() and rows > train.num_rows // 2:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        Trainer(
            config, Feed(), train=train, validation=validation, checkpoint=checkpoint, on_batch=stop_in_the_second_epoch
        ).run()
    assert_same(fit(config, checkpoint=checkpoint), fit(config))


def test_a_checkpoint_of_another_configuration_is_not_continued(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    fit(small_model(training={"epochs": 1, "seed": 1}), checkpoint=checkpoint)
    config = small_model(training={"epochs": 1, "seed": 2})
    assert_same(fit(config, checkpoint=checkpoint), fit(config))


@pytest.mark.parametrize("content", [b"", b"half a checkpoint"])
def test_an_unreadable_checkpoint_is_not_continued(tmp_path, content):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_bytes(content)
    config = small_model(training={"epochs": 1})
    assert_same(fit(config, checkpoint=checkpoint), fit(config))


def test_training_stops_when_the_loss_falls_no_more():
    stopping = {"patience": 2, "min_delta": 10.0}
    trained = fit(small_model(training={"epochs": 9, "batch_size": 512, "early_stopping": stopping}))
    assert len(trained.epochs) == 3


def test_the_best_epoch_is_kept_not_the_last():
    overfitting = {"epochs": 6, "batch_size": 64, "learning_rate": 0.02, "early_stopping": {"patience": 6}}
    config = small_model("deep_mlp", training=overfitting)
    trained = fit(config)
    assert trained.best_epoch < len(trained.epochs)
    short = fit(
        config.model_copy(update={"training": config.training.model_copy(update={"epochs": trained.best_epoch})})
    )
    assert all(np.array_equal(trained.arrays[name], short.arrays[name]) for name in trained.arrays)


def replaced(features: pa.Table, name: str, values: object) -> pa.Table:
    index = features.schema.get_field_index(name)
    return features.set_column(index, name, pa.array(values, type=features.field(name).type))


def refusal(*, train: pa.Table | None = None, validation: pa.Table | None = None) -> str:
    good_train, good_validation, _ = split_features()
    with pytest.raises(DataError) as caught:
        Trainer(
            small_model(),
            Feed(),
            train=good_train if train is None else train,
            validation=good_validation if validation is None else validation,
        )
    return str(caught.value)


@pytest.mark.parametrize("target", [0, 1])
def test_one_class_is_refused(target):
    train, validation, _ = split_features()
    for name, table in (("train", train), ("validation", validation)):
        message = refusal(**{name: replaced(table, schema.TARGET, np.full(table.num_rows, target))})
        assert f"{schema.TARGET} values [{target}], a ranker needs both 0 and 1" in message
        assert name in message


def test_empty_rows_are_refused():
    train, validation, _ = split_features()
    assert "the training rows are empty" in refusal(train=train.slice(0, 0))
    assert "the validation rows are empty" in refusal(validation=validation.slice(0, 0))


@pytest.mark.parametrize("value", [np.nan, np.inf, None])
def test_a_value_that_is_no_number_is_refused_with_its_column(value):
    train, _, _ = split_features()
    values = train["item_ctr"].to_pylist()
    values[100] = value
    assert "item_ctr" in refusal(train=replaced(train, "item_ctr", values))


def test_a_missing_label_is_refused():
    train, _, _ = split_features()
    labels = train[schema.TARGET].to_pylist()
    labels[100] = None
    assert f"null, NaN or infinity in column {schema.TARGET}" in refusal(train=replaced(train, schema.TARGET, labels))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 50), scale=st.sampled_from([0.1, 1.0, 10.0]))
@settings(deadline=None, max_examples=25)
def test_scoring_without_torch_equals_torch(model_type, seed, rows, scale):
    torch.manual_seed(seed)
    num_users, num_items = 7, 11
    ranker = build_ranker(small_model(model_type), INPUTS, num_users=num_users, num_items=num_items).eval()
    for tensor in ranker.state_dict().values():
        tensor.normal_(std=0.3)
    ranker.input_std.uniform_(0.5, 2.0)
    # One row more than the known ids: unknown ones are scored too.
    users, items = torch.randint(0, num_users + 1, (rows,)), torch.randint(0, num_items + 1, (rows,))
    inputs = scale * torch.randn(rows, INPUTS.width)
    with torch.inference_mode():
        expected = torch.sigmoid(ranker(users, items, inputs)).numpy()
    scores = forward.scores(
        ranker.arrays(), model_type, INPUTS, user_rows=users.numpy(), item_rows=items.numpy(), raw=inputs.numpy()
    )
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_extreme_logits_give_zero_and_one_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = forward.sigmoid(np.array([-1e4, -80, 0, 80, 1e4], dtype=np.float32))
    assert scores.tolist() == pytest.approx([0, 0, 0.5, 1, 1])


@given(st.lists(st.integers(-5, 20), unique=True, max_size=10), st.lists(st.integers(-9, 25), max_size=20))
@settings(deadline=None)
def test_a_known_id_has_its_row_and_an_unknown_one_the_last(known, asked):
    known_ids = np.array(sorted(known), dtype=np.int64)
    rows = rows_of(known_ids, np.array(asked, dtype=np.int64))
    expected = [sorted(known).index(id_) if id_ in known else len(known) for id_ in asked]
    assert rows.tolist() == expected


def test_rows_that_are_older_by_a_half_life_count_for_half():
    features, _, _ = split_features()
    recency = recency_of(features, half_life_days=3.0)
    age_days = (timestamps_us(features).max() - timestamps_us(features)) / US_PER_DAY

    np.testing.assert_allclose(np.log2(recency), -age_days / 3.0, atol=1e-3)
    assert (recency_of(features, half_life_days=None) == 1).all()


@pytest.mark.parametrize(("turned", "kept"), [(False, None), (True, 2.0)])
def test_the_half_life_that_is_best_on_validation_rows_is_kept(tmp_path: Path, turned: bool, kept: float | None):
    """After users have turned to what they left alone before, old rows are in the way."""
    train, validation, _ = split_features()
    old = timestamps_us(train) < timestamps_us(train).max() - 5 * US_PER_DAY
    targets = train[schema.TARGET].to_numpy()
    turned_targets = pa.array(np.where(old & turned, 1 - targets, targets), type=train.schema.field(schema.TARGET).type)
    train = train.set_column(train.schema.get_field_index(schema.TARGET), schema.TARGET, turned_targets)
    config = small_model(training={"half_life_days": (2.0, None)})
    checkpoints = [tmp_path / "0", tmp_path / "1"]

    best = train_best(config, Feed(), train=train, validation=validation, checkpoints=checkpoints)

    assert best.half_life_days == kept
    assert_same(best, Trainer(config, Feed(), train=train, validation=validation, half_life_days=kept).run())
    assert all(checkpoint.exists() for checkpoint in checkpoints)


def test_a_shorter_half_life_is_tried_only_while_that_helps(tmp_path: Path):
    train, validation, _ = split_features()
    config = small_model(training={"half_life_days": (None, 0.1, 1.0)})
    checkpoints = [tmp_path / str(number) for number in range(3)]
    assert (
        train_best(config, Feed(), train=train, validation=validation, checkpoints=checkpoints).half_life_days is None
    )
    assert [checkpoint.exists() for checkpoint in checkpoints] == [True, True, False]


def test_a_ranker_is_calibrated_on_validation_rows_alone_where_all_of_the_latest_are_of_them():
    train, validation, _ = split_features()
    day_before = timestamps_us(validation).min() - 2 * US_PER_DAY
    early = train.filter(pa.array(timestamps_us(train) < day_before))
    late = validation.filter(pa.array(timestamps_us(validation) > timestamps_us(validation).max() - US_PER_DAY))
    trained = Trainer(small_model(training={"calibration_clicks": 1}), Feed(), train=early, validation=late).run()
    rate = late[schema.TARGET].to_numpy().mean()
    assert scored(trained, late, "two_tower").mean() == pytest.approx(rate, rel=0.02)
