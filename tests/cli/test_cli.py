"""The command line as a person runs it: each step, and one clear sentence with a non-zero exit for bad input."""

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedrank import schema, storage
from feedrank.config.data import GeneratorConfig
from feedrank.data.generator import generate
from feedrank.features.snapshot import load_snapshot
from feedrank.tables import partition_days, read_partitioned

FEEDRANK = Path(sys.executable).with_name("feedrank")
SMALL = {
    "FEEDRANK__DATA__GENERATOR__NUM_USERS": "2000",
    "FEEDRANK__DATA__GENERATOR__NUM_ITEMS": "1000",
    "FEEDRANK__DATA__GENERATOR__NUM_INTERACTIONS": "20000",
    "FEEDRANK__DATA__GENERATOR__START_DATE": "2024-10-01",
    "FEEDRANK__MODEL__TRAINING__EPOCHS": "1",
}


def run(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [FEEDRANK, *map(str, arguments)]
    variables = {**os.environ, **SMALL, **(environment or {})}
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300, check=False)


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert all(word in result.stderr for word in words), result.stderr


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    registry = {"FEEDRANK__MODEL__REGISTRY__TRACKING_URI": f"sqlite:///{directory}/mlflow.db"}
    for command in (["generate"], ["validate"], ["features"], ["train"], ["evaluate", "--oracle"], ["register"]):
        result = run(*command, "--run-dir", directory, environment=registry)
        assert result.returncode == 0, result.stdout + result.stderr
    return directory


def test_the_steps_lead_from_data_to_a_registered_model(run_dir):
    assert (run_dir / "validated" / "report.html").exists()
    assert (run_dir / "evaluation" / "report.html").exists()
    registry = {"FEEDRANK__MODEL__REGISTRY__TRACKING_URI": f"sqlite:///{run_dir}/mlflow.db"}
    assert "v1.0.0" in run("models", environment=registry).stdout


def test_features_are_published_for_predictors_to_follow(run_dir, tmp_path):
    result = run("features", "--run-dir", run_dir, "--publish", tmp_path / "online")
    assert result.returncode == 0, result.stderr
    published, own = (load_snapshot(path) for path in (tmp_path / "online" / "current", run_dir / "features/snapshot"))
    assert published.info == own.info


def test_a_backfill_uses_what_had_happened_by_each_date(run_dir, tmp_path):
    inputs = ["--input", run_dir / "interactions"]
    result = run("backfill", "--from", "2024-10-30", "--to", "2024-10-31", "--run-dir", tmp_path, *inputs)
    assert result.returncode == 0, result.stderr
    everything = read_partitioned(run_dir / "features", end=date(2024, 10, 30))
    for day in (30, 31):
        (features,) = (tmp_path / "backfill" / f"date=2024-10-{day}").glob("pipelines/*/compute-features/features")
        assert [found for found, _ in partition_days(features)][-1] == date(2024, 10, day)
        assert load_snapshot(features / "snapshot").info.cutoff.date() == date(2024, 10, day) + timedelta(days=1)
        assert read_partitioned(features, end=date(2024, 10, 30)).equals(everything)
    wrong_order = run("backfill", "--from", "2024-10-31", "--to", "2024-10-30", "--run-dir", tmp_path)
    assert_refused(wrong_order, "--from 2024-10-31 is after --to 2024-10-30")
    too_early = run("backfill", "--from", "2020-01-01", "--to", "2020-01-01", "--run-dir", tmp_path, *inputs)
    assert_refused(too_early, "no interaction up to 2020-01-01; the first is of 2024-10-01")


def test_generating_again_gives_the_same_rows(run_dir, tmp_path):
    assert run("generate", "--run-dir", tmp_path).returncode == 0
    again, before = (read_partitioned(d / "interactions") for d in (tmp_path, run_dir))
    assert again.equals(before)


def test_a_step_whose_input_is_missing_names_it(tmp_path):
    assert_refused(run("validate", "--run-dir", tmp_path), str(tmp_path / "interactions"))
    assert_refused(run("train", "--run-dir", tmp_path), "split.json")
    assert_refused(run("evaluate", "--run-dir", tmp_path), "checksums.json")


def test_a_missing_file_is_named(tmp_path):
    assert_refused(run("ingest", tmp_path / "none.parquet", "--run-dir", tmp_path), "none.parquet")


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but no more")
    assert_refused(run("ingest", tmp_path / "broken.parquet", "--run-dir", tmp_path), "broken.parquet")


def test_a_missing_column_is_named(tmp_path):
    table = next(generate(GeneratorConfig(num_users=10, num_items=100, num_interactions=100)))
    pq.write_table(table.drop_columns([schema.USER_ID]), tmp_path / "x.parquet")
    assert_refused(run("ingest", tmp_path / "x.parquet", "--run-dir", tmp_path), "x.parquet", schema.USER_ID)


def test_one_class_only_is_refused_by_training(run_dir, tmp_path):
    shutil.copytree(run_dir / "features", tmp_path / "features")
    for file in (tmp_path / "features").glob("date=*/*.parquet"):
        table = pq.read_table(file, partitioning=None)
        zeros = pa.array([0] * table.num_rows, type=pa.int8())
        pq.write_table(table.set_column(table.schema.get_field_index(schema.TARGET), schema.TARGET, zeros), file)
    assert_refused(run("train", "--run-dir", tmp_path), "needs both 0 and 1")


def test_an_unknown_configuration_key_is_named(tmp_path):
    wrong = {"FEEDRANK__MODEL__TRAINING__EPOCH": "3"}
    assert_refused(run("generate", "--run-dir", tmp_path, environment=wrong), "FEEDRANK__MODEL__TRAINING__EPOCH")


def test_a_second_run_beside_the_first_is_refused(tmp_path):
    with storage.exclusive(tmp_path / "interactions"):
        assert_refused(run("generate", "--run-dir", tmp_path), "another run is writing it")


def test_a_full_disk_gives_one_sentence_and_leaves_nothing(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", small], check=True)
    try:
        assert_refused(run("generate", "--run-dir", small), "no space left")
        assert not (small / "interactions").exists()
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_the_earlier_output_whole_and_a_rerun_works(run_dir, tmp_path, signal_number):
    shutil.copytree(run_dir / "interactions", tmp_path / "interactions")
    before = read_partitioned(tmp_path / "interactions")
    large = {
        "FEEDRANK__DATA__GENERATOR__NUM_INTERACTIONS": "3000000",
        "FEEDRANK__DATA__GENERATOR__CHUNK_ROWS": "100000",
    }
    # A background job of a shell ignores SIGINT, and so would what the tests start.
    command = ["env", "--default-signal=INT", FEEDRANK, "generate", "--run-dir", tmp_path]
    process = subprocess.Popen(
        command, env={**os.environ, **SMALL, **large}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    parts = len(list(tmp_path.glob("interactions/date=*/*.parquet")))
    while len(list(tmp_path.glob("interactions/date=*/*.parquet"))) == parts and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal_number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in stderr
    assert read_partitioned(tmp_path / "interactions").equals(before)
    assert run("generate", "--run-dir", tmp_path).returncode == 0
    assert read_partitioned(tmp_path / "interactions").equals(before)


def test_tracking_database_out_of_reach_is_named(run_dir):
    nowhere = {"FEEDRANK__MODEL__REGISTRY__TRACKING_URI": "sqlite:////proc/none/mlflow.db"}
    result = run("register", "--run-dir", run_dir, environment=nowhere)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
