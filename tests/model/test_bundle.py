"""The model bundle: whole it loads, and a missing, cut, changed or foreign one is refused by name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.predict_bundle import Size, write_random_bundle
from benchmarks.small_data import small_model, split_features
from feedrank.config.feed import Feed
from feedrank.errors import BundleError
from feedrank.features.snapshot import save_snapshot
from feedrank.model.bundle import (
    ARRAYS_FOLDER,
    CHECKSUMS_FILE,
    CONFIG_FILE,
    METADATA_FILE,
    SNAPSHOT_FOLDER,
    load_bundle,
    seal,
    verify,
    write_metadata,
)
from feedrank.stages import evaluate_ranker
from tests.feeds import feed_with


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle") / "model"
    return write_random_bundle(directory, config=small_model(), size=Size(50, 80, 2_000))


@pytest.fixture
def bundle(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "model"))


def refusal(directory: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(directory)
    return str(caught.value)


FILES = (
    METADATA_FILE,
    CONFIG_FILE,
    f"{ARRAYS_FOLDER}/user_embedding.weight.npy",
    f"{SNAPSHOT_FOLDER}/users.parquet",
    f"{SNAPSHOT_FOLDER}/snapshot.json",
)


def test_a_sealed_bundle_loads_and_scores(bundle):
    loaded = load_bundle(bundle)
    _, _, test = split_features()
    scores = loaded.score_table(test)
    assert scores.shape == (test.num_rows,)
    assert ((scores > 0) & (scores < 1)).all()
    assert loaded.config == small_model()
    assert len(loaded.snapshot.users.ids)


def test_it_scores_the_same_wherever_it_is_copied(sealed, bundle):
    _, _, test = split_features()
    one, other = (load_bundle(directory).score_table(test) for directory in (sealed, bundle))
    assert np.array_equal(one, other)


def test_no_row_gives_no_score(bundle):
    _, _, test = split_features()
    assert load_bundle(bundle).score_table(test.slice(0, 0)).shape == (0,)


def test_the_arrays_of_a_bundle_can_not_be_changed(bundle):
    with pytest.raises(ValueError, match="read-only"):
        load_bundle(bundle).arrays["user_embedding.weight"][0, 0] = 1.0


def test_a_missing_folder_is_named(tmp_path):
    assert str(tmp_path / "none") in refusal(tmp_path / "none")


def test_a_bundle_without_checksums_is_no_bundle(bundle):
    (bundle / CHECKSUMS_FILE).unlink()
    assert CHECKSUMS_FILE in refusal(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '["a"]'])
def test_checksums_that_are_none_are_named(bundle, text):
    (bundle / CHECKSUMS_FILE).write_text(text)
    assert CHECKSUMS_FILE in refusal(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    assert f"{bundle / name}: missing" in refusal(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(bundle, name):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-1])
    assert f"{bundle / name}: differs from its checksum" in refusal(bundle)


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_found_and_named(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    assert f"{bundle / name}: differs from its checksum" in refusal(bundle)


def test_arrays_that_were_swapped_are_found(bundle):
    one, other = (bundle / ARRAYS_FOLDER / f"{name}.npy" for name in ("user_ids", "item_ids"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert "differs from its checksum" in refusal(bundle)


def test_a_model_of_another_feature_schema_is_refused_with_both_fingerprints(bundle):
    metadata = load_bundle(bundle).metadata.model_copy(update={"feature_fingerprint": "0123456789abcdef"})
    write_metadata(bundle, metadata)
    seal(bundle)
    message = refusal(bundle)
    assert "0123456789abcdef" in message
    assert Feed().fingerprint in message


def test_a_model_of_a_release_with_a_setting_that_is_gone_is_served(bundle):
    path = bundle / CONFIG_FILE
    config = json.loads(path.read_text())
    config["training"]["calibration_rows"] = 10_000
    path.write_text(json.dumps(config))
    seal(bundle)
    assert load_bundle(bundle).config.training == small_model().training


def test_a_model_of_another_freshness_than_its_snapshot_is_refused_with_both(bundle):
    trained = load_bundle(bundle).metadata
    for freshness in ("live", "unknown"):
        write_metadata(bundle, trained.model_copy(update={"freshness": freshness}))
        seal(bundle)
        assert f"features.freshness {freshness}, its snapshot is nightly" in refusal(bundle)


def test_a_model_of_the_first_feature_schema_is_refused_with_both_versions(bundle):
    snapshot = bundle / SNAPSHOT_FOLDER / "snapshot.json"
    earlier = json.loads(snapshot.read_text()) | {"feature_schema_version": "1.0.0"}
    del earlier["feed"]["freshness"]
    snapshot.write_text(json.dumps(earlier))
    metadata = json.loads((bundle / METADATA_FILE).read_text()) | {"feature_schema_version": "1.0.0"}
    del metadata["freshness"]
    (bundle / METADATA_FILE).write_text(json.dumps(metadata))
    seal(bundle)
    assert "feature schema 1.0.0 with features.freshness None, this code has 3.0.0 with nightly" in refusal(bundle)


def test_a_model_whose_snapshot_names_other_constants_than_it_was_trained_with_is_refused(bundle):
    snapshot = bundle / SNAPSHOT_FOLDER / "snapshot.json"
    other = feed_with(recency_score={"half_life": "6h"})
    changed = {"feed": other.model_dump(), "feature_fingerprint": other.fingerprint}
    snapshot.write_text(json.dumps(json.loads(snapshot.read_text()) | changed))
    seal(bundle)
    message = refusal(bundle)
    assert other.fingerprint in message
    assert Feed().fingerprint in message


def test_a_model_is_not_evaluated_on_features_of_other_constants(bundle, tmp_path):
    snapshot = load_bundle(bundle).snapshot
    other = feed_with(recency_score={"half_life": "6h"})
    info = snapshot.info.model_copy(update={"feed": other, "feature_fingerprint": other.fingerprint})
    (tmp_path / "features" / SNAPSHOT_FOLDER).mkdir(parents=True)
    save_snapshot(replace(snapshot, info=info), tmp_path / "features" / SNAPSHOT_FOLDER)
    with pytest.raises(BundleError, match=r"recency_score.half_life 6h instead of 24h"):
        evaluate_ranker(bundle, tmp_path / "features", output=tmp_path / "evaluation", config=small_model())


def test_changed_metadata_need_a_new_seal(bundle):
    metadata = load_bundle(bundle).metadata.model_copy(update={"model_version": "v9.9.9"})
    write_metadata(bundle, metadata)
    assert METADATA_FILE in refusal(bundle)
    seal(bundle)
    assert load_bundle(bundle).metadata.model_version == "v9.9.9"


def test_sealing_twice_gives_the_same_checksums(bundle):
    before = (bundle / CHECKSUMS_FILE).read_text()
    seal(bundle)
    assert (bundle / CHECKSUMS_FILE).read_text() == before
    verify(bundle)


def test_every_file_but_the_checksums_is_sealed(bundle):
    listed = set(json.loads((bundle / CHECKSUMS_FILE).read_text()))
    present = {str(file.relative_to(bundle)) for file in bundle.rglob("*") if file.is_file()}
    assert listed == present - {CHECKSUMS_FILE}
