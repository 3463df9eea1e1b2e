"""Spool files with damage that no crash explains: what can be read is logged, and the file is never deleted."""

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from test_prediction_log import compactor_of, ranking, spooled

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.prediction_log import read_log, spool
from feedrank.prediction_log.buffers import format_of
from feedrank.prediction_log.commits import write
from feedrank.prediction_log.spool_files import END_MARK, read_file


def messages(file: Path) -> list[int]:
    """Where the batches of a file begin."""
    data = file.read_bytes()
    place, found = len(format_of(Feed()).schema.serialize()), []
    while data[place:] != END_MARK:
        found.append(place)
        source = pa.BufferReader(data[place:])
        pa.ipc.read_message(source)
        place += source.tell()
    return found


def longer_metadata(data: bytearray, batch: int) -> None:
    struct.pack_into("<i", data, batch + 4, struct.unpack_from("<i", data, batch + 4)[0] + 100_000)


def negative_length(data: bytearray, batch: int) -> None:
    struct.pack_into("<i", data, batch + 4, -5)


def no_start(data: bytearray, batch: int) -> None:
    data[batch : batch + 4] = b"\x17\x42\x00\x00"


def zeros(data: bytearray, batch: int) -> None:
    data[batch : batch + 64] = bytes(64)


def noise(data: bytearray, batch: int) -> None:
    data[batch + 8 : batch + 200] = bytes((37 * i + 11) % 256 for i in range(192))


def missing_bytes(data: bytearray, batch: int) -> None:
    del data[batch + 100 : batch + 133]


KINDS = (longer_metadata, negative_length, no_start, zeros, noise, missing_bytes)


def damaged(tmp_path: Path, how: Callable[[bytearray, int], None], *, number: int, boot: str = "boot") -> Path:
    file = spooled(tmp_path, [ranking(1)], [ranking(2)], [ranking(3)], boot=boot)
    data = bytearray(file.read_bytes())
    how(data, messages(file)[number])
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_damage_costs_one_batch_and_the_file_is_kept_aside(tmp_path, how, number):
    file = damaged(tmp_path, how, number=number)
    content = file.read_bytes()
    assert str(file) in write([file], tmp_path / "log").damaged[file]
    assert set(read_log(tmp_path / "log")[schema.USER_ID].to_pylist()) == {1, 2, 3} - {number + 1}
    assert (file.exists(), file.with_suffix(".damaged").read_bytes()) == (False, content)


def test_a_crash_between_and_within_messages_is_no_damage_but_holes_before_its_end_are(tmp_path):
    file = spooled(tmp_path, [ranking(1)], [ranking(2)], [ranking(3)])
    whole, starts = file.read_bytes(), messages(file)
    for tail in (b"", bytes(5000), whole[starts[1] : starts[1] + 150], END_MARK[:5]):
        file.write_bytes(whole[: starts[1]] + tail)
        contents = read_file(file)
        assert (len(contents.batches), contents.damage) == (1, None)
    file.write_bytes(whole[: starts[1]] + bytes(starts[2] - starts[1]) + whole[starts[2] : -len(END_MARK)])
    contents = read_file(file)
    assert len(contents.batches) == 2
    assert f"at byte {starts[1]}" in (contents.damage or "")


def test_whole_messages_with_wrong_content_do_not_block_the_log(tmp_path):
    file = spooled(tmp_path, [ranking(1)])
    other = pa.record_batch({"x": [1, 2]})
    file.write_bytes(other.schema.serialize().to_pybytes() + other.serialize().to_pybytes() + END_MARK)
    good = spooled(tmp_path, [ranking(2)], boot="other")
    compactor = compactor_of(tmp_path)
    assert compactor.round(dead_too=True)
    assert str(file) in (compactor.progress.damage or "")
    assert file.with_suffix(".damaged").exists()
    assert not good.exists()
    assert set(read_log(tmp_path / "log")[schema.USER_ID].to_pylist()) == {2}


def test_a_disk_error_keeps_the_file_aside_and_another_error_tries_again(tmp_path, monkeypatch):
    file = spooled(tmp_path, [ranking(1)])
    log = tmp_path / "log"

    def failing(number: int) -> Callable[[Path], bytes]:
        def read_bytes(_: Path) -> bytes:
            raise OSError(number, os.strerror(number))

        return read_bytes

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing(errno.EMFILE))
        with pytest.raises(OSError, match="open files"):
            write([file], log)
        patch.setattr(Path, "read_bytes", failing(errno.EIO))
        assert "Input/output error" in write([file], log).damaged[file]
    aside = file.with_suffix(".damaged")
    aside.rename(file)  # as the runbook says, once the disk is well
    assert not write([file], log).damaged
    assert set(read_log(tmp_path / "log")[schema.USER_ID].to_pylist()) == {1}


def test_files_kept_aside_are_counted_but_are_neither_waiting_nor_converted(tmp_path):
    file = damaged(tmp_path, no_start, number=1, boot="dead")
    compactor = compactor_of(tmp_path)
    for _ in range(2):
        assert compactor.round(dead_too=True)
        assert spool.measure(tmp_path / "spool") == spool.Measure(bytes=0, oldest=None, damaged=1)
    assert compactor.progress.files == 1
    file.with_suffix(".damaged").unlink()
    assert compactor.round(dead_too=True)
    assert not list((tmp_path / "spool").iterdir())
