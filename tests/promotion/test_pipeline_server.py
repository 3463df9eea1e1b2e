"""Uploading, running and scheduling through kfp's client against a stand-in for the KFP API over real HTTP."""

import itertools
import json
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kfp_server_api
import pytest

from feedrank.config.monitoring import RetrainingConfig
from feedrank.config.pipelines import PipelinesConfig, RunsConfig, VolumeConfig
from feedrank.monitoring.results import TriggerDecision
from feedrank.monitoring.triggers import RetrainingLog
from pipelines.server import PipelineServer, PipelineServerError, ServerRetrainings, run_parameters

API = "/apis/v2beta1"


MODELS = {
    "experiments": "V2beta1Experiment",
    "runs": "V2beta1Run",
    "recurringruns": "V2beta1RecurringRun",
}


def check(content: Any, type_name: str) -> None:
    """Raises ValueError unless a request's JSON is what the published client's model says."""
    model = getattr(kfp_server_api, type_name, None)
    if type_name.startswith("list["):
        for entry in content:
            check(entry, type_name[5:-1])
    elif getattr(model, "attribute_map", {}):
        types = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
        for key, value in content.items():
            if key not in types:
                raise ValueError(f"{type_name} has no field {key}")
            check(value, types[key])
    elif not isinstance(content, PLAIN.get(type_name, object)) or content not in getattr(
        model, "allowable_values", [content]
    ):
        raise ValueError(f"{content!r} is no {type_name}")


# A 64-bit integer is a string in the model; KFP's gateway takes the number too, which the client sends.
PLAIN = {"str": (str, int), "int": int, "bool": bool, "datetime": str}


class StandIn(ThreadingHTTPServer):
    """Keeps what is posted, the newest first, and lists it again; the paths are those of KFP's REST API v2beta1."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.kept: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("experiments", "pipelines", "pipeline_versions", "runs", "recurringruns")
        }
        self.deleted: list[str] = []
        self._numbers = itertools.count()

    def keep(self, kind: str, key: str, content: dict[str, Any]) -> dict[str, Any]:
        content = {key: f"{kind}-{next(self._numbers)}", **content}
        self.kept[kind].insert(0, content)
        return content


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        url = urllib.parse.urlparse(self.path)
        query = urllib.parse.parse_qs(url.query)
        path = url.path.removeprefix(API).strip("/")
        if path == "healthz":
            return self._answer({"multi_user": False})
        if path.endswith("/versions"):
            wanted = path.split("/")[1]
            found = [v for v in self.server.kept["pipeline_versions"] if v["pipeline_id"] == wanted]
            return self._answer({"pipeline_versions": found})
        kind = path.split("/")[0]
        found = self.server.kept[kind]
        if "filter" in query:
            (name,) = (p.get("stringValue") or p["string_value"] for p in json.loads(query["filter"][0])["predicates"])
            found = [entry for entry in found if entry["display_name"] == name]
        return self._answer({{"recurringruns": "recurringRuns"}.get(kind, kind): found})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urllib.parse.urlparse(self.path)
        query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
        path = url.path.removeprefix(API).strip("/")
        now = {"created_at": datetime.now(UTC).isoformat()}
        keep = self.server.keep
        if path == "pipelines/upload":
            pipeline = keep("pipelines", "pipeline_id", {"display_name": query["name"], **now})
            version = {"display_name": query["name"], "pipeline_id": pipeline["pipeline_id"], **now}
            keep("pipeline_versions", "pipeline_version_id", version)
            return self._answer(pipeline)
        if path == "pipelines/upload_version":
            version = {"display_name": query["name"], "pipeline_id": query["pipelineid"], **now}
            return self._answer(keep("pipeline_versions", "pipeline_version_id", version))
        keys = {"experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}
        content = json.loads(body)
        try:
            check(content, MODELS[path])
        except ValueError as error:
            return self._answer({"error": str(error)}, status=400)
        return self._answer(keep(path, keys[path], content))

    def do_DELETE(self) -> None:
        wanted = self.path.rsplit("/", 1)[1]
        self.server.deleted.append(wanted)
        runs = self.server.kept["recurringruns"]
        runs[:] = [run for run in runs if run["recurring_run_id"] != wanted]
        self._answer({})

    def _answer(self, content: dict[str, Any], *, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def server(stand_in: StandIn) -> PipelineServer:
    return PipelineServer(f"http://127.0.0.1:{stand_in.server_port}", config=PipelinesConfig())


def test_uploading_again_adds_nothing(server, stand_in):
    first = server.upload()
    assert {"monitoring_and_drift_detection", "automated_retraining"} <= set(first)
    versions = len(stand_in.kept["pipeline_versions"])
    assert server.upload() == first
    assert len(stand_in.kept["pipeline_versions"]) == versions


def test_a_triggered_retraining_runs_the_latest_version_with_the_reasons(server, stand_in, tmp_path):
    uploaded = server.upload()["automated_retraining"]
    trigger = TriggerDecision(
        request_id="r1", decided_at=datetime(2024, 11, 13, tzinfo=UTC), start=True, reasons=["drift"]
    )
    config = PipelinesConfig(
        host=f"http://127.0.0.1:{stand_in.server_port}", runs=RunsConfig(monitoring_directory="/shared")
    )
    record = RetrainingLog(tmp_path, config=RetrainingConfig())
    ServerRetrainings(config, record).start(trigger)
    (run,) = stand_in.kept["runs"]
    assert run["pipeline_version_reference"] == {
        "pipeline_id": uploaded.pipeline_id,
        "pipeline_version_id": uploaded.version_id,
    }
    parameters = run["runtime_config"]["parameters"]
    assert parameters["monitoring_directory"] == "/shared"
    assert parameters["input_paths"] == ["/data/interactions"]
    assert parameters["trigger"]["reasons"] == ["drift"]


def test_a_schedule_is_replaced_and_never_catches_up_or_overlaps(server, stand_in):
    server.upload()
    schedule = PipelinesConfig().schedules.automated_retraining
    old = server.schedule("automated_retraining", cron=schedule, parameters={})
    new = server.schedule("automated_retraining", cron=schedule, parameters={})
    assert stand_in.deleted == [old]
    (job,) = stand_in.kept["recurringruns"]
    assert job["recurring_run_id"] == new
    assert job["trigger"]["cron_schedule"]["cron"] == schedule
    assert (job["no_catchup"], int(job["max_concurrency"])) == (True, 1)


def test_a_retraining_that_could_not_be_started_may_be_asked_for_again(tmp_path):
    record = RetrainingLog(tmp_path, config=RetrainingConfig())
    now = datetime(2024, 11, 13, tzinfo=UTC)
    trigger = record.decide(["drift"], now=now)
    with pytest.raises(PipelineServerError):
        ServerRetrainings(PipelinesConfig(host="http://127.0.0.1:9"), record).start(trigger)
    assert record.decide(["drift"], now=now).start


def test_installing_schedules_every_pipeline_with_its_parameters(server, stand_in):
    assert set(server.install()) == set(PipelinesConfig().schedules.model_dump())
    jobs = {job["display_name"]: job["runtime_config"]["parameters"] for job in stand_in.kept["recurringruns"]}
    assert jobs["monitoring_and_drift_detection"]["predictions"] == "/data/predictions"
    assert jobs["automated_retraining"]["input_paths"] == ["/data/interactions"]
    assert jobs["etl_and_feature_engineering"]["input_paths"] == [], "there is no volume to read, so it generates"


def test_with_a_volume_the_etl_reads_what_arrived_there():
    config = PipelinesConfig(volume=VolumeConfig(claim="feedrank-data"))
    assert run_parameters("etl_and_feature_engineering", config)["input_paths"] == ["/data/interactions"]


def test_a_backfill_is_a_run_for_each_data_date(server, stand_in):
    server.upload()
    days = [date(2024, 5, 1), date(2024, 5, 2)]
    started = server.backfill(days, parameters={"start_training": False})
    runs = {run["run_id"]: run for run in stand_in.kept["runs"]}
    for day in days:
        run = runs[started[day]]
        assert run["display_name"] == f"backfill {day}"
        assert run["runtime_config"]["parameters"]["data_date"] == day.isoformat()


def test_a_pipeline_that_was_not_uploaded_and_a_server_that_is_down_are_named(server):
    with pytest.raises(PipelineServerError, match="no pipeline other; upload"):
        server.run("other", parameters={}, run_name="x")
    with pytest.raises(PipelineServerError, match=r"KFP at http://127\.0\.0\.1:9"):
        PipelineServer("http://127.0.0.1:9", config=PipelinesConfig())
