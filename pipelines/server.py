"""A KFP server: uploads the pipelines, runs them now, and keeps their schedules.

A recurring run is pinned to the version that it was made with, so an upload makes it again.
"""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from feedrank.config.pipelines import PipelinesConfig
from feedrank.errors import FeedrankError
from feedrank.monitoring.results import TriggerDecision
from feedrank.monitoring.triggers import RetrainingLog
from pipelines import PIPELINES
from pipelines.compile import compile_all

EXPERIMENT = "feedrank"
TOKEN_PATH_ENV = "KF_PIPELINES_SA_TOKEN_PATH"
"""Set where the server asks for a token (multi-user mode); kfp reads it anew for every call."""
PAGE_SIZE = 100


class PipelineServerError(FeedrankError):
    """The KFP server can't be reached, or refuses."""


@dataclass(frozen=True)
class UploadedPipeline:
    """A pipeline's present version on the server."""

    pipeline_id: str
    version_id: str


class PipelineServer:
    """One KFP server."""

    def __init__(self, host: str, *, config: PipelinesConfig) -> None:
        """Connects.

        Raises:
            PipelineServerError: the server can't be reached.
        """
        import kfp

        self._host, self._config = host, config
        credentials = kfp.client.ServiceAccountTokenVolumeCredentials() if os.environ.get(TOKEN_PATH_ENV) else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")
            self._client = self._ask(
                lambda: kfp.Client(host=host, namespace=config.namespace or "kubeflow", credentials=credentials)
            )
        experiment = self._ask(lambda: self._client.create_experiment(EXPERIMENT, namespace=config.namespace or None))
        self._experiment_id = str(experiment.experiment_id)

    def upload(self) -> dict[str, UploadedPipeline]:
        """Uploads every pipeline whose content the server doesn't have yet; gives all of them by name."""
        with tempfile.TemporaryDirectory() as folder:
            return {file.stem: self._ask(lambda file=file: self._upload(file)) for file in compile_all(Path(folder))}

    def run(self, name: str, *, parameters: Mapping[str, Any], run_name: str) -> str:
        """Starts the uploaded pipeline; returns the id of its run.

        Raises:
            PipelineServerError: it isn't on the server, or the server refuses.
        """
        pipeline = self._ask(lambda: self._latest(name))
        run = self._ask(
            lambda: self._client.run_pipeline(
                self._experiment_id,
                run_name,
                params=dict(parameters),
                pipeline_id=pipeline.pipeline_id,
                version_id=pipeline.version_id,
                service_account=self._config.service_account,
            )
        )
        return str(run.run_id)

    def schedule(self, name: str, *, cron: str, parameters: Mapping[str, Any]) -> str:
        """Replaces the recurring runs of a pipeline by one of its latest version; returns its id.

        The new one is made first: between the two calls there are two, never none.
        """
        pipeline = self._ask(lambda: self._latest(name))
        old = [job for job in self._ask(self._recurring_runs) if job.display_name == name]
        new = self._ask(
            lambda: self._client.create_recurring_run(
                self._experiment_id,
                name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=dict(parameters),
                pipeline_id=pipeline.pipeline_id,
                version_id=pipeline.version_id,
                service_account=self._config.service_account,
            )
        )
        for job in old:
            self._ask(lambda job=job: self._client.delete_recurring_run(job.recurring_run_id))
        return str(new.recurring_run_id)

    def install(self) -> dict[str, str]:
        """Uploads all pipelines and replaces their schedules; gives the id of each recurring run by pipeline."""
        self.upload()
        schedules = self._config.schedules.model_dump()
        return {
            name: self.schedule(name, cron=cron, parameters=run_parameters(name, self._config))
            for name, cron in schedules.items()
        }

    def backfill(self, days: Sequence[date], *, parameters: Mapping[str, Any]) -> dict[date, str]:
        """Starts the ETL for each data date; gives the ids of the runs, which wait for each other as KFP sees fit."""
        name = "etl_and_feature_engineering"
        given = {**run_parameters(name, self._config), **parameters}
        return {
            day: self.run(name, parameters={**given, "data_date": day.isoformat()}, run_name=f"backfill {day}")
            for day in days
        }

    def _upload(self, file: Path) -> UploadedPipeline:
        version_name = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        pipeline_id = self._client.get_pipeline_id(file.stem)
        if pipeline_id is None:
            created = self._client.upload_pipeline(
                str(file), pipeline_name=file.stem, namespace=self._config.namespace or None
            )
            pipeline_id = created.pipeline_id
        for version in self._versions(pipeline_id):
            if version.display_name == version_name:
                return UploadedPipeline(pipeline_id, version.pipeline_version_id)
        version = self._client.upload_pipeline_version(str(file), version_name, pipeline_id=pipeline_id)
        return UploadedPipeline(pipeline_id, version.pipeline_version_id)

    def _latest(self, name: str) -> UploadedPipeline:
        pipeline_id = self._client.get_pipeline_id(name)
        versions = self._versions(pipeline_id) if pipeline_id is not None else []
        if pipeline_id is None or not versions:
            raise PipelineServerError(f"{self._host}: no pipeline {name}; upload the pipelines first")
        return UploadedPipeline(pipeline_id, versions[0].pipeline_version_id)

    def _versions(self, pipeline_id: str) -> list[Any]:
        """The newest first."""
        page = self._client.list_pipeline_versions(pipeline_id, page_size=PAGE_SIZE, sort_by="created_at desc")
        return list(page.pipeline_versions or [])

    def _recurring_runs(self) -> list[Any]:
        page = self._client.list_recurring_runs(page_size=PAGE_SIZE, experiment_id=self._experiment_id)
        return list(page.recurring_runs or [])

    def _ask(self, call: Any) -> Any:
        try:
            return call()
        except PipelineServerError:
            raise
        except Exception as error:
            reason = str(getattr(error, "body", None) or getattr(error, "reason", None) or error).splitlines()[0]
            raise PipelineServerError(f"KFP at {self._host}: {type(error).__name__}: {reason}") from error


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
