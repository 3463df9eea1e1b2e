"""`config/feed.yaml`: the declaration of the feed, its features and what they may know."""

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from feedrank import schema
from feedrank.config.base import Section
from feedrank.features.aggregates import Aggregate, Entity
from feedrank.features.forms import Age, Clock, Count, Days, Declared, Equals, Form, Mean, Rate, Since

Freshness = Literal["nightly"]

DEFAULT_FEATURES: dict[str, Declared] = {
    "user_historical_ctr": Rate(rate="click", per=("user",), prior_weight=10.0),
    "user_avg_dwell_time": Mean(mean="dwell_time", per=("user",)),
    "user_interaction_count": Count(count="impression", per=("user",)),
    "user_days_active": Days(days="impression", per=("user",)),
    "item_popularity": Count(count="impression", per=("item",), half_life="14d", transform="log1p"),
    "item_ctr": Rate(rate="click", per=("item",), prior_weight=20.0),
    "item_avg_dwell_time": Mean(mean="dwell_time", per=("item",)),
    "item_age_days": Age(age="impression", per=("item",)),
    "hour_of_day": Clock(clock="hour"),
    "day_of_week": Clock(clock="weekday"),
    "device_mobile": Equals(context="device", equals="mobile"),
    "device_desktop": Equals(context="device", equals="desktop"),
    "device_tablet": Equals(context="device", equals="tablet"),
    "user_item_previous_interactions": Count(count="impression", per=("user", "item")),
    "recency_score": Since(since="impression", per=("user",), half_life="24h"),
}
_DEFAULT_ORDER = {name: place for place, name in enumerate(DEFAULT_FEATURES)}
NOT_FEATURES = (schema.TARGET, *schema.INTERACTIONS.names, schema.SCORE, schema.RANK, schema.MODEL_VERSION)
"""Columns that lie beside the features in some table; the calendar's are features themselves."""


class Feed(Section):
    """The declaration of the feed; a model carries its own."""

    freshness: Freshness = Field(
        default="nightly", description="what was known at the start of the event's UTC day, as the predictor knows it"
    )
    outcome_delay_minutes: float = Field(
        default=5.0, ge=0, description="after the impression, a click without an action_time counts as known"
    )
    features: dict[str, Declared] = Field(default=DEFAULT_FEATURES, min_length=1)

    @field_validator("features", mode="before")
    @classmethod
    def _without_dropped(cls, features: Any) -> Any:
        """`null` takes a feature out, as in Helm's values."""
        return {k: v for k, v in features.items() if v is not None} if isinstance(features, dict) else features

    @field_validator("features")
    @classmethod
    def _usable_names(cls, features: dict[str, Form]) -> dict[str, Form]:
        """In one order, whatever that of the declaration is: Helm sorts keys."""
        for name in features:
            if not name.isidentifier() or not name.isascii():
                raise ValueError(f"'{name}' is no name of a feature; expected letters, digits and underscores")
            if name in NOT_FEATURES and name not in DEFAULT_FEATURES:
                raise ValueError(f"'{name}' is the name of another column; call the feature otherwise")
        return dict(sorted(features.items(), key=lambda named: (_DEFAULT_ORDER.get(named[0], len(features)), named[0])))

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of every feature matrix."""
        return tuple(self.features)

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """What the features are computed from, each once."""
        return tuple(dict.fromkeys(aggregate for form in self.features.values() for aggregate in form.aggregates))

    @property
    def rule(self) -> tuple[Freshness, float]:
        """What the features may know."""
        return self.freshness, self.outcome_delay_minutes

    @cached_property
    def fields(self) -> pa.Schema:
        """Their columns."""
        return pa.schema([pa.field(name, form.type) for name, form in self.features.items()])

    @cached_property
    def table(self) -> pa.Schema:
        """Of a feature table."""
        return pa.schema([*schema.FEATURE_KEYS, *self.fields])

    @cached_property
    def log(self) -> pa.Schema:
        """Of the prediction log."""
        return pa.schema([*schema.PREDICTION_KEYS, pa.field(schema.FEATURES_STRUCT, pa.struct(list(self.fields)))])

    def chosen(self, which: Callable[[Form], bool]) -> tuple[str, ...]:
        """The features whose form is so."""
        return tuple(name for name, form in self.features.items() if which(form))

    def standing(self, entity: Entity) -> tuple[str, ...]:
        """Features that change with events, but not with the clock, and differ by an entity."""
        return self.chosen(lambda form: form.entity is entity and not form.clocked)

    def clocked(self, entity: Entity) -> tuple[str, ...]:
        """The others; those of no entity are the clock itself."""
        return self.chosen(lambda form: form.entity is entity and form.clocked)

    @cached_property
    def flags(self) -> dict[str, Equals]:
        """Features of the context."""
        return {name: form for name, form in self.features.items() if isinstance(form, Equals)}

    @cached_property
    def column_fingerprint(self) -> str:
        """SHA-256 (hex, 16 digits) over names, order and types of the features' columns."""
        columns = ",".join(f"{field.name}:{field.type}" for field in self.fields)
        return _sha256(f"{schema.FEATURE_SCHEMA_VERSION};{columns}")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex, 16 digits) over the declaration with its constants.

        It is stored with every model and snapshot; a model is served and compared only on features of its own
        fingerprint.
        """
        declared = self.model_dump(mode="json", exclude_none=True)
        return _sha256(f"{schema.FEATURE_SCHEMA_VERSION};{json.dumps(declared)}")

    def retyped(self, other: "Feed") -> str:
        """Which features are columns of another type than in another declaration; else ""."""
        both = [(field, other.fields.field(field.name)) for field in self.fields if field.name in other.names]
        return ", ".join(f"{one.name} is {one.type} instead of {two.type}" for one, two in both if one.type != two.type)

    def differences(self, other: "Feed") -> str:
        """What differs from another declaration, such as `item_ctr.prior_weight 20.0 instead of 9.0`; else ""."""
        own, others = (feed.model_dump(mode="json", exclude_none=True) for feed in (self, other))
        own, others = own | own.pop("features"), others | others.pop("features")
        keys = {**own, **others}
        return ", ".join(text for key in keys for text in _difference(key, own.get(key), others.get(key)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _difference(key: str, own: Any, other: Any) -> list[str]:
    if own == other:
        return []
    if own is None or other is None:
        return [f"{key} {'is missing' if own is None else 'is new'}"]
    if isinstance(own, dict) and own.keys() == other.keys():
        return [f"{key}.{name} {own[name]} instead of {other[name]}" for name in own if own[name] != other[name]]
    return [f"{key} {own} instead of {other}"]


def of_constants(constants: dict[str, Any]) -> Feed:
    """What earlier releases had in their code, with their constants (`features` of data_config.yaml)."""
    features = dict(DEFAULT_FEATURES)
    initial = {"initial_rate": constants["initial_ctr"], "initial_weight": constants["initial_ctr_weight"]}
    changes: dict[str, dict[str, Any]] = {
        "user_historical_ctr": {"prior_weight": constants["user_ctr_prior_weight"], **initial},
        "item_ctr": {"prior_weight": constants["item_ctr_prior_weight"], **initial},
        "item_popularity": {"half_life": f"{constants['popularity_half_life_days']:g}d"},
        "recency_score": {"half_life": f"{constants['recency_half_life_hours']:g}h"},
    }
    for name, change in changes.items():
        features[name] = features[name].model_copy(update=change)
    return Feed(
        freshness=constants["freshness"], outcome_delay_minutes=constants["outcome_delay_minutes"], features=features
    )
