"""Every common client gets its rankings, refusals and health checks, and leaves nothing in the predictor's log."""

import dataclasses
import subprocess
import time
from pathlib import Path

import pytest
from clients import AbsentError, ClientProgram, Target, real_clients, shapes
from clients.toolchains import tool
from conftest import Predictor


@pytest.fixture(scope="module")
def target(predictor: Predictor) -> Target:
    return Target.asked("127.0.0.1", predictor.http_port, predictor.grpc_port, user_id=3, item_ids=[5, 6, 7, 8, 10**12])


@pytest.mark.parametrize("client", [*real_clients(), *shapes()], ids=lambda client: client.name)
def test_a_client_gets_what_it_asks_for(predictor: Predictor, target: Target, client: ClientProgram):
    logged = predictor.output.read_text()
    try:
        outcomes = client.ask(target)
    except AbsentError as absent:
        pytest.skip(str(absent))
    assert outcomes
    assert [outcome for outcome in outcomes if outcome.problem] == []
    time.sleep(0.03)  # some failures are logged after their answer
    assert predictor.output.read_text()[len(logged) :] == ""


@pytest.mark.parametrize("name", ["python httpx", "feedrank Client", "tritonclient http binary", "tritonclient grpc"])
def test_another_ranking_than_the_expected_is_noticed(target: Target, name: str):
    client = next(client for client in real_clients() if client.name == name)
    other = dataclasses.replace(target, expected=target.expected[::-1])
    wrong = [outcome.what for outcome in client.ask(other) if outcome.problem and "another ranking" in outcome.problem]
    assert set(wrong) in ({"predict", "v1", "v2"}, {"predict"}, {"v2"})


@pytest.fixture
def curl() -> list[str]:
    try:
        return [tool("curl"), "--silent", "--show-error", "--max-time", "5"]
    except AbsentError as absent:
        pytest.skip(str(absent))


@pytest.mark.parametrize("path", ["/predict", "/health"])
def test_http_2_without_upgrade_is_refused_and_the_predictor_goes_on(predictor: Predictor, curl: list[str], path: str):
    logged = predictor.output.read_text()
    command = [*curl, "--http2-prior-knowledge", predictor.url + path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode not in (0, 28), "answered, or not at all"
    assert predictor.predict(3, [5]).status_code == 200
    assert '"level": "error"' not in predictor.output.read_text()[len(logged) :]


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(predictor: Predictor, curl: list[str], tmp_path: Path):
    body = tmp_path / "body"
    body.write_bytes(b" " * 5_000_000)
    command = [*curl, "--header", "Content-Type: application/json", "--header", "Expect: 100-continue"]
    command += ["--data-binary", f"@{body}", "--output", "/dev/null", "--write-out", "%{http_code} %{size_upload}"]
    assert subprocess.check_output([*command, f"{predictor.url}/predict"], text=True) == "413 0"
