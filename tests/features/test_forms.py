"""What follows from the form of a feature."""

import pickle

import numpy as np
import pytest

from feedrank import schema
from feedrank.config.data import FeatureConfig
from feedrank.features.aggregates import LONG_AGO, NEVER_YET, US_PER_DAY, Aggregate, Context, Entity, Kind
from feedrank.features.definitions import CLOCKED, FORMS, STANDING, definitions
from feedrank.features.forms import Age, Clock, Since, aggregates_of

NOW = Context(np.asarray(40 * US_PER_DAY), np.asarray(1), np.asarray(40 * US_PER_DAY))


def test_the_columns_of_the_feature_table_are_those_of_the_forms():
    assert [(field.name, field.type) for field in schema.FEATURE_FIELDS] == [(n, f.type) for n, f in FORMS.items()]


def test_who_comes_when_is_the_same_whoever_ranks():
    assert {name for name, form in FORMS.items() if not form.ranked} == {
        schema.USER_INTERACTION_COUNT, schema.USER_DAYS_ACTIVE, schema.RECENCY_SCORE,
        schema.HOUR_OF_DAY, schema.DAY_OF_WEEK, *schema.DEVICE_COLUMNS,
    }  # fmt: skip


def test_each_feature_either_stands_or_moves_with_the_clock():
    names = [name for kinds in (STANDING, CLOCKED) for of_entity in kinds.values() for name in of_entity]
    assert sorted(names) == sorted(schema.FEATURES)
    assert CLOCKED[Entity.ITEM] == (schema.ITEM_POPULARITY, schema.ITEM_AGE_DAYS)
    assert CLOCKED[Entity.USER] == (schema.RECENCY_SCORE,)


def test_each_aggregate_is_kept_once_and_has_a_name_of_its_own():
    aggregates = aggregates_of(FORMS.values())
    assert len({aggregate.name for aggregate in aggregates}) == len(aggregates) == len(set(aggregates))
    assert Aggregate(Entity.USER, Kind.COUNT).name == "user_impressions"


@pytest.mark.parametrize("name", schema.FEATURES)
def test_of_an_entity_without_an_event_every_feature_is_finite(name: str):
    form = FORMS[name]
    value = form.value(NOW, *(np.array([a.unknown], dtype=np.float64) for a in form.aggregates))
    inputs = form.inputs(np.atleast_1d(value).astype(np.float32))
    assert np.isfinite(value).all()
    assert np.isfinite(inputs).all()
    assert inputs.size == form.width


def test_what_never_happened_has_no_age_and_is_long_ago():
    age, since = (form(per=Entity.ITEM, **known) for form, known in (
        (Age, {"age": "impression"}), (Since, {"since": "impression", "half_life_us": 1e9}),
    ))  # fmt: skip
    assert age.value(NOW, np.array([NEVER_YET])).tolist() == [0]
    assert since.value(NOW, np.array([LONG_AGO])).tolist() == [0.0]


def test_of_cyclic_values_the_last_is_beside_the_first():
    hours = Clock(clock="hour").inputs(np.arange(24, dtype=np.float32))
    steps = np.linalg.norm(np.diff(hours, axis=0, append=hours[:1]), axis=1)
    assert steps == pytest.approx(np.full(24, steps[0]), rel=1e-4)


def test_forms_with_other_constants_are_others_and_survive_pickling():
    own, others = (definitions(FeatureConfig(item_ctr_prior_weight=weight)) for weight in (20.0, 9.0))
    assert {name for name in own if own[name] != others[name]} == {schema.ITEM_CTR}
    assert pickle.loads(pickle.dumps(own)) == own
