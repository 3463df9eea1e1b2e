"""What a monitoring run found: the typed result that is saved as JSON and passed between steps."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

SignalKind = Literal["feature", "score", "performance", "serving", "feedback", "arrival", "consistency"]
Status = Literal["ok", "drift", "not_enough_data", "error", "pending", "collecting"]
"""`pending`: its feedback is not due yet; `collecting`: the champion's own reference is not complete yet."""
Verdict = Literal["healthy", "alarm", "not_enough_data"]
FLAGGED: tuple[Status, ...] = ("drift", "error")
NOT_JUDGED: tuple[Status, ...] = ("pending", "collecting")
NEED_FEEDBACK: tuple[SignalKind, ...] = ("performance", "feedback")
"""Signals that wait for the window's feedback; the others are judged at once."""
WHAT_TO_DO: dict[SignalKind, str] = {
    "feature": "a retraining is asked for (runbook.md#drift-and-decay)",
    "score": "a retraining is asked for (runbook.md#drift-and-decay)",
    "performance": "a retraining is asked for (runbook.md#drift-and-decay)",
    "serving": "look at the predictor (runbook.md#feedrankslow)",
    "feedback": "no retraining starts until it is mended (runbook.md#broken-feedback)",
    "arrival": "look at what writes it (runbook.md#no-data-arrive)",
    "consistency": "look at the snapshot that the predictor has (runbook.md#other-features-than-the-models)",
}


class Result(BaseModel):
    """A frozen part of the result."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Signal(Result):
    """One watched quantity in one window, and the verdict on it."""

    name: str
    """A feature, or `score`, `auc`, `calibration`, …"""
    kind: SignalKind
    test: str
    statistic: float | None = None
    p_value: float | None = None
    p_threshold: float | None = None
    """After the correction for many tests."""
    effect: float | None = None
    """What is compared with the threshold."""
    threshold: float
    trend: float = 0.0
    """Part of the statistic that the reference's own trend explains."""
    missing_share: float | None = None
    rows: int
    reference_rows: int = 0
    status: Status
    reason: str

    @property
    def flagged(self) -> bool:
        """Whether this window speaks for a change; K of M such windows raise an alarm."""
        return self.status in FLAGGED


class Estimate(Result):
    """A metric with its confidence interval; the value is None without data."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Metrics(Result):
    """Online metrics of one group of rows (a model version or a segment)."""

    name: str
    impressions: int
    clicks: int
    expected_clicks: float
    """Sum of the scores."""
    ctr: Estimate
    engagement_rate: Estimate
    """Impressions with a like or a share."""
    auc: Estimate
    log_loss: Estimate
    calibration_ratio: Estimate
    """Clicks over expected clicks; 1 is calibrated."""
    calibration_error: Estimate
    """Expected calibration error over bins of equal size."""


class Visits(Result):
    """How users use the feed, over all impressions of the window."""

    users: int
    impressions_per_visit: Estimate
    minutes_per_visit: Estimate
    retention: Estimate
    """Share of the users of the window before that came back in this one."""


class Segment(Result):
    """A part of the traffic, for a reader who asks where the change is; it raises no alarm."""

    metrics: Metrics
    drifted: list[str]
    """Features that are flagged within the segment."""
    rows: int


class FeedbackCounts(Result):
    """What became of the feedback rows of a window."""

    rows: int
    joined: int
    late: int
    """After the attribution window of the latest prediction of that user and item."""
    duplicate: int
    """Same interaction_id, or same user, item and time."""
    orphan: int
    """No earlier prediction of that user and item in the log."""
    invalid: int
    """Impossible values, such as a dwell time in milliseconds."""


class WindowResult(Result):
    """The verdict on one window."""

    start: datetime
    end: datetime
    model_version: str
    predictions: int
    sample_rows: int
    """Independent rows under test: one per user."""
    feedback_due: datetime
    """Nearly all requests of the window are older; feedback up to then is needed for a verdict on it."""
    feedback_in: bool
    """Whether it was there when the window was judged."""
    feedback: FeedbackCounts
    signals: list[Signal]
    versions: list[Metrics]
    visits: Visits
    segments: list[Segment]
    warnings: list[str]
    clock_warnings: list[str] = []
    """Those of the warnings that are alerts, too: rows that are stamped in the future."""


class Alarm(Result):
    """A signal that was flagged in K of the last M windows."""

    signal: str
    kind: SignalKind
    active: bool
    """Still so in the latest window."""
    window_end: datetime
    flagged_windows: int
    """0 of what has stopped to arrive, whose reason says since when."""
    since: datetime
    """End of the first of the flagged windows; of what has stopped to arrive, the latest arrival."""
    reason: str

    @property
    def sentence(self) -> str:
        """What happened, since when, and what to do."""
        since = f"; since {self.since:%Y-%m-%d %H:%M} UTC" if self.flagged_windows else ""
        what_to_do = (
            WHAT_TO_DO[self.kind] if self.active else f"up to {self.window_end:%Y-%m-%d %H:%M} UTC, and no more"
        )
        return f"{self.reason}{since}; {what_to_do}"


class TriggerDecision(Result):
    """Whether a retraining starts now, and why (not)."""

    request_id: str
    decided_at: datetime
    start: bool
    reasons: list[str]
    refused_because: str = ""


class AlertReport(Result):
    """What became of the alerts of a run."""

    sent: list[str] = []
    suppressed: list[str] = []
    """Sent less than the cool-down ago."""
    failed: list[str] = []
    """Kept in the dead-letter file, sent again by the next run."""


class MonitoringResult(Result):
    """One monitoring run."""

    created_at: datetime
    model_version: str
    engine: str
    headline: str
    """The first sentence for the engineer on call."""
    verdict: Verdict
    windows: list[WindowResult]
    alarms: list[Alarm]
    trigger: TriggerDecision
    alerts: AlertReport
    warnings: list[str]
    report: str
    """Path of the HTML report."""

    @property
    def latest(self) -> WindowResult:
        """The latest window."""
        return self.windows[-1]
