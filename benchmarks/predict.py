"""How fast the predictor is, beside what one would take instead and a bare echo, and what it loses.

`python -m benchmarks.predict` prints a table, and as its last line one JSON object. Both models have the default size
(10,000 users, 50,000 items) and random weights; a request has 100 items; validation and prediction log are on. One
worker each, and the load generator shares the machine. `vs_echo` is measured against a bare ASGI echo in uvicorn as it
comes, `vs_lean_echo` against the same in uvicorn stripped of all that the predictor does without, its access log first.
`vs_stock` is against KServe's own model server, `vs_mlserver`, `vs_bentoml` and `vs_rayserve` against these libraries,
all with the same model in eager torch, whose scores have to be the predictor's. The last three have one thread for
torch, as Ray gives it, the stock peer torch's default; and they have rounds of their own, for Ray's processes are
never idle: `rps_beside_peers` is the predictor's rate in them. The peers' packages come from PyPI into
~/.cache/feedrank-peers and stay there. wrk is needed: apt-get install wrk.
"""

import contextlib
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.figures import Figures, show
from benchmarks.peers.start import PEERS, outside_peer, packages
from benchmarks.predict_bundle import DEFAULT_SIZE, LARGE_SIZE, Size, write_random_bundle
from benchmarks.predict_load import LoadResult, finish, random_bodies, requests_per_second, start_open_loop
from benchmarks.predict_servers import Server, peer, predictor
from benchmarks.predict_wire import Ranking, decoded, encoded, refuse_differing
from feedrank import schema
from feedrank.config.model import ModelConfig, ModelType
from feedrank.prediction_log import read_log

ROUNDS = 3
RELOADS = 50
ITEMS = 100


def main() -> None:
    """Entry point."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that no server outlives it
    for name in PEERS:
        packages(name)
    with tempfile.TemporaryDirectory(prefix="feedrank-bench-") as name:
        folder = Path(name)
        figures: Figures = {}
        print("making models …", file=sys.stderr)
        models = {kind: _model(folder, kind, DEFAULT_SIZE) for kind in ("two_tower", "deep_mlp")}
        for measure in (_throughput, _peers, _latency, _losses, _sigkill):
            print(f"{measure.__name__.strip('_')} …", file=sys.stderr)
            figures |= measure(folder, models)
        print("large …", file=sys.stderr)
        figures |= _large(folder, figures)
    show(figures, TARGETS)


def _model(folder: Path, kind: ModelType, size: Size, version: str = "v1.0.0") -> Path:
    config = ModelConfig(model_type=kind)
    return write_random_bundle(folder / f"{kind}-{size.items}-{version}", config=config, size=size, version=version)


def _rates(servers: dict[str, Server], folder: Path, size: Size) -> dict[str, float]:
    """Requests/s of several servers: medians of rounds in which each has its turn."""
    bodies = random_bodies(200, users=size.users, items=size.items)
    rates: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(ROUNDS + 1):
        for name, server in servers.items():
            asked = [encoded(server.path, body) for body in bodies]
            rate = requests_per_second(server.port, server.path, asked, folder=folder, seconds=5 if turn else 2)
            if turn:  # the first is for warming up
                rates[name].append(rate)
    return {name: statistics.median(values) for name, values in rates.items()}


def _answer(server: Server) -> Ranking:
    """What a server answers to one request."""
    [body] = random_bodies(1, users=DEFAULT_SIZE.users, items=DEFAULT_SIZE.items)
    headers = {"content-type": "application/json"}
    answer = httpx.post(server.url + server.path, content=encoded(server.path, body), headers=headers, timeout=60)
    return decoded(server.path, answer.raise_for_status().content)


def _throughput(folder: Path, models: dict[str, Path]) -> Figures:
    with contextlib.ExitStack() as stack:
        servers = {kind: stack.enter_context(peer(folder / kind, kind)) for kind in ("echo", "lean_echo")}
        for kind, model in models.items():
            servers[f"stock_{kind}"] = stack.enter_context(peer(folder / f"stock-{kind}", "stock", model))
            servers[kind] = stack.enter_context(predictor(folder / kind, model))
            refuse_differing({name: _answer(servers[name]) for name in (kind, f"stock_{kind}")})
        rates = _rates(servers, folder, DEFAULT_SIZE)
        rss = servers["two_tower"].resident_gib()
    return {
        **{f"rps_{name}": round(rate) for name, rate in rates.items()},
        "vs_stock": round(rates["two_tower"] / rates["stock_two_tower"], 2),
        "vs_echo": round(rates["two_tower"] / rates["echo"], 3),
        "vs_lean_echo": round(rates["two_tower"] / rates["lean_echo"], 3),
        "mlp_vs_stock": round(rates["deep_mlp"] / rates["stock_deep_mlp"], 2),
        "rss_gib": round(rss, 3),
    }


def _peers(folder: Path, models: dict[str, Path]) -> Figures:
    model = models["two_tower"]
    with contextlib.ExitStack() as stack:
        servers = {"beside_peers": stack.enter_context(predictor(folder / "beside_peers", model))}
        for name in PEERS:
            servers[name] = stack.enter_context(outside_peer(folder / name, name, model))
        refuse_differing({name: _answer(server) for name, server in servers.items()})
        rates = _rates(servers, folder, DEFAULT_SIZE)
    return {
        **{f"rps_{name}": round(rate) for name, rate in rates.items()},
        **{f"vs_{name}": round(rates["beside_peers"] / rates[name], 2) for name in PEERS},
    }


def _open_loop(server: Server, *, rate: float, seconds: float, connections: int = 64) -> LoadResult:
    return finish(
        start_open_loop(
            server.port, rate=rate, seconds=seconds, users=DEFAULT_SIZE.users, items=DEFAULT_SIZE.items,
            connections=connections,
        )
    )  # fmt: skip


def _latency(folder: Path, models: dict[str, Path]) -> Figures:
    with predictor(folder / "latency", models["two_tower"]) as server:
        _open_loop(server, rate=500, seconds=2)
        steady = _open_loop(server, rate=1000, seconds=15)
        bodies = random_bodies(200, users=DEFAULT_SIZE.users, items=DEFAULT_SIZE.items)
        capacity = requests_per_second(server.port, "/predict", bodies, folder=folder)
        over = _open_loop(server, rate=2 * capacity, seconds=8, connections=1000)
    return {
        "p50_ms_at_1000": steady.p50_ms,
        "p99_ms_at_1000": steady.p99_ms,
        "failed_at_1000": steady.offered - steady.statuses.get("200", 0),
        "overload_offered_per_second": round(2 * capacity),
        "overload_accepted_per_second": round(over.statuses.get("200", 0) / 8),
        "overload_p99_ms": over.p99_ms,
        "overload_503_share": round(over.statuses.get("503", 0) / over.offered, 3),
        "overload_failed": over.offered - over.statuses.get("200", 0) - over.statuses.get("503", 0),
        "overload_generator_late_p99_ms": over.late_p99_ms,
    }


def _log_rows(server: Server) -> int:
    table = read_log(server.folder / "log", columns=[schema.PREDICTION_ID])
    rows = table.num_rows
    assert len(table[schema.PREDICTION_ID].unique()) == rows, "a prediction is in the log twice"
    return int(rows)


def _losses(folder: Path, models: dict[str, Path]) -> Figures:
    """Reloads, then SIGTERM, all under load."""
    versions = [models["two_tower"], _model(folder, "two_tower", DEFAULT_SIZE, "v1.0.1")]
    link = folder / "champion"
    link.symlink_to(versions[0])
    with predictor(folder / "reloads", link, DRAIN__DELAY_SECONDS="3", RELOAD__POLL_SECONDS="60") as server:
        generator = start_open_loop(server.port, rate=300, seconds=4 * RELOADS, users=10_000, items=50_000)
        for number in range(RELOADS):
            fresh = folder / "fresh"
            fresh.symlink_to(versions[(number + 1) % 2])
            fresh.rename(link)
            assert httpx.post(f"{server.url}/admin/reload", timeout=60).json()["reloaded"]
        generator.terminate()
        before = finish(generator)
        under_term = start_open_loop(server.port, rate=300, seconds=2, users=10_000, items=50_000)
        time.sleep(1)
        exit_code = server.terminate()
        after = finish(under_term)
    answered = before.statuses.get("200", 0) + after.statuses.get("200", 0)
    return {
        "reloads": RELOADS,
        "failed_reloads": before.offered - before.statuses.get("200", 0),
        "reload_p99_ms": before.p99_ms,
        "failed_sigterm": after.offered - after.statuses.get("200", 0),
        "sigterm_exit_code": exit_code,
        "lost_log_rows": answered * ITEMS - _log_rows(server),
    }


def _sigkill(folder: Path, models: dict[str, Path]) -> Figures:
    """All processes are killed at once under load; what was answered and is not in the log after the next start."""
    rate, settings = 1000, {"LOG__FILE_INTERVAL_SECONDS": "600"}
    with predictor(folder / "sigkill", models["two_tower"], **settings) as server:
        generator = start_open_loop(server.port, rate=rate, seconds=5, users=10_000, items=50_000)
        time.sleep(4)
        server.kill_all()
        answered = finish(generator).statuses.get("200", 0)
    with predictor(folder / "sigkill", models["two_tower"], **settings) as server:
        server.terminate()
    lost = answered * ITEMS - _log_rows(server)
    return {"lost_after_sigkill_rows": lost, "lost_after_sigkill_ms": round(lost / ITEMS / rate * 1000, 1)}


def _large(folder: Path, figures: Figures) -> Figures:
    model = _model(folder, "two_tower", LARGE_SIZE)
    small = folder / f"two_tower-{DEFAULT_SIZE.items}-v1.0.0"
    with predictor(folder / "large", model) as large, predictor(folder / "small", small) as default:
        bodies = {s: random_bodies(500, users=s.users, items=s.items) for s in (DEFAULT_SIZE, LARGE_SIZE)}
        ratios = []
        for _ in range(ROUNDS):
            slow = requests_per_second(large.port, "/predict", bodies[LARGE_SIZE], folder=folder)
            fast = requests_per_second(default.port, "/predict", bodies[DEFAULT_SIZE], folder=folder)
            ratios.append(slow / fast)
        rss = large.resident_gib()
    mlp = _model(folder, "deep_mlp", LARGE_SIZE)
    with predictor(folder / "large-mlp", mlp) as server:
        mlp_rss = server.resident_gib()
    return {
        "start_seconds": round(default.start_seconds, 2),
        "start_seconds_500k": round(large.start_seconds, 2),
        "rss_gib_500k": round(rss, 3),
        "mlp_start_seconds_500k": round(server.start_seconds, 2),
        "mlp_rss_gib_500k": round(mlp_rss, 3),
        "throughput_ratio_500k": round(statistics.median(ratios), 3),
    }


TARGETS = {
    "vs_stock": ">= 5", "vs_echo": ">= 0.30, aim 0.50",
    "vs_mlserver": ">= 5", "vs_bentoml": ">= 5", "vs_rayserve": ">= 5",
    "mlp_vs_stock": ">= 3", "p99_ms_at_1000": "< 10",
    "overload_p99_ms": "< 50", "failed_reloads": "0", "failed_sigterm": "0", "lost_log_rows": "0",
    "lost_after_sigkill_ms": "<= 100",
    "start_seconds_500k": "< 10", "rss_gib_500k": "< 1.5", "throughput_ratio_500k": ">= 0.8",
}  # fmt: skip


if __name__ == "__main__":
    main()
