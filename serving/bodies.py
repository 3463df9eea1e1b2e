"""What a request says about its body (media type, charset, content coding), and the body without its coding."""

import zlib
from collections.abc import Iterable

from serving.requests import RefusedError, invalid

JSON = b"application/json"
CODINGS = b"gzip, deflate"
"""The value of Accept-Encoding in an answer that refuses another coding."""
_UTF_8 = {b"utf-8", b"utf8", b"us-ascii", b"ascii"}
_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""zlib's `wbits` of each coding that is read."""
_MAX_MEMBERS = 100
"""A gzip body may be several, one after the other; each costs a copy of what follows it."""

Headers = Iterable[tuple[bytes, bytes]]


def described(headers: Headers) -> tuple[bytes, bytes]:
    """Content-Type and Content-Encoding, empty where absent; in one pass, for every ranking asks."""
    content_type = coding = b""
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name == b"content-encoding":
            coding = coding + b"," + value if coding else value
    return content_type, coding


def media_type(content_type: bytes, *, allowed: tuple[bytes, ...] = (JSON,)) -> bytes:
    """The media type in lower case; none means JSON.

    Raises:
        RefusedError: 415 for another than the allowed, or for a charset other than UTF-8.
    """
    kind, *parameters = (part.strip() for part in content_type.lower().split(b";"))
    if kind and kind not in allowed:
        names = " or ".join(name.decode() for name in allowed)
        raise _unsupported(f"send Content-Type: {names}, not {_shown(kind)}")
    for parameter in parameters:
        key, _, value = parameter.partition(b"=")
        charset = value.strip().strip(b'"')
        if key.strip() == b"charset" and charset not in _UTF_8:
            raise _unsupported(f"send the body in UTF-8; charset {_shown(charset)} is not read")
    return kind or JSON


def decoded(body: bytes | bytearray, coding: bytes, *, limit: int) -> bytes | bytearray:
    """The body without its content coding; never more than `limit` bytes are held.

    Raises:
        RefusedError: 413 if it is larger, 415 for another coding, 422 if it is damaged.
    """
    codings = [name for part in coding.lower().split(b",") if (name := part.strip()) not in (b"", b"identity")]
    if not codings:
        return body
    if len(codings) > 1 or codings[0] not in _WINDOW:
        reason = f"Content-Encoding {_shown(coding)} is not read; send gzip, deflate or none"
        raise RefusedError(reason, status=415, kind="content_encoding")
    try:
        return _inflated(body, _WINDOW[codings[0]], limit)
    except zlib.error:
        raise invalid("body", f"is no whole {_shown(codings[0])} data, as Content-Encoding says") from None


def too_large(limit: int) -> RefusedError:
    """The 413 of a body."""
    return RefusedError(f"larger than {limit} bytes (limits.max_body_bytes)", status=413, kind="too_large")


def _inflated(body: bytes | bytearray, window: int, limit: int) -> bytes:
    parts, room, rest = [], limit, bytes(body)
    for _ in range(_MAX_MEMBERS):
        stream = zlib.decompressobj(wbits=window)
        parts.append(stream.decompress(rest, room + 1))
        room -= len(parts[-1])
        if room < 0:
            raise too_large(limit)
        if not stream.eof:
            raise zlib.error("truncated")
        rest = stream.unused_data
        if not rest:
            return b"".join(parts)
    raise zlib.error("too many members")


def _unsupported(reason: str) -> RefusedError:
    return RefusedError(reason, status=415, kind="content_type")


def _shown(value: bytes) -> str:
    return value.decode("latin-1")[:100]
