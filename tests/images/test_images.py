"""The built images: their content, and that each does its work on a read-only root file system."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml
from containers import USER, VERSION, Image, docker

from benchmarks.predict_bundle import Size, write_random_bundle
from feedrank.config.model import ModelConfig
from pipelines.compile import compile_all

Images = Callable[..., Image]
NAMES = ("data", "train", "serve", "monitor")
BASE = "python:3.11-slim-bookworm"
MAX_SERVE_MB = 700
IMPORTED = {
    "data": ["great_expectations", "kfp.client", "kfp.kubernetes", "pipelines", "feedrank.stages"],
    "train": [
        *("torch", "great_expectations", "kfp.client", "kubernetes", "mlflow.pyfunc", "feedrank.promotion.retrain"),
        *("mlflow.server", "psycopg", "boto3"),
    ],
    "serve": ["mlflow", "serving.service", "serving.kserve_model", "feedrank.client"],
    "monitor": ["alibi_detect.cd", "kfp.client", "mlflow", "feedrank.monitoring.run", "feedrank.promotion.served"],
}
ABSENT = {
    "data": ["torch", "kserve", "alibi_detect", "pip"],
    "train": ["kserve", "alibi_detect", "pip"],
    "serve": ["torch", "kfp", "great_expectations", "alibi_detect", "pip", "tests"],
    "monitor": ["torch", "kserve", "great_expectations", "pip"],
}
SMALL = {
    "FEEDRANK__DATA__GENERATOR__NUM_USERS": "500",
    "FEEDRANK__DATA__GENERATOR__NUM_ITEMS": "500",
    "FEEDRANK__DATA__GENERATOR__NUM_INTERACTIONS": "20000",
    "FEEDRANK__DATA__GENERATOR__START_DATE": "2024-10-01",
    "FEEDRANK__MODEL__TRAINING__EPOCHS": "1",
    "FEEDRANK__MODEL__GATES": "{min_auc: 0.5, max_log_loss: 1, min_precision_at_10: 0}",
}
START_SECONDS = 60


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_answers(image: Images, name: str):
    assert "Feed ranking" in Image(name, [*image(name).options, "--entrypoint=feedrank"]).run("--help")


@pytest.mark.parametrize("name", NAMES)
def test_it_imports_what_its_work_needs_and_has_nothing_of_the_others(image: Images, name: str):
    code = (
        "import importlib, importlib.util as u\n"
        f"for name in {IMPORTED[name]}: importlib.import_module(name)\n"
        f"print([name for name in {ABSENT[name]} if u.find_spec(name)])"
    )
    assert image(name).python(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_no_compiler_tests_or_cache_and_its_code_is_compiled(image: Images, name: str):
    code = """
import pathlib, shutil
roots = [pathlib.Path("/opt/feedrank/lib"), pathlib.Path("/app")]
print([tool for tool in ("cc", "gcc", "g++", "make", "git") if shutil.which(tool)])
print([str(path) for root in roots for path in root.rglob("tests") if path.is_dir()])
print([str(path) for path in (pathlib.Path("/root/.cache"), pathlib.Path("/build")) if path.exists()])
sources = [path for root in roots for path in root.rglob("*.py") if not path.name.startswith("py312_")]
print([str(p) for p in sources if not (p.parent / "__pycache__" / f"{p.stem}.cpython-311.pyc").exists()])
"""
    root = Image(name, [*image(name).options, "--user=0"])  # sees every folder
    assert root.python(code).splitlines() == ["[]"] * 4


@pytest.mark.parametrize("name", NAMES)
def test_it_is_labelled_and_runs_as_a_numeric_user(image: Images, name: str):
    config = json.loads(docker("image", "inspect", image(name).tag).stdout)[0]["Config"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"feedrank-{name}"
    assert labels["org.opencontainers.image.version"] == VERSION
    assert ("BUSL-1.1" in labels["org.opencontainers.image.licenses"]) == (name == "monitor")
    assert config["User"] == USER


def test_serve_adds_little_to_its_base(image: Images):
    sizes = [int(docker("image", "inspect", "-f", "{{.Size}}", tag).stdout) for tag in (image("serve").tag, BASE)]
    assert (sizes[0] - sizes[1]) / 1e6 <= MAX_SERVE_MB


def test_a_mounted_folder_is_the_configuration(image: Images, tmp_path: Path):
    (tmp_path / "pipelines_config.yaml").write_text("service_account: somebody\n", encoding="utf-8")
    tmp_path.chmod(0o755)
    mounted = image("data", f"--volume={tmp_path}:/etc/feedrank:ro")
    code = "from feedrank.config import load_config; print(load_config().pipelines.service_account)"
    assert mounted.python(code) == "somebody\n"


def test_the_predictor_serves_a_mounted_model(image: Images, tmp_path: Path):
    bundle = write_random_bundle(
        tmp_path / "v1.0.0", config=ModelConfig(), size=Size(users=200, items=500, interactions=20_000)
    )
    writable = f"--tmpfs=/data:uid={USER.split(':')[0]},mode=0700"
    serve = image("serve", f"--volume={bundle}:/mnt/models:ro", writable, "--publish=127.0.0.1::8080")
    log = {f"FEEDRANK__SERVING__LOG__{key}_INTERVAL_SECONDS": "0.2" for key in ("FILE", "COMMIT")}
    container = docker("run", "--detach", *serve.arguments(log)).stdout.strip()
    try:
        url = "http://" + docker("port", container, "8080").stdout.splitlines()[0]
        wait_ready(url, container)
        answer = httpx.post(f"{url}/predict", json={"user_id": 1, "item_ids": [1, 2, 3]}).raise_for_status().json()
        assert answer["model_version"] == "v1.0.0"
        assert len(answer["predictions"]) == 3
        docker("stop", "--time", "60", container)
        assert docker("inspect", "-f", "{{.State.ExitCode}}", container).stdout.strip() == "0"
    finally:
        docker("rm", "--force", container)


def wait_ready(url: str, container: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    logs = docker("logs", container)
    raise AssertionError(f"not ready within {START_SECONDS} s\n{logs.stdout}{logs.stderr}")


def test_a_kfp_task_runs_as_the_server_starts_it(image: Images, tmp_path: Path):
    pipeline = next(file for file in compile_all(tmp_path) if file.stem == "etl_and_feature_engineering")
    executors = next(yaml.safe_load_all(pipeline.read_text(encoding="utf-8")))["deploymentSpec"]["executors"]
    container = next(e["container"] for name, e in executors.items() if name.startswith("exec-generate-or-ingest"))
    assert container["image"] == image("data").tag
    overrides = {"data.generator.num_interactions": 2000, "data.generator.num_users": 100}
    artifact = {"name": "interactions", "type": {"schemaTitle": "system.Dataset"}, "uri": "/tmp/interactions"}
    task = {
        "inputs": {
            "parameterValues": {"input_paths": [], "mapping": "", "data_date": "", "config_overrides": overrides}
        },
        "outputs": {
            "artifacts": {"interactions": {"artifacts": [artifact]}},
            "outputFile": "/tmp/kfp_outputs/output_metadata.json",
        },
    }
    started = [part.replace("{{$}}", json.dumps(task)) for part in container["command"] + container["args"]]
    then = ["sh", "-ec", '"$@" >&2; cat /tmp/kfp_outputs/output_metadata.json', "task", *started]
    assert json.loads(image("data").run(*then))["parameterValues"] == {"synthetic": True}


def test_data_train_and_monitor_work_on_one_volume(image: Images, volume: str):
    mount = f"--volume={volume}:/data"
    for command in ("generate", "validate", "features"):
        image("data", mount).run("feedrank", command, environment=SMALL)
    for command in ("train", "evaluate", "register"):
        image("train", mount).run("feedrank", command, environment=SMALL)
    assert "champion" in image("train", mount).run("feedrank", "models", environment=SMALL)
    monitor = image("monitor", mount, "--tmpfs=/data/runs/predictions:mode=1777")
    assert "report:" in monitor.run("feedrank", "monitor", "--no-retraining", environment=SMALL)


def test_the_monitor_finds_drift_with_alibi_detect(image: Images):
    code = (
        "import numpy as np; from alibi_detect.cd import KSDrift\n"
        "draw = np.random.default_rng(0).normal\n"
        "print(KSDrift(draw(size=(500, 1))).predict(draw(1, size=(500, 1)))['data']['is_drift'])"
    )
    assert image("monitor").python(code).splitlines()[-1] == "1"
