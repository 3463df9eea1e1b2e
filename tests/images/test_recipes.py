"""The recipes of the images, read without Docker: what they start from, pin, let in and run as."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from sqlalchemy import make_url

ROOT = Path(__file__).parents[2]
BASE = "python:3.11-slim-bookworm"
LOCKS = ROOT / "requirements" / "images"
EXTRAS = {
    "data": {"data", "pipelines"},
    "train": {"data", "train", "pipelines", "registry-server"},
    "serve": {"serve"},
    "monitor": {"monitor", "pipelines"},
}
LEFT_OUT = {"train": {"torch"}, "serve": {"mlflow"}}
"""Of the extras: torch is installed by torch.sh, MLflow is its client `mlflow-skinny` in serve."""
FORBIDDEN = {
    "data": {"torch", "kserve", "alibi-detect", "mlflow"},
    "train": {"kserve", "alibi-detect"},
    "serve": {"torch", "kfp", "great-expectations", "alibi-detect", "scikit-learn", "scipy", "grpcio-tools"},
    "monitor": {"torch", "kserve", "great-expectations"},
}
REGISTRY_HOST = re.compile(r"pypi\.org|pythonhosted|docker\.io|ghcr\.io|quay\.io|gcr\.io|registry-1", re.IGNORECASE)


def instructions() -> list[str]:
    """The Dockerfile's instructions, one a line, without comments."""
    text = (ROOT / "images" / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


def pins(path: Path) -> dict[str, str]:
    """Versions by name in a requirements file."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {name.lower(): version for name, version in found}


def recipe_files() -> list[Path]:
    files = [ROOT / ".dockerignore", ROOT / "requirements" / "lock-images.sh"]
    return files + [path for folder in (ROOT / "images", LOCKS) for path in folder.iterdir()]


def test_every_stage_starts_from_the_base_or_an_earlier_stage():
    stages = {"${IMAGE}"}
    for instruction in instructions():
        if instruction.startswith("FROM "):
            _, start, *alias = instruction.split()
            assert start == BASE or start in stages, instruction
            stages.update(alias[1:])
    assert set(EXTRAS) <= stages


def test_the_classic_builder_can_read_it():
    text = (ROOT / "images" / "Dockerfile").read_text(encoding="utf-8")
    assert "--mount" not in text
    assert "<<" not in text
    assert "syntax=" not in text  # would fetch a frontend


def test_it_runs_as_a_numeric_user_other_than_root():
    users = [instruction.split()[1] for instruction in instructions() if instruction.startswith("USER ")]
    assert users
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users), users


def test_no_registry_is_named():
    for path in recipe_files():
        found = REGISTRY_HOST.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)} names {found[0]}"


def test_the_context_lets_in_what_is_copied():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split() if line[0] == "!"}
    copied = {
        source
        for instruction in instructions()
        if instruction.startswith("COPY ") and "--from=" not in instruction
        for source in instruction.split()[1:-1]
    }
    for source in copied:
        assert (ROOT / source.replace("${IMAGE}", "data")).exists(), source
        assert any(fnmatch(source, rule) or source.startswith(f"{rule}/") for rule in allowed), source


@pytest.mark.parametrize("name", [*EXTRAS, "build", "torch-cpu"])
def test_every_package_is_pinned_by_its_hash(name):
    entries = re.split(r"^(?=\S)", (LOCKS / f"{name}.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    entries = [entry for entry in entries if entry and not entry.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"\S+==\S+ \\\n", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


@pytest.mark.parametrize("name", EXTRAS)
def test_versions_are_those_that_the_tests_run_with(name):
    tested = pins(ROOT / "requirements" / "all.txt")
    assert {package: tested.get(package) for package in pins(LOCKS / f"{name}.txt")} == pins(LOCKS / f"{name}.txt")


def test_train_has_the_driver_that_sqlalchemy_takes_for_the_database_of_mlflow():
    assert make_url("postgresql://host/database").get_dialect().driver in pins(LOCKS / "train.txt")


def test_both_builds_of_torch_have_one_version():
    assert pins(LOCKS / "torch-cpu.txt")["torch"] == pins(ROOT / "requirements" / "torch.txt")["torch"] + "+cpu"


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_has_what_its_extras_name_and_nothing_of_other_images(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [
        requirement for extra in EXTRAS[name] for requirement in project["optional-dependencies"][extra]
    ]
    names = {re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower() for requirement in wanted}
    locked = set(pins(LOCKS / f"{name}.txt"))
    assert names - LEFT_OUT.get(name, set()) <= locked, f"run requirements/lock-images.sh: {names - locked} missing"
    assert not locked & FORBIDDEN[name]
    assert (name == "monitor") == ("alibi-detect" in locked)
