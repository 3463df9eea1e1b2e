"""The compiled pipelines are what a KFP server takes, with the images and limits of the configuration."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.components import load_component_from_file

from feedrank.config import load_config
from feedrank.config.pipelines import PipelinesConfig
from feedrank.errors import ConfigError
from pipelines import PIPELINES
from pipelines.compile import compile_all

IMAGES = load_config().pipelines.images


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {file.stem: file for file in compile_all(tmp_path_factory.mktemp("compiled"))}


@pytest.fixture(params=PIPELINES)
def documents(request: pytest.FixtureRequest, files: dict[str, Path]) -> list[dict[str, Any]]:
    """The pipeline's specification and that of its platform."""
    return list(yaml.safe_load_all(files[request.param].read_text()))


def containers(specification: dict[str, Any]) -> dict[str, dict[str, Any]]:
    executors = specification["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): e["container"] for name, e in executors.items() if "container" in e}


def tasks(specification: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All tasks that run a container, at any depth, by the name of the container."""
    names = {task["componentRef"]["name"].removeprefix("comp-"): task for _, task in all_tasks(specification)}
    return {name: task for name, task in names.items() if name in containers(specification)}


def all_tasks(specification: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """With the name that each has in its graph."""
    dags = [specification["root"]["dag"], *(c["dag"] for c in specification["components"].values() if "dag" in c)]
    return [named for dag in dags for named in dag["tasks"].items()]


@pytest.mark.parametrize("name", PIPELINES)
def test_kfp_loads_what_was_compiled(files, name):
    loaded = load_component_from_file(str(files[name]))
    assert loaded.component_spec.inputs.keys() == PIPELINES[name].component_spec.inputs.keys()


def test_the_images_are_the_configured_ones(documents):
    image_of = dict.fromkeys(("train", "evaluate", "refit", "register", "check-trigger", "promote"), IMAGES.train)
    image_of |= dict.fromkeys(("load-reference", "monitor"), IMAGES.monitor)
    for name, container in containers(documents[0]).items():
        assert container["image"] == image_of.get(name, IMAGES.data)


def test_another_image_is_a_matter_of_configuration(tmp_path):
    script = (
        f"from pathlib import Path; from pipelines.compile import compile_all; compile_all(Path({str(tmp_path)!r}))"
    )
    environment = {**os.environ, "FEEDRANK__PIPELINES__IMAGES__TRAIN": "trainer@sha256:0123", "PYTHONPATH": "."}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    specification = next(yaml.safe_load_all((tmp_path / "model_training.yaml").read_text()))
    assert {c["image"] for c in containers(specification).values()} == {"trainer@sha256:0123", "feedrank-data:0.1.0"}


def test_no_task_installs_packages(documents):
    for container in containers(documents[0]).values():
        assert "pip install" not in " ".join(container["command"])


def test_every_task_has_limits_retries_a_name_and_no_root(documents):
    specification, platform = documents
    assert len(tasks(specification)) == len(containers(specification))
    for name, task in tasks(specification).items():
        assert task["retryPolicy"]["maxRetryCount"] == 2
        assert task["taskInfo"]["name"] != name
        assert containers(specification)[name]["resources"].keys() >= {"resourceCpuLimit", "resourceMemoryLimit"}
        kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]
        assert kubernetes["securityContext"] == {"runAsNonRoot": True}
        assert int(kubernetes["activeDeadlineSeconds"]) > 0


def test_an_importer_keeps_its_plain_name(files):
    """With a display name the driver of the task that it feeds does not find it on a server, and fails."""
    importers = 0
    for file in files.values():
        specification = next(yaml.safe_load_all(file.read_text()))
        executors = specification["deploymentSpec"]["executors"]
        for name, task in all_tasks(specification):
            component = specification["components"][task["componentRef"]["name"]]
            if "importer" in executors.get(component.get("executorLabel"), {}):
                assert task["taskInfo"]["name"] == name
                importers += 1
    assert importers


@pytest.mark.parametrize("name", ["etl_and_feature_engineering", "automated_retraining"])
def test_nothing_but_the_report_follows_a_validation_that_failed(files, name):
    specification = next(yaml.safe_load_all(files[name].read_text()))
    found = dict(all_tasks(specification))
    assert "require" in found["compute-features"]["dependentTasks"]
    followers = {n for n, task in found.items() if "validate" in task.get("dependentTasks", [])}
    # The comparison may need the clean rows, after the registration.
    assert followers - {"promote"} == {"require", "compute-features"}
    assert "register" in found.get("promote", {"dependentTasks": ["register"]})["dependentTasks"]
    passed = found["require"]["inputs"]["parameters"]["passed"]["taskOutputParameter"]
    assert passed == {"producerTask": "validate", "outputParameterKey": "passed"}


def test_compiling_again_elsewhere_gives_the_same_content(files, tmp_path):
    """The hash of the content names the version, so another process must get the same one."""
    script = (
        f"from pathlib import Path; from pipelines.compile import compile_all; compile_all(Path({str(tmp_path)!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": ".", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    for name, file in files.items():
        assert (tmp_path / f"{name}.yaml").read_bytes() == file.read_bytes()


def test_what_reads_the_outside_world_is_not_cached(documents):
    cached = {name for name, task in tasks(documents[0]).items() if task["cachingOptions"].get("enableCache")}
    assert cached <= {"compute-features", "choose-window", "train", "refit"}


@pytest.mark.parametrize("schedule", ["0 2 * * *", "@daily", "0 0 2 * * * 2024", "0 0 2 * * ;", "x"])
def test_a_schedule_without_six_fields_is_refused(schedule, tmp_path):
    (tmp_path / "pipelines_config.yaml").write_text(f"schedules: {{automated_retraining: '{schedule}'}}")
    with pytest.raises(ConfigError, match=r"pipelines_config.yaml: schedules.automated_retraining: .*field"):
        load_config(tmp_path, environ={})


def test_a_pipeline_needs_no_schedule(tmp_path):
    (tmp_path / "pipelines_config.yaml").write_text("schedules: {automated_retraining: ''}")
    assert not load_config(tmp_path, environ={}).pipelines.schedules.automated_retraining


def test_the_configuration_file_shows_the_defaults():
    assert load_config(environ={}).pipelines == PipelinesConfig()


def test_overrides_of_a_run_win_over_the_environment():
    environ = {"FEEDRANK__MODEL__TRAINING__EPOCHS": "5"}
    config = load_config(environ=environ, overrides={"model.training.epochs": 3.0})
    assert config.model.training.epochs == 3
    with pytest.raises(ConfigError, match=r"config_overrides: model\.training\.epocs: .*unknown key"):
        load_config(environ=environ, overrides={"model.training.epocs": 3})
