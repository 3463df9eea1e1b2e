"""What is read from and written to s3://, against a server that speaks S3."""

import gzip
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feedrank import storage
from feedrank.config.data import GeneratorConfig
from feedrank.config.ingest import IngestConfig
from feedrank.config.promotion import TargetConfig
from feedrank.data.generator import generate
from feedrank.data.ingest import ingest
from feedrank.errors import DataError, StorageError
from feedrank.model.bundle import CHECKSUMS_FILE
from feedrank.promotion.changes import Change, PromotionError, Record, Version
from feedrank.promotion.promote import Promoter
from feedrank.promotion.serving_target import LocalTarget
from feedrank.tables import read_partitioned, write_partitioned
from feedrank.upkeep.folders import keep_stored_versions
from serving.object_store import ObjectStore
from tests.s3_server import bucket_of, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its address."""
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """See `bucket_of`."""
    with bucket_of(server, monkeypatch) as store:
        yield store


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    config = GeneratorConfig(num_users=50, num_items=80, num_interactions=400, end_date="2024-01-04")
    return pa.concat_tables(generate(config))


def test_interactions_are_read_from_a_prefix_a_glob_and_a_compressed_file(bucket, rows, tmp_path):
    write_partitioned(rows, tmp_path / "mine")
    for file in (tmp_path / "mine").rglob("*.parquet"):
        bucket.upload_file(str(file), f"events/{file.relative_to(tmp_path / 'mine')}")
    bucket.put_object(Key="events/_SUCCESS", Body=b"")
    text = rows.slice(0, 50).to_pandas().to_csv(index=False).encode()
    bucket.put_object(Key="late/rows.csv.gz", Body=gzip.compress(text))

    def read(address: str, output: str) -> int:
        return ingest([address], output=tmp_path / output, mapping=None, config=IngestConfig()).rows_added

    assert read("s3://feed/events", "whole") == 400
    assert read_partitioned(tmp_path / "whole").equals(read_partitioned(tmp_path / "mine"))
    assert read("s3://feed/late/rows.csv.gz", "whole") == 0, "all of them are known"
    first_day = read_partitioned(tmp_path / "mine", end=GeneratorConfig().start_date).num_rows
    assert read("s3://feed/events/date=2024-01-01/*.parquet", "day") == first_day


def test_what_is_not_there_or_out_of_reach_is_named(bucket, monkeypatch, tmp_path):
    def read(address: str) -> None:
        ingest([address], output=tmp_path / "table", mapping=None, config=IngestConfig())

    with pytest.raises(DataError, match="s3://feed/nothing: no such file"):
        read("s3://feed/nothing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="s3://feed/events: can't be opened"):
        read("s3://feed/events")


def test_a_version_is_in_the_store_once_its_last_file_is(bucket, monkeypatch, tmp_path):
    folder = tmp_path / "v1.2.3"
    (folder / "arrays").mkdir(parents=True)
    for name in (CHECKSUMS_FILE, "arrays/users.npy", "model_metadata.json"):
        (folder / name).write_text(name, encoding="utf-8")
    store = ObjectStore("s3://feed/served/")
    assert not store.has("v1.2.3")
    store.upload(folder)
    assert store.has("v1.2.3") and not store.has("v1.2.30")
    written = sorted(bucket.objects.filter(Prefix="served/"), key=lambda entry: entry.last_modified)
    assert {entry.key.removeprefix("served/v1.2.3/") for entry in written} >= {"arrays/users.npy", CHECKSUMS_FILE}
    bucket.objects.filter(Prefix=f"served/v1.2.3/{CHECKSUMS_FILE}").delete()
    assert not store.has("v1.2.3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(PromotionError, match=r"s3://feed/served/v1\.2\.3: the bundle can't be copied there"):
        store.upload(folder)


def bundle(folder: Path) -> Path:
    """Files with their checksums."""
    (folder / "arrays").mkdir(parents=True)
    contents = {"arrays/users.npy": b"users" * 1000, "model_metadata.json": b"{}"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (folder / CHECKSUMS_FILE).write_text(json.dumps(checksums), encoding="utf-8")
    return folder


def fetched(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As the first container of a predictor's pod does it."""
    command = [sys.executable, "-m", "serving.object_store", "s3://feed/served/", str(folder)]
    variables = {**os.environ, "FEEDRANK_MODEL_VERSION": "v1.2.3", **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)


def test_a_pod_fetches_the_version_that_it_is_annotated_with_over_what_a_failed_attempt_has_left(bucket, tmp_path):
    store = ObjectStore("s3://feed/served")
    for version in ("v1.2.3", "v1.2.30"):
        store.upload(bundle(tmp_path / version))
    (tmp_path / "pod" / "arrays").mkdir(parents=True)
    (tmp_path / "pod" / "arrays" / "users.npy").write_bytes(b"half")
    done = fetched(tmp_path / "pod")
    assert done.returncode == 0, done.stderr
    assert {file.relative_to(tmp_path / "pod").as_posix() for file in (tmp_path / "pod").rglob("*.*")} == {
        "arrays/users.npy", "model_metadata.json", CHECKSUMS_FILE,
    }  # fmt: skip
    assert (tmp_path / "pod" / "arrays" / "users.npy").read_bytes() == b"users" * 1000


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"FEEDRANK_MODEL_VERSION": ""}, "nothing was promoted yet"),
        ({"FEEDRANK_MODEL_VERSION": "v9.9.9"}, "s3://feed/served/v9.9.9: the model can't be fetched"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://feed/served/v1.2.3: the model can't be fetched"),
    ],
)
def test_a_pod_that_can_not_fetch_its_version_says_why(bucket, tmp_path, environment, said):
    (tmp_path / "pod").mkdir()
    done = fetched(tmp_path / "pod", **environment)
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_version_that_was_damaged_in_the_store_is_not_served(bucket, tmp_path):
    ObjectStore("s3://feed/served").upload(bundle(tmp_path / "v1.2.3"))
    bucket.put_object(Key="served/v1.2.3/arrays/users.npy", Body=b"other")
    (tmp_path / "pod").mkdir()
    done = fetched(tmp_path / "pod")
    assert done.returncode == 1 and "differs from its checksum" in done.stderr


def test_upkeep_removes_what_no_rollback_goes_back_to_from_the_store(bucket, monkeypatch, tmp_path):
    promoter = Promoter(
        connect=lambda: pytest.fail("no registry is needed"),
        target=LocalTarget(TargetConfig(directory=tmp_path / "served")),
        directory=tmp_path / "promotion",
    )
    store = ObjectStore("s3://feed/served/")
    names = ["v1.0.0", "v1.0.1", "v1.0.2", "v1.0.3"]
    versions = [Version(number=number, model_version=name, run_id=name) for number, name in enumerate(names)]
    for name in ("v0.9.9", *names):
        store.upload(bundle(tmp_path / "served" / "versions" / name))
    bucket.put_object(Key="served/notes/v0.9.9.txt", Body=b"not ours")
    bucket.put_object(Key="served/v0.9.8/arrays/users.npy", Body=b"an upload that was cut off")
    assert keep_stored_versions(promoter, store, steps=1) is None, "nothing is served yet: nothing is known"
    for before, to in itertools.pairwise(versions):
        change = Change(
            change_id=to.model_version, kind="promotion", at=datetime.now(UTC), who="me", why="better",
            champion_before=before, served_before=before.model_version, to=to,
        )  # fmt: skip
        promoter.log.close(Record(change=change, outcome="done"))
    promoter.target.switch("v1.0.3")
    with storage.exclusive(promoter.directory / "promotion"), pytest.raises(StorageError, match="another run"):
        keep_stored_versions(promoter, store, steps=1)
    freed = keep_stored_versions(promoter, store, steps=1)
    assert freed.done == [f"removed {name}" for name in ("v0.9.8", "v0.9.9", "v1.0.0", "v1.0.1")]
    assert freed.bytes_after == sum(store.versions().values()) < freed.bytes_before
    assert [name for name in names if store.has(name)] == list(store.versions()) == ["v1.0.2", "v1.0.3"]
    assert any(entry.key == "served/notes/v0.9.9.txt" for entry in bucket.objects.all())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="connect"):
        keep_stored_versions(promoter, store, steps=1)
