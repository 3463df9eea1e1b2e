"""What the chart must make, and what it must refuse."""

import math
from pathlib import Path
from typing import Any

import pytest

from feedrank.config import Config, load_config
from feedrank.config.pipelines import SchedulesConfig, SecretKey
from manifests import render
from tests.manifests.chart import PROFILES, only, pods, rendered

EVERY_PROFILE = pytest.mark.parametrize("profile", PROFILES)


def config_of(manifests: list[dict[str, Any]], folder: Path) -> Config:
    """The configuration as the pods of a release read it."""
    for name, text in only(manifests, "ConfigMap", "feedrank-jobs")["data"].items():
        (folder / name).write_text(text, encoding="utf-8")
    return load_config(folder, environ={})


@EVERY_PROFILE
def test_every_container_is_restricted(profile: str) -> None:
    for name, spec, _ in pods(rendered(profile)):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] == 65532, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, (name, container["name"])
            assert security["allowPrivilegeEscalation"] is False, (name, container["name"])
            assert security["capabilities"] == {"drop": ["ALL"]}, (name, container["name"])
            for resource in ("cpu", "memory", "ephemeral-storage"):
                assert container["resources"]["limits"][resource], (name, container["name"])
                assert container["resources"]["requests"][resource], (name, container["name"])
            assert any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"]), (name, container["name"])
        assert not any("hostPath" in volume for volume in spec["volumes"]), name


@EVERY_PROFILE
def test_no_pod_has_a_claim_in_two_volumes(profile: str) -> None:
    """The kubelet waits for the second one for ever."""
    for name, spec, _ in pods(rendered(profile)):
        claims = [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
        assert len(claims) == len(set(claims)), name


def mounts_the_data(spec: dict[str, Any]) -> bool:
    claims = [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
    return "feedrank-data" in claims


def joins(spec: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a pod must run on the node of pods with some labels."""
    terms = spec.get("affinity", {}).get("podAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", [])
    return any(
        term["topologyKey"] == "kubernetes.io/hostname"
        and term["labelSelector"]["matchLabels"].items() <= labels.items()
        and all(
            expression["operator"] == "In" and labels[expression["key"]] in expression["values"]
            for expression in term["labelSelector"]["matchExpressions"]
        )
        for term in terms
    )


EVERYTHING = ("--set=bootstrap.enabled=true", "--set=pipelines.enabled=true")


def test_pods_that_share_a_read_write_once_claim_join_each_other_and_nobody_else() -> None:
    """The first one, which finds no other, may run anywhere, since it matches itself."""
    running = [(spec, labels) for _, spec, labels in pods(rendered("default", *EVERYTHING))]
    sharing = [labels for spec, labels in running if mounts_the_data(spec)]
    assert {labels["app.kubernetes.io/component"] for labels in sharing} == {
        "predictor", "etl", "monitor", "upkeep", "retraining", "rollback", "promote", "bootstrap",
    }  # fmt: skip
    for spec, labels in running:
        joined = [other for _, other in running if joins(spec, other)]
        assert joined == (sharing if mounts_the_data(spec) else []), labels


def test_what_the_predictor_asks_of_a_node_holds_for_all_that_share_its_read_write_once_claim() -> None:
    options = ("--set=predictor.nodeSelector.pool=feed", '--set-json=predictor.tolerations=[{"key":"feed"}]')
    for name, spec, _ in pods(rendered("default", *EVERYTHING, *options)):
        wanted = ({"pool": "feed"}, [{"key": "feed"}]) if mounts_the_data(spec) else (None, None)
        assert (spec.get("nodeSelector"), spec.get("tolerations")) == wanted, name


def test_pods_that_share_a_read_write_many_claim_may_run_anywhere() -> None:
    many = "--set=storage.data.accessMode=ReadWriteMany"
    options = ("--set=predictor.nodeSelector.pool=feed", *EVERYTHING)
    for name, spec, _ in pods(rendered("default", many, *options)):
        assert "affinity" not in spec, name
        assert spec.get("nodeSelector") == ({"pool": "feed"} if name == "feedrank" else None), name
    assert not any("affinity" in spec for _, spec, _ in pods(rendered("production")))


@EVERY_PROFILE
def test_only_what_calls_the_api_server_can(profile: str) -> None:
    holders = set()
    for name, spec, _ in pods(rendered(profile)):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            if any(mount["name"] == "api-token" for mount in container["volumeMounts"]):
                holders.add((name.removeprefix("feedrank-").partition("-")[0], container["name"]))
    changes = {(change, change) for change in ("rollback", "promote", "retrain")}
    assert (
        holders
        <= {("monitor", "monitor"), ("upkeep", "upkeep"), ("retraining", "retraining"), ("bootstrap", "promote")}
        | changes
    )


@EVERY_PROFILE
def test_only_the_promoter_may_change_the_served_model(profile: str) -> None:
    manifests = rendered(profile)
    writers = set()
    for role in (m for m in manifests if m["kind"] == "Role"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] and "*" not in rule["resources"], role["metadata"]["name"]
            if "inferenceservices" in rule["resources"]:
                assert rule["resourceNames"] == ["feedrank"]
                if set(rule["verbs"]) & {"patch", "update", "create", "delete"}:
                    writers.add(role["metadata"]["name"])
    assert writers == {"feedrank-promoter"}
    subjects = {s["name"] for s in only(manifests, "RoleBinding", "feedrank-promoter")["subjects"]}
    assert subjects == {"feedrank-promoter"} | ({"pipeline-runner"} if profile == "kfp" else set())
    assert not any(m["kind"].startswith("Cluster") and "Role" in m["kind"] for m in manifests)


@EVERY_PROFILE
def test_pods_read_a_valid_configuration(profile: str, tmp_path: Path) -> None:
    config = config_of(rendered(profile), tmp_path)
    assert config.serving.log.directory == "/data/predictions"
    assert config.model.registry.tracking_uri == "http://feedrank-mlflow:5000"
    assert config.promotion.target.inference_service == "feedrank"
    assert config.pipelines.images.train.rpartition("/")[2] == "feedrank-train:0.1.0"
    assert config.pipelines.volume.claim == "feedrank-data"
    assert bool(config.pipelines.host) == (profile == "kfp")
    assert bool(config.monitoring.retraining.cron_job) == (profile != "kfp")
    written = [config.promotion.state_directory, config.promotion.target.directory, config.serving.log.spool_directory]
    assert all(path.is_absolute() for path in [*written, config.serving.reload.cache_directory])


def test_tasks_of_kfp_get_the_secrets_that_jobs_get(tmp_path: Path) -> None:
    pipelines = config_of(rendered("kfp"), tmp_path).pipelines
    assert pipelines.secrets["FEEDRANK_TOKEN"] == SecretKey(secret="token", key="token")
    assert pipelines.secrets["AWS_ACCESS_KEY_ID"].secret == "s3"
    assert pipelines.secrets["FEEDRANK_SLACK_WEBHOOK"] == SecretKey(
        secret="alerts", key="FEEDRANK_SLACK_WEBHOOK", optional=True
    )
    assert pipelines.environment == {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://s3:9000"}
    assert not config_of(rendered(), tmp_path).pipelines.secrets


def test_the_configuration_differs_from_the_defaults_only_where_the_chart_says_so(tmp_path: Path) -> None:
    given = config_of(rendered(), tmp_path).model_dump(mode="json")
    defaults = load_config(render.ROOT / "config", environ={}).model_dump(mode="json")
    paths = {op["path"] for op in render.patch_operations(defaults, given)}
    assert paths == {
        "/data/ingest/erased_users",
        "/model/registry/tracking_uri",
        "/monitoring/performance/metrics_url",
        "/monitoring/retraining/cron_job",
        "/pipelines/config_map",
        "/pipelines/release/name",
        "/pipelines/release/namespace",
        "/pipelines/schedules/automated_retraining",
        "/pipelines/schedules/etl_and_feature_engineering",
        "/pipelines/schedules/monitoring_and_drift_detection",
        "/pipelines/volume/claim",
        "/promotion/state_directory",
        "/promotion/target/directory",
        "/promotion/target/inference_service",
        "/promotion/target/url",
        "/serving/snapshot",
        "/serving/log/directory",
        "/serving/log/spool_directory",
        "/serving/reload/cache_directory",
    }


@EVERY_PROFILE
def test_kfp_has_schedules_only_where_its_tasks_retrain(profile: str, tmp_path: Path) -> None:
    schedules = config_of(rendered(profile), tmp_path).pipelines.schedules
    if profile == "kfp":
        assert schedules == SchedulesConfig()
    else:
        assert not any(schedules.model_dump().values())


def test_a_schedule_of_the_values_wins_where_kfp_retrains_and_an_empty_one_everywhere(tmp_path: Path) -> None:
    given = "--set=config.pipelines.schedules.automated_retraining"
    schedules = config_of(rendered("kfp", f"{given}=0 0 1 * * 1"), tmp_path).pipelines.schedules
    assert schedules == SchedulesConfig(automated_retraining="0 0 1 * * 1")
    for profile in ("kfp", "default"):
        assert not config_of(rendered(profile, f"{given}="), tmp_path).pipelines.schedules.automated_retraining


def test_values_win_over_the_defaults_and_large_numbers_stay_numbers(tmp_path: Path) -> None:
    options = ("--set=config.data.generator.num_interactions=10000000", "--set=config.monitoring.drift.engine=scipy")
    config = config_of(rendered("kind", *options), tmp_path)
    assert config.data.generator.num_interactions == 10_000_000
    assert config.data.generator.num_users == 2_000
    assert config.monitoring.drift.engine == "scipy"


def test_a_pod_is_given_longer_than_the_predictor_drains(tmp_path: Path) -> None:
    manifests = rendered(
        "default", "--set-json=config.serving.drain.timeout_seconds=12.5", "--set=predictor.preStopSeconds=4"
    )
    drain = config_of(manifests, tmp_path).serving.drain
    spec = only(manifests, "InferenceService", "feedrank")["spec"]["predictor"]
    assert spec["terminationGracePeriodSeconds"] > 4 + math.ceil(drain.delay_seconds + 2 * drain.timeout_seconds)


def test_the_served_version_is_not_the_charts() -> None:
    predictor = only(rendered(), "InferenceService", "feedrank")["spec"]["predictor"]
    assert "feedrank/model-version" not in predictor["annotations"]
    predictor = only(rendered("default", "--set=predictor.modelVersion=v1.2.3"), "InferenceService", "feedrank")
    assert predictor["spec"]["predictor"]["annotations"]["feedrank/model-version"] == "v1.2.3"


@EVERY_PROFILE
def test_nothing_of_a_release_is_outside_of_its_namespace(profile: str) -> None:
    elsewhere = {m["kind"] for m in rendered(profile) if m["metadata"].get("namespace") != "feedrank"}
    kfps_own_policy = {"NetworkPolicy"} if profile == "kfp" else set()
    assert elsewhere == kfps_own_policy


def test_versions_on_s3_are_fetched_by_the_predictors_own_image_and_identity() -> None:
    predictor = only(rendered("s3"), "InferenceService", "feedrank")["spec"]["predictor"]
    assert not {"storageUris", "storageContainerName"} & predictor.keys()
    (fetch,), (serve,) = predictor["initContainers"], predictor["containers"]
    assert fetch["command"] == ["python", "-m", "serving.object_store", "s3://bucket/served", "/mnt/models"]
    assert fetch["image"] == serve["image"] and fetch["env"] == serve["env"]
    values = {variable["name"]: variable.get("value") for variable in fetch["env"]}
    assert values["AWS_ENDPOINT_URL"] == "http://s3:9000"
    assert values.keys() >= {"FEEDRANK_MODEL_VERSION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}
    (mount,) = [m for m in serve["volumeMounts"] if m["mountPath"] == "/mnt/models"]
    assert mount["name"] == "model" and mount["readOnly"] is True
    assert "initContainers" not in only(rendered(), "InferenceService", "feedrank")["spec"]["predictor"]


def test_predictor_restarts_for_its_own_configuration_only() -> None:
    def predictor(*options: str) -> dict[str, Any]:
        spec: dict[str, Any] = only(rendered("default", *options), "InferenceService", "feedrank")["spec"]["predictor"]
        return spec

    assert predictor("--set=config.monitoring.history_days=10") == predictor()
    assert predictor("--set=config.serving.workers=2") != predictor()


@EVERY_PROFILE
def test_the_predictor_carries_the_configuration_of_the_jobs(profile: str, tmp_path: Path) -> None:
    manifests = rendered(profile)
    predictor = only(manifests, "InferenceService", "feedrank")["spec"]["predictor"]
    (volume,) = [volume for volume in predictor["volumes"] if volume["name"] == "config"]
    for item in volume["downwardAPI"]["items"]:
        annotation = item["fieldRef"]["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
        (tmp_path / item["path"]).write_text(predictor["annotations"][annotation], encoding="utf-8")
    carried = load_config(tmp_path, environ={})
    (tmp_path / "jobs").mkdir()
    jobs = config_of(manifests, tmp_path / "jobs")
    assert (carried.serving, carried.model) == (jobs.serving, jobs.model)


def test_a_changed_job_gets_another_name() -> None:
    def names(*options: str) -> set[str]:
        return {m["metadata"]["name"] for m in rendered("kind", *options) if m["kind"] == "Job"}

    assert names() == names()
    assert not names() & names("--set=images.tag=0.2.0")


@EVERY_PROFILE
def test_policies_cover_every_pod(profile: str) -> None:
    manifests = rendered(profile)
    components = {labels["app.kubernetes.io/component"] for _, _, labels in pods(manifests)}
    assert all(labels["app.kubernetes.io/instance"] == "feedrank" for _, _, labels in pods(manifests))
    default = only(manifests, "NetworkPolicy", "feedrank-default")["spec"]
    assert default["podSelector"] == {"matchLabels": {"app.kubernetes.io/instance": "feedrank"}}
    assert default["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in default
    for policy in (m for m in manifests if m["kind"] == "NetworkPolicy"):
        for expression in policy["spec"]["podSelector"].get("matchExpressions", []):
            assert set(expression["values"]) <= components | {"bootstrap", "pipelines"}, policy["metadata"]["name"]


@pytest.mark.parametrize("policy", ["predictor", "mlflow"])
def test_tasks_of_kfp_reach_predictor_and_models_where_they_retrain(policy: str) -> None:
    def allows(profile: str) -> bool:
        rules = only(rendered(profile), "NetworkPolicy", f"feedrank-{policy}")["spec"]["ingress"]
        selector = {"podSelector": {"matchLabels": {"pipelines.kubeflow.org/v2_component": "true"}}}
        return any(selector in rule["from"] for rule in rules)

    assert (allows("kfp"), allows("production")) == (True, False)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("predictor.replica=2", "/predictor"),
        ("predictor.replicas=0", "/predictor/replicas"),
        ("images.tag=latest", "images.tag"),
        ("images.digests.serve=abc", "/images/digests/serve"),
        ("monitor.schedule=0 0 4 * * *", "/monitor/schedule"),
        ("retraining.runner=argo", "/retraining/runner"),
        ("resources.train.limits.memory=lots", "/resources/train/limits/memory"),
        ("config.monitoring.drift.engine=magic", "/config/monitoring/drift/engine"),
        ("config.serving.drain.delay=3", "/config/serving/drain"),
        ("config.simulation.seed=1", "/config"),
        ("storage.data.accessMode=ReadWriteOncePod", "storage.data.accessMode"),
        ("bootstrap.enabled=true,bootstrap.source=ingest", "interactions.inputs"),
        ("predictor.autoscaling.enabled=true,predictor.replicas=9", "predictor.autoscaling.maxReplicas"),
        ("config.pipelines.schedules.automated_retraining=0 0 1 * * 1", "set retraining.runner: kfp"),
        ("upkeep=null", "--reset-then-reuse-values"),
    ],
)
def test_wrong_values_are_refused_by_name(value: str, key: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        rendered("default", f"--set={value}")
    assert key in str(refused.value)
