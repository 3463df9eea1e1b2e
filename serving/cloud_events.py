"""CloudEvents 1.0 over HTTP: a request in an event, structured or binary, and its answer in another."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from kserve.utils.utils import create_response_cloudevent

from serving.requests import invalid, read, refusal

STRUCTURED = b"application/cloudevents+json"
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_NONE = msgspec.Raw()
Headers = Iterable[tuple[bytes, bytes]]


class _Event(msgspec.Struct):
    """The attributes; others are extensions, which are nothing to us."""

    specversion: Literal["1.0", "0.3"]
    id: _Text
    source: _Text
    type: _Text
    subject: str | None = None
    time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: msgspec.Raw = _NONE
    data_base64: str | None = None


_DECODER = msgspec.json.Decoder(_Event)


@dataclass(frozen=True)
class Envelope:
    """What an event was besides its data; the answer gets one of the same form."""

    attributes: dict[str, str]
    binary: bool

    def around(self, answer: Any, *, model_name: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body of the answer as KServe makes them (`CE_SOURCE`, `CE_TYPE` and `CE_MERGE` are its)."""
        headers, body = create_response_cloudevent(model_name, answer, dict(self.attributes), self.binary)
        headers["content-type"] = "application/json" if self.binary else STRUCTURED.decode()
        return [(name.encode(), str(value).encode()) for name, value in headers.items()], bytes(body)


def opened(headers: Headers, kind: bytes, body: bytes | bytearray) -> tuple[bytes | bytearray, Envelope | None]:
    """The data of an event with its envelope, or the body of what is none.

    Raises:
        RefusedError: an attribute is wrong or missing, or the data are not JSON.
    """
    if kind == STRUCTURED:
        event = read(_DECODER, body)
        return _data(event), Envelope(_attributes(event), binary=False)
    given = {name[3:].decode("latin-1"): value.decode("latin-1") for name, value in headers if name.startswith(b"ce-")}
    if "specversion" not in given:  # KServe's own agent sends ce-id with requests that are no events
        return body, None
    given.pop("data", None)
    try:
        event = msgspec.convert(given, _Event)
    except msgspec.ValidationError as error:
        refused = refusal(str(error))
        raise invalid(f"ce-{refused.field}", refused.reason) from None
    return body, Envelope(_attributes(event), binary=True)


def _data(event: _Event) -> bytes:
    kind = (event.datacontenttype or "application/json").split(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise invalid("datacontenttype", f"must be application/json, not {kind[:100]}")
    if event.data != _NONE:
        return bytes(event.data)
    if event.data_base64 is None:
        raise invalid("data", "the event has none")
    try:
        return base64.b64decode(event.data_base64, validate=True)
    except ValueError:
        raise invalid("data_base64", "is no base64") from None


def _attributes(event: _Event) -> dict[str, str]:
    names = ("specversion", "id", "source", "type", "subject", "dataschema")
    found = {name: value for name in names if (value := getattr(event, name)) is not None}
    return found | {"time": "" if event.time is None else event.time.isoformat()}
