"""The mappings in config/mappings read small made-up files of the shapes that they are for."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.ingest.conftest import Table

MAPPINGS = Path(__file__).parents[3] / "config" / "mappings"
CRITEO = (
    "timestamp\tuid\tcampaign\tconversion\tclick\tattribution\tcost\n"
    "0\t20073966\t22589171\t0\t0\t0\t0.001\n2\t7\t9\t1\t1\t1\t0.2\n"
)
RETAILROCKET = (
    "timestamp,visitorid,event,itemid,transactionid\n"
    "1433221332117,257597,view,355908,\n1433224214164,992329,transaction,248676,4\n"
)
EXAMPLES: dict[str, tuple[str, str, dict[str, list[Any]]]] = {
    "movielens": ("data", "196\t242\t3\t881250949\n186\t302\t5\t891717742\n", {"user_id": [196, 186], "click": [0, 1]}),
    "recbole": (
        "inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\ti2\t4.0\t8.81250949E8\n",
        {"click": [1], "day_of_week": [3]},
    ),
    "criteo": ("tsv", CRITEO, {"click": [0, 1], "like": [0, 1], "day_of_week": [6, 6], "user_id": [20073966, 7]}),
    "retailrocket": ("csv", RETAILROCKET, {"click": [0, 1], "like": [0, 1], "item_id": [355908, 248676]}),
    "ratings": ("csv", "user,item,rating,timestamp\n1,2,5,1500000000\n", {"click": [1], "device": ["desktop"]}),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_reads_its_kind_of_file(table: Table, name: str) -> None:
    ending, content, expected = EXAMPLES[name]
    mapping = (MAPPINGS / f"{name}.yaml").read_text(encoding="utf-8")
    assert table.ingest(content, ending, mapping=mapping).rows_quarantined == 0
    assert {column: table.column(column) for column in expected} == expected


def test_movielens_of_colons_needs_one_line_more(table: Table) -> None:
    mapping = (MAPPINGS / "movielens.yaml").read_text(encoding="utf-8").replace('delimiter: "\\t"', 'delimiter: "::"')
    table.ingest("1::1193::5::978300760\n1::661::3::978302109\n", "dat", mapping=mapping)
    assert table.column("click") == [1, 0]


def test_every_mapping_has_its_example() -> None:
    others = {"open_bandit"}  # read from the package that brings it, in test_ingest.py
    assert {path.stem for path in MAPPINGS.glob("*.yaml")} == EXAMPLES.keys() | others
