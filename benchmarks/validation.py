"""How much damage the validation catches, and how often it alarms on clean data.

    python -m benchmarks.validation

Counted are batches, not cells. A damaged batch is caught when a rule that names its kind of damage failed or put rows
into the quarantine. Each kind is tried at several shares of damaged rows where that makes sense; a kind counts as
caught when it is caught at HEADLINE_SHARE and above. The first ACCEPTED_DAYS of a batch were accepted before it came,
but for the kinds that a first import must be refused for. Clean batches differ in size, length, growth and weekly
rhythm; any failed rule, quarantined row or warning is a false alarm. Bounds are exact (Clopper-Pearson, 95 %,
two-sided).
"""

import atexit
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.data_issues import ISSUES, NUM_ITEMS, NUM_USERS, Damage, Issue, write_damaged
from feedrank import schema
from feedrank.config.data import GeneratorConfig
from feedrank.config.validation import ValidationConfig
from feedrank.data.generator import generate
from feedrank.data.validation import ValidationSummary, validate
from feedrank.errors import ValidationFailedError

SHARES = (0.001, 0.01, 0.05, 0.20)
HEADLINE_SHARE = 0.05
ROWS, DAYS = 30_000, 35
ACCEPTED_DAYS = 21
START = date(2024, 3, 4)
BASE_SEEDS = (31, 32, 33, 34)
CLEAN_SEED = 400
"""The limits of the rules were set while looking at other seeds (below 30; clean ones below 400)."""
CONFIG = ValidationConfig(max_age_hours=36)


@dataclass(frozen=True)
class Outcome:
    """One damaged batch; `share` is None for damage without degrees."""

    kind: str
    share: float | None
    caught: bool


@lru_cache(maxsize=len(BASE_SEEDS))
def clean_frame(seed: int, rows: int = ROWS, days: int = DAYS) -> pd.DataFrame:
    """A clean batch from the generator, in time order."""
    config = GeneratorConfig(
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
        num_interactions=rows,
        start_date=START,
        end_date=START + timedelta(days=days - 1),
        seed=seed,
    )
    return pa.concat_tables(generate(config)).to_pandas()


@cache
def accepted(seed: int) -> Path:
    """The output of a validation that accepted the first days of a clean batch."""
    frame = clean_frame(seed)
    folder = Path(tempfile.mkdtemp(prefix="feedrank-accepted-"))
    atexit.register(shutil.rmtree, folder)
    first_days = frame[frame[schema.TIMESTAMP] < pd.Timestamp(START + timedelta(days=ACCEPTED_DAYS), tz="UTC")]
    write_damaged(first_days, folder / "table")
    validate(folder / "table", output=folder / "out", config=CONFIG, now=_midnight_after(ACCEPTED_DAYS))
    return folder / "out"


def _midnight_after(days: int) -> datetime:
    return datetime.combine(START + timedelta(days=days), datetime.min.time(), tzinfo=UTC)


def judge(frame: pd.DataFrame, *, days: int = DAYS, history: Path | None = None) -> ValidationSummary:
    """Validates a frame as of the midnight after its last day; `history` is an output of `accepted`."""
    with tempfile.TemporaryDirectory() as folder:
        table, output = Path(folder) / "table", Path(folder) / "out"
        write_damaged(frame, table)
        try:
            return validate(
                table,
                output=output,
                config=CONFIG,
                now=_midnight_after(days),
                num_users=NUM_USERS,
                num_items=NUM_ITEMS,
                accepted=history,
            )
        except ValidationFailedError:
            return ValidationSummary.model_validate_json((output / "summary.json").read_text())


def try_issue(issue: Issue, share: float | None, *, seed: int) -> Outcome:
    """Damages a clean batch and tells whether the damage was caught."""
    base = BASE_SEEDS[seed % len(BASE_SEEDS)]
    damaged = issue.apply(Damage(clean_frame(base).copy(), share or 1.0, np.random.default_rng(seed)))
    summary = judge(damaged, history=None if issue.first_import else accepted(base))
    failed = {rule.name for rule in summary.rules if rule.status == "failed"}
    return Outcome(issue.name, share, bool(failed & issue.rules))


def clean_batches() -> Iterator[tuple[str, pd.DataFrame, int]]:
    """Twenty clean batches of different shape: what it is, its rows, its days."""
    shapes: list[tuple[str, int, int, Callable[[pd.DataFrame], pd.Series] | None]] = [
        ("as the damaged ones", ROWS, DAYS, None),
        ("small", 6_000, DAYS, None),
        ("large", 120_000, DAYS, None),
        ("long", 60_000, 150, None),
        ("one week", 20_000, 7, None),
        ("growth fourfold", 2 * ROWS, DAYS, lambda f: 0.25 + 0.75 * _progress(f)),
        ("shrinking by half", 2 * ROWS, DAYS, lambda f: 1 - 0.5 * _progress(f)),
        ("weekends a third", 2 * ROWS, DAYS, lambda f: 1 - 0.67 * (f[schema.DAY_OF_WEEK] > 4)),
        ("weekends double", 2 * ROWS, DAYS, lambda f: 0.5 + 0.5 * (f[schema.DAY_OF_WEEK] > 4)),
        ("desktop on workdays", 2 * ROWS, DAYS, _desktop_on_workdays),
    ]
    for seed, (name, rows, days, keep) in enumerate(2 * shapes, start=CLEAN_SEED):
        frame = clean_frame.__wrapped__(seed, rows, days)
        if keep is not None:
            frame = frame[np.random.default_rng(seed).random(len(frame)) < keep(frame)]
        yield f"{name}, seed {seed}", frame, days


def _progress(frame: pd.DataFrame) -> pd.Series:
    times = frame[schema.TIMESTAMP]
    return (times - times.iloc[0]) / (times.iloc[-1] - times.iloc[0])


def _desktop_on_workdays(frame: pd.DataFrame) -> pd.Series:
    return 1 - 0.6 * ((frame[schema.DEVICE] == "desktop") & (frame[schema.DAY_OF_WEEK] > 4))


def bounds(hits: int, trials: int) -> tuple[float, float]:
    """Clopper-Pearson bounds of a share, 95 %, two-sided."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def _show(outcomes: Sequence[Outcome], console: Console) -> None:
    table = Table("kind", *(f"{share:g}" for share in SHARES), title="caught, by share of damaged rows")
    found = {(o.kind, o.share): o.caught for o in outcomes}
    for issue in ISSUES:
        cells = [found.get((issue.name, share if issue.graded else None)) for share in SHARES]
        marks = [("yes" if caught else "[red]no[/red]") for caught in cells]
        table.add_row(issue.name, *(marks if issue.graded else [marks[0], "", "", ""]))
    console.print(table)


def _figures(outcomes: Sequence[Outcome], alarms: Sequence[str], clean: int) -> dict[str, object]:
    headline = [o for o in outcomes if o.share is None or o.share >= HEADLINE_SHARE]
    missed = sorted({o.kind for o in headline if not o.caught})
    caught = sum(o.caught for o in headline)
    kinds = len(ISSUES)
    by_share = {
        f"{share:g}": f"{sum(o.caught for o in outcomes if o.share == share)}/{sum(o.share == share for o in outcomes)}"
        for share in SHARES
    }
    return {
        "kinds": kinds,
        "kinds_caught": kinds - len(missed),
        "kinds_missed": missed,
        "kinds_caught_bounds": bounds(kinds - len(missed), kinds),
        "caught": caught / len(headline),
        "caught_batches": caught,
        "damaged_batches": len(headline),
        "caught_bounds": bounds(caught, len(headline)),
        "at_share_of_rows": HEADLINE_SHARE,
        "caught_by_share": by_share,
        "false_alarms": len(alarms),
        "clean_batches": clean,
        "false_alarm_bounds": bounds(len(alarms), clean),
    }


def main() -> None:
    """Prints the table and, as the last line, the figures as JSON."""
    console = Console(file=sys.stderr if not sys.stdout.isatty() else sys.stdout, width=100)
    tries = [(issue, share) for issue in ISSUES for share in (SHARES if issue.graded else (None,))]
    outcomes = [
        try_issue(issue, share, seed=seed)
        for seed, (issue, share) in enumerate(track(tries, description="damaged", console=console))
    ]
    alarms, clean = [], 0
    for name, frame, days in track(clean_batches(), description="clean", total=20, console=console):
        summary = judge(frame, days=days)
        clean += 1
        named = [f"{r.name}: {r.message}" for r in summary.rules if r.status in ("failed", "warning")]
        if named:
            alarms.append(name)
            console.print(f"false alarm on {name}: {'; '.join(named)}")
    _show(outcomes, Console(width=100))
    print(json.dumps(_figures(outcomes, alarms, clean)))


if __name__ == "__main__":
    main()
