"""A KFP server: uploads the pipelines, runs them now, and keeps their schedules.

A version says the hash of its compiled YAML, as its name or description. What is run or scheduled is the version with
the content that this installation compiles, whatever else was uploaded before or since.
"""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from feedrank.config.pipelines import PipelinesConfig
from feedrank.errors import FeedrankError
from feedrank.monitoring.results import TriggerDecision
from feedrank.monitoring.triggers import RetrainingLog
from pipelines import PIPELINES
from pipelines.compile import compile_all
from pipelines.release import refused_namespace, server_name
from pipelines.schedules import MADE_BY, MAX_CONCURRENCY, Schedule, schedule_of

EXPERIMENT = "feedrank"
TOKEN_PATH_ENV = "KF_PIPELINES_SA_TOKEN_PATH"
"""Set where the server asks for a token (multi-user mode); kfp reads it anew for every call."""
PAGE_SIZE = 100

T = TypeVar("T")


class PipelineServerError(FeedrankError):
    """The KFP server can't be reached, or refuses."""


@dataclass(frozen=True)
class UploadedPipeline:
    """A pipeline's version on the server."""

    pipeline_id: str
    version_id: str


class PipelineServer:
    """One KFP server, as one release sees it."""

    def __init__(self, host: str, *, config: PipelinesConfig) -> None:
        """Connects.

        Raises:
            PipelineServerError: the server can't be reached, or no run could start there (see `refused_namespace`).
        """
        import kfp

        self._host, self._config = host, config
        if refused := refused_namespace(host, config):
            raise PipelineServerError(f"KFP at {host}: {refused}")
        credentials = kfp.client.ServiceAccountTokenVolumeCredentials() if os.environ.get(TOKEN_PATH_ENV) else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")
            self._client = self._ask(
                lambda: kfp.Client(host=host, namespace=config.namespace or "kubeflow", credentials=credentials)
            )
        name = self._name(EXPERIMENT)
        experiment = self._ask(lambda: self._client.create_experiment(name, namespace=config.namespace or None))
        self._experiment_id = str(experiment.experiment_id)

    def upload(self) -> dict[str, UploadedPipeline]:
        """Uploads every pipeline whose content the server doesn't have yet; gives the versions by pipeline."""
        with tempfile.TemporaryDirectory() as folder:
            return {file.stem: self._upload(file) for file in compile_all(Path(folder))}

    def run(self, name: str, *, parameters: Mapping[str, Any], run_name: str) -> str:
        """Starts the pipeline, uploaded first where it is missing; returns the id of its run.

        Raises:
            PipelineServerError: there is no such pipeline, or the server refuses.
        """
        return self._run(self._version(name), parameters=parameters, run_name=run_name)

    def schedule(self, name: str, *, cron: str, parameters: Mapping[str, Any]) -> str:
        """Gives the pipeline one recurring run of its present version, and returns its id.

        One that is as wanted stays; else a new one is made, paused if the old one is, before the old one is deleted:
        between the two calls there are two, never none.
        """
        return self._schedule(name, self._version(name), cron=cron, parameters=parameters)

    def install(self) -> dict[str, str]:
        """Uploads all pipelines, keeps their schedules and ends those that this release no longer has.

        Gives the id of each recurring run by pipeline.
        """
        uploaded = self.upload()
        crons = {name: cron for name, cron in self._config.schedules.model_dump().items() if cron}
        kept = {
            name: self._schedule(name, uploaded[name], cron=cron, parameters=run_parameters(name, self._config))
            for name, cron in crons.items()
        }
        for job in self._recurring_runs():
            if job.recurring_run_id not in kept.values() and self._is_ours(job):
                self._delete(job)
        return kept

    def paused(self) -> set[str]:
        """Ids of the recurring runs that somebody has disabled."""
        return {job.recurring_run_id for job in self._recurring_runs() if schedule_of(job).paused}

    def backfill(self, days: Sequence[date], *, parameters: Mapping[str, Any]) -> dict[date, str]:
        """Starts the ETL for each data date; gives the ids of the runs, which wait for each other as KFP sees fit."""
        name = "etl_and_feature_engineering"
        given, version = {**run_parameters(name, self._config), **parameters}, self._version(name)
        return {
            day: self._run(version, parameters={**given, "data_date": day.isoformat()}, run_name=f"backfill {day}")
            for day in days
        }

    def _name(self, name: str) -> str:
        return server_name(name, self._config.release)

    def _version(self, name: str) -> UploadedPipeline:
        """The version with the content that this installation compiles."""
        with tempfile.TemporaryDirectory() as folder:
            files = {file.stem: file for file in compile_all(Path(folder))}
            if name not in files:
                raise PipelineServerError(f"{self._host}: no pipeline {name}; uploaded are {', '.join(files)}")
            return self._upload(files[name])

    def _upload(self, file: Path) -> UploadedPipeline:
        name, content = self._name(file.stem), hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        namespace, described = self._config.namespace or None, f"content {content}"
        pipelines = self._all("pipelines", self._client.list_pipelines, namespace=namespace, filter=_named(name))
        if not pipelines:  # it is made with a version that has its name; the description tells the content, too
            made = self._ask(lambda: self._client.upload_pipeline(str(file), name, described, namespace))
            return UploadedPipeline(made.pipeline_id, self._versions(made.pipeline_id)[0].pipeline_version_id)
        pipeline_id = str(pipelines[0].pipeline_id)
        for version in self._versions(pipeline_id):
            if content == version.display_name or described == version.description:
                return UploadedPipeline(pipeline_id, version.pipeline_version_id)
        version = self._ask(
            lambda: self._client.upload_pipeline_version(
                str(file), content, pipeline_id=pipeline_id, description=described
            )
        )
        return UploadedPipeline(pipeline_id, version.pipeline_version_id)

    def _versions(self, pipeline_id: str) -> list[Any]:
        return self._all("pipeline_versions", self._client.list_pipeline_versions, pipeline_id=pipeline_id)

    def _run(self, version: UploadedPipeline, *, parameters: Mapping[str, Any], run_name: str) -> str:
        run = self._ask(
            lambda: self._client.run_pipeline(
                self._experiment_id,
                run_name,
                params=dict(parameters),
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                service_account=self._config.service_account,
            )
        )
        return str(run.run_id)

    def _schedule(self, name: str, version: UploadedPipeline, *, cron: str, parameters: Mapping[str, Any]) -> str:
        old = [job for job in self._recurring_runs() if job.display_name == self._name(name)]
        wanted = Schedule(
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            cron=cron,
            parameters=dict(parameters),
            service_account=self._config.service_account,
            paused=bool(old) and all(schedule_of(job).paused for job in old),
        )
        kept = next((job.recurring_run_id for job in old if schedule_of(job) == wanted), None)
        if kept is None:
            kept = self._create_recurring_run(self._name(name), wanted)
        for job in old:
            if job.recurring_run_id != kept:
                self._delete(job)
        return str(kept)

    def _create_recurring_run(self, name: str, wanted: Schedule) -> str:
        job = self._ask(
            lambda: self._client.create_recurring_run(
                self._experiment_id,
                name,
                description=MADE_BY,
                cron_expression=wanted.cron,
                max_concurrency=MAX_CONCURRENCY,
                no_catchup=True,
                params=wanted.parameters,
                pipeline_id=wanted.pipeline_id,
                version_id=wanted.version_id,
                service_account=wanted.service_account,
                enabled=not wanted.paused,
            )
        )
        return str(job.recurring_run_id)

    def _is_ours(self, job: Any) -> bool:
        """Made by `install`, now or by an earlier release; people may have recurring runs of their own beside them."""
        return job.description == MADE_BY or job.display_name in {self._name(name) for name in PIPELINES}

    def _recurring_runs(self) -> list[Any]:
        """Those of this release's experiment."""
        return self._all("recurring_runs", self._client.list_recurring_runs, experiment_id=self._experiment_id)

    def _all(self, field: str, list_page: Callable[..., Any], **query: Any) -> list[Any]:
        """What all pages of a list hold in a field."""
        page = self._ask(lambda: list_page(page_size=PAGE_SIZE, **query))
        found = list(getattr(page, field) or [])
        while token := page.next_page_token:
            page = self._ask(partial(list_page, page_size=PAGE_SIZE, page_token=token, **query))
            found += getattr(page, field) or []
        return found

    def _delete(self, job: Any) -> None:
        self._ask(lambda: self._client.delete_recurring_run(job.recurring_run_id))

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except PipelineServerError:
            raise
        except Exception as error:
            reason = str(getattr(error, "body", None) or getattr(error, "reason", None) or error).splitlines()[0]
            raise PipelineServerError(f"KFP at {self._host}: {type(error).__name__}: {reason}") from error


def _named(name: str) -> str:
    """A filter of KFP's lists."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def run_parameters(name: str, config: PipelinesConfig) -> dict[str, Any]:
    """What a pipeline's runs on the server are started with."""
    runs = config.runs.model_dump(mode="json")
    generates = name == "etl_and_feature_engineering" and not config.volume.claim
    if not runs["input_paths"] and not generates:
        runs["input_paths"] = [runs["feedback"]]
    inputs = PIPELINES[name].component_spec.inputs or {}
    return {key: value for key, value in runs.items() if key in inputs}


@dataclass(frozen=True)
class ServerRetrainings:
    """Retrainings run on the configured server; `start` returns when the run was accepted (see `Retrainings`)."""

    config: PipelinesConfig
    record: RetrainingLog

    def start(self, trigger: TriggerDecision) -> None:
        """See `Retrainings`.

        Raises:
            PipelineServerError: the server refuses; the next monitor then asks again.
        """
        parameters = run_parameters("automated_retraining", self.config)
        parameters["trigger"] = trigger.model_dump(mode="json")
        with self.record.starting(trigger.request_id, clock=lambda: datetime.now(UTC)):
            server = PipelineServer(self.config.host, config=self.config)
            server.run("automated_retraining", parameters=parameters, run_name=f"retraining {trigger.request_id}")
