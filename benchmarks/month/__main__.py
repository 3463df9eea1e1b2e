"""A month in production: 30 days through the real commands, the real predictor over HTTP and the shipped configuration.

    python -m benchmarks.month [--seeds 42,7,11] [--days N] [--output FOLDER]

Only sizes differ from what is shipped (`settings.py`), and the clock is injected (`clock.py`). The first seed plays the
whole story (`incidents.py`); the others have the taste shift alone, a week earlier, and end as long after it: they are
for the median of the recovered share. Needs root (the volume is a mount of limited size, so that it can be full), a C
compiler and, with nothing else on the machine, an hour a seed. Prints tables and, as the last line, one JSON object.
"""

import argparse
import shutil
import signal
import statistics
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.figures import show
from benchmarks.month import incidents, verdict
from benchmarks.month.clock import MonthClock
from benchmarks.month.feed import Feed
from benchmarks.month.platform import Platform
from benchmarks.month.settings import Sizes
from benchmarks.month.story import Story
from benchmarks.month.told import Told


def play(sizes: Sizes, *, folder: Path, whole: bool, console: Console) -> dict[str, float | int | None]:
    """One month in a folder of its own, which must not be there."""
    folder.mkdir(parents=True)
    clock = MonthClock(folder, start=sizes.at(0))
    platform = Platform(folder, clock, Told(clock.now), volume_mb=sizes.volume_mb)
    happening = incidents.of_month(sizes) if whole else incidents.taste_shift(sizes)
    with platform.running():
        feed = Feed(sizes, exports=platform.exports)
        story = Story(
            platform, feed, happening, whole, say=lambda text: console.print(text, highlight=False, markup=False)
        )
        try:
            story.play()
        finally:
            with (folder / "told.log").open("w") as log:
                log.writelines(f"{m.at:%F %T} {m.channel}: {m.text}\n" for m in platform.told.messages)
    console.print(verdict.table(story))
    return verdict.figures(story)


def main() -> None:
    """Plays the months and prints what they showed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="42,7,11")
    parser.add_argument("--days", type=int, default=Sizes.days, help="fewer for a first look")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark-month"))
    arguments, console = parser.parse_args(), Console(width=160)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the volume is unmounted, the predictor ended
    shutil.rmtree(arguments.output, ignore_errors=True)
    shares, first = [], None
    for number, seed in enumerate(int(seed) for seed in arguments.seeds.split(",")):
        whole = number == 0
        sizes = Sizes(seed=seed, days=arguments.days) if whole else Sizes.of_taste_shift(seed)
        found = play(sizes, folder=(arguments.output / str(seed)).resolve(), whole=whole, console=console)
        console.print(f"seed {seed}: {found}", highlight=False)
        shares.append(found["recovered_share"])
        first = found if first is None else first
    assert first is not None
    known = [share for share in shares if share is not None]
    show(
        first
        | {
            "recovered_share": statistics.median(known) if known else None,
            "recovered_share_min": min(known, default=None),
            "recovered_share_max": max(known, default=None),
        },
        verdict.TARGETS,
    )


if __name__ == "__main__":
    main()
