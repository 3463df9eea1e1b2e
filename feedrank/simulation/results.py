"""What a simulation found: the typed result that is saved as `simulation.json`.

All shares of a policy are measured on the visits that took place under it.
"""

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from feedrank.config.simulation import PolicyName

EventKind = Literal["shift", "alert", "retraining", "rejection", "promotion", "bad_model", "rollback"]


class Result(BaseModel):
    """A frozen part of the result."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class PolicyDay(Result):
    """One day under one policy."""

    date: date
    planned_visits: int
    visits: int
    users: int
    impressions: int
    clicks: int
    engaged: int
    """Impressions with a like or a share."""
    session_seconds: float
    """Mean length of a visit."""
    retention: float | None
    """Share of the users of the day before who came again; None on the first day."""

    @property
    def ctr(self) -> float:
        """Clicks over impressions."""
        return self.clicks / max(self.impressions, 1)

    @property
    def engagement_rate(self) -> float:
        """Impressions with a like or a share."""
        return self.engaged / max(self.impressions, 1)

    @property
    def session_impressions(self) -> float:
        """Mean impressions of a visit."""
        return self.impressions / max(self.visits, 1)


class Event(Result):
    """Something that happened to the loop."""

    at: datetime
    kind: EventKind
    text: str
    model_version: str = ""


class Recovery(Result):
    """How much of the CTR that the shift took was won back on the last days.

    share(policy) = (CTR of the policy - floor) / (CTR of the informed model - floor), on the judged days. The floor is
    the frozen champion's CTR once the candidates have followed the users' new tastes, so that the platform's own
    change of candidates counts as nobody's merit.
    """

    recovered_share: float
    """Of the loop."""
    frozen_share: float
    """Of the frozen champion: about 0, unless it recovers by itself."""
    before_ctr: float
    """Of the champion before the shift."""
    floor_ctr: float
    loop_ctr: float
    frozen_ctr: float
    informed_ctr: float
    floor_days: tuple[date, date]
    """First and last, both included."""
    judged_days: tuple[date, date]


class RollbackResult(Result):
    """The second act: a bad model forced in, and taken back."""

    bad_version: str
    restored_version: str
    ctr_before: float
    ctr_bad: float
    ctr_after: float
    """All on the same visits."""
    rollback_seconds: float
    """Until the old version answered again."""
    failed_requests: int
    """Of those sent while the rollback ran."""
    requests: int


class SimulationResult(Result):
    """`simulation.json`."""

    days: dict[PolicyName, list[PolicyDay]]
    events: list[Event]
    recovery: Recovery | None
    """None when the policies or days that it needs are missing."""
    rollback: RollbackResult | None = None
    requests: int
    """Rankings over HTTP."""
    request_seconds: float
    seconds: float

    @property
    def shifted_at(self) -> datetime:
        """When the users' taste shifted."""
        return next(event.at for event in self.events if event.kind == "shift")

    @property
    def alarms(self) -> tuple[list[Event], list[Event]]:
        """The alerts about days before the shift, which are false, and those about later days."""
        alerts = [event for event in self.events if event.kind == "alert"]
        calm = [event for event in alerts if event.at <= self.shifted_at]
        return calm, [event for event in alerts if event.at > self.shifted_at]
