"""A disk or a network that changes one bit of a Parquet file."""

from pathlib import Path


def flip_bit(file: Path, share: float) -> None:
    """Flips one bit of a file's pages, that share of the way through them; the footer has no checksum and is spared."""
    content = bytearray(file.read_bytes())
    first, last = len(b"PAR1"), len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    bit = int(share * 8 * (last - first))
    content[first + bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
