"""Clients in other languages: their sources are in `programs/`; what they are compiled to is cached."""

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .script import Exchange, Reply, Sender

PROGRAMS = Path(__file__).parent / "programs"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "feedrank-clients"
NPM_PACKAGES = ("axios@1.7.9", "@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.1")
BUILD_SECONDS = 300
RUN_SECONDS = 60
JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")  # a short life


class AbsentError(Exception):
    """The client can't run on this machine; says why in one sentence."""


@dataclass(frozen=True)
class Program:
    """Sends the "METHOD PATH BODY" lines of its input and prints "STATUS BODY" lines, with tabs between the parts."""

    command: tuple[str, ...]
    """Mode and URL are appended."""
    environment: tuple[tuple[str, str], ...] = ()


def sender(program: Callable[[], Program], mode: str) -> Sender:
    """Sends by a program, which is built when it is first used."""

    def send(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
        found = program()
        given = "".join(f"{e.method}\t{e.path}\t{e.body.decode()}\n" for e in exchanges)
        done = subprocess.run(
            [*found.command, mode, url],
            input=given.encode(),
            capture_output=True,
            env=os.environ | dict(found.environment),
            timeout=RUN_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"exit code {done.returncode}: {done.stderr.decode()[-600:]}")
        replies = (line.partition(b"\t") for line in done.stdout.splitlines())
        return [Reply(int(status), body) for status, _, body in replies]

    return send


def tool(name: str) -> str:
    """The path of a program.

    Raises:
        AbsentError: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise AbsentError(f"{name} is not installed.")
    return path


def perl() -> Program:
    """HTTP::Tiny comes with Perl."""
    return Program((tool("perl"), str(PROGRAMS / "rank.pl")))


def node() -> Program:
    """fetch (undici) and node:http come with Node."""
    command = tool("node")
    major = subprocess.run([command, "-p", "process.versions.node"], capture_output=True, text=True, check=True).stdout
    if int(major.split(".")[0]) < 18:
        raise AbsentError(f"node {major.strip()} has no fetch: 18 or later has.")
    return Program((command, str(PROGRAMS / "rank.mjs")))


@functools.cache
def node_modules() -> Path:
    """The folder of the packages from the npm registry."""
    npm = tool("npm")

    def install(folder: Path) -> None:
        _fetch([npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *NPM_PACKAGES], "axios and grpc-js")

    return _built("npm", " ".join(NPM_PACKAGES), install)


def node_with_axios() -> Program:
    """The same with axios."""
    return Program(node().command, (("FEEDRANK_NODE_MODULES", str(node_modules())),))


@functools.cache
def go() -> Program:
    """net/http."""
    source = PROGRAMS / "rank.go"
    compiler = tool("go")

    def build(folder: Path) -> None:
        _compile([compiler, "build", "-o", str(folder / "rank"), str(source)])

    return Program((str(_built("go", source.read_text(), build) / "rank"),))


@functools.cache
def java() -> Program:
    """java.net.http and HttpURLConnection."""
    return _java("Rank", "")


@functools.cache
def java_with_libraries() -> Program:
    """OkHttp and Apache HttpClient 5, by Maven."""
    pom, maven = PROGRAMS / "pom.xml", tool("mvn")

    def copy(folder: Path) -> None:
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
        _fetch(command, "OkHttp and Apache HttpClient")

    return _java("RankWithLibraries", f"{_built('jars', pom.read_text(), copy)}/*")


def _java(name: str, libraries: str) -> Program:
    source = PROGRAMS / f"{name}.java"
    runtime, compiler = tool("java"), tool("javac")

    def build(folder: Path) -> None:
        _compile([compiler, "--release", "17", "-cp", libraries, "-d", str(folder), str(source)])

    classes = _built(name, source.read_text() + libraries, build)
    return Program((runtime, *JVM, "-cp", f"{classes}{os.pathsep}{libraries}", name))


def _built(name: str, content: str, build: Callable[[Path], None]) -> Path:
    """The folder that `build` filled from this content, now or earlier."""
    folder = CACHE / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
            fresh = Path(temporary) / "built"
            fresh.mkdir()
            build(fresh)
            fresh.rename(folder)
    return folder


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-1000:]}")


def _fetch(command: list[str], what: str) -> None:
    try:
        subprocess.run(command, capture_output=True, timeout=BUILD_SECONDS, check=True)
    except subprocess.SubprocessError as error:
        raise AbsentError(f"{what} could not be fetched: {Path(command[0]).name} failed.") from error
