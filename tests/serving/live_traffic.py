"""Requests while something happens to the predictor, and whether each was logged."""

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from conftest import Predictor

from feedrank import schema
from feedrank.prediction_log import read_log


class Traffic:
    """Requests of unique users from several threads, until told to stop."""

    def __init__(self, predictor: Predictor, *, threads: int = 4) -> None:
        self._url = f"{predictor.url}/predict"
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]
        self._stop = threading.Event()
        self.answered: dict[int, str] = {}
        """Model version by user."""
        self.failures: list[str] = []

    def _run(self, number: int) -> None:
        user = number * 1_000_000
        with httpx.Client(timeout=20) as client:
            while not self._stop.is_set():
                user += 1
                try:
                    response = client.post(self._url, json={"user_id": user, "item_ids": [1, 2, 3]})
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    continue
                if response.status_code == 200:
                    self.answered[user] = response.json()["model_version"]
                else:
                    self.failures.append(f"{response.status_code} {response.text}")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @staticmethod
    @contextmanager
    def to(predictor: Predictor) -> Iterator["Traffic"]:
        traffic = Traffic(predictor)
        for thread in traffic._threads:
            thread.start()
        try:
            yield traffic
        finally:
            traffic.stop()


def assert_logged_once(predictor: Predictor, answered: dict[int, str]) -> None:
    """Every answered prediction is in the log exactly once, as it was answered."""
    table = read_log(predictor.log_directory)
    versions = dict(zip(table[schema.USER_ID].to_pylist(), table[schema.MODEL_VERSION].to_pylist(), strict=True))
    rows = Counter(table[schema.USER_ID].to_pylist())
    assert {user: rows[user] for user in answered} == dict.fromkeys(answered, 3)
    assert {user: versions[user] for user in answered} == answered
    assert len(set(table[schema.PREDICTION_ID].to_pylist())) == table.num_rows


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target
