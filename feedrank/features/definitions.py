"""The features: what each name stands for. How a form is computed, and all that follows from it, is in `forms.py`."""

from functools import lru_cache

from feedrank import schema
from feedrank.config.data import FeatureConfig
from feedrank.features.aggregates import US_PER_DAY, US_PER_HOUR, Entity
from feedrank.features.forms import Age, Clock, Count, Days, Equals, Form, Mean, Popularity, Rate, Since

USER, ITEM = Entity.USER, Entity.ITEM


@lru_cache(maxsize=16)
def definitions(config: FeatureConfig) -> dict[str, Form]:
    """The features by name, in the order of every feature matrix."""
    initial = {"initial_rate": config.initial_ctr, "initial_weight": config.initial_ctr_weight}
    return {
        schema.USER_HISTORICAL_CTR: Rate(rate="click", per=USER, prior_weight=config.user_ctr_prior_weight, **initial),
        schema.USER_AVG_DWELL_TIME: Mean(mean="dwell", per=USER),
        schema.USER_INTERACTION_COUNT: Count(count="impression", per=USER),
        schema.USER_DAYS_ACTIVE: Days(days="impression", per=USER),
        schema.ITEM_POPULARITY: Popularity(
            popularity="impression", per=ITEM, half_life_us=config.popularity_half_life_days * US_PER_DAY
        ),
        schema.ITEM_CTR: Rate(rate="click", per=ITEM, prior_weight=config.item_ctr_prior_weight, **initial),
        schema.ITEM_AVG_DWELL_TIME: Mean(mean="dwell", per=ITEM),
        schema.ITEM_AGE_DAYS: Age(age="impression", per=ITEM),
        schema.HOUR_OF_DAY: Clock(clock="hour"),
        schema.DAY_OF_WEEK: Clock(clock="weekday"),
        schema.DEVICE_MOBILE: Equals(context="device", equals="mobile"),
        schema.DEVICE_DESKTOP: Equals(context="device", equals="desktop"),
        schema.DEVICE_TABLET: Equals(context="device", equals="tablet"),
        schema.USER_ITEM_PREVIOUS_INTERACTIONS: Count(count="impression", per=Entity.USER_ITEM),
        schema.RECENCY_SCORE: Since(
            since="impression", per=USER, half_life_us=config.recency_half_life_hours * US_PER_HOUR
        ),
    }


FORMS = definitions(FeatureConfig())
"""With the default constants: for what does not depend on constants."""


def _of(entity: Entity, *, clocked: bool) -> tuple[str, ...]:
    return tuple(name for name, form in FORMS.items() if form.entity is entity and form.clocked is clocked)


STANDING = {entity: _of(entity, clocked=False) for entity in Entity}
"""Features that change with events, but not with the clock, by what they differ by."""
CLOCKED = {entity: _of(entity, clocked=True) for entity in Entity}
"""The others; those of no entity are the clock itself."""
