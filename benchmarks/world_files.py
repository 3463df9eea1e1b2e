"""Files as people have them, each with the outcome that is right: those beside the project, and siblings of them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feedrank import delta
from feedrank.config.ingest import IngestConfig
from feedrank.data.ingest import IngestSummary, ingest
from feedrank.data.ingest.quarantine import place
from feedrank.errors import FeedrankError
from feedrank.tables import read_partitioned

COLUMNS = "columns:\n  user_id: {from: user}\n  item_id: {from: item}\n  click: {from: click}\n"
DEFAULTS = "defaults: {like: 0, share: 0, dwell_time: 0.0, device: mobile}\n"
ISO = COLUMNS + "  timestamp: {from: ts}\n" + DEFAULTS
SECONDS = COLUMNS + "  timestamp: {from: ts, unit: s}\n" + DEFAULTS
FILLED = (
    COLUMNS + "  timestamp: {from: ts}\n  dwell_time: {from: dwell, fill: 0}\n  device: {from: dev, fill: desktop}\n"
)
FILLED += "defaults: {like: 0, share: 0}\n"
HASHED = ISO.replace("{from: user}", "{from: user, hash: true}")
HEADER = "user,item,ts,click,title\n"


@dataclass
class Outcome:
    """What became of the cases."""

    cases: int = 0
    wrong: list[str] = field(default_factory=list)
    tracebacks: int = 0
    rows_unaccounted: int = 0

    def count(self, name: str, judge: Callable[[], bool]) -> None:
        """Counts a case; an exception that is no sentence for a person counts as a traceback, too."""
        self.cases += 1
        try:
            if judge():
                return
            reason = ""
        except FeedrankError as error:
            reason = f": {error}"
        except Exception as error:
            self.tracebacks += 1
            reason = f": {type(error).__name__}: {error}"
        self.wrong.append(f"{name}{reason}"[:200])


@dataclass(frozen=True)
class Case:
    """Files, a mapping, and how many rows are added; or a part of the sentence that refuses them."""

    name: str
    mapping: str
    added: int = 0
    quarantined: int = 0
    values: dict[str, list[Any]] = field(default_factory=dict)
    refused: str = ""
    quarantined_row: int | None = None
    content: bytes | None = None
    ending: str = "csv"


def shared_cases(folder: Path) -> Iterator[tuple[Case, Path]]:
    """The cases beside the project."""
    users = {"user_id": [9007199254740993, 9007199254740995, 12]}
    filled = {"dwell_time": [0.0, 0.0, 0.0], "device": ["desktop"] * 3}
    decimals = {"user_id": [12, 13], "item_id": [7, 8], "click": [1, 0]}
    cases = [
        Case("all_null.jsonl", FILLED, 3, values=filled),
        Case("array.json", ISO, 3),
        Case("bigquery_times.csv", ISO, 2),
        Case("binary_text.parquet", ISO, 2),
        Case("column_twice.parquet", ISO, refused="column 'user'"),
        Case("cr_only.csv", ISO, 2),
        Case("decimal_ids.parquet", ISO, 2, values=decimals),
        Case("empty_part", ISO, 2),
        Case("ids_19_digits.csv", ISO, 40, 1, quarantined_row=41),
        Case("ids_above_2e53.jsonl", ISO, 3, values=users),
        Case("line_separator.jsonl", ISO, 2),
        Case("list_column.parquet", FILLED, refused="column 'dwell'"),
        Case("ms_given_as_s.csv", SECONDS, 39, 1, quarantined_row=40),
        Case("nan_fill.jsonl", FILLED, 2, values={"dwell_time": [0.0, 2.5]}),
        Case("row_numbers.csv", ISO, 1, 2, quarantined_row=3),
        Case("stray_quote.tsv", SECONDS, 300),
        Case("uint64_ids.parquet", ISO, 1, 1, quarantined_row=2),
        Case("users_called_na.csv", HASHED, 3),
    ]
    yield from ((case, folder / case.name) for case in cases)


def own_cases() -> Iterator[Case]:
    """Siblings of them."""
    times = [f"2024-01-01T10:00:{n:02}Z" for n in range(60)]
    rows = [f"{n},{n % 7},{times[n]},{n % 2},title {n}" for n in range(60)]

    def with_title(title: str, delimiter: str = ",") -> bytes:
        odd = [*rows[:12], f"12,5,{times[12]},0,{title}", *rows[13:]]
        return (HEADER + "\n".join(odd) + "\n").replace(",", delimiter).encode()

    pasted = '"pasted:' + "\n7,7,2024-01-01T10:00:00Z,1,x" * 50_000 + '"'
    yield Case("a stray quote in commas", ISO, 60, content=with_title('"Live at'))
    yield Case("inches", ISO, 60, content=with_title('12" vinyl'))
    yield Case("a cell of 1.4 MB that looks like rows", ISO, 60, content=with_title(pasted))
    yield Case("rows in a cell of a TSV", ISO, content=with_title('"a\nb"', "\t"), ending="tsv", added=60)
    yield Case("no UTF-8 in a column that is not read", ISO, 60, content=with_title("x").replace(b",0,x", b",0,\xe9"))
    yield Case("UTF-16", ISO, 60, content=("\ufeff" + with_title("€").decode()).encode("utf-16-le"))
    yield Case("CRLF with a return in a cell", ISO, 60, content=with_title("a\rb").replace(b"\n", b"\r\n"))
    yield Case("a header twice", ISO, refused="column 'user'", content=b"user,item,ts,click,user\n1,2,3,4,5\n")
    wrong_unit = "\n".join([HEADER.strip(), *(f"1,2,{1_704_103_200_000 + n},1,x" for n in range(60))])
    yield Case("milliseconds only", SECONDS, refused="unit: ms in the mapping", content=wrong_unit.encode())
    zone = ISO.replace("{from: ts}", "{from: ts, zone: Asia/Tokyo}")
    yield Case(
        "times of Tokyo",
        zone,
        1,
        content=b"user,item,ts,click\n1,2,2024-01-01 19:00:00,1\n",
        values={"day_of_week": [0]},
    )
    colons = SECONDS + "delimiter: '::'\ncolumn_names: [user, item, click, ts]\n"
    yield Case("colons", colons, 2, content=b"1::1193::1::978300760\n1::661::0::978302109\n", ending="dat")
    objects = [
        {"user": 2**62 + n, "item": 1, "ts": times[n], "click": 1, "dwell": None if n % 2 else "3"} for n in range(9)
    ]
    lines = "\n".join(json.dumps(o) for o in objects)
    yield Case("large ids beside null and text", FILLED, 9, content=lines.encode(), ending="jsonl")
    yield Case("an indented array", FILLED, 9, content=json.dumps(objects, indent=1).encode(), ending="json")
    broken = lines + '\n{"user": 1,\n[1]\n'
    yield Case("broken lines of JSON", FILLED, 9, 2, content=broken.encode(), ending="jsonl", quarantined_row=11)


def run_case(case: Case, source: Path, folder: Path, outcome: Outcome) -> None:
    """Ingests the case's files into a fresh table and judges what comes of it."""
    folder.mkdir(parents=True)
    if case.content is not None:
        source = folder / f"file.{case.ending}"
        source.write_bytes(case.content)

    def judge() -> bool:
        try:
            summary = ingest_with(case.mapping, source, folder=folder)
        except FeedrankError as error:
            return bool(case.refused) and case.refused in str(error)
        outcome.rows_unaccounted += unaccounted(summary)
        return not case.refused and is_right(case, summary)

    outcome.count(case.name, judge)


def ingest_with(mapping: str, *sources: Path, folder: Path) -> IngestSummary:
    """Into the table of a folder."""
    (folder / "mapping.yaml").write_text(mapping, encoding="utf-8")
    names = [str(source) for source in sources]
    return ingest(names, output=folder / "table", mapping=folder / "mapping.yaml", config=IngestConfig())


def unaccounted(summary: IngestSummary) -> int:
    """Rows that were read and of which the summary doesn't say what became of them."""
    told = summary.rows_added + summary.rows_updated + summary.rows_known + summary.rows_quarantined
    return abs(summary.rows_read - told)


def is_right(case: Case, summary: IngestSummary) -> bool:
    """Counts, values and the number of the refused row."""
    if (summary.rows_added, summary.rows_quarantined) != (case.added, case.quarantined):
        return False
    table = read_partitioned(summary.output)
    if any(table[name].to_pylist() != values for name, values in case.values.items()):
        return False
    if case.quarantined_row is None:
        return True
    quarantine = delta.open_table(place(summary.output)).read()
    return case.quarantined_row in quarantine["row"].to_pylist()


def late_click(folder: Path, mapping: str) -> bool:
    """The same export with ten clicks more."""
    folder.mkdir(parents=True)
    for name, clicks in (("a", 0), ("b", 10)):
        rows = [f"id-{n},{n},{n % 9},2024-01-01T10:00:{n % 60:02}Z,{int(n < clicks)}" for n in range(100)]
        (folder / f"{name}.csv").write_text("\n".join(["id,user,item,ts,click", *rows]), encoding="utf-8")
        summary = ingest_with(mapping, folder / f"{name}.csv", folder=folder)
    clicked = sum(read_partitioned(folder / "table")["click"].to_pylist())
    return (summary.rows_updated, summary.rows_known, clicked) == (10, 90, 10)


def pasted_rows(shared: Path, folder: Path, outcome: Outcome) -> bool:
    """The 3 MB of quoted line breaks that a script beside the project prints."""
    folder.mkdir(parents=True)
    script = [sys.executable, str(shared / "quoted_newlines_3mb.py")]
    (folder / "a.csv").write_bytes(subprocess.run(script, capture_output=True, check=True).stdout)
    summary = ingest_with(SECONDS, folder / "a.csv", folder=folder)
    outcome.rows_unaccounted += unaccounted(summary)
    return summary.rows_added == 60_000 and 999_999 not in read_partitioned(folder / "table")["user_id"].to_pylist()
