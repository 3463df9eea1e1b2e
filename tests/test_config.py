"""The configuration tree: defaults, files, the environment, overrides, and errors that name key and source."""

from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import AfterValidator, BaseModel

from feedrank.config import Config, file_name, load_config
from feedrank.config.text import parsed
from feedrank.errors import ConfigError

ROOT = Path(__file__).parents[1]


def write(directory: Path, name: str, text: str) -> Path:
    path = directory / f"{name}_config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(directory: Path, **arguments: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(directory, environ=arguments.pop("environ", {}), **arguments)
    return str(caught.value)


def test_no_file_means_the_defaults(tmp_path):
    assert load_config(tmp_path, environ={}) == Config()


def test_an_empty_file_means_the_defaults(tmp_path):
    write(tmp_path, "model", "# nothing yet\n")
    assert load_config(tmp_path, environ={}) == Config()


@pytest.mark.parametrize("name", Config.model_fields)
def test_the_files_in_the_project_hold_every_key_at_its_default(name):
    written = yaml.safe_load((ROOT / "config" / file_name(name)).read_text(encoding="utf-8"))
    section = getattr(Config(), name)
    assert type(section).model_validate(written) == section
    declared = section.model_dump(mode="json", exclude_none=name == "feed")  # a feature says only what it has
    assert keys_of(written) == keys_of(declared)


def keys_of(tree: object) -> object:
    return {key: keys_of(value) for key, value in tree.items()} if isinstance(tree, dict) else None


def test_a_file_sets_its_keys_and_no_other(tmp_path):
    write(tmp_path, "model", "training: {epochs: 3}\n")
    config = load_config(tmp_path, environ={})
    assert config.model.training.epochs == 3
    assert config.model.training.batch_size == Config().model.training.batch_size
    assert config.data == Config().data


def test_an_unknown_key_is_named_with_its_file(tmp_path):
    path = write(tmp_path, "model", "training: {epoch: 3}\n")
    message = refusal(tmp_path)
    assert str(path) in message
    assert "training.epoch: unknown key" in message


def test_a_wrong_type_is_named_with_its_file_key_and_value(tmp_path):
    path = write(tmp_path, "data", "generator: {num_users: many}\n")
    message = refusal(tmp_path)
    assert str(path) in message
    assert "generator.num_users" in message
    assert "'many'" in message


def test_a_value_out_of_its_range_is_named(tmp_path):
    write(tmp_path, "model", "dropout: 1.5\n")
    assert "dropout" in refusal(tmp_path)


def test_values_that_contradict_each_other_are_explained(tmp_path):
    write(tmp_path, "data", "split: {train: 0.9}\n")
    assert "train + validation + test is 1.2, it must be 1" in refusal(tmp_path)


def test_all_mistakes_are_told_at_once(tmp_path):
    write(tmp_path, "model", "dropout: x\n")
    write(tmp_path, "data", "colour: red\n")
    message = refusal(tmp_path)
    assert "dropout" in message
    assert "colour: unknown key" in message


@pytest.mark.parametrize("text", ["training: [1", "- a list\n"])
def test_a_file_that_is_no_mapping_is_named(tmp_path, text):
    assert str(write(tmp_path, "model", text)) in refusal(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    assert str(tmp_path / "none") in refusal(tmp_path / "none")


def test_the_environment_wins_over_the_file(tmp_path):
    write(tmp_path, "model", "training: {epochs: 3, batch_size: 64}\n")
    config = load_config(tmp_path, environ={"FEEDRANK__MODEL__TRAINING__EPOCHS": "5", "PATH": "/bin"})
    assert (config.model.training.epochs, config.model.training.batch_size) == (5, 64)


def test_environment_values_are_yaml(tmp_path):
    config = load_config(
        tmp_path, environ={"FEEDRANK__MODEL__HIDDEN_DIMS": "[16, 8]", "FEEDRANK__MODEL__EMBEDDING_DIM": "8"}
    )
    assert config.model.hidden_dims == (16, 8)


SCALARS = (
    "123", "1.0", "1e3", "0x1F", "1_000", "true", "off", "no", "null", "~", "2024-01-01", "12:30:45", "[a]", "{a: b}",
    "a: b", "::", "*a", "!x", "a #b", "'x", "-",
)  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS)
def test_a_text_stays_what_it_is_whatever_yaml_reads_in_it(tmp_path, scalar):
    variables = ("MODEL_NAME", "HOST", "LOG__DIRECTORY", "LOG__SPOOL_DIRECTORY", "RELOAD__CACHE_DIRECTORY")
    environ = {f"FEEDRANK__SERVING__{variable}": scalar for variable in variables}
    serving = load_config(tmp_path, environ=environ).serving
    assert serving.model_name == serving.host == serving.log.directory == scalar
    assert serving.log.spool_directory == serving.reload.cache_directory == Path(scalar)


@pytest.mark.parametrize("scalar", ["", "null", "~", " NULL\n"])
def test_null_unsets_an_optional_text(tmp_path, scalar):
    write(tmp_path, "serving", "{token_file: /token, snapshot: /online}")
    environ = {"FEEDRANK__SERVING__TOKEN_FILE": scalar, "FEEDRANK__SERVING__SNAPSHOT": scalar}
    serving = load_config(tmp_path, environ=environ).serving
    assert serving.token_file is serving.snapshot is None


def test_optional_texts_are_text_and_quotes_and_blanks_around_a_text_do_not_count(tmp_path):
    environ = {
        "FEEDRANK__SERVING__TOKEN_FILE": "2024",
        "FEEDRANK__SERVING__SNAPSHOT": "'null'",
        "FEEDRANK__SERVING__MODEL_NAME": ' "a\\tb" \n',
    }
    serving = load_config(tmp_path, environ=environ).serving
    assert (serving.token_file, serving.snapshot, serving.model_name) == (Path("2024"), "null", "a\tb")


def test_numbers_are_read_from_quoted_text_too(tmp_path):
    write(tmp_path, "serving", 'http_port: "8080"')
    environ = {"FEEDRANK__SERVING__GRPC_PORT": '"8081"', "FEEDRANK__SERVING__LOG__WHEN_FULL": "drop"}
    serving = load_config(tmp_path, environ=environ).serving
    assert (serving.http_port, serving.grpc_port, serving.log.when_full) == (8080, 8081, "drop")


@pytest.mark.parametrize("value", ["123", "off", "2024-01-01", "1.5"])
def test_a_text_that_yaml_reads_as_something_else_is_to_be_quoted_in_a_file(tmp_path, value):
    write(tmp_path, "serving", f"model_name: {value}")
    assert "quote it" in refusal(tmp_path)


class Fields(BaseModel):
    names: list[str] = []
    paths: tuple[Path, ...] = ()
    renamed: dict[str, str] | None = None
    marked: Annotated[str, AfterValidator(str.upper)] | None = None
    number: int | str | None = None
    numbers: list[int] = []


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("names", "[1, off, null, 2024-01-01]", ["1", "off", "null", "2024-01-01"]),
        ("paths", "[1.0, a]", (Path("1.0"), Path("a"))),
        ("renamed", "{on: 1, 2: no}", {"on": "1", "2": "no"}),
        ("renamed", "null", None),
        ("marked", "on", "ON"),
        ("marked", "null", None),
        ("number", "5", 5),
        ("number", "x", "x"),
        ("numbers", "[1, 2]", [1, 2]),
    ],
)
def test_text_within_lists_mappings_and_alternatives(field, text, value):
    given = parsed(text, Fields.model_fields[field].annotation)
    assert getattr(Fields.model_validate({field: given}), field) == value


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("FEEDRANK__MODEL__TRAINING__EPOCHS", "many", "training.epochs"),
        ("FEEDRANK__MODEL__TRAINING__EPOCH", "3", "training.epoch: unknown key"),
        ("FEEDRANK__MODEL__DROPOUT", "[1", "not a valid YAML value"),
        ("FEEDRANK__COLOUR", "red", "colour: unknown key"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path, variable, value, part):
    message = refusal(tmp_path, environ={variable: value})
    assert variable in message
    assert part in message


def test_a_section_below_a_value_is_refused(tmp_path):
    write(tmp_path, "model", "dropout: 0.2\n")
    message = refusal(tmp_path, environ={"FEEDRANK__MODEL__DROPOUT__RATE": "0.3"})
    assert "'dropout' is a value, not a section" in message


def test_overrides_win_over_the_environment(tmp_path):
    environ = {"FEEDRANK__MODEL__TRAINING__EPOCHS": "5"}
    config = load_config(tmp_path, environ=environ, overrides={"model.training.epochs": 7})
    assert config.model.training.epochs == 7


def test_a_wrong_override_is_named(tmp_path):
    message = refusal(tmp_path, overrides={"model.training.epochs": "many"})
    assert "config_overrides: model.training.epochs" in message


@pytest.mark.parametrize("key", ["hidden_dims", "user_tower_dims", "item_tower_dims"])
def test_a_tower_that_does_not_end_in_the_embedding_is_refused_by_its_key(tmp_path, key):
    write(tmp_path, "model", f"{{embedding_dim: 8, hidden_dims: [8], {key}: [16, 4]}}\n")
    assert f"the last of {key} (4) must be embedding_dim (8)" in refusal(tmp_path)
