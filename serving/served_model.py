"""Turns a model folder into a file that predictors map into memory.

A process of its own does so (`build.py`): loading a model costs a serving process almost nothing, and several of
them share the arrays. The file holds a
pickled `ServedModel` whose arrays lie outside the pickle: `length, count, (size, …), pickle`, then the aligned arrays.
It is written and read by the same installation, in a folder that only its user can enter.
"""

import json
import mmap
import os
import pickle
import struct
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from feedrank.features.snapshot import load_snapshot
from feedrank.model.bundle import load_bundle
from feedrank.scoring import Scorer

ALIGNMENT = 4096


@dataclass(frozen=True)
class ServedModel:
    """A model ready to answer, and what `/health` and `/config` say of it."""

    scorer: Scorer
    version: str
    model_type: str
    metadata: dict[str, Any]
    model_config: dict[str, Any]
    feature_config: dict[str, Any]
    snapshot_cutoff: datetime
    version_json: bytes
    """The version as a JSON string."""


def build(bundle_directory: Path, snapshot_directory: Path | None) -> ServedModel:
    """Checks a bundle, and lays it out for serving with the later of its own and the given snapshot.

    Raises:
        FeedrankError: the bundle or the snapshot can't be used.
    """
    bundle = load_bundle(bundle_directory)
    snapshot = bundle.snapshot
    if snapshot_directory is not None:
        published = load_snapshot(snapshot_directory)
        snapshot = max(snapshot, bundle.understood(published, snapshot_directory), key=lambda known: known.info.cutoff)
    return ServedModel(
        scorer=Scorer.build(bundle, snapshot),
        version=bundle.metadata.model_version,
        model_type=bundle.config.model_type,
        metadata=bundle.metadata.model_dump(mode="json"),
        model_config=bundle.config.model_dump(mode="json"),
        feature_config=snapshot.feed.model_dump(mode="json"),
        snapshot_cutoff=snapshot.info.cutoff,
        version_json=json.dumps(bundle.metadata.model_version).encode(),
    )


def write(model: ServedModel, path: Path) -> None:
    """Writes the file, all or nothing. It need not survive a crash of the machine, so it is not synced."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(model, protocol=5, buffer_callback=buffers.append)
    raws = [buffer.raw() for buffer in buffers]
    header = struct.pack(f"<{2 + len(raws)}q", len(pickled), len(raws), *(len(raw) for raw in raws))
    fresh = path.with_suffix(f".new-{os.getpid()}")
    with fresh.open("wb") as file:
        file.write(header + pickled)
        for raw in raws:
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            file.write(raw)
    fresh.replace(path)


def read(path: Path) -> ServedModel:
    """Maps the file; the arrays are read-only and shared with every process that does so."""
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    pickle_size, count = struct.unpack_from("<2q", view)
    sizes = struct.unpack_from(f"<{count}q", view, 16)
    start = 16 + 8 * count
    pickled = view[start : start + pickle_size]
    buffers, place = [], start + pickle_size
    for size in sizes:
        place += -place % ALIGNMENT
        buffers.append(view[place : place + size])
        place += size
    # Touches every page now, outside the interpreter lock, so that no request has to.
    np.frombuffer(view, dtype=np.uint8)[::ALIGNMENT].max()
    return pickle.loads(pickled, buffers=buffers)
