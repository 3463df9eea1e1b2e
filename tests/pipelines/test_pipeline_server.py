"""Uploading, running and scheduling through kfp's client against a stand-in for the KFP API over real HTTP."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from kfp_stand_in import Entry, StandIn, running

from feedrank.config.monitoring import RetrainingConfig
from feedrank.config.pipelines import PipelinesConfig, ReleaseConfig, RunsConfig, SchedulesConfig, VolumeConfig
from feedrank.monitoring.results import TriggerDecision
from feedrank.monitoring.triggers import RetrainingLog
from pipelines import PIPELINES
from pipelines import server as servers
from pipelines.compile import compile_all
from pipelines.release import NAME_LENGTH, namespace_of, server_name
from pipelines.server import PipelineServer, PipelineServerError, ServerRetrainings, run_parameters

ETL, RETRAINING = "etl_and_feature_engineering", "automated_retraining"
TRIGGER = TriggerDecision(request_id="r1", decided_at=datetime(2024, 11, 13, tzinfo=UTC), start=True, reasons=["drift"])


@pytest.fixture(params=["first", "last"])
def stand_in(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    with running(request.param) as server:
        yield server


@pytest.fixture
def server(stand_in: StandIn) -> PipelineServer:
    return PipelineServer(stand_in.url, config=PipelinesConfig())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {file.stem: file.read_text() for file in compile_all(tmp_path_factory.mktemp("compiled"))}


@pytest.fixture
def use_content(monkeypatch: pytest.MonkeyPatch, compiled: dict[str, str]) -> Callable[[str], None]:
    """Makes this process one of another version of the product: its pipelines compile to other content."""

    def use(version: str) -> None:
        def compile_version(directory: Path) -> list[Path]:
            files = [directory / f"{name}.yaml" for name in compiled]
            for file in files:
                file.write_text(f"# {version}\n{compiled[file.stem]}")
            return files

        monkeypatch.setattr(servers, "compile_all", compile_version)

    return use


def versions(stand_in: StandIn, name: str) -> list[Entry]:
    (pipeline,) = [p for p in stand_in.kept["pipelines"] if p["display_name"] == name]
    return [v for v in stand_in.kept["pipeline_versions"] if v["pipeline_id"] == pipeline["pipeline_id"]]


def content(stand_in: StandIn, started: Entry) -> str:
    """The first line of the pipeline that a run or a recurring run is of."""
    return stand_in.files[started["pipeline_version_reference"]["pipeline_version_id"]].splitlines()[0]


def recurring(stand_in: StandIn, name: str) -> Entry:
    (job,) = [job for job in stand_in.kept["recurringruns"] if job["display_name"] == name]
    return job


def test_a_first_upload_makes_one_version_of_each_pipeline_and_another_adds_nothing(server, stand_in):
    first = server.upload()
    assert first.keys() == PIPELINES.keys()
    for name, uploaded in first.items():
        (version,) = versions(stand_in, name)
        assert uploaded == servers.UploadedPipeline(version["pipeline_id"], version["pipeline_version_id"])
    stand_in.later()
    assert server.upload() == first
    assert len(stand_in.kept["pipeline_versions"]) == len(first)


def test_what_was_uploaded_first_is_scheduled_and_run(server, stand_in):
    uploaded = server.upload()[RETRAINING].version_id
    server.schedule(RETRAINING, cron="0 0 0 * * 0", parameters={})
    server.run(RETRAINING, parameters={"monitoring_directory": "/m"}, run_name="x")
    for started in (*stand_in.kept["recurringruns"], *stand_in.kept["runs"]):
        assert started["pipeline_version_reference"]["pipeline_version_id"] == uploaded


def test_older_content_that_is_uploaded_again_is_scheduled_and_run(server, stand_in, use_content):
    for version in ("one", "two", "one"):
        use_content(version)
        server.install()
        stand_in.later()
        assert content(stand_in, recurring(stand_in, ETL)) == f"# {version}"
        server.run(RETRAINING, parameters={}, run_name="x")
        assert content(stand_in, stand_in.kept["runs"][-1]) == f"# {version}"
    assert len(versions(stand_in, ETL)) == 2


def test_a_triggered_retraining_runs_the_content_of_its_own_installation(stand_in, use_content, tmp_path):
    config = PipelinesConfig(host=stand_in.url, runs=RunsConfig(monitoring_directory="/shared"))
    for version in ("mine", "somebody else's and newer"):
        use_content(version)
        PipelineServer(stand_in.url, config=config).install()
        stand_in.later()
    use_content("mine")
    ServerRetrainings(config, RetrainingLog(tmp_path, config=RetrainingConfig())).start(TRIGGER)
    (run,) = stand_in.kept["runs"]
    assert content(stand_in, run) == "# mine"
    parameters = run["runtime_config"]["parameters"]
    assert parameters["monitoring_directory"] == "/shared"
    assert parameters["input_paths"] == ["/data/interactions"]
    assert parameters["trigger"]["reasons"] == ["drift"]


def test_a_run_before_the_upload_has_ended_uploads_its_pipeline(server, stand_in):
    server.run(RETRAINING, parameters={}, run_name="x")
    assert len(versions(stand_in, RETRAINING)) == 1


def test_a_version_is_found_among_many(server, stand_in, use_content):
    for number in range(120):
        use_content(f"release {number}")
        server._version("model_training")
        stand_in.later()
    use_content("release 115")
    server.run("model_training", parameters={"features_uri": "/f"}, run_name="x")
    assert content(stand_in, stand_in.kept["runs"][-1]) == "# release 115"


def test_every_pipeline_runs_on_a_server(server, stand_in):
    for name in server.upload():
        server.run(name, parameters={}, run_name=name)
    assert {run["display_name"]: run["state"] for run in stand_in.kept["runs"]} == dict.fromkeys(PIPELINES, "SUCCEEDED")


def test_a_schedule_never_catches_up_or_overlaps(server, stand_in):
    schedule = PipelinesConfig().schedules.automated_retraining
    made = server.schedule(RETRAINING, cron=schedule, parameters={})
    job = recurring(stand_in, RETRAINING)
    assert job["recurring_run_id"] == made
    assert job["trigger"]["cron_schedule"]["cron"] == schedule
    assert (job["no_catchup"], int(job["max_concurrency"])) == (True, 1)


def test_schedules_that_are_as_wanted_keep_id_and_pause(server, stand_in):
    first = server.install()
    stand_in.set_mode(first[ETL], "disable")
    stand_in.later()
    before = [dict(job) for job in stand_in.kept["recurringruns"]]
    assert server.install() == first
    assert stand_in.kept["recurringruns"] == before
    assert server.paused() == {first[ETL]}


@pytest.mark.parametrize(
    "change",
    [
        {"schedules": SchedulesConfig(etl_and_feature_engineering="0 0 3 * * *")},
        {"runs": RunsConfig(mapping="columns: {}")},
        {"service_account": "other"},
    ],
    ids=["cron", "parameters", "service account"],
)
@pytest.mark.parametrize("action", ["enable", "disable"])
def test_a_changed_schedule_is_made_anew_and_keeps_its_pause(stand_in, change, action):
    first = PipelineServer(stand_in.url, config=PipelinesConfig()).install()
    stand_in.set_mode(first[ETL], action)
    second = PipelineServer(stand_in.url, config=PipelinesConfig(**change)).install()
    assert second[ETL] != first[ETL]
    assert recurring(stand_in, ETL)["mode"] == action.upper()


def test_new_content_leaves_a_paused_schedule_paused(server, stand_in, use_content):
    stand_in.set_mode(server.install()[ETL], "disable")
    use_content("new")
    server.install()
    job = recurring(stand_in, ETL)
    assert (job["mode"], content(stand_in, job)) == ("DISABLE", "# new")


def test_what_a_crash_left_of_a_replaced_schedule_is_cleared(server, stand_in):
    first = server.install()
    stand_in.add_recurring_run({**recurring(stand_in, ETL), "runtime_config": {"parameters": {"mapping": "old"}}})
    assert server.install() == first
    assert recurring(stand_in, ETL)["recurring_run_id"] == first[ETL]


def test_a_schedule_that_was_emptied_ends_and_what_people_made_stays(server, stand_in):
    job = recurring(stand_in, ETL) if server.install() else {}
    stand_in.add_recurring_run({**job, "display_name": "my own", "description": "by hand"})
    stand_in.add_recurring_run({**job, "display_name": "a_pipeline_of_an_earlier_release"})
    config = PipelinesConfig(schedules=SchedulesConfig(etl_and_feature_engineering=""))
    assert set(PipelineServer(stand_in.url, config=config).install()) == {"monitoring_and_drift_detection", RETRAINING}
    names = {job["display_name"] for job in stand_in.kept["recurringruns"]}
    assert names == {"monitoring_and_drift_detection", RETRAINING, "my own"}


def test_a_schedule_is_found_behind_many_that_people_made(server, stand_in):
    first = server.install()
    job = recurring(stand_in, ETL)
    for number in range(250):
        stand_in.add_recurring_run({**job, "display_name": f"my own {number}", "description": "by hand"})
    stand_in.kept["recurringruns"].reverse()
    assert server.install() == first
    assert len(stand_in.kept["recurringruns"]) == len(first) + 250


def test_releases_on_one_server_leave_each_other_alone(stand_in, use_content):
    releases = [
        ReleaseConfig(),
        *(ReleaseConfig(name=name, namespace=space) for name, space in [("b-c", "a"), ("c", "a-b"), ("c", "a")]),
    ]
    kept: dict[str, dict[str, str]] = {}
    for release in releases:
        use_content(f"{release.namespace}/{release.name}")
        kept[release.model_dump_json()] = PipelineServer(
            stand_in.url, config=PipelinesConfig(release=release)
        ).install()
    for release in releases:
        use_content(f"{release.namespace}/{release.name}")
        again = PipelineServer(stand_in.url, config=PipelinesConfig(release=release))
        assert again.install() == kept[release.model_dump_json()]
        job = recurring(stand_in, server_name(ETL, release))
        assert content(stand_in, job) == f"# {release.namespace}/{release.name}"
    assert len(stand_in.kept["pipelines"]) == len(releases) * len(PIPELINES)
    assert len({e["display_name"] for e in stand_in.kept["experiments"]}) == len(releases)


def test_the_longest_names_fit_and_differ():
    names = {server_name(ETL, ReleaseConfig(name="r" * 52 + end, namespace="n" * 63)) for end in ("a", "b")}
    assert len(names) == 2
    assert {len(name) for name in names} == {NAME_LENGTH}


@pytest.mark.parametrize(
    ("host", "namespace"),
    [
        ("http://ml-pipeline.kubeflow.svc.cluster.local:8888", "kubeflow"),
        ("http://ml-pipeline.kubeflow:8888", "kubeflow"),
        ("https://kfp.example.org/pipeline", ""),
        ("http://localhost:8888", ""),
    ],
)
def test_a_services_address_tells_its_namespace(host, namespace):
    assert namespace_of(host) == namespace


def test_a_server_whose_runs_could_not_mount_the_volume_is_refused():
    config = PipelinesConfig(
        volume=VolumeConfig(claim="feedrank-data"),
        config_map="feedrank-config",
        release=ReleaseConfig(name="feedrank", namespace="feeds"),
    )
    host = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    expected = (
        r"kubeflow, where the claim feedrank-data and the ConfigMap feedrank-config of the release in feeds can't"
    )
    with pytest.raises(PipelineServerError, match=expected):
        PipelineServer(host, config=config)
    with pytest.raises(PipelineServerError, match="namespace team"):
        PipelineServer("http://localhost:8888", config=config.model_copy(update={"namespace": "team"}))


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
    assert jobs[RETRAINING]["input_paths"] == ["/data/interactions"]
    assert jobs[ETL]["input_paths"] == [], "there is no volume to read, so it generates"


def test_with_a_volume_the_etl_reads_what_arrived_there():
    config = PipelinesConfig(volume=VolumeConfig(claim="feedrank-data"))
    assert run_parameters(ETL, config)["input_paths"] == ["/data/interactions"]


def test_a_backfill_is_a_run_for_each_data_date(server, stand_in):
    days = [date(2024, 5, 1), date(2024, 5, 2)]
    started = server.backfill(days, parameters={"start_training": False})
    runs = {run["run_id"]: run for run in stand_in.kept["runs"]}
    for day in days:
        run = runs[started[day]]
        assert run["display_name"] == f"backfill {day}"
        assert run["runtime_config"]["parameters"]["data_date"] == day.isoformat()


def test_a_pipeline_that_there_is_not_and_a_server_that_is_down_are_named(server):
    with pytest.raises(PipelineServerError, match="no pipeline other; uploaded are etl"):
        server.run("other", parameters={}, run_name="x")
    with pytest.raises(PipelineServerError, match=r"KFP at http://127\.0\.0\.1:9"):
        PipelineServer("http://127.0.0.1:9", config=PipelinesConfig())
