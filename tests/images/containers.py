"""Containers of the built images, run as a cluster does: read-only and as a user without a name."""

import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
USER = "65532:65532"


def docker(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False)


def why_not(image: str) -> str | None:
    """Why a container of the image can't be started; None if it can."""
    try:
        if docker("version").returncode:
            return "no Docker answers"
    except FileNotFoundError:
        return "there is no Docker"
    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    found = docker("image", "inspect", "--format", label, image)
    if found.returncode:
        return f"no image {image}; run `make images`"
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    head = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if found.stdout != head:
        return f"{image} is of commit {found.stdout.strip()}, not of {head.strip()}; run `make images`"
    return None


@dataclass
class Image:
    """An image, and how its containers are started."""

    name: str
    options: list[str] = field(default_factory=list)

    @property
    def tag(self) -> str:
        return f"feedrank-{self.name}:{VERSION}"

    def arguments(self, environment: Mapping[str, str] | None = None) -> list[str]:
        variables = [f"--env={key}={value}" for key, value in (environment or {}).items()]
        locked = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--user={USER}"]
        return [*locked, "--tmpfs=/tmp:mode=1777", *self.options, *variables, self.tag]

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """What a command that must succeed prints."""
        done = docker("run", "--rm", *self.arguments(environment), *command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, code: str, environment: Mapping[str, str] | None = None) -> str:
        entrypoint = Image(self.name, [*self.options, "--entrypoint=python"])
        return entrypoint.run("-W", "ignore", "-c", code, environment=environment)
