"""`config/monitoring_config.yaml`: windows, drift tests, performance rules, alerts and the retraining trigger."""

from datetime import timedelta
from typing import Literal

from pydantic import Field, model_validator

from feedrank.config.base import Section


class ReferenceConfig(Section):
    """What is kept of a model's data to compare later windows with."""

    days: int = Field(default=14, ge=1, description="latest days of the model's data that the sample is drawn from")
    max_feature_rows: int = Field(default=20_000, ge=1)
    max_score_rows: int = Field(default=200_000, ge=1)
    score_bins: int = Field(default=10, ge=2, description="equal-share bins of the scores, for the PSI")
    own_days: int = Field(
        default=7, ge=1, description="first days under a model that become its own reference, from the log"
    )
    min_own_rows: int = Field(
        default=1_000, ge=1, description="one per user and day; with fewer, only what no ranker changes is judged"
    )


class WindowConfig(Section):
    """Which rows one verdict looks at; windows overlap when the step is shorter than the window."""

    hours: int = Field(default=24, ge=1)
    step_hours: int = Field(default=3, ge=1)
    max_catch_up: int = Field(default=56, ge=1, description="windows that one run makes up for at most")
    max_rows: int = Field(default=5_000, ge=1, description="rows that the drift tests use at most")
    max_read_rows: int = Field(
        default=2_000_000,
        ge=1,
        description="rows of the log, and of the feedback, that are kept in memory: of more, a sample of the users'",
    )
    min_effective_rows: int = Field(
        default=185,
        ge=2,
        description="n·m / (n + m) of the two samples (185: 370 rows a side); below it: not enough data",
    )
    visit_gap_minutes: float = Field(default=30.0, gt=0, description="a longer pause begins a new visit")
    attribution_minutes: float = Field(
        default=60.0, gt=0, description="feedback counts up to so long after its prediction"
    )
    clock_skew_seconds: float = Field(default=5.0, ge=0, description="feedback may be stamped so much too early")


class DriftConfig(Section):
    """When a feature or the scores count as drifted: significant *and* large, in K of the last M windows."""

    engine: Literal["alibi", "scipy"] = "alibi"
    p_value: float = Field(default=0.05, gt=0, lt=1)
    correction: Literal["bonferroni", "fdr"] = "bonferroni"
    ks_threshold: float = Field(default=0.1, gt=0, lt=1, description="KS statistic D of numeric features")
    ks_tolerance: float = Field(
        default=0.02, ge=0, lt=1, description="D up to that is what days differ by; significance counts from there"
    )
    cramers_v_threshold: float = Field(default=0.1, gt=0, lt=1, description="effect size of categorical features")
    cramers_v_tolerance: float = Field(default=0.05, gt=0, lt=1, description="V by which days differ anyway")
    psi_threshold: float = Field(default=0.2, gt=0, description="population stability index of the scores")
    max_missing_increase: float = Field(default=0.01, ge=0, lt=1, description="share of missing values, absolute")
    thresholds: dict[str, float] = Field(
        default={}, description="effect-size threshold of single features, instead of the general one"
    )
    k: int = Field(default=2, ge=1)
    m: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _k_within_m(self) -> "DriftConfig":
        if self.k > self.m:
            raise ValueError(f"k {self.k} is above m {self.m}: no window could ever raise an alarm")
        return self


class PerformanceConfig(Section):
    """When the served model counts as worse than it was."""

    max_auc_drop: float = Field(default=0.05, gt=0, lt=1, description="relative to the AUC of the model's first days")
    max_calibration_gap: float = Field(
        default=0.5, gt=0, description="of clicks and the sum of the scores, relative to the smaller"
    )
    min_clicks: int = Field(default=50, ge=1, description="fewer clicks give no verdict on AUC and calibration")
    confidence: float = Field(default=0.99, gt=0, lt=1, description="of all intervals; verdicts look outside of them")
    p99_ms: float = Field(default=100.0, gt=0)
    max_error_rate: float = Field(default=0.01, ge=0, lt=1)
    metrics_url: str = Field(default="", description="the predictor's /metrics, for its error rate; empty: not read")
    max_volume_loss: float = Field(
        default=0.9, gt=0, lt=1, description="fall of the number of predictions against earlier windows"
    )
    max_feedback_loss: float = Field(
        default=0.5, gt=0, lt=1, description="fall of the share of requests with feedback against earlier windows"
    )
    max_lost_hours: int = Field(
        default=2, ge=0, description="hours of a window whose share fell so far, although others' did not"
    )
    max_bad_feedback: float = Field(default=0.01, ge=0, lt=1, description="share of feedback with impossible values")
    new_user_max_impressions: int = Field(default=5, ge=0, description="up to so many impressions a user is 'new'")


class ArrivalConfig(Section):
    """How late data may be."""

    predictions_hours: float = Field(
        default=12.0, gt=0, description="no newer prediction in the log for so long is an alarm"
    )
    feedback_hours: float = Field(
        default=30.0, gt=0, description="no newer feedback for so long is an alarm; if it comes nightly, at least 27"
    )
    late_feedback_days: int = Field(
        default=3, ge=1, description="a window is judged again when feedback comes within so many days of its end"
    )
    late_feedback_share: float = Field(
        default=0.02, gt=0, description="and changes its rows or clicks by more than this share"
    )


class ConsistencyConfig(Section):
    """The check that predictions were made on the features that they should have been made on."""

    rows: int = Field(default=200, ge=1, description="predictions of a run whose features are computed again")
    min_rows: int = Field(default=50, ge=1, description="fewer give no verdict")
    max_mismatch: float = Field(default=0.2, gt=0, lt=1, description="share of them with another value of a feature")
    snapshot_hours: float = Field(
        default=6.0, ge=0, lt=24, description="after midnight (UTC) the night's snapshot is in use at the latest"
    )


class SmtpConfig(Section):
    """E-mail of alerts; user and password come from the environment."""

    host: str
    port: int = Field(default=587, ge=1, le=65_535)
    starttls: bool = True
    sender: str
    recipients: tuple[str, ...] = Field(min_length=1)
    user_env: str = "FEEDRANK_SMTP_USER"
    password_env: str = "FEEDRANK_SMTP_PASSWORD"


class AlertConfig(Section):
    """Where alerts go, and how often."""

    slack_webhook_env: str = Field(
        default="FEEDRANK_SLACK_WEBHOOK", description="environment variable with the webhook's address"
    )
    smtp: SmtpConfig | None = None
    cool_down_minutes: float = Field(default=720.0, ge=0, description="the same alert is not repeated earlier")
    remind_days: float = Field(
        default=7.0, gt=0, description="nor one that retrainings answer, as long as it goes on without a break"
    )
    break_hours: float = Field(
        default=48.0, gt=0, description="shorter ones are none: on its first day a new champion is judged less"
    )
    attempts: int = Field(default=3, ge=1)
    backoff_seconds: float = Field(default=2.0, ge=0, description="pause after the first failure; doubles each time")
    timeout_seconds: float = Field(default=10.0, gt=0, description="of one attempt, from connect to answer")


class RetrainingConfig(Section):
    """When a retraining starts, and what it trains on."""

    cool_down_hours: float = Field(default=12.0, ge=0, description="pause between the starts of two retrainings")
    follow_up_days: float = Field(
        default=7.0, ge=0, description="so long after an alarm a retraining starts with each delivery of feedback"
    )
    lease_hours: float = Field(default=6.0, gt=0, description="a retraining that has not ended by then counts as dead")
    cron_job: str = Field(default="", description="of this pod's namespace, whose Job a triggered retraining is")
    recent_days: int = Field(default=90, ge=1)
    replay_share: float = Field(default=0.2, ge=0, lt=1, description="share of training rows from older days")


class MonitoringConfig(Section):
    """The whole of `monitoring_config.yaml`."""

    reference: ReferenceConfig = ReferenceConfig()
    window: WindowConfig = WindowConfig()
    drift: DriftConfig = DriftConfig()
    performance: PerformanceConfig = PerformanceConfig()
    arrivals: ArrivalConfig = ArrivalConfig()
    consistency: ConsistencyConfig = ConsistencyConfig()
    alerts: AlertConfig = AlertConfig()
    retraining: RetrainingConfig = RetrainingConfig()
    history_days: int = Field(default=400, ge=1, description="windows older than that leave the history")

    @property
    def window_length(self) -> timedelta:
        """Length of one window."""
        return timedelta(hours=self.window.hours)
