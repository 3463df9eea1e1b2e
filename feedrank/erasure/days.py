"""Days that were judged stay judged when an erased user's rows leave them.

To a validation they would be changed days: it would judge days of long ago by the days around them, and hold some.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from feedrank import delta
from feedrank.data.validation.batch import Limits, load
from feedrank.data.validation.contents import day_contents
from feedrank.data.validation.record import NO_ROWS, load_record
from feedrank.erasure.person import People


def settle_days(interactions: Path, validated: Path, people: People) -> None:
    """Gives the record of days the fingerprints that the days will have; before the rows go. May be done again."""
    record = load_record(validated)
    if not record.entries or not delta.is_table(interactions):
        return
    batch = load(interactions, Limits(now_us=0, num_users=None, num_items=None))
    gone = people.rows(batch.table)
    if not gone.any():
        return
    before, after = day_contents(batch).by_day, day_contents(batch.only(~gone)).by_day
    changed = {}
    for day, entry in record.entries.items():
        was, will_be = before.get(day, NO_ROWS), after.get(day, NO_ROWS)
        if was != will_be and was in (entry.content, entry.accepted_content):
            content = will_be if entry.content == was else entry.content
            accepted = will_be if entry.accepted_content == was else entry.accepted_content
            changed[day] = replace(entry, content=content, accepted_content=accepted)
    record.updated(changed, pd.DataFrame()).save(validated)
