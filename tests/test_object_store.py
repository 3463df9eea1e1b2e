"""What is read from and written to s3://, against a server that speaks S3."""

import gzip
from collections.abc import Iterator
from typing import Any

import boto3
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from feedrank.config.data import GeneratorConfig
from feedrank.config.ingest import IngestConfig
from feedrank.data.generator import generate
from feedrank.data.ingest import ingest
from feedrank.errors import DataError
from feedrank.model.bundle import CHECKSUMS_FILE
from feedrank.promotion.changes import PromotionError
from feedrank.tables import read_partitioned, write_partitioned
from serving.kserve_target import ObjectStore


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its address."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    yield "http://{}:{}".format(*moto.get_host_and_port())
    moto.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket `feed`, and the environment of the chart's pods."""
    variables = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    for name, value in {**variables, "AWS_ENDPOINT_URL": server}.items():
        monkeypatch.setenv(name, value)
    store = boto3.resource("s3", region_name="us-east-1").Bucket("feed")
    store.create()
    yield store
    store.objects.delete()
    store.delete()


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
    with pytest.raises(PromotionError, match=r"s3://feed/served/v1\.2\.3/: the bundle can't be copied there"):
        store.upload(folder)
