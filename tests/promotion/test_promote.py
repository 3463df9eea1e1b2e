"""Promotion and rollback: the alias, the target and the history move together; failures change nothing."""

import json

import pytest

from feedrank.errors import BundleError, FeedrankError, RegistryError
from feedrank.model.bundle import seal
from feedrank.promotion.changes import PromotionError, Version
from feedrank.promotion.promote import BETTER_TAG, Promoter
from feedrank.promotion.serving_target import NotServedError


def assert_served(world, version: str) -> None:
    assert world.target.current_version() == version
    assert world.champion() == version
    assert world.promoter().log.open_change() is None


class Stubborn:
    """The target's smoke test fails for some versions."""

    def __init__(self, target, *, bad: set[str]) -> None:
        self._target, self._bad = target, bad

    def __getattr__(self, name: str):
        return getattr(self._target, name)

    def smoke(self, model_version: str) -> None:
        if model_version in self._bad:
            raise NotServedError(f"{model_version} answers nonsense")


def test_the_challenger_becomes_the_served_champion_and_the_history_says_who_and_why(world):
    world.promoter().promote("v1.0.0", why="first", who="ann")
    record = world.promoter().promote(why="better AUC", who="bob")
    assert_served(world, "v1.0.2")
    assert record.change.champion_before.model_version == "v1.0.0"
    assert world.registry().alias("challenger") is None
    tags = world.registry().tags(3)
    assert any("bob" in value and "better AUC" in value for key, value in tags.items() if key.startswith("champion_"))


def test_rollbacks_go_back_one_champion_after_the_other(world):
    promoter = world.promoter()
    for version in ("v1.0.0", "v1.0.1", "v1.0.2"):
        promoter.promote(version, why="test", force=True)
    promoter.rollback(why="bad")
    assert_served(world, "v1.0.1")
    promoter.rollback(why="bad too")
    assert_served(world, "v1.0.0")
    with pytest.raises(PromotionError, match=r"known, oldest first: v1\.0\.0"):
        promoter.rollback(why="once more")
    promoter.rollback(to="v1.0.2", why="it was good")
    assert_served(world, "v1.0.2")


def test_two_steps_back_at_once(world):
    promoter = world.promoter()
    for version in ("v1.0.0", "v1.0.1", "v1.0.2"):
        promoter.promote(version, why="test", force=True)
    promoter.rollback(steps=2, why="both are bad")
    assert_served(world, "v1.0.0")


def test_a_version_that_does_not_answer_is_undone_and_the_reason_kept(world):
    world.promoter().promote("v1.0.0", why="first")
    target = Stubborn(world.target, bad={"v1.0.2"})
    promoter = Promoter(connect=world.registry, target=target, directory=world.folder / "promotion")
    with pytest.raises(PromotionError, match=r"v1\.0\.2 can't be served, v1\.0\.0 is served as before: .*nonsense"):
        promoter.promote(why="try")
    assert_served(world, "v1.0.0")
    assert "nonsense" in promoter.log.history()[-1].note
    assert world.registry().alias("challenger").model_version == "v1.0.2"


def test_a_rollback_needs_no_registry_to_serve_the_old_version(world):
    for version in ("v1.0.0", "v1.0.1"):
        world.promoter().promote(version, why="test", force=True)

    def unreachable():
        raise RegistryError("MLflow is down")

    cut_off = Promoter(connect=unreachable, target=world.target, directory=world.folder / "promotion")
    with pytest.raises(PromotionError, match=r"v1\.0\.0 is served, but the registry can't be told yet"):
        cut_off.rollback(why="bad")
    assert world.target.current_version() == "v1.0.0"
    world.promoter().repair()
    assert_served(world, "v1.0.0")


def test_a_promotion_without_registry_changes_nothing(world):
    world.promoter().promote("v1.0.0", why="first")

    def unreachable():
        raise RegistryError("MLflow is down")

    with pytest.raises(RegistryError):
        Promoter(connect=unreachable, target=world.target, directory=world.folder / "promotion").promote(why="x")
    assert_served(world, "v1.0.0")


def test_a_damaged_bundle_is_refused_before_anything_changes(world, registered):
    world.promoter().promote("v1.0.0", why="first")

    class Damaging(type(world.target)):
        def stage(self, bundle, version):
            (bundle / "model_config.json").write_text("{}")
            super().stage(bundle, version)

    promoter = Promoter(
        connect=world.registry, target=Damaging(world.target.config), directory=world.folder / "promotion"
    )
    with pytest.raises(FeedrankError, match="differs from its checksum"):
        promoter.promote(why="x")
    assert_served(world, "v1.0.0")


def test_what_is_served_already_is_said(world):
    world.promoter().promote("v1.0.0", why="first")
    with pytest.raises(PromotionError, match="already the champion"):
        world.promoter().promote("v1.0.0", why="again")
    with pytest.raises(RegistryError, match=r"no version v9\.0\.0; it has v1\.0\.2, v1\.0\.1, v1\.0\.0"):
        world.promoter().promote("v9.0.0", why="typo")


def test_a_version_that_missed_a_gate_needs_a_won_comparison_or_force(world):
    client = world.registry()._client
    for number in ("2", "3"):
        client.set_model_version_tag("feedrank-ranker", number, "passed_gates", "false")
    client.delete_model_version_tag("feedrank-ranker", "3", BETTER_TAG)
    world.promoter().promote("v1.0.1", why="better on the same rows")
    with pytest.raises(PromotionError, match="missed a gate"):
        world.promoter().promote("v1.0.2", why="hurry")
    world.promoter().promote("v1.0.2", why="hurry", force=True)
    assert_served(world, "v1.0.2")


def test_a_version_that_was_never_compared_needs_its_name_and_force(world):
    client = world.registry()._client
    client.delete_model_version_tag("feedrank-ranker", "3", BETTER_TAG)
    world.promoter().promote("v1.0.0", why="first")
    for options in ({}, {"model_version": "v1.0.2"}):
        with pytest.raises(PromotionError, match=r"v1\.0\.2 was never compared with the champion v1\.0\.0"):
            world.promoter().promote(why="hurry", **options)
    with pytest.raises(PromotionError, match="a version that you name"):
        world.promoter().promote(why="hurry", force=True)
    assert_served(world, "v1.0.0")
    world.promoter().promote("v1.0.2", why="hurry", force=True)
    assert_served(world, "v1.0.2")


def test_a_comparison_with_an_earlier_champion_is_none_with_the_present_one(world):
    for version in ("v1.0.0", "v1.0.2"):
        world.promoter().promote(version, why="better")
    with pytest.raises(PromotionError, match=r"v1\.0\.1 was compared with v1\.0\.0, not with the champion v1\.0\.2"):
        world.promoter().promote("v1.0.1", why="it was better then")


def test_the_first_model_needs_no_comparison(world):
    world.registry().set_alias("champion", None)
    world.promoter().promote("v1.0.0", why="there was none")
    assert_served(world, "v1.0.0")


def test_the_folder_of_another_registration_of_that_version_is_never_replaced(world):
    world.promoter().promote("v1.0.0", why="first")
    world.promoter().promote("v1.0.1", why="better")
    metadata = world.target.link / "model_metadata.json"
    stranger = json.loads(metadata.read_text()) | {"mlflow_run_id": "another"}
    metadata.write_text(json.dumps(stranger))
    seal(world.target.link.resolve())
    served = metadata.read_bytes()
    with pytest.raises(BundleError, match=r"v1\.0\.1: holds another model of that version \(MLflow run another"):
        world.target.stage(world.target.link.resolve(), Version(number=2, model_version="v1.0.1", run_id="mine"))
    assert metadata.read_bytes() == served
