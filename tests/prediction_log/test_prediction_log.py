"""The prediction log without a server: what goes in comes out once, whatever breaks on the way."""

import csv
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedrank import delta, schema
from feedrank.config.feed import Feed
from feedrank.config.serving import LogConfig
from feedrank.erasure.person import People
from feedrank.erasure.refused import Door
from feedrank.erasure.spool import erase_spooled, left_spooled
from feedrank.errors import DataError, FeedrankError
from feedrank.prediction_log import PredictionLog, export_csv, read_log
from feedrank.prediction_log.buffers import MAX_REQUESTS, RequestBuffer
from feedrank.prediction_log.commits import Written, write
from feedrank.prediction_log.compactor import Compactor, Pace
from feedrank.prediction_log.spool import SpoolWriter
from feedrank.prediction_log.spool_files import read_file
from feedrank.scoring import Ranking
from feedrank.scoring.features import RequestFeatures, layout_of
from tests.s3_server import bucket_of, s3_server

NOON = datetime(2024, 11, 15, 12, tzinfo=UTC)


LAYOUT = layout_of(Feed())
SHARED = RequestFeatures((0.125, 3.5, 7, 2, 0.5, 12, 4), context=(12, 4, 1))


def ranking(user_id: int = 1, *, items: int = 3, moment: datetime = NOON, seed: int = 0) -> Ranking:
    rng = np.random.default_rng(seed)
    matrix = rng.random((items, LAYOUT.matrix_columns)).astype(np.float32)
    matrix[:, [1, 4]] = rng.integers(0, 300, (items, 2))  # age and earlier impressions are whole
    return Ranking(
        layout=LAYOUT,
        user_id=user_id,
        time_us=round(moment.timestamp() * 1_000_000),
        item_ids=rng.choice(1000, items, replace=False),
        scores=np.sort(rng.random(items).astype(np.float32))[::-1],
        shared=SHARED,
        order=rng.permutation(items),
        item_matrix=matrix,
        unknown_user=False,
        unknown_items=0,
        unseen_items=0,
    )


def config(folder: Path, **changes: object) -> LogConfig:
    return LogConfig(
        directory=str(folder / "log"), spool_directory=folder / "spool", **{"flush_interval_ms": 10} | changes
    )


def record(log: PredictionLog, one: Ranking, *, model_version: str = "v1.0.0", latency_ms: float = 0.1) -> None:
    log.record(one, received_us=one.time_us, model_version=model_version, latency_ms=latency_ms)


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def batch_of(*rankings: Ranking, first_counter: int = 0) -> pa.RecordBatch:
    buffer = RequestBuffer(LAYOUT.feed)
    for one in rankings:
        buffer.add(one, received_us=one.time_us, model_version="v1.0.0", latency_ms=0.25)
    return buffer.batch(first_counter=first_counter)


def spooled(folder: Path, *batches: list[Ranking], boot: str = "boot") -> Path:
    """A closed spool file."""
    writer, counter = SpoolWriter(folder / "spool", boot), 0
    for batch in batches:
        writer.append(batch_of(*batch, first_counter=counter))
        counter += len(batch)
    writer.release()
    return next((folder / "spool" / boot).glob("*.arrows"))


def compactor_of(folder: Path) -> Compactor:
    return Compactor(folder / "spool", folder / "spool" / "own", str(folder / "log"), Pace(0, 1 << 20))


def test_a_row_holds_what_was_ranked(tmp_path):
    log = PredictionLog(config(tmp_path))
    one = ranking(user_id=42, items=4)
    record(log, one, model_version="v1.2.3", latency_ms=0.5)
    status = log.close(timeout_seconds=30)
    assert (status.rows_written, status.rows_pending, status.error) == (4, 0, None)
    table = read_log(tmp_path / "log")
    assert table.schema.equals(Feed().log)
    assert table[schema.ITEM_ID].to_pylist() == one.item_ids.tolist()
    assert table[schema.SCORE].to_pylist() == one.scores.tolist()
    assert table[schema.RANK].to_pylist() == [1, 2, 3, 4]
    assert set(table[schema.USER_ID].to_pylist()) == {42}
    assert set(table[schema.MODEL_VERSION].to_pylist()) == {"v1.2.3"}
    assert table[schema.TIMESTAMP].to_pylist() == [NOON] * 4
    expected = one.features()
    for place, features in enumerate(table[schema.FEATURES_STRUCT].to_pylist()):
        assert list(features) == list(Feed().names)
        np.testing.assert_array_equal(np.array(list(features.values()), dtype=np.float32), expected[place])


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8), days=st.lists(st.integers(0, 2), min_size=8, max_size=8)
)
def test_every_request_is_in_the_log_once_in_the_partition_of_its_day(tmp_path_factory, sizes, days):
    folder = tmp_path_factory.mktemp("log")
    requests = [
        ranking(user, items=n, moment=NOON + timedelta(days=day), seed=user)
        for user, (n, day) in enumerate(zip(sizes, days, strict=False))
    ]
    file = spooled(folder, *([request] for request in requests))
    assert write([file], folder / "log") == Written(sum(sizes))
    table = read_log(folder / "log")
    assert sorted(table[schema.USER_ID].to_pylist()) == sorted(u for u, n in enumerate(sizes) for _ in range(n))
    assert len(set(table[schema.PREDICTION_ID].to_pylist())) == sum(sizes)
    for part in (folder / "log").rglob("*.parquet"):
        moments = pq.read_table(part, partitioning=None)[schema.TIMESTAMP].to_pylist()
        assert {f"date={m.date()}" for m in moments} == {part.parent.name}
        assert moments == sorted(moments)


def test_a_clients_clock_decides_neither_the_day_nor_the_number_of_files(tmp_path):
    log = PredictionLog(config(tmp_path))
    moments = [NOON + timedelta(days=n % 1000 - 500, hours=9) for n in range(1000)]
    for user, moment in enumerate(moments):
        log.record(
            ranking(user, items=1, moment=moment),
            received_us=round(NOON.timestamp() * 1e6) + user,
            model_version="v1.0.0",
            latency_ms=0.1,
        )
    assert log.close(timeout_seconds=30).error is None
    assert [str(part.parent.name) for part in (tmp_path / "log").rglob("*.parquet")] == ["date=2024-11-15"]
    table = read_log(tmp_path / "log", start=NOON, end=NOON + timedelta(seconds=1))
    assert table[schema.TIMESTAMP].to_pylist() == moments


def test_what_a_crash_cut_off_is_left_out_and_the_rest_is_kept(tmp_path):
    file = spooled(tmp_path, [ranking(1)], [ranking(2)], [ranking(3)])
    whole = file.stat().st_size
    seen = set()
    for size in range(whole, 0, -97):
        os.truncate(file, size)
        contents = read_file(file)
        seen.add(sum(batch.num_rows for batch in contents.batches))
        assert contents.damage is None
    assert seen == {0, 1, 2, 3}


def test_converting_a_file_again_changes_nothing(tmp_path):
    log = tmp_path / "log"
    file = spooled(tmp_path, [ranking(1), ranking(2)])
    content = file.read_bytes()
    write([file], log)
    first = read_log(log)
    file.write_bytes(content)  # as if the crash came between the commit and deleting the file
    assert write([file], log).rows == 0
    assert read_log(log).equals(first)
    assert not file.exists()


def test_files_wait_for_a_commit_unless_they_are_many(tmp_path):
    spooled(tmp_path, [ranking(1)], boot="own")
    slow = Compactor(tmp_path / "spool", tmp_path / "spool" / "own", str(tmp_path / "log"), Pace(600, 1 << 20))
    assert slow.round(dead_too=False)
    assert not (tmp_path / "log").exists()
    assert slow.round(dead_too=False, at_once=True)
    full = Compactor(tmp_path / "spool", tmp_path / "spool" / "own", str(tmp_path / "log"), Pace(600, 1))
    shutil.rmtree(tmp_path / "spool")
    spooled(tmp_path, [ranking(2)], boot="other")
    (tmp_path / "spool" / "other").rename(tmp_path / "spool" / "own")
    assert full.round(dead_too=False)


def test_only_the_folders_of_dead_processes_are_taken_over(tmp_path):
    living = SpoolWriter(tmp_path / "spool", "living")
    living.append(batch_of(ranking(1), first_counter=0))
    spooled(tmp_path, [ranking(2)], boot="dead")
    compactor = compactor_of(tmp_path)
    assert compactor.round(dead_too=True)
    assert set(read_log(tmp_path / "log")[schema.USER_ID].to_pylist()) == {2}
    assert compactor.progress.recovered_rows == 3
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["living"]
    living.release()
    assert compactor.round(dead_too=True)
    assert set(read_log(tmp_path / "log")[schema.USER_ID].to_pylist()) == {1, 2}
    assert not list((tmp_path / "spool").iterdir())


def test_a_failed_write_leaves_the_spool_as_it_was(tmp_path, monkeypatch):
    writer = SpoolWriter(tmp_path / "spool", "boot")
    writer.append(batch_of(ranking(1), first_counter=0))
    real = os.write

    def half(file: int, data: memoryview) -> int:
        if len(data) > 200:
            return real(file, data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        writer.append(batch_of(ranking(2), first_counter=1))
    monkeypatch.undo()
    writer.append(batch_of(ranking(3), first_counter=1))
    writer.release()
    file = next((tmp_path / "spool" / "boot").glob("*.arrows"))
    assert [user for batch in read_file(file).batches for user in batch[schema.USER_ID].to_pylist()] == [1, 3]


def test_more_than_a_buffer_holds_is_written_in_order(tmp_path):
    log = PredictionLog(config(tmp_path, flush_interval_ms=1000))
    many = MAX_REQUESTS + 10
    for user in range(many):
        record(log, ranking(user, items=1), model_version=f"v{user % 3}")
    for user in range(many, many + 300):
        record(log, ranking(user, items=100), model_version="v0")
    assert log.close(timeout_seconds=30).rows_written == many + 300 * 100
    table = read_log(tmp_path / "log", columns=[schema.PREDICTION_ID, schema.USER_ID, schema.MODEL_VERSION])
    assert len(set(table[schema.PREDICTION_ID].to_pylist())) == table.num_rows
    users, versions = table[schema.USER_ID].to_pylist(), table[schema.MODEL_VERSION].to_pylist()
    assert sorted(set(users)) == list(range(many + 300))
    assert all(version == f"v{user % 3}" for user, version in zip(users, versions, strict=True) if user < many)


@pytest.mark.parametrize("policy", ["shed", "drop"])
def test_a_full_queue_is_never_silent(tmp_path, policy):
    (tmp_path / "spool").write_text("in the way")
    log = PredictionLog(config(tmp_path, queue_max_requests=2, when_full=policy))
    for user in range(4):
        record(log, ranking(user))
    assert log.full
    assert log.sheds == (policy == "shed")
    assert log.status().rows_dropped == 6
    wait(lambda: log.status().error)
    (tmp_path / "spool").unlink()
    wait(lambda: not log.full)
    status = log.close(timeout_seconds=30)
    assert (status.rows_written, status.error) == (6, None)


def test_a_compactor_that_dies_is_started_again(tmp_path):
    log = PredictionLog(config(tmp_path, file_interval_seconds=0.05, commit_interval_seconds=0.1))
    record(log, ranking(1))
    wait(lambda: log.status().rows_written == 3)
    process = log._compactor._process
    assert process is not None
    process.kill()
    record(log, ranking(2))
    wait(lambda: log.status().rows_written == 6)
    assert log.close(timeout_seconds=30).rows_written == 6


def test_reading_selects_by_time_and_column(tmp_path):
    moments = [NOON + timedelta(hours=12 * n) for n in range(6)]
    file = spooled(tmp_path, [ranking(n, moment=moment) for n, moment in enumerate(moments)])
    write([file], tmp_path / "log")
    table = read_log(tmp_path / "log", columns=[schema.USER_ID], start=moments[1], end=moments[4])
    assert table.column_names == [schema.USER_ID]
    assert table[schema.USER_ID].to_pylist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert read_log(tmp_path / "log", start=moments[-1] + timedelta(days=9)).num_rows == 0


def test_what_is_no_log_or_broken_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no prediction log"):
        read_log(tmp_path / "nowhere")
    write([spooled(tmp_path, [ranking(1)])], tmp_path / "log")
    part = next((tmp_path / "log").rglob("*.parquet"))
    part.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="damaged or gone"):
        read_log(tmp_path / "log")
    part.unlink()
    with pytest.raises(DataError, match="damaged or gone"):
        export_csv(tmp_path / "log", tmp_path / "out.csv")


def test_foreign_files_in_the_log_are_left_out(tmp_path):
    log = tmp_path / "log"
    write([spooled(tmp_path, [ranking(1)])], log)
    shutil.copytree(log / "date=2024-11-15", log / "date=2024-11-15.bak")
    for name in (".DS_Store", "part-x.parquet", "notes.txt"):
        (log / "date=2024-11-15" / name).write_bytes(b"no parquet")
    assert export_csv(log, tmp_path / "out.csv") == read_log(log).num_rows == 3


def test_a_log_of_an_earlier_release_is_left_alone_until_it_is_migrated(tmp_path):
    old = tmp_path / "log" / "date=2024-11-15" / "part-x.parquet"
    old.parent.mkdir(parents=True)
    pq.write_table(pa.table({"x": [1]}), old)
    file = spooled(tmp_path, [ranking(1)])
    for use in (lambda: write([file], tmp_path / "log"), lambda: read_log(tmp_path / "log")):
        with pytest.raises(DataError, match="a log of an earlier release; run `feedrank migrate`"):
            use()
    assert file.exists() and not (tmp_path / "log" / "_delta_log").exists()


@pytest.mark.parametrize("location", ["nonsense://x", "s3://", "out.csv"])
def test_what_can_be_no_log_gives_one_sentence(tmp_path, monkeypatch, location):
    monkeypatch.chdir(tmp_path)
    Path("out.csv").write_text("a file")
    with pytest.raises(FeedrankError, match=location):
        read_log(location)


def test_two_predictors_write_one_log_while_it_is_compacted_and_read(tmp_path):
    log = tmp_path / "log"
    write([spooled(tmp_path, [ranking(0)], boot="first")], log)
    seen: set[int] = set()

    def work(boot: str) -> None:
        for number in range(4):
            folder = tmp_path / f"{boot}{number}"
            write([spooled(folder, [ranking(1)], boot=f"{boot}{number}")], log)
            seen.add(read_log(log).num_rows)

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(work, boot) for boot in ("a", "b")]
        delta.open_table(log).compact()
        for job in jobs:
            job.result()
    assert read_log(log).num_rows == 27
    assert all(rows % 3 == 0 for rows in seen)


def test_the_log_may_lie_in_an_object_store(tmp_path, monkeypatch):
    with s3_server() as server, bucket_of(server, monkeypatch):
        compactor = Compactor(tmp_path / "spool", tmp_path / "spool" / "own", "s3://feed/log", Pace(0, 1 << 20))
        spooled(tmp_path, [ranking(1)], boot="a")
        with monkeypatch.context() as down:
            down.setitem(delta.store.STORE_OPTIONS, "retry_timeout", "1s")
            down.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            assert not compactor.round(dead_too=True)
            assert "s3://feed/log" in (compactor.progress.error or "")
        spooled(tmp_path, [ranking(2)], boot="b")
        assert compactor.round(dead_too=True)
        assert read_log("s3://feed/log")[schema.USER_ID].to_pylist() == [1, 1, 1, 2, 2, 2]


def test_foreign_folders_in_the_spool_are_left_alone(tmp_path):
    spool = tmp_path / "spool"
    spooled(tmp_path, [ranking(2)], boot="dead")
    (spool / "lost+found").mkdir()
    (spool / "copy").mkdir()
    shutil.copy(next(spool.glob("dead/*.arrows")), spool / "copy" / "00000001.arrows")
    before = sorted(path for path in spool.rglob("*") if "dead" not in path.parts)
    compactor = compactor_of(tmp_path)
    assert compactor.round(dead_too=True)
    assert compactor.progress.rows == 3
    assert sorted(spool.rglob("*")) == before


def test_the_csv_has_the_logs_columns_and_the_features_as_json(tmp_path):
    write([spooled(tmp_path, [ranking(1), ranking(2, moment=NOON + timedelta(days=1))])], tmp_path / "log")
    assert export_csv(tmp_path / "log", tmp_path / "out.csv") == 6
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == Feed().log.names
    assert rows[0][schema.TIMESTAMP] == "2024-11-15T12:00:00.000000Z"
    features = json.loads(rows[0][schema.FEATURES_STRUCT])
    assert list(features) == list(Feed().names)
    assert (features["user_interaction_count"], features["device_desktop"]) == (7, 1)
    assert export_csv(tmp_path / "log", tmp_path / "out.csv", start=NOON + timedelta(hours=1)) == 3


def test_rows_of_erased_users_never_reach_the_log_and_wait_for_nobody(tmp_path):
    settings = config(tmp_path, commit_interval_seconds=0.1, file_interval_seconds=0.1)
    Door(settings.directory).refuse([7])
    log = PredictionLog(settings)
    for user in (7, 8):
        record(log, ranking(user_id=user))
    status = log.close(timeout_seconds=30)
    assert (status.rows_pending, status.error) == (0, None)
    assert set(read_log(settings.directory)[schema.USER_ID].to_pylist()) == {8}


def test_an_erasure_takes_the_rows_out_of_the_spools_of_predictors_that_died(tmp_path):
    settings, people = config(tmp_path), People.of(["7"])
    damaged = spooled(tmp_path, [ranking(user_id=7)], boot="damaged")
    damaged.rename(damaged.with_suffix(".damaged"))
    spooled(tmp_path, [ranking(user_id=7), ranking(user_id=8)])
    Door(settings.directory).refuse(people.numbers)
    assert sum(left.rows for left in left_spooled(settings, people)) == 2
    (erased,) = erase_spooled(settings, people)
    assert erased.rows == 2 and not list(left_spooled(settings, people))
    assert set(read_log(settings.directory)[schema.USER_ID].to_pylist()) == {8}
    assert not list(erase_spooled(settings, people)), "nothing is left to do"
