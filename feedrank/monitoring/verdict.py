"""What a run's windows and alarms add up to: the verdict and the sentence that a person reads first."""

from collections.abc import Iterator, Sequence

from feedrank.monitoring.history import LatestVerdicts
from feedrank.monitoring.results import Alarm, SignalKind, Verdict, WindowResult

DRIFT: tuple[SignalKind, ...] = ("feature", "score")


def verdict(alarms: Sequence[Alarm], latest: WindowResult) -> Verdict:
    """`healthy` only when drift could be judged, or waits for feedback or a reference: the sentence then says so."""
    if alarms:
        return "alarm"
    drift = [signal for signal in latest.signals if signal.kind in DRIFT]
    judged = any(signal.status == "ok" for signal in drift) or all(
        signal.status in ("pending", "collecting") for signal in drift
    )
    return "healthy" if judged else "not_enough_data"


def finding(alarms: Sequence[Alarm], latest: WindowResult, *, quality: LatestVerdicts | None) -> str:
    """What is the matter: the reason of a single alarm, or the names of several, whose reasons are in the alert.

    `quality` is what was said last of the model's, in this run or an earlier one.
    """
    if len(alarms) == 1:
        return alarms[0].reason
    if alarms:
        return f"{len(alarms)} alarms: {', '.join(alarm.signal for alarm in alarms)}"
    if verdict(alarms, latest) == "not_enough_data":
        return (
            f"too few users for a verdict ({latest.sample_rows} users, {latest.predictions} predictions), "
            "so nobody knows whether all is well"
        )
    return ", and ".join([*_drift(latest), _quality(latest, quality)])


def _drift(latest: WindowResult) -> Iterator[str]:
    drift = [signal for signal in latest.signals if signal.kind in DRIFT]
    if watch := [signal.name for signal in latest.signals if signal.flagged]:
        yield f"no alarm yet, but this window flags {', '.join(watch)}"
    elif any(signal.status == "ok" for signal in drift):
        yield "no drift"
    if any(signal.status == "pending" for signal in drift):
        yield "drift waits for feedback"
    if collecting := [signal.name for signal in latest.signals if signal.status == "collecting"]:
        yield f"the champion's own reference is still being collected ({len(collecting)} signals wait for it)"


def _quality(latest: WindowResult, quality: LatestVerdicts | None) -> str:
    """What is known of the model's quality, and up to when."""
    if quality is None:
        return f"the model's quality waits for feedback up to {latest.feedback_due:%Y-%m-%d %H:%M} UTC"
    when = "" if quality.end == latest.end else f" (judged up to {quality.end:%Y-%m-%d %H:%M} UTC)"
    if "not_enough_data" in quality.statuses:
        return f"too few clicks for a verdict on the model's quality{when}"
    if quality.statuses == {"ok"}:
        return f"the model is as good as it should be{when}"
    return f"the model's quality was flagged{when}"
