"""The second act: a model trained on turned-round labels is forced in, the clicks fall, and one rollback ends it."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pyarrow as pa

from feedrank import schema, stages, storage
from feedrank.client import request_body
from feedrank.config import Config
from feedrank.config.simulation import AudienceConfig
from feedrank.data.split import save_split
from feedrank.features.snapshot import load_snapshot, save_snapshot
from feedrank.model.bundle import SNAPSHOT_FOLDER
from feedrank.registered_model import RegisteredModel
from feedrank.registry import Registry
from feedrank.simulation.browsing import browse
from feedrank.simulation.healing import Healing
from feedrank.simulation.policies import to_utc
from feedrank.simulation.predictor import DEADLINE_SECONDS, Predictor
from feedrank.simulation.results import RollbackResult
from feedrank.simulation.retraining import evaluate_alone
from feedrank.simulation.trajectory import Trajectory
from feedrank.simulation.visits import Visits
from feedrank.tables import read_partitioned, write_partitioned


def force_and_roll_back(
    healing: Healing, platform: Trajectory, visits: Visits, *, folder: Path, config: Config, audience: AudienceConfig
) -> RollbackResult:
    """Plays the act on some visits, which leave no trace in the platform's history.

    Args:
        healing: of the platform; its clock must be set.
        platform: whose policy is a running predictor.
        visits: that all three CTRs are measured on.
        folder: for the bad model; `first`/features beside it are what it is trained on.
        config: of the platform.
        audience: how users browse.
    """
    predictor = platform.policy
    assert isinstance(predictor, Predictor)

    def ctr() -> float:
        order = predictor.rank(visits)
        return float(browse(platform.world, visits, order=order, config=audience).click.mean())

    before, restored = ctr(), healing.target.current_version()
    assert restored is not None
    bad = _bad_model(folder.with_name("first") / "features", folder=folder, config=config)
    healing.promoter.promote(bad.model_version, why="forced by hand", who="simulation", force=True)
    healing.tell("bad_model", "a model trained on turned-round labels is forced in", bad.model_version)
    ctr_bad = ctr()
    with _requests_going_on(predictor.url, visits) as traffic:
        started = time.perf_counter()
        healing.promoter.rollback(why="the clicks fell", who="simulation")
        seconds = time.perf_counter() - started
    healing.tell("rollback", f"back in {seconds:.1f} s", restored)
    return RollbackResult(
        bad_version=bad.model_version,
        restored_version=restored,
        ctr_before=before,
        ctr_bad=ctr_bad,
        ctr_after=ctr(),
        rollback_seconds=seconds,
        failed_requests=traffic.failed,
        requests=traffic.sent,
    )


def _bad_model(features: Path, *, folder: Path, config: Config) -> RegisteredModel:
    """A ranker of what people don't click, as an inverted label in the feedback would make it."""
    rows, split = read_partitioned(features), stages.load_features(features)[0]
    turned = pa.array(1 - rows[schema.TARGET].to_numpy(), type=pa.int8())
    with storage.new_directory(folder / "features") as fresh:
        write_partitioned(rows.set_column(rows.schema.get_field_index(schema.TARGET), schema.TARGET, turned), fresh)
        save_split(split, fresh)
        (fresh / SNAPSHOT_FOLDER).mkdir()
        save_snapshot(load_snapshot(features / SNAPSHOT_FOLDER), fresh / SNAPSHOT_FOLDER)
    stages.train_ranker(folder / "features", output=folder / "model", config=config)
    evaluation = evaluate_alone(folder, config=config)
    return Registry(config.model.registry).register(
        folder / "model", evaluation_folder=folder / "evaluation", evaluation=evaluation, config=config.model
    )


@dataclass
class _Traffic:
    """Requests one after the other, until told to end."""

    sent: int = 0
    failed: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def send(self, url: str, visits: Visits) -> None:
        """Runs in a thread; never tries anything twice."""
        with httpx.Client(base_url=url, timeout=DEADLINE_SECONDS) as client:
            while not self.ended.is_set():
                row = self.sent % len(visits)
                body = request_body(
                    int(visits.user_ids[row]),
                    visits.candidates[row].tolist(),
                    device=None,
                    timestamp=to_utc(int(visits.times_us[row])),
                )
                try:
                    answered = client.post("/predict", json=body).status_code == 200
                except httpx.TransportError:
                    answered = False
                self.sent += 1
                self.failed += not answered


@contextlib.contextmanager
def _requests_going_on(url: str, visits: Visits) -> Iterator[_Traffic]:
    traffic = _Traffic()
    thread = threading.Thread(target=traffic.send, args=(url, visits))
    thread.start()
    try:
        yield traffic
    finally:
        traffic.ended.set()
        thread.join()
