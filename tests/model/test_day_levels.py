"""What differs from one day to the next is set aside in training, whatever may look like its reason."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from benchmarks.small_data import small_model, split_features
from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.model.bundle import score_table
from feedrank.model.day_levels import DayLevels, leveled, with_mixed_weekdays
from feedrank.model.inputs import inputs_of
from feedrank.model.rows import Rows
from feedrank.model.training import Trainer
from feedrank.tables import US_PER_DAY, timestamps_us

INPUTS = inputs_of(Feed())
WEEKDAY = torch.tensor(INPUTS.indices((schema.DAY_OF_WEEK,)))


@pytest.mark.parametrize("model_type", ["two_tower", "deep_mlp"])
def test_after_one_bad_day_its_weekday_is_not_expected_to_be_bad(model_type):
    train, validation, _ = split_features()
    days = timestamps_us(train) // US_PER_DAY
    train = train.filter(pa.array(days < days[-1]))  # whole days
    last = timestamps_us(train) // US_PER_DAY == days[-1] - 1
    unlucky = last & (np.random.default_rng(1).random(train.num_rows) < 0.9)
    targets = pa.array(np.where(unlucky, 0, train[schema.TARGET].to_numpy()), type=pa.int8())
    train = train.set_column(0, train.schema.field(schema.TARGET), targets)
    config = small_model(model_type, training={"epochs": 8, "learning_rate": 0.005})
    arrays = Trainer(config, Feed(), train=train, validation=validation).run().arrays
    weekday = int(train[schema.DAY_OF_WEEK].to_numpy()[-1])

    def mean_score(day: int) -> float:
        index = validation.schema.get_field_index(schema.DAY_OF_WEEK)
        days = pa.array(np.full(validation.num_rows, day), type=validation.schema.field(index).type)
        return float(
            score_table(arrays, model_type, Feed(), validation.set_column(index, schema.DAY_OF_WEEK, days)).mean()
        )

    others = [mean_score(day) for day in range(7) if day != weekday]
    assert mean_score(weekday) == pytest.approx(np.mean(others), rel=0.07)


@given(
    days=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    data=st.data(),
)
def test_the_mean_score_of_each_day_becomes_its_click_rate(days, data):
    targets = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(days), max_size=len(days))))
    logits = np.array(data.draw(st.lists(st.floats(-8, 8), min_size=len(days), max_size=len(days))))
    rows = _rows(days, targets)
    scores = expit(leveled(logits, rows))
    for day in set(days):
        of_day = np.array(days) == day
        rate = (targets[of_day].sum() + 0.5) / (of_day.sum() + 1)
        assert scores[of_day].mean() == pytest.approx(rate, abs=1e-4)


@given(rate=st.floats(0, 1), rows=st.integers(1, 50))
def test_mixed_weekdays_are_those_of_other_rows_and_all_else_stays(rate, rows):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.arange(rows * INPUTS.width).reshape(rows, INPUTS.width).float()
    mixed = with_mixed_weekdays(inputs, WEEKDAY, rate=rate, generator=generator)
    known = {tuple(row.tolist()) for row in inputs[:, WEEKDAY]}
    assert all(tuple(row.tolist()) in known for row in mixed[:, WEEKDAY])
    others = np.setdiff1d(np.arange(INPUTS.width), WEEKDAY)
    assert torch.equal(mixed[:, others], inputs[:, others])
    if rate == 0:
        assert torch.equal(mixed, inputs)


def test_levels_follow_a_ranker_that_explains_a_part_of_them():
    rng = np.random.default_rng(0)
    days, logits = np.repeat([0, 1], 20_000), rng.normal(0, 1.5, 40_000)
    truth = np.where(days == 0, -2.0, -1.0)
    rows = _rows(days, (rng.random(40_000) < expit(logits + truth)).astype(float))
    levels, known = DayLevels(rows), torch.from_numpy(logits).float()
    assert abs(levels.values.numpy() - [-2.0, -1.0]).max() > 0.1
    for _ in range(5):
        levels.note(levels.added(known, rows), rows)
        levels.follow()
    np.testing.assert_allclose(levels.values.numpy(), [-2.0, -1.0], atol=0.06)


def _rows(days, targets) -> Rows:
    zeros = torch.zeros(len(days))
    return Rows(
        users=zeros.long(),
        items=zeros.long(),
        inputs=torch.zeros(len(days), INPUTS.width),
        targets=torch.from_numpy(np.asarray(targets, dtype=np.float32)),
        days=torch.from_numpy(np.asarray(days, dtype=np.int64)),
        weights=zeros + 1,
        counts=zeros,
    )
