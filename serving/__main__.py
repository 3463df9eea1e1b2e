"""`python -m serving`: the predictor. Options override `config/serving_config.yaml`."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one request is too small to share; before numpy is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from feedrank.config import Config, load_config
from feedrank.errors import FeedrankError
from serving import json_logs, workers
from serving.worker_board import WorkerBoard

logger = logging.getLogger(__name__)

_INTERNAL = ("runtime_directory", "socket", "place")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    parser.add_argument("--model-dir", "--model", dest="model", help="a model folder, or models:/NAME@ALIAS")
    parser.add_argument("--snapshot", help="a snapshot folder or URI, used once it is newer than the model's own")
    parser.add_argument("--model-name", help="in the V1 and V2 paths")
    parser.add_argument("--host")
    parser.add_argument("--http-port", type=int, help="0 takes a free port")
    parser.add_argument("--grpc-port", type=int, help="0 for no gRPC")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--token-file")
    parser.add_argument("--log-dir", help="where the prediction log goes: a folder or a URI")
    parser.add_argument("--spool-dir", help="local folder for predictions on their way to the log")
    parser.add_argument("--runtime-directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--socket", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=int, help=argparse.SUPPRESS)
    return parser


def configured(arguments: argparse.Namespace) -> Config:
    """The configuration with the options laid over it.

    Raises:
        ConfigError: a file, an environment variable or an option is wrong.
    """
    keys = {"log_dir": "log.directory", "spool_dir": "log.spool_directory"}
    given = {
        f"serving.{keys.get(option, option)}": value
        for option, value in vars(arguments).items()
        if value not in (None, "") and option not in _INTERNAL
    }
    return load_config(overrides=given, source="option")


def serve(config: Config, *, runtime: Path, listener: socket.socket, place: int | None = None) -> None:
    """Runs one worker, the only one or that of a place in its set, until it is told to end.

    Raises:
        ConfigError: the token can't be read.
    """
    from serving.service import Service

    workers.allow_descriptors(config.serving.limits.max_connections)
    board = None if place is None else WorkerBoard(runtime / workers.BOARD, count=config.serving.workers)
    service = Service(config, runtime=runtime)
    service.start()  # loads in another process while this one imports KServe
    from serving.kserve_model import RankerModel
    from serving.server import RankerServer

    try:
        RankerServer(service, listener, board=board, place=place or 0).start([RankerModel(service)])
    finally:
        service.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(given)
    sys.argv = sys.argv[:1]  # KServe parses the command line when it is imported
    json_logs.configure()
    try:
        return _run(configured(arguments), arguments, given)
    except FeedrankError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(config: Config, arguments: argparse.Namespace, given: Sequence[str]) -> int:
    settings = config.serving
    if arguments.socket is not None:
        listener = socket.socket(fileno=arguments.socket)
        serve(config, runtime=arguments.runtime_directory, listener=listener, place=arguments.place)
        return 0
    with contextlib.ExitStack() as stack:
        runtime = stack.enter_context(workers.runtime_directory())
        try:
            listener = workers.bind(settings.host, settings.http_port)
        except OSError as error:
            print(f"error: {settings.host}:{settings.http_port}: {error}", file=sys.stderr)
            return 2
        if settings.workers == 1:
            serve(config, runtime=runtime, listener=listener)
            return 0
        listener.listen(2048)
        command = workers.worker_command(given, runtime)
        board = WorkerBoard(runtime / workers.BOARD, count=settings.workers)
        drain = settings.drain.delay_seconds + 2 * settings.drain.timeout_seconds
        workers_set = workers.WorkerSet(
            command, count=settings.workers, board=board, listener=listener, drain_seconds=drain
        )
        return workers_set.run()


if __name__ == "__main__":
    sys.exit(main())
