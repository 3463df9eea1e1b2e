"""When alerts begin and end, asked of Prometheus itself: `promtool test rules` on the chart's rules."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.chart import only, rendered

ENABLED = "--set=observability.prometheusRule.enabled=true"


def rules(*options: str) -> list[dict[str, Any]]:
    groups = only(rendered("default", ENABLED, *options), "PrometheusRule", "feedrank")["spec"]["groups"]
    return list(groups[0]["rules"])


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not here; it comes with Prometheus")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "feedrank", "rules": rules()}]}), encoding="utf-8")
    return path


def test_prometheus_takes_the_rules(rule_file: Path) -> None:
    promtool("check", "rules", str(rule_file))


def test_alerts_begin_with_their_cause_and_end_with_it(rule_file: Path) -> None:
    tests = Path(shutil.copy(Path(__file__).with_name("alerts_test.yaml"), rule_file.parent))
    promtool("test", "rules", str(tests))


def test_a_release_without_a_monitor_has_no_alerts_on_it() -> None:
    def named(*options: str) -> set[str]:
        return {rule["alert"] for rule in rules(*options)}

    assert named() - named("--set=monitor.enabled=false") == {"FeedrankMonitorOverdue", "FeedrankMonitorNotSeen"}
