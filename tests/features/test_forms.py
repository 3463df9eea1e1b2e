"""What follows from the form of a feature."""

import pickle

import numpy as np
import pytest

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.features.aggregates import LONG_AGO, NEVER_YET, US_PER_DAY, Aggregate, Context, Entity, Kind
from feedrank.features.forms import Age, Clock, Since
from tests.feeds import feed_with

NOW = Context(np.asarray(40 * US_PER_DAY), np.asarray(1), np.asarray(40 * US_PER_DAY))


def test_who_comes_when_is_the_same_whoever_ranks():
    assert {name for name, form in Feed().features.items() if not form.ranked} == {
        "user_interaction_count", "user_days_active", "recency_score",
        schema.HOUR_OF_DAY, schema.DAY_OF_WEEK, *tuple(Feed().flags),
    }  # fmt: skip


def test_each_feature_either_stands_or_moves_with_the_clock():
    feed = Feed()
    names = [name for entity in Entity for of in (feed.standing, feed.clocked) for name in of(entity)]
    assert sorted(names) == sorted(feed.names)
    assert feed.clocked(Entity.ITEM) == ("item_popularity", "item_age_days")
    assert feed.clocked(Entity.USER) == ("recency_score",)


def test_each_aggregate_is_kept_once_and_has_a_name_of_its_own():
    aggregates = Feed().aggregates
    assert len({aggregate.name for aggregate in aggregates}) == len(aggregates) == len(set(aggregates))
    assert Aggregate(Entity.USER, Kind.COUNT).name == "user_impressions"


@pytest.mark.parametrize("name", Feed().names)
def test_of_an_entity_without_an_event_every_feature_is_finite(name: str):
    form = Feed().features[name]
    value = form.value(NOW, *(np.array([a.unknown], dtype=np.float64) for a in form.aggregates))
    inputs = form.inputs(np.atleast_1d(value).astype(np.float32))
    assert np.isfinite(value).all()
    assert np.isfinite(inputs).all()
    assert inputs.size == form.width


def test_what_never_happened_has_no_age_and_is_long_ago():
    age, since = (form(per=("item",), **known) for form, known in (
        (Age, {"age": "impression"}), (Since, {"since": "impression", "half_life": "1h"}),
    ))  # fmt: skip
    assert age.value(NOW, np.array([NEVER_YET])).tolist() == [0]
    assert since.value(NOW, np.array([LONG_AGO])).tolist() == [0.0]


def test_of_cyclic_values_the_last_is_beside_the_first():
    hours = Clock(clock="hour").inputs(np.arange(24, dtype=np.float32))
    steps = np.linalg.norm(np.diff(hours, axis=0, append=hours[:1]), axis=1)
    assert steps == pytest.approx(np.full(24, steps[0]), rel=1e-4)


def test_forms_with_other_constants_are_others_and_survive_pickling():
    own, others = Feed().features, feed_with(item_ctr={"prior_weight": 9.0}).features
    assert {name for name in own if own[name] != others[name]} == {"item_ctr"}
    assert pickle.loads(pickle.dumps(own)) == own
