"""The `validation` section of `data_config.yaml`."""

from datetime import date

from pydantic import Field

from feedrank.config.base import Section


class Tolerance(Section):
    """How far a day's figure may be from what the days before it lead to expect; both must be passed to alarm."""

    factor: float = Field(default=1.0, ge=1, description="times or divided by")
    absolute: float = Field(default=0.0, ge=0, description="in the figure's own unit")


class HistoryConfig(Section):
    """When and how a day is compared with the days before it."""

    window_days: int = Field(default=28, ge=7, description="days before it that a day is compared with")
    min_days: int = Field(default=7, ge=3, description="of them with enough rows, else it isn't judged")
    min_day_rows: int = Field(
        default=100, ge=1, description="a day with fewer rows isn't judged, unless such days have more"
    )
    min_day_clicks: int = Field(default=30, ge=1, description="the same for figures about clicked rows")
    noise_limit: float = Field(default=6.0, gt=0, description="standard deviations of day-to-day noise")
    rows: Tolerance = Tolerance(factor=2.0)
    click_rate: Tolerance = Tolerance(factor=1.5, absolute=0.01)
    like_rate: Tolerance = Tolerance(factor=1.7, absolute=0.03)
    share_rate: Tolerance = Tolerance(factor=1.7, absolute=0.03)
    typical_dwell: Tolerance = Tolerance(factor=1.5, absolute=1.0)
    repeated_dwell: Tolerance = Tolerance(absolute=0.15)
    device_share: Tolerance = Tolerance(absolute=0.12)
    hour_profile: Tolerance = Tolerance(absolute=0.15)
    users_per_row: Tolerance = Tolerance(factor=1.5)
    items_per_row: Tolerance = Tolerance(factor=1.3)
    top_user_share: Tolerance = Tolerance(absolute=0.25)
    top_item_share: Tolerance = Tolerance(absolute=0.25)
    new_user_share: Tolerance = Tolerance(absolute=0.3)
    new_item_share: Tolerance = Tolerance(absolute=0.3)
    top_timestamp_share: Tolerance = Tolerance(absolute=0.05)


class ValidationConfig(Section):
    """What a batch of interactions must satisfy."""

    max_bad_share: float = Field(default=0.02, ge=0, le=1, description="share of bad rows; a day with more is held")
    min_timestamp: date = Field(default=date(1990, 1, 1), description="earlier rows are quarantined")
    future_tolerance_s: float = Field(default=300.0, ge=0, description="clocks may differ by so much")
    max_age_hours: float | None = Field(
        default=None, gt=0, description="age of the newest row that is an alarm; not judged if unset"
    )
    max_dwell_without_click_seconds: float = Field(default=5.0, ge=0, description="a short look")
    max_user_events_per_minute: int = Field(
        default=120, ge=1, description="distinct moments (an answer's rows share one); more is no human being"
    )
    min_rows: int = Field(default=1, ge=1)
    min_rows_to_vary: int = Field(default=100, ge=2, description="a constant column is an error from here on")
    max_user_share: float = Field(default=0.3, gt=0, le=1, description="of all rows; one user with more is an error")
    max_item_share: float = Field(default=0.3, gt=0, le=1, description="of all rows; one item with more is a warning")
    sample_rows: int = Field(default=5, ge=0, description="rows shown in the report for each reason")
    history: HistoryConfig = HistoryConfig()
