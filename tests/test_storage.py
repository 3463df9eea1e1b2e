"""Safe writing: readers meet the old or the new output, never a part of one, however the writer ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feedrank.errors import StorageError
from feedrank.storage import exclusive, new_directory, new_file, recover, write_text

DEADLINE_SECONDS = 30

HALF_WRITTEN = """
import sys, time
from pathlib import Path
from feedrank.storage import new_directory, new_file
path = Path(sys.argv[2])
with {"directory": new_directory, "file": new_file}[sys.argv[1]](path) as fresh:
    (fresh / "a" if sys.argv[1] == "directory" else fresh).write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def content(directory: Path) -> dict[str, str]:
    return {str(f.relative_to(directory)): f.read_text() for f in sorted(directory.rglob("*")) if f.is_file()}


def write(path: Path, text: str) -> None:
    with new_directory(path) as fresh:
        (fresh / "a").write_text(text)


def writer_in_the_middle(kind: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HALF_WRITTEN, kind, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE_SECONDS)


def test_a_new_directory_appears_whole(tmp_path):
    path = tmp_path / "deep" / "out"
    with new_directory(path) as fresh:
        (fresh / "a").write_text("1")
        assert not path.exists()
    assert content(path) == {"a": "1"}


def test_it_replaces_the_earlier_one_wholly(tmp_path):
    path = tmp_path / "out"
    with new_directory(path) as fresh:
        (fresh / "old").write_text("1")
    write(path, "2")
    assert content(path) == {"a": "2"}
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_exception_leaves_the_earlier_directory(tmp_path, error):
    path = tmp_path / "out"
    write(path, "1")
    with pytest.raises(type(error) if isinstance(error, OSError) else error), new_directory(path) as fresh:
        (fresh / "a").write_text("half")
        raise error
    assert content(path) == {"a": "1"}
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["out"]


def test_a_kill_in_the_middle_leaves_the_earlier_directory_and_a_rerun_works(tmp_path):
    path = tmp_path / "out"
    write(path, "1")
    kill(writer_in_the_middle("directory", path))
    assert content(path) == {"a": "1"}
    write(path, "2")
    assert content(path) == {"a": "2"}
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["out"]


def test_a_kill_between_the_two_renames_is_recovered(tmp_path):
    path = tmp_path / "out"
    write(path, "1")
    path.rename(tmp_path / ".out.old")
    recover(path)
    assert content(path) == {"a": "1"}


def test_a_writer_recovers_before_it_writes(tmp_path):
    path = tmp_path / "out"
    write(path, "1")
    path.rename(tmp_path / ".out.old")
    with pytest.raises(ValueError, match="stop"), new_directory(path):
        raise ValueError("stop")
    assert content(path) == {"a": "1"}


def test_recovering_leaves_a_finished_directory_alone(tmp_path):
    path = tmp_path / "out"
    write(path, "2")
    (tmp_path / ".out.old").mkdir()
    recover(path)
    assert content(path) == {"a": "2"}


def test_a_second_writer_is_refused_with_the_path_at_once(tmp_path):
    path = tmp_path / "out"
    process = writer_in_the_middle("directory", path)
    try:
        started = time.monotonic()
        with pytest.raises(StorageError, match=str(path)), new_directory(path):
            pass
        assert time.monotonic() - started < 5
    finally:
        kill(process)
    write(path, "2")
    assert content(path) == {"a": "2"}


def test_writers_of_two_paths_do_not_meet(tmp_path):
    with exclusive(tmp_path / "one"), exclusive(tmp_path / "two"):
        pass


def test_a_new_file_appears_whole_and_replaces_the_earlier_one(tmp_path):
    path = tmp_path / "deep" / "file"
    write_text(path, "1")
    with new_file(path) as fresh:
        fresh.write_text("2")
        assert path.read_text() == "1"
    assert path.read_text() == "2"
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "1")
    with pytest.raises(ValueError, match="stop"), new_file(path) as fresh:
        fresh.write_text("half")
        raise ValueError("stop")
    assert path.read_text() == "1"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_in_the_middle_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "1")
    kill(writer_in_the_middle("file", path))
    assert path.read_text() == "1"
    write_text(path, "2")
    assert path.read_text() == "2"
