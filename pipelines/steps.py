"""What all pipelines set on their tasks, and the steps that two of them share."""

from typing import Literal

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_channel import PipelineChannel

from components.compute_features import compute_features
from components.evaluate import evaluate
from components.refit import refit
from components.register import register
from components.require import require
from components.train import train
from components.validate import validate
from feedrank.config import load_config

SETTINGS = load_config().pipelines
CONFIG_DIRECTORY = "/etc/feedrank"
Stage = Literal["data", "train", "monitor"]


def configured(task: dsl.PipelineTask, display_name: str, *, stage: Stage, cached: bool = True) -> dsl.PipelineTask:
    """Sets name, resources, retries, deadline, security context; uncached where a task reads the outside world."""
    resources = getattr(SETTINGS.resources, stage)
    task.set_display_name(display_name).set_caching_options(cached)
    task.set_cpu_request(resources.cpu_request).set_cpu_limit(resources.cpu_limit)
    task.set_memory_request(resources.memory_request).set_memory_limit(resources.memory_limit)
    task.set_retry(SETTINGS.retries.count, backoff_duration=f"{SETTINGS.retries.backoff_seconds}s", backoff_factor=2)
    kubernetes.set_security_context(task, run_as_non_root=True)
    kubernetes.set_timeout(task, SETTINGS.task_timeout_seconds)
    _mount(task)
    return task


def _mount(task: dsl.PipelineTask) -> None:
    """Configuration, secrets and the shared volume of the namespace; a place for temporary files."""
    kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path="/tmp")
    if SETTINGS.config_map:
        kubernetes.use_config_map_as_volume(task, config_map_name=SETTINGS.config_map, mount_path=CONFIG_DIRECTORY)
        task.set_env_variable("FEEDRANK_CONFIG_DIR", CONFIG_DIRECTORY)
    for variable, reference in SETTINGS.secrets.items():
        kubernetes.use_secret_as_env(
            task,
            secret_name=reference.secret,
            secret_key_to_env={reference.key: variable},
            optional=reference.optional,
        )
    for variable, value in SETTINGS.environment.items():
        task.set_env_variable(variable, value)
    if SETTINGS.volume.claim:
        kubernetes.mount_pvc(task, pvc_name=SETTINGS.volume.claim, mount_path=SETTINGS.volume.mount_path)


def feature_steps(
    interactions: PipelineChannel, *, drift_expected: bool, config_overrides: PipelineChannel
) -> tuple[dsl.PipelineTask, dsl.PipelineTask]:
    """Validate, stop unless the batch passed, compute features; the tasks of validation and features."""
    validation = validate(interactions=interactions, drift_expected=drift_expected, config_overrides=config_overrides)
    configured(validation, "Validate interactions", stage="data", cached=False)
    check = required(validation, "passed", "Stop if the validation failed")
    features = compute_features(validated=validation.outputs["validated"], config_overrides=config_overrides)
    return validation, configured(features.after(check), "Compute features", stage="data")


def required(judgement: dsl.PipelineTask, passed: str, display_name: str) -> dsl.PipelineTask:
    """Fails with the task's `verdict` unless its output `passed` is true."""
    check = require(passed=judgement.outputs[passed], verdict=judgement.outputs["verdict"])
    return configured(check, display_name, stage="data", cached=False)


def training_steps(
    features: PipelineChannel, *, synthetic: PipelineChannel | bool, config_overrides: PipelineChannel
) -> tuple[dsl.PipelineTask, dsl.PipelineTask, dsl.PipelineTask]:
    """Train, evaluate, fit again on all rows, register; the tasks of training, evaluation and registration."""
    training = train(features=features, config_overrides=config_overrides)
    configured(training, "Train model", stage="train")
    evaluation = evaluate(
        model=training.outputs["model"], features=features, synthetic=synthetic, config_overrides=config_overrides
    )
    configured(evaluation, "Evaluate model", stage="train", cached=False)
    refitting = refit(
        model=training.outputs["model"],
        features=features,
        config_overrides=config_overrides,
    )
    configured(refitting.after(evaluation), "Fit again on all rows", stage="train")
    registration = register(
        model=refitting.outputs["refitted"],
        evaluation=evaluation.outputs["evaluation"],
        config_overrides=config_overrides,
    )
    return training, evaluation, configured(registration, "Register model", stage="train", cached=False)


def gated_training_steps(
    features: PipelineChannel, *, synthetic: PipelineChannel | bool, config_overrides: PipelineChannel
) -> None:
    """The same, and a model that missed its gates fails the run after it has been registered without an alias."""
    _, evaluation, registration = training_steps(features, synthetic=synthetic, config_overrides=config_overrides)
    required(evaluation, "passed", "Stop if the model missed its gates").after(registration)
