"""The figures of a month, and the table of its incidents."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
from rich.table import Table

from benchmarks.month.story import Story
from benchmarks.month.told import Message
from feedrank.evaluation.metrics import calibration_error

BINS = 15
TARGETS = {
    "quiet_alarms": "0",
    "incidents_missed": "0",
    "blocked_nights": "0",
    "refused_predictions": "0",
    "log_bytes_max": "<= 0.5",
    "retrain_days_behind": "<= 1",
    "served_calibration_error": "<= 0.02",
    "recovered_share": ">= 0.7",
}


def figures(story: Story) -> dict[str, float | int | None]:
    """Of one month; `log_bytes_max` is a share of the volume."""
    scores, clicks = np.concatenate(story.scores), np.concatenate(story.clicks)
    return {
        "quiet_alarms": len(quiet_alarms(story)),
        "incidents_missed": sum(first_told(story, row) is None for row in range(len(story.incidents))),
        "blocked_nights": len(story.blocked),
        "refused_predictions": story.refused,
        "log_bytes_max": round(max(story.log_shares), 4),
        "retrain_days_behind": round(max(story.days_behind), 2) if story.days_behind else None,
        "served_calibration_error": round(calibration_error(clicks, scores, bins=BINS), 4),
        **story.judge.recovery(),
        "predictions": story.asked,
        "retrainings": len(story.days_behind),
    }


def first_told(story: Story, row: int) -> Message | None:
    """The message by which people knew of an incident in time."""
    incident = story.incidents[row]
    return story.told.first(incident.sentence, since=incident.begins, until=incident.due)


def quiet_alarms(story: Story) -> list[Message]:
    """What Slack was told on days without an incident."""
    return [
        message
        for message in story.told.messages
        if message.channel == "slack"
        and not any(incident.begins <= message.at < incident.ends for incident in story.incidents)
    ]


def table(story: Story) -> Table:
    """Each incident, and by what and when it was known; then the alarms of quiet days."""
    shown = Table("incident", "known from", "told after", "where", "sentence")
    for row, incident in enumerate(story.incidents):
        message = first_told(story, row)
        shown.add_row(incident.name, f"{incident.known:%F %H:%M}", *_cells(message, incident.sentence, incident.known))
    for message in quiet_alarms(story):
        shown.add_row("QUIET DAY", f"{message.at:%F %H:%M}", "", message.channel, message.text[:200])
    return shown


def _cells(message: Message | None, sentence: str, known: datetime) -> Iterator[str]:
    if message is None:
        yield from ("NOT IN TIME", "", "")
        return
    found = re.search(sentence, message.text, re.IGNORECASE)
    assert found is not None
    yield f"{(message.at - known) / timedelta(hours=1):.1f} h"
    yield message.channel
    yield message.text[max(found.start() - 60, 0) : found.end() + 100].replace("\n", " ")
