"""How the predictor is started: names and addresses that YAML reads as something else, IPv6, and wrong settings."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc as triton_grpc
from conftest import ROOT, running
from test_connections import JSON, RANKING
from wire import ask, request

from serving.__main__ import _parser, configured

SCALARS = (
    "123", "1.0", "1e3", "0x1F", "017", "1_000", "true", "off", "no", "yes", "null", "~", "2024-01-01", "12:30:45",
    ".inf", "[a]", "{a: b}", "a: b", "- a", "::", "&a", "*a", "!x", "#x", "%x", "@x", "'x", "=",
)  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS)
def test_options_are_the_text_that_they_are(scalar: str):
    options = ("--model-name", "--model-dir", "--snapshot", "--host", "--token-file", "--log-dir", "--spool-dir")
    serving = configured(_parser().parse_args([f"{option}={scalar}" for option in options])).serving
    assert serving.model_name == serving.model == serving.snapshot == serving.host == serving.log.directory == scalar
    assert serving.token_file == serving.log.spool_directory == Path(scalar)


def test_an_empty_option_is_none_and_options_win(monkeypatch):
    monkeypatch.setenv("FEEDRANK__SERVING__MODEL_NAME", "first")
    arguments = ["--model-name", "second", "--token-file", "", "--snapshot", "", "--http-port", "0"]
    serving = configured(_parser().parse_args(arguments)).serving
    assert (serving.model_name, serving.token_file, serving.snapshot, serving.http_port) == ("second", None, None, 0)


@pytest.mark.parametrize("name", ["123", "off"])
def test_a_model_may_have_any_name(models, tmp_path, name: str):
    environment = {"LOG__DIRECTORY": str(tmp_path / "2024")}
    with running(tmp_path, models["v1.0.0"], "--model-name", name, environment=environment) as predictor:
        body = b'{"instances": [' + RANKING + b"]}"
        assert ask(predictor.http_port, request(f"/v1/models/{name}:predict", body, JSON)).status == 200
        assert predictor.http.get(f"/v1/models/{name}").json()["name"] == name
        assert predictor.http.get(f"/v2/models/{name}").json()["name"] == name
        assert triton_grpc.InferenceServerClient(f"127.0.0.1:{predictor.grpc_port}").is_model_ready(name)
        assert predictor.stop() == 0


@pytest.fixture
def _ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.usefixtures("_ipv6")
@pytest.mark.parametrize("host", ["::", "::0"])
def test_all_addresses_of_both_families(models, tmp_path, host: str):
    with running(tmp_path, models["v1.0.0"], "--host", host) as predictor:
        for address in ("127.0.0.1", "[::1]", "localhost"):
            url = f"http://{address}:{predictor.http_port}"
            assert httpx.get(f"{url}/health").status_code == 200
            assert httpx.post(f"{url}/admin/reload").status_code == 200, "from this machine, though as ::ffff:127.0.0.1"
            forwarded = httpx.post(f"{url}/admin/reload", headers={"x-forwarded-for": "::1"})
            assert forwarded.status_code == 403
            assert triton_grpc.InferenceServerClient(f"{address}:{predictor.grpc_port}").is_server_ready()
        assert predictor.stop() == 0


@pytest.mark.usefixtures("_ipv6")
def test_one_address_of_ipv6(models, tmp_path):
    with running(tmp_path, models["v1.0.0"], "--host", "::1", url_host="[::1]") as predictor:
        assert predictor.predict(1, [1]).status_code == 200
        assert triton_grpc.InferenceServerClient(f"[::1]:{predictor.grpc_port}").is_server_ready()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", predictor.http_port))


def refused(*options: str, **environment: str) -> str:
    wanted = {f"FEEDRANK__SERVING__{key}": value for key, value in environment.items()}
    command = [sys.executable, "-m", "serving", "--http-port", "0", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT, env=os.environ | wanted
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


def test_a_wrong_setting_is_one_sentence(tmp_path):
    assert "option: serving.http_port: http_port" in refused("--http-port", "99999")
    assert "FEEDRANK__SERVING__WORKERS: workers" in refused(WORKERS="many")
    assert "no.such.host.invalid" in refused("--host", "no.such.host.invalid")
    assert "serving.token_file: 2024" in refused("--token-file", "2024")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: " in refused("--host", "127.0.0.1", "--http-port", port)
