"""What real files and clients send: every case gets its right outcome, every row read is accounted for.

- `cases`, `right`, `tracebacks`, `rows_unaccounted`: the files, requests and starts of ../shared/cases (where they are)
  and siblings of them (`world_files.py`, `world_wire.py`).
- `clients`, `clients_answered`: real HTTP and gRPC clients of Java, Go, Node, Perl, curl and Python that ask a running
  predictor for rankings (tests/serving/clients); those whose toolchain is missing are named and not counted.
- `ingest_ratio`: seconds to ingest a clean file of 1 M rows over those of an earlier commit (`--against`), the larger
  of CSV and Parquet; both run in turn, in processes of their own, and the shortest run of each counts.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import world_files, world_wire
from benchmarks.figures import show
from benchmarks.predict_bundle import Size, write_random_bundle
from benchmarks.prepared import sized_config
from benchmarks.world_files import HASHED, ISO, Outcome
from feedrank.cli import app
from feedrank.config.model import ModelConfig
from feedrank.data.generator import generate

SHARED = Path("../shared/cases")
LANDED = "69b6c50"
"""The version before the readers of this benchmark."""
REPEATS = 3
TARGETS = {
    "right": "all cases",
    "tracebacks": "0",
    "rows_unaccounted": "0",
    "clients": ">= 10",
    "clients_answered": "all",
    "ingest_ratio": "<= 1.2",
}
SCALARS = ("123", "true", "off", "null", "1.0", "1e3", "2024-01-01", "0x10", "~")
INGEST = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from feedrank.config.ingest import IngestConfig
from feedrank.data.ingest import ingest
started = time.perf_counter()
ingest([sys.argv[2]], output=Path(sys.argv[3]), mapping=None, config=IngestConfig())
print(time.perf_counter() - started)
"""
console = Console(width=120)


def file_cases(folder: Path, outcome: Outcome) -> None:
    """Everything that is ingested."""
    if SHARED.is_dir():
        for case, source in world_files.shared_cases(SHARED):
            world_files.run_case(case, source, folder / f"shared-{case.name}", outcome)
        outcome.count("quoted_newlines_3mb.py", lambda: world_files.pasted_rows(SHARED, folder / "pasted", outcome))
    for number, case in enumerate(world_files.own_cases()):
        world_files.run_case(case, Path(), folder / f"own-{number}", outcome)
    own_id = HASHED.replace("columns:", "columns:\n  interaction_id: {from: id, hash: true}")
    outcome.count("late_click, own id", lambda: world_files.late_click(folder / "late-own", own_id))
    outcome.count("late_click, no id", lambda: world_files.late_click(folder / "late", ISO))


def foreign_folder(folder: Path) -> bool:
    """A folder in the prediction log that is none of its days."""
    from typer.testing import CliRunner

    (folder / "date=2024-11-15.bak").mkdir(parents=True)
    result = CliRunner().invoke(app, ["log", "export", str(folder / "o.csv"), "--log", str(folder)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return True


def served_cases(model: Path, folder: Path, outcome: Outcome) -> tuple[dict[str, str], list[str]]:
    """Everything that is sent to a predictor, and how it is started; what the real clients got."""
    with world_wire.running(model, folder / "server") as server:
        for name, (status, part) in world_wire.REQUESTS.items():
            if (SHARED / name).exists():
                request = (SHARED / name).read_bytes()
                outcome.count(name, lambda r=request, s=status, p=part: world_wire.is_right(server, r, s, p))
        outcome.count("client_numpy.py", lambda: world_wire.numpy_client(server))
        clients = world_wire.ask_clients(server)
    for number, scalar in enumerate(SCALARS):
        options, path = ["--model-name", scalar, "--log-dir", scalar], f"/v1/models/{scalar}"
        outcome.count(
            f"model_name {scalar}",
            lambda n=number, o=options, p=path: world_wire.starts(model, folder / f"s{n}", o, path=p),
        )
    for number, host in enumerate(("::", "::1", "::0")):
        outcome.count(
            f"host {host}",
            lambda n=number, h=host: world_wire.starts(model, folder / f"h{n}", ["--host", h], host="::1"),
        )
    outcome.count("a foreign folder in the log", lambda: foreign_folder(folder / "foreign"))
    return clients


def ingest_ratio(folder: Path, against: str) -> float | None:
    """The larger of CSV's and Parquet's; None where the earlier commit is not to be had."""
    earlier = folder / "earlier"
    earlier.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", against], capture_output=True, check=False)
    if archive.returncode:
        console.print(f"ingest_ratio: {archive.stderr.decode().strip()}", markup=False)
        return None
    subprocess.run(["tar", "-x", "-C", str(earlier)], input=archive.stdout, check=True)
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    rows = pa.concat_tables(generate(sized_config(1_000_000).data.generator))
    pq.write_table(rows, folder / "rows.parquet")
    pa_csv.write_csv(rows.set_column(3, "timestamp", rows["timestamp"].cast(pa.string())), folder / "rows.csv")
    ratios = []
    for file in (folder / "rows.csv", folder / "rows.parquet"):
        seconds: dict[Path, list[float]] = {Path.cwd(): [], earlier: []}
        for repeat in range(REPEATS):
            for tree, times in seconds.items():
                output = folder / f"{file.suffix}-{tree.name}-{repeat}"
                command = [sys.executable, "-c", INGEST, str(tree), str(file), str(output)]
                times.append(float(subprocess.run(command, capture_output=True, check=True, cwd=tree).stdout))
        now, then = (min(times) for times in seconds.values())
        console.print(f"ingest of 1 M rows of {file.suffix}: {now:.2f} s, at {against} {then:.2f} s", highlight=False)
        ratios.append(now / then)
    return round(max(ratios), 3)


def main() -> None:
    """Runs everything and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=LANDED, help="the commit that ingest_ratio compares with")
    against = parser.parse_args().against
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file_cases(folder / "files", outcome)
        model = write_random_bundle(folder / "model", config=ModelConfig(), size=Size(200, 1_200, 20_000))
        problems, absent = served_cases(model, folder / "served", outcome)
        ratio = ingest_ratio(folder / "ratio", against)
    for line in [*outcome.wrong, *(f"{name}: {said}" for name, said in problems.items() if said), *absent]:
        console.print(line, markup=False, highlight=False)
    show(
        {
            "cases": outcome.cases,
            "right": outcome.cases - len(outcome.wrong),
            "tracebacks": outcome.tracebacks,
            "rows_unaccounted": outcome.rows_unaccounted,
            "clients": len(problems),
            "clients_answered": sum(not said for said in problems.values()),
            "ingest_ratio": ratio,
        },
        TARGETS,
    )


if __name__ == "__main__":
    main()
