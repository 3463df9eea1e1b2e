"""Changes of the served model from a laptop: the command line against a stand-in of the Kubernetes API."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from feedrank.cli import app
from feedrank.promotion.changes import PromotionError
from pipelines import cluster_jobs
from serving.cluster import api_client

LOG = "rollback to v1.0.0 done: v1.0.0 is served\n"


@dataclass
class Cluster:
    """A namespace with the CronJobs of a release; a Job's pod is pending at first, runs, and ends with `exit_code`."""

    exit_code: int = 0
    refuses: int = 0
    """The status that is the answer to a new Job."""
    pod_comes: bool = True
    unanswered: int = 0
    """How many questions about the Job get no answer."""
    created: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    questions: int = 0

    def get(self, path: str) -> dict[str, Any] | str | None:
        _, _, rest = path.partition("/namespaces/")
        what = rest.split("/", 1)[1].partition("?")[0]
        if what.startswith("cronjobs/feed-"):
            name = what.removeprefix("cronjobs/")
            env = [{"name": "FEEDRANK_CONFIG_DIR", "value": "/etc/feedrank"}, {"name": "FEEDRANK_WHY", "value": "old"}]
            container = {"name": name, "image": "train", "env": env}
            pod = {"spec": {"containers": [container], "restartPolicy": "Never"}}
            template = {"metadata": {"labels": {"a": "b"}}, "spec": {"backoffLimit": 0, "template": pod}}
            return {"metadata": {"name": name, "uid": "u"}, "spec": {"schedule": "* * * * *", "jobTemplate": template}}
        if what.endswith("/status"):
            return {"metadata": {"name": "j"}, "status": {"conditions": self._conditions()}}
        if what == "pods":
            return {"kind": "PodList", "metadata": {}, "items": [self._pod()] if self.pod_comes else []}
        return LOG if what.endswith("/log") else None

    def _conditions(self) -> list[dict[str, str]]:
        self.questions += 1
        if self.questions < 3:
            return []
        kind = "Failed" if self.exit_code or not self.pod_comes else "Complete"
        return [{"type": kind, "status": "True", "message": "BackoffLimitExceeded" if kind == "Failed" else ""}]

    def _pod(self) -> dict[str, Any]:
        state = {"terminated": {"exitCode": self.exit_code}} if self.questions >= 3 else {}
        status = {"name": "c", "state": state, "ready": False, "restartCount": 0, "image": "i", "imageID": "i"}
        pending = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
        return {
            "metadata": {"name": "pod"},
            "status": {
                "phase": "Running" if self.questions >= 2 else "Pending",
                "conditions": [] if self.questions else [pending],
                "containerStatuses": [status],
            },
        }


def api_of(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if cluster.created and cluster.unanswered:
                cluster.unanswered -= 1
                self.close_connection = True
                return
            found = cluster.get(self.path)
            self._answer(404 if found is None else 200, found or {"reason": "NotFound"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not cluster.refuses:
                cluster.created.append((self.path, body))
            self._answer(cluster.refuses or 201, body)

        def _answer(self, status: int, content: dict[str, Any] | str) -> None:
            body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Api


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Its context is `there`, and the namespace of that `feeds`."""
    found = Cluster()
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    monkeypatch.setattr(cluster_jobs, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(cluster_jobs, "SAY_AFTER_SECONDS", 0.0)
    monkeypatch.setattr("getpass.getuser", lambda: "me")
    api_client.cache_clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), api_of(found)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        content = {
            "current-context": "",
            "contexts": [{"name": "there", "context": {"cluster": "c", "user": "u", "namespace": "feeds"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "u", "user": {}}],
        }
        (tmp_path / "config").write_text(yaml.safe_dump(content), encoding="utf-8")
        yield found
        server.shutdown()
    api_client.cache_clear()


def there(*arguments: str) -> Any:
    """Runs a command of the command line on the stand-in."""
    return CliRunner().invoke(app, [*arguments, "--kube-context", "there", "--release", "feed"])


def environment_of(job: dict[str, Any]) -> dict[str, str]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names))
    return {variable["name"]: variable["value"] for variable in container["env"]}


def test_a_rollback_from_a_laptop_is_the_job_of_the_releases_cron_job(cluster: Cluster) -> None:
    done = there("rollback", "--to", "v1.0.0", "--why", "scores are wrong")
    assert done.exit_code == 0, done.output
    ((path, job),) = cluster.created
    assert path.startswith("/apis/batch/v1/namespaces/feeds/jobs")
    assert job["metadata"]["name"].startswith("feed-rollback-") and job["metadata"]["labels"] == {"a": "b"}
    assert job["metadata"]["ownerReferences"][0]["name"] == "feed-rollback"
    assert job["spec"]["backoffLimit"] == 0
    assert environment_of(job) == {
        "FEEDRANK_CONFIG_DIR": "/etc/feedrank",
        "FEEDRANK_ROLLBACK_TO": "v1.0.0",
        "FEEDRANK_WHY": "scores are wrong",
        "FEEDRANK_WHO": "me",
    }
    assert done.stdout == LOG, "its log"
    assert "no room" in done.stderr and "has succeeded" in done.stderr


@pytest.mark.parametrize(
    ("command", "given"),
    [
        (["promote"], {"FEEDRANK_WHO": "me"}),
        (["promote", "v2.0.0", "--force"], {"FEEDRANK_PROMOTE_VERSION": "v2.0.0", "FEEDRANK_PROMOTE_FORCE": "True"}),
        (["rollback", "--steps", "2", "--who", "you"], {"FEEDRANK_ROLLBACK_STEPS": "2", "FEEDRANK_WHO": "you"}),
        (["retrain", "--force"], {"FEEDRANK_RETRAIN_FORCE": "True"}),
        (
            ["accept-day", "2024-02-10", "2024-02-11", "--why", "lost"],
            {"FEEDRANK_ACCEPT_DAYS": "2024-02-10 2024-02-11", "FEEDRANK_WHY": "lost"},
        ),
    ],
)
def test_parameters_reach_the_job_by_their_variables(
    cluster: Cluster, command: list[str], given: dict[str, str]
) -> None:
    assert there(*command).exit_code == 0
    ((_, job),) = cluster.created
    found = environment_of(job)
    assert given.items() <= found.items()
    own = {name: value for name, value in found.items() if value not in ("/etc/feedrank", "old", "me")}
    assert own.items() <= given.items(), "and no others"
    assert ("FEEDRANK_WHO" in found) == (command[0] != "retrain"), "broken feedback needs a name that was given"


def test_a_job_that_fails_gives_its_exit_code_and_its_log(cluster: Cluster) -> None:
    cluster.exit_code = 3
    done = there("rollback")
    assert done.exit_code == 3 and done.stdout == LOG
    assert "has failed: BackoffLimitExceeded" in done.stderr


def test_a_job_without_a_pod_fails(cluster: Cluster) -> None:
    cluster.pod_comes = False
    done = there("rollback")
    assert done.exit_code == 1 and "there is no pod yet" in done.stderr


def test_a_server_that_is_out_of_reach_for_a_moment_is_asked_again(cluster: Cluster) -> None:
    cluster.unanswered = 8
    done = there("rollback")
    assert done.exit_code == 0 and done.stdout == LOG, done.output


def test_without_the_right_to_create_jobs_it_says_so(cluster: Cluster) -> None:
    cluster.refuses = 403
    done = there("rollback")
    assert isinstance(done.exception, PromotionError)
    assert "CronJob feeds/feed-rollback: the API server answers 403" in str(done.exception)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kube-context", "there", "--release", "other"], "CronJob feeds/other-rollback: the API server answers 404"),
        (["--kube-context", "elsewhere"], "context elsewhere: the kubeconfig has there"),
    ],
)
def test_a_release_or_context_that_is_not_there_is_named(cluster: Cluster, options: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["rollback", *options])
    assert said in str(done.exception)
    assert cluster.created == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kube-context", "there", "--run-dir", "runs/x"], "--run-dir is of this machine"),
        (["--namespace", "feeds"], "name that by --kube-context"),
    ],
)
def test_options_of_here_and_there_are_not_mixed(cluster: Cluster, options: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["rollback", *options], env={"COLUMNS": "200"})
    assert done.exit_code == 2 and said in done.stderr
    assert cluster.created == []
