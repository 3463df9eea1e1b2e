"""What people on call start by hand is in the release, and works as the runbook says."""

import re
import shlex
import subprocess
from typing import Any

import pytest
import typer
import yaml

from feedrank import cli
from manifests.render import ROOT, helm_template
from tests.manifests.chart import PROFILES, only, pods, rendered

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
LINES = [line.strip() for line in RUNBOOK.splitlines() if re.match(r" +kubectl create job --from", line)]
"""Those to copy, for kubectl alone."""
FROM_A_LAPTOP = [line.strip() for line in RUNBOOK.splitlines() if re.match(r" +feedrank .*--kube-context", line)]
"""Those for the command line and a kubeconfig."""
COMMANDS = {
    "rollback": ["feedrank", "rollback"],
    "promote": ["feedrank", "promote"],
    "retrain": ["feedrank", "retrain", "--run-dir", "/data"],
    "accept-day": ["feedrank", "accept-day", "--run-dir", "/data"],
    "erase": ["feedrank", "erase", "--run-dir", "/data"],
}
OF_MODELS = ("rollback", "promote", "retrain")


def variables_of(command: str) -> set[str]:
    """The environment variables that a command of the CLI reads."""
    found = typer.main.get_command(cli.app).commands[command]  # type: ignore[attr-defined]
    return {str(parameter.envvar) for parameter in found.params if parameter.envvar}


def job_of(manifests: list[dict[str, Any]], name: str) -> dict[str, Any]:
    template: dict[str, Any] = only(manifests, "CronJob", name)["spec"]["jobTemplate"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "now"}, "spec": template["spec"]}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("change", COMMANDS)
def test_changes_never_start_by_themselves_and_are_never_tried_twice(profile: str, change: str) -> None:
    cron_job = only(rendered(profile), "CronJob", f"feedrank-{change}")["spec"]
    assert cron_job["suspend"] is True
    job = cron_job["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 0
    spec = job["template"]["spec"]
    account = "promoter" if change in OF_MODELS else "etl"
    assert spec["restartPolicy"] == "Never" and spec["serviceAccountName"] == f"feedrank-{account}"
    (container,) = spec["containers"]
    assert container["command"] == COMMANDS[change]


def test_changes_see_the_state_and_the_versions_that_the_retraining_sees() -> None:
    manifests = rendered()
    retraining = job_of(manifests, "feedrank-retraining")["spec"]["template"]["spec"]
    for change in OF_MODELS:
        spec = job_of(manifests, f"feedrank-{change}")["spec"]["template"]["spec"]
        assert spec["volumes"] == retraining["volumes"]
        for what in ("volumeMounts", "env", "image"):
            assert spec["containers"][0][what] == retraining["containers"][0][what], what


def test_who_accepts_a_day_reaches_what_the_etl_reaches_and_no_more() -> None:
    manifests = rendered()
    accepting = job_of(manifests, "feedrank-accept-day")["spec"]["template"]
    etl = job_of(manifests, "feedrank-etl")["spec"]["template"]
    assert accepting["metadata"]["labels"] == etl["metadata"]["labels"], "so the policies are the same"
    assert accepting["spec"]["volumes"] == etl["spec"]["volumes"]
    for what in ("volumeMounts", "env", "image"):
        assert accepting["spec"]["containers"][0][what] == etl["spec"]["containers"][0][what], what


def test_changes_are_given_longer_than_their_roll_out_and_its_undoing() -> None:
    def seconds(*options: str) -> int:
        job = job_of(rendered("default", *options), "feedrank-rollback")
        return int(job["spec"]["activeDeadlineSeconds"])

    assert seconds() > 2 * (60 + 120)
    assert seconds("--set=predictor.replicas=20") > 2 * (60 + 20 * 120)
    scaled = "--set=predictor.autoscaling.enabled=true,predictor.autoscaling.maxReplicas=30"
    assert seconds(scaled, "--set=config.promotion.target.pod_deadline_seconds=300") > 2 * (60 + 30 * 300)


@pytest.mark.parametrize("policy", ["predictor", "mlflow", "jobs"])
@pytest.mark.parametrize("change", ["rollback", "promote"])
def test_policies_let_changes_reach_what_a_retraining_reaches(policy: str, change: str) -> None:
    spec = only(rendered(), "NetworkPolicy", f"feedrank-{policy}")["spec"]
    selectors = [
        spec["podSelector"],
        *(peer["podSelector"] for rule in spec.get("ingress", []) for peer in rule["from"]),
    ]
    named = [e["values"] for s in selectors for e in s.get("matchExpressions", []) if "retraining" in e["values"]]
    assert named and all(change in values for values in named)


@pytest.mark.parametrize("line", LINES)
def test_the_runbooks_lines_name_cron_jobs_of_the_chart_and_variables_of_their_commands(line: str) -> None:
    found = re.search(r"--from=cronjob/(\S+) ", f"{line} ")
    assert found
    job = job_of(rendered(), found.group(1))
    if " set env " not in line:
        return
    command = line.split(" | ")[1]
    words = [word.replace("$USER", "me") for word in shlex.split(command)]
    done = subprocess.run(words, input=yaml.safe_dump(job), capture_output=True, text=True, check=True)
    (container,) = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["containers"]
    given = {variable["name"] for variable in container["env"]} - {
        variable["name"] for variable in job["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert given and given <= variables_of(container["command"][1])


@pytest.mark.parametrize("line", FROM_A_LAPTOP)
def test_the_runbooks_lines_for_a_laptop_are_commands_and_their_cron_jobs_are_in_the_chart(line: str) -> None:
    _, command, *arguments = shlex.split(line)
    found = typer.main.get_command(cli.app).commands[command]  # type: ignore[attr-defined]
    given = found.make_context(command, arguments).params
    assert given["kube_context"] == "CONTEXT" and given["namespace"] == "feedrank"
    assert job_of(rendered(), f"{given['release']}-{command}")


def test_the_runbook_shows_every_change_for_a_laptop_and_for_kubectl() -> None:
    assert {shlex.split(line)[1] for line in FROM_A_LAPTOP} == set(COMMANDS)
    named = {found.group(1) for line in LINES if (found := re.search(r"--from=cronjob/feedrank-(\S+)", line))}
    assert named == set(COMMANDS)


@pytest.mark.parametrize("change", COMMANDS)
def test_the_runbook_names_every_variable_of_a_change(change: str) -> None:
    assert [name for name in variables_of(change) if name not in RUNBOOK] == []


def test_alerts_send_nobody_on_a_cluster_to_a_bare_command() -> None:
    alerts = RUNBOOK.split("\n## Alerts\n")[1].split("\n## ")[0]
    assert re.findall(r"`feedrank (?:rollback|promote|retrain)", alerts) == []
    assert alerts.count("--from=cronjob/feedrank-rollback") >= 3


def test_the_notes_of_a_release_name_its_own_cron_jobs() -> None:
    notes = (ROOT / "helm" / "feedrank" / "templates" / "NOTES.txt").read_text(encoding="utf-8")
    named = set(re.findall(r"--from=cronjob/\{\{ .Release.Name \}\}-(\S+)", notes))
    there = {m["metadata"]["name"].removeprefix("feedrank-") for m in helm_template() if m["kind"] == "CronJob"}
    named |= set(re.findall(r"feedrank (\S+) (?:DATE|--user)", notes))
    assert named == there - {"retraining"}, "people start retrain, which waits for nothing"
    assert "feedrank rollback --kube-context" in notes


@pytest.mark.parametrize("profile", PROFILES)
def test_what_an_earlier_release_left_is_migrated_before_anything_reads_it(profile: str) -> None:
    """In the pods themselves: after a hook of the upgrade, pods of the earlier release could still write."""
    cron_jobs = {m["metadata"]["name"]: m for m in rendered(profile) if m["kind"] == "CronJob"}
    for name in ("etl", "monitor", "upkeep", "retraining", "retrain"):
        spec = cron_jobs[f"feedrank-{name}"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        first = spec["initContainers"][0]
        assert first["command"] == ["feedrank", "migrate", "--run-dir", "/data"], name
        assert "api-token" not in {mount["name"] for mount in first["volumeMounts"]}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_command_of_the_chart_is_one_of_the_command_line(profile: str) -> None:
    known = set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    used = {
        command[index + 1]
        for _, spec, _ in pods(rendered(profile))
        for container in [*spec.get("initContainers", []), *spec["containers"]]
        if "feedrank" in (command := container.get("command", []))
        for index in [command.index("feedrank")]
    }
    assert {"upkeep", "monitor", "retrain", "rollback"} <= used <= known


def test_the_upkeep_may_see_what_is_served_and_change_nothing_on_the_cluster() -> None:
    manifests = rendered()
    (rule,) = only(manifests, "Role", "feedrank-upkeep")["rules"]
    assert (rule["resources"], rule["resourceNames"], rule["verbs"]) == (["inferenceservices"], ["feedrank"], ["get"])
    spec = job_of(manifests, "feedrank-upkeep")["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == "feedrank-upkeep"
    without = rendered("default", "--set=upkeep.enabled=false")
    assert not [m for m in without if m["metadata"]["name"] == "feedrank-upkeep" and m["kind"] != "ServiceAccount"]
