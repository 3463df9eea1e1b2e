"""Plays the month: traffic and jobs in the order of their times, incidents, and what people on call do about them."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.month import incidents as of
from benchmarks.month.feed import Day, Feed, in_span, send
from benchmarks.month.incidents import Incident
from benchmarks.month.judge import Judge
from benchmarks.month.platform import Platform
from benchmarks.month.schedule import runs
from feedrank.errors import FeedrankError
from feedrank.model.bundle import METADATA_FILE, ModelMetadata

Action = Callable[[], object]


@dataclass
class Story:
    """One month of a platform; `whole` has all incidents, else there is only the taste shift."""

    platform: Platform
    feed: Feed
    incidents: list[Incident]
    whole: bool
    say: Callable[[str], None]
    blocked: list[str] = field(default_factory=list)
    """Nights whose ETL failed."""
    asked: int = 0
    refused: int = 0
    log_shares: list[float] = field(default_factory=list)
    days_behind: list[float] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    clicks: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sizes, self.clock, self.told = self.feed.sizes, self.platform.clock, self.platform.told
        self.judge = Judge(self.feed, self.platform)
        self._rows: dict[int, pa.Table] = {}
        self._filler = self.platform.volume / "somebody-elses-file"
        self._full = False
        self._delivered = self.sizes.at(0)
        self._known_models: set[str] = set()

    def play(self) -> None:
        """From the history to the last day.

        Raises:
            FeedrankError: there is no first model, or the predictor does not start.
        """
        self.feed.history()
        self.clock.reach(self.sizes.at(0))
        self.platform.start_predictor()  # which waits for a model
        if not self.platform.first_model():
            raise FeedrankError(f"no first model: {self.platform.outcomes[-1].text}")
        self._must_be_ready()
        self.judge.prepare()
        for number in range(self.sizes.days):
            self._day(number)

    def _must_be_ready(self) -> None:
        if not self.platform.wait_ready():
            raise FeedrankError("the predictor does not start; see predictor.log")

    def _day(self, number: int) -> None:
        busy = self.whole and number == of.BUSY_DAY
        day = self.feed.begin(
            number, traffic=of.BUSY_FACTOR if busy else 1.0, ahead=self.whole and number == of.CLOCK_AHEAD
        )
        actions = [
            *self._people(number),
            *((moment, self._job(name, number)) for moment, name in runs(self._date(number))),
        ]
        since = self._us(self.sizes.at(number))
        for moment, action in sorted(actions, key=lambda planned: planned[0]):
            since = self._serve(day, since, self._us(moment))
            self.clock.reach(moment)
            if not self._full and self.asked:
                self.platform.wait_logged()
            action()
            for problem in self.platform.health().get("problems", []):
                self.told.note("health", problem)
        self._serve(day, since, self._us(self.sizes.at(number + 1)))
        self._rows[number], shown = self.feed.end(day)
        self.refused += day.refused
        self.scores.append(day.scores[shown.visits, _columns(day, shown.visits, shown.items)])
        self.clicks.append(shown.click)
        self.judge.judge(number, day, shown)
        ctr = shown.click.mean()
        self.say(
            f"{self._date(number)}: {len(day.visits)} visits, CTR {ctr:.1%}, mean score {self.scores[-1].mean():.1%}, "
            f"{self.platform.health().get('model_version')}"
        )

    def _date(self, number: int):
        return self.sizes.date_of(number)

    def _us(self, moment: datetime) -> int:
        return int(moment.timestamp()) * 1_000_000

    def _serve(self, day: Day, since: int, until: int) -> int:
        rows = in_span(day, since, until)
        send(day, rows, url=self.platform.url, clock=self.clock)
        self.asked += len(rows)
        return until

    def _job(self, name: str, number: int) -> Action:
        jobs: dict[str, Action] = {
            "monitor": lambda: self._told_of(self.platform.job("monitor", ["monitor"])),
            "upkeep": self._upkeep,
            "etl": lambda: self._etl(number),
            "retraining": lambda: self._told_of(
                self.platform.job("retraining", ["retrain", "--why", "scheduled", "--if-due"])
            ),
        }
        return jobs[name]

    def _told_of(self, succeeded: bool) -> None:
        outcome = self.platform.outcomes[-1]
        if not succeeded:
            self.say(f"{outcome.at:%F %H:%M}: {' '.join(outcome.argv[:1])} failed: {outcome.text[-500:]}")
        for line in outcome.text.splitlines():
            if re.search(r"promoted: |no retraining", line):
                self.say(f"{outcome.at:%F %H:%M}: {line[:300]}")
        self._note_models()

    def _note_models(self) -> None:
        """Of each retrained model, by how many days its latest row is older than what was delivered and not held."""
        path = self.platform.volume / "retraining" / "refitted" / METADATA_FILE
        if not path.exists():
            return
        metadata = ModelMetadata.model_validate_json(path.read_text(encoding="utf-8"))
        if metadata.model_id not in self._known_models and metadata.fit is not None:
            self._known_models.add(metadata.model_id)
            self.days_behind.append((self._delivered - metadata.fit.end) / timedelta(days=1))

    def _upkeep(self) -> None:
        self.platform.job("upkeep", ["upkeep"])
        self.log_shares.append(self.platform.log_share())

    def _etl(self, number: int) -> None:
        """The export of the day before arrives, and is read."""
        before = number - 1
        if before >= 0:
            lost, bad, busy = (self.whole and before == day for day in (of.LOST_DAY, of.BAD_DAY, of.BUSY_DAY))
            self.feed.export(before, self._rows[before], device="phone" if bad else None, lost=lost)
            if not (lost or bad or busy):  # validation holds a bad and a busy day
                self._delivered = self.sizes.at(number)
        if not self.platform.etl():
            outcome = self.platform.outcomes[-1]
            self.blocked.append(f"{outcome.at:%F}: {' '.join(outcome.argv[:1])}: {outcome.text[-300:]}")
            self.say(f"BLOCKED {self.blocked[-1]}")
        self.platform.wait_for_snapshot()

    def _people(self, number: int) -> list[tuple[datetime, Action]]:
        """What people do on a day, and what happens to the machines."""
        if not self.whole:
            return []
        planned: list[tuple[int, str, Action]] = [
            (of.LOST_DAY + 2, "12:00", lambda: self._accept(of.LOST_DAY, "the collector was down")),
            (of.BAD_DAY + 1, "12:00", lambda: self.feed.mend(of.BAD_DAY, self._rows[of.BAD_DAY])),
            (of.BUSY_DAY + 1, "12:00", lambda: self._accept(of.BUSY_DAY, "a sale")),
            (of.ROLLBACK, "10:00", self._release),
            (of.ROLLBACK, "14:00", self._roll_back),
            (of.FULL, "08:00", self._fill),
            (of.FULL, "20:00", self._free),
            (of.RESTART, "10:00", self._restart_without_store),
            (of.RESTART, "11:00", self._store_is_back),
            (of.CONSTANT, "12:00", lambda: self._set_half_life("14d", "1d")),
            (of.CONSTANT + 1, "12:00", lambda: self._set_half_life("1d", "14d")),
        ]
        return [(self.sizes.at(day, clock), action) for day, clock, action in planned if day == number]

    def _by_hand(self, *argv: str) -> None:
        outcome = self.platform.run(*argv)
        self.say(f"{outcome.at:%F %H:%M}: {' '.join(argv)}: {outcome.text.strip()}")
        self.told.note("command", outcome.text)

    def _accept(self, number: int, why: str) -> None:
        run_dir = ("--run-dir", str(self.platform.volume))
        self._by_hand("accept-day", str(self._date(number)), "--why", why, "--who", "on call", *run_dir)

    def _release(self) -> None:
        """Somebody forces the latest retrained model into service, unless it is served."""
        path = self.platform.volume / "retraining" / "retraining.json"
        version = json.loads(path.read_text())["decision"]["challenger"]
        if version != self.platform.health().get("model_version"):
            self._by_hand("promote", version, "--force", "--who", "on call", "--why", "it looked good")

    def _roll_back(self) -> None:
        self._by_hand("rollback", "--who", "on call", "--why", "it does not look good")

    def _fill(self) -> None:
        self._full = True
        block = bytes(1 << 20)
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(block):
                    pass
            except OSError:
                self.say(f"the volume is full: {self._filler.stat().st_size >> 20} MB are somebody else's")

    def _free(self) -> None:
        self._filler.unlink()
        self._full = False

    def _restart_without_store(self) -> None:
        """The place of the published features can't be read; the new predictor must serve nevertheless."""
        self.platform.stop_predictor()
        self._away().parent.mkdir(exist_ok=True)
        self.platform.online.rename(self._away())
        self.platform.online.touch()
        self.platform.start_predictor()
        self._must_be_ready()

    def _store_is_back(self) -> None:
        self.platform.online.unlink()
        self._away().rename(self.platform.online)
        self.platform.wait_for_snapshot()

    def _away(self) -> Path:
        return self.platform.volume / "unreachable" / "online"

    def _set_half_life(self, old: str, new: str) -> None:
        path = self.platform.config / "feed.yaml"
        text, key = path.read_text(encoding="utf-8"), "half_life: "
        assert key + old in text
        path.write_text(text.replace(key + old, key + new), encoding="utf-8")


def _columns(day: Day, visits: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The column of each shown item among the candidates of its visit."""
    return np.asarray((day.visits.candidates[visits] == items[:, None]).argmax(axis=1))
