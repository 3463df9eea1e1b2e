"""Declarations for tests."""

from typing import Any

from hypothesis import strategies as st

from feedrank.config.feed import DEFAULT_FEATURES, Feed
from feedrank.features.forms import Age, Clock, Count, Days, Equals, Mean, Rate, Since

_per = st.sampled_from([("user",), ("item",), ("user", "item"), ("item", "user")])
_what, _outcome = st.sampled_from(["impression", "click", "like", "share"]), st.sampled_from(["click", "like", "share"])
_half_life = st.sampled_from(["30m", "5h", "1.5d", "14d"])
_fading = st.none() | _half_life
forms = st.one_of(
    st.builds(Count, count=_what, per=_per, half_life=_fading, transform=st.sampled_from([None, "log1p"])),
    st.builds(Rate, rate=_outcome, per=_per, half_life=_fading, prior_weight=st.floats(0.5, 50)),
    st.builds(Mean, mean=st.just("dwell_time"), per=_per),
    st.builds(Days, days=_what, per=_per),
    st.builds(Age, age=_what, per=_per),
    st.builds(Since, since=_what, per=_per, half_life=_half_life),
    st.builds(Clock, clock=st.sampled_from(["hour", "weekday"])),
    st.builds(Equals, context=st.just("device"), equals=st.sampled_from(["mobile", "desktop", "tablet"])),
)
feeds = st.lists(forms, min_size=1, max_size=8).map(
    lambda made: Feed(features={f"feature_{number}": form for number, form in enumerate(made)})
)
"""Declarations of any forms."""

EVERY_FORM = Feed(
    features={
        "user_clicks": {"count": "click", "per": ["user"]},
        "user_recent": {"count": "impression", "per": ["user"], "half_life": "2d", "transform": "log1p"},
        "item_likes": {"count": "like", "per": ["item"], "half_life": "7d"},
        "pair_seen": {"count": "impression", "per": ["user", "item"]},
        "pair_fading": {"count": "impression", "per": ["user", "item"], "half_life": "3d"},
        "item_ctr": {"rate": "click", "per": ["item"], "prior_weight": 20},
        "item_ctr_now": {"rate": "click", "per": ["item"], "prior_weight": 20, "half_life": "5d"},
        "user_share_rate": {"rate": "share", "per": ["user"]},
        "pair_ctr": {"rate": "click", "per": ["user", "item"]},
        "item_dwell": {"mean": "dwell_time", "per": ["item"]},
        "user_days": {"days": "impression", "per": ["user"]},
        "user_click_days": {"days": "click", "per": ["user"]},
        "item_age": {"age": "impression", "per": ["item"]},
        "item_since_share": {"since": "share", "per": ["item"], "half_life": "2d"},
        "pair_last": {"since": "impression", "per": ["user", "item"], "half_life": "36h"},
        "hour": {"clock": "hour"},
        "weekday": {"clock": "weekday"},
        "on_mobile": {"context": "device", "equals": "mobile"},
    }
)


def feed_with(**constants: dict[str, Any]) -> Feed:
    """The default declaration with other constants of some features."""
    changed = {name: DEFAULT_FEATURES[name].model_copy(update=update) for name, update in constants.items()}
    return Feed(features=DEFAULT_FEATURES | changed)
