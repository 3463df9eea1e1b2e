"""A stand-in for the API of KFP 2.17 over real HTTP, with what its server does that a client can trip over.

It checks requests by the published client's models. Times have seconds; lists are in the order of creation unless
`sort_by` says otherwise, and what was created in the same second comes in the order that `ties` says, since the real
one goes by random ids there. Pages end with a token; an upload of a new pipeline makes a version with its name; a run
fails whose importer does not have the plain name of its task.
"""

import itertools
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import kfp_server_api
import yaml

API = "/apis/v2beta1/"
DEFAULT_PAGE = 20
KEYS = {
    "experiments": "experiment_id",
    "pipelines": "pipeline_id",
    "pipeline_versions": "pipeline_version_id",
    "runs": "run_id",
    "recurringruns": "recurring_run_id",
}
MODELS = {
    "experiments": "V2beta1Experiment",
    "pipelines": "V2beta1Pipeline",
    "runs": "V2beta1Run",
    "recurringruns": "V2beta1RecurringRun",
}
UNIQUE = {"experiments": (), "pipelines": (), "pipeline_versions": ("pipeline_id",)}
"""Names are unique among entries that share these; runs and recurring runs may be called alike."""
# A 64-bit integer is a string in the model; KFP's gateway takes the number too, which the client sends.
PLAIN = {"str": (str, int), "int": int, "bool": bool, "datetime": str}

Entry = dict[str, Any]


class RefusedError(Exception):
    """The server answers with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check(content: Any, type_name: str) -> None:
    """Raises RefusedError unless a request's JSON is what the published client's model says."""
    model = getattr(kfp_server_api, type_name, None)
    if type_name.startswith("list["):
        for entry in content:
            check(entry, type_name[5:-1])
    elif getattr(model, "attribute_map", {}):
        types = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
        for key, value in content.items():
            if key not in types:
                raise RefusedError(400, f"{type_name} has no field {key}")
            check(value, types[key])
    elif not isinstance(content, PLAIN.get(type_name, object)) or content not in getattr(
        model, "allowable_values", [content]
    ):
        raise RefusedError(400, f"{content!r} is no {type_name}")


def misnamed_importers(pipeline: str) -> list[str]:
    """Importer tasks with a display name: the driver of what they feed looks for the plain one and fails."""
    specification = next(yaml.safe_load_all(pipeline))
    executors = specification["deploymentSpec"]["executors"]
    importers = {
        name
        for name, component in specification["components"].items()
        if "importer" in executors.get(component.get("executorLabel"), {})
    }
    dags = [specification["root"]["dag"], *(c["dag"] for c in specification["components"].values() if "dag" in c)]
    tasks = [(key, task) for dag in dags for key, task in dag["tasks"].items()]
    return [key for key, task in tasks if task["componentRef"]["name"] in importers and task["taskInfo"]["name"] != key]


class StandIn(ThreadingHTTPServer):
    """The server's state; each test advances its clock itself."""

    def __init__(self, ties: Literal["first", "last"] = "first") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.kept: dict[str, list[Entry]] = {kind: [] for kind in KEYS}
        self.files: dict[str, str] = {}
        self.clock = datetime(2026, 11, 29, tzinfo=UTC)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._ties = ties
        self._numbers = itertools.count(1)

    def later(self) -> None:
        """The next second."""
        self.clock += timedelta(seconds=1)

    def keep(self, kind: str, content: Entry) -> Entry:
        alike = [e for e in self.kept[kind] if e["display_name"] == content["display_name"]]
        if kind in UNIQUE and any(all(e[key] == content[key] for key in UNIQUE[kind]) for e in alike):
            raise RefusedError(409, f"{content['display_name']} already exists")
        number = next(self._numbers)
        content = {**content, KEYS[kind]: f"{kind}-{number}", "created_at": self.clock.strftime("%Y-%m-%dT%H:%M:%SZ")}
        self.kept[kind].append(content)
        return content

    def of(self, kind: str, identifier: str) -> Entry:
        found = [entry for entry in self.kept[kind] if entry[KEYS[kind]] == identifier]
        if not found:
            raise RefusedError(404, f"{kind} {identifier} not found")
        return found[0]

    def add_version(self, pipeline: Entry, query: dict[str, str], file: str) -> Entry:
        next(yaml.safe_load_all(file))["pipelineInfo"]
        described = {"description": query["description"]} if "description" in query else {}
        version = {"display_name": query["name"], "pipeline_id": pipeline["pipeline_id"], **described}
        kept = self.keep("pipeline_versions", version)
        self.files[kept["pipeline_version_id"]] = file
        return kept

    def add_run(self, run: Entry) -> Entry:
        file = self.files[self._version_of(run)]
        broken = misnamed_importers(file)
        return self.keep("runs", {**run, "state": "FAILED" if broken else "SUCCEEDED"})

    def add_recurring_run(self, job: Entry) -> Entry:
        self._version_of(job)
        if not 1 <= int(job["max_concurrency"]) <= 10:
            raise RefusedError(400, "Max concurrency of a recurring run must be at least 1 and at most 10")
        if not job["runtime_config"].get("parameters"):
            job = {key: value for key, value in job.items() if key != "runtime_config"}
        kept = self.keep("recurringruns", {**job, "namespace": "kubeflow"})
        self.set_mode(kept["recurring_run_id"], kept["mode"].lower())
        return kept

    def set_mode(self, recurring_run: str, action: str) -> None:
        """What `:enable` and `:disable` do."""
        self.of("recurringruns", recurring_run).update(mode=action.upper(), status=f"{action.upper()}D")

    def page(self, kind: str, entries: list[Entry], query: dict[str, str]) -> Entry:
        for predicate in json.loads(query.get("filter", "{}")).get("predicates", []):
            value = predicate.get("stringValue") or predicate["string_value"]
            entries = [entry for entry in entries if entry[predicate["key"]] == value]
        field, _, direction = query.get("sort_by", "created_at").partition(" ")
        ordered = entries if self._ties == "first" else entries[::-1]
        ordered = sorted(ordered, key=lambda entry: entry[field], reverse=direction == "desc")
        criteria = f"{query.get('filter')}|{query.get('sort_by')}"
        start = 0
        if token := query.get("page_token"):
            first, _, given = token.partition("|")
            if given != criteria:
                raise RefusedError(400, "page token does not match the supplied sort by and/or filtering criteria")
            start = int(first)
        size = int(query.get("page_size") or DEFAULT_PAGE)
        more = {"next_page_token": f"{start + size}|{criteria}"} if len(ordered) > start + size else {}
        return {{"recurringruns": "recurringRuns"}.get(kind, kind): ordered[start : start + size], **more}

    def _version_of(self, content: Entry) -> str:
        wanted: str = content["pipeline_version_reference"]["pipeline_version_id"]
        version = self.of("pipeline_versions", wanted)
        if version["pipeline_id"] != content["pipeline_version_reference"]["pipeline_id"]:
            raise RefusedError(400, f"{wanted} is no version of that pipeline")
        return wanted


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self._serve(self._get)

    def do_POST(self) -> None:
        self._serve(self._post)

    def do_DELETE(self) -> None:
        self._serve(self._delete)

    def _get(self, path: str, query: dict[str, str], _: bytes) -> Entry:
        if path == "healthz":
            return {"multi_user": False}
        if path.endswith("/versions"):
            of_pipeline = self.server.of("pipelines", path.split("/")[1])["pipeline_id"]
            found = [v for v in self.server.kept["pipeline_versions"] if v["pipeline_id"] == of_pipeline]
            return self.server.page("pipeline_versions", found, query)
        found = self.server.kept[path]
        if wanted := query.get("experiment_id"):
            found = [entry for entry in found if entry["experiment_id"] == wanted]
        return self.server.page(path, found, query)

    def _post(self, path: str, query: dict[str, str], body: bytes) -> Entry:
        if path == "pipelines/upload":
            pipeline = self.server.keep("pipelines", {"display_name": query["name"]})
            self.server.add_version(pipeline, query, self._file(body))
            return pipeline
        if path == "pipelines/upload_version":
            return self.server.add_version(self.server.of("pipelines", query["pipelineid"]), query, self._file(body))
        if ":" in path:
            self.server.set_mode(*path.removeprefix("recurringruns/").split(":"))
            return {}
        content = json.loads(body)
        check(content, MODELS[path])
        add = {"runs": self.server.add_run, "recurringruns": self.server.add_recurring_run}
        return add[path](content) if path in add else self.server.keep(path, content)

    def _delete(self, path: str, _query: dict[str, str], _: bytes) -> Entry:
        kind, wanted = path.split("/")
        self.server.kept[kind].remove(self.server.of(kind, wanted))
        return {}

    def _file(self, body: bytes) -> str:
        message = message_from_bytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\n\n" + body)
        (part,) = message.get_payload()
        return part.get_payload(decode=True).decode()  # type: ignore[union-attr, no-any-return]

    def _serve(self, answer: Any) -> None:
        url = urllib.parse.urlparse(self.path)
        query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            status, content = 200, answer(url.path.removeprefix(API), query, body)
        except RefusedError as refused:
            status, content = refused.status, {"error": str(refused)}
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def running(ties: Literal["first", "last"] = "first") -> Iterator[StandIn]:
    """A stand-in that answers."""
    with StandIn(ties) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()
