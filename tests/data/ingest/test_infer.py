"""A proposed mapping reads the file it was made for."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from feedrank.cli import app
from feedrank.config.ingest import IngestConfig, Mapping
from feedrank.data.ingest import infer_mapping
from feedrank.data.ingest.files import find_files
from feedrank.errors import DataError

FILES = {
    "u.data": ("196\t242\t3\t881250949\n186\t302\t5\t891717742\n", 2),
    "ratings.dat": ("1::1193::5::978300760\n1::661::3::978302109\n", 2),
    "ml.inter": ("user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ti2\t4\t8.812E8\n", 1),
    "events.csv": (
        "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
        "1433224214164,992329,addtocart,248676,\n1433221999827,111016,transaction,318965,9\n",
        3,
    ),
    "log.csv": ("userId;articleId;eventTime;clicked;dwellMs\na;b;2024-01-01 10:00:00 UTC;true;12500\n", 1),
    "log.jsonl": (json.dumps({"uid": "a", "sku": 7, "ts": 1_704_103_200_000, "is_click": True}) + "\n", 1),
}
"""Small made-up files in the shapes that people have, and how many rows each has."""


def write(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content)
    return folder / name


@pytest.mark.parametrize("name", FILES)
def test_a_proposal_reads_every_row(tmp_path: Path, name: str) -> None:
    content, rows = FILES[name]
    (file,) = find_files([str(write(tmp_path, name, content))])
    proposal = infer_mapping(file, config=IngestConfig())
    assert (proposal.read, proposal.rows.num_rows, proposal.refused) == (rows, rows, ())
    assert {"user_id", "item_id", "timestamp", "click"} <= set(
        Mapping.model_validate(yaml.safe_load(proposal.text)).columns
    )


def test_units_labels_and_ids_follow_from_what_stands_there(tmp_path: Path) -> None:
    def columns(name: str) -> dict[str, dict[str, object]]:
        (file,) = find_files([str(write(tmp_path, name, FILES[name][0]))])
        proposed: dict[str, dict[str, object]] = yaml.safe_load(infer_mapping(file, config=IngestConfig()).text)[
            "columns"
        ]
        return proposed

    assert columns("u.data")["timestamp"]["unit"] == "s"
    assert columns("u.data")["click"]["at_least"] == 4
    assert columns("events.csv")["click"]["values"] == {"addtocart": "1", "transaction": "1", "view": "0"}
    log = columns("log.csv")
    assert log["user_id"]["hash"] and "unit" not in log["timestamp"]
    assert (log["dwell_time"]["from"], log["dwell_time"]["unit"]) == ("dwellMs", "ms")


def test_a_namesake_that_counts_otherwise_is_ignored(tmp_path: Path) -> None:
    content = "user,item,timestamp,click,day_of_week\n1,2,2024-01-01T10:00:00Z,1,2\n1,2,2024-01-02T10:00:00Z,0,3\n"
    (file,) = find_files([str(write(tmp_path, "a.csv", content))])
    proposal = infer_mapping(file, config=IngestConfig())
    assert yaml.safe_load(proposal.text)["ignore"] == ["day_of_week"]
    assert proposal.rows["day_of_week"].to_pylist() == [0, 1]


def test_a_file_without_a_user_says_what_is_missing(tmp_path: Path) -> None:
    (file,) = find_files([str(write(tmp_path, "a.csv", "colour,size\nred,small\n"))])
    with pytest.raises(DataError, match="no column looks like user_id, item_id, timestamp among colour, size"):
        infer_mapping(file, config=IngestConfig())


def test_the_command_prints_a_mapping_that_ingest_takes(tmp_path: Path) -> None:
    file = write(tmp_path, "u.data", FILES["u.data"][0])
    proposed = CliRunner().invoke(app, ["ingest", "--infer", str(file)])
    assert proposed.exit_code == 0
    (tmp_path / "m.yaml").write_text(proposed.stdout)
    arguments = ["ingest", str(file), "--mapping", str(tmp_path / "m.yaml"), "--run-dir", str(tmp_path / "run")]
    assert '"rows_added": 2' in CliRunner().invoke(app, arguments).stdout
