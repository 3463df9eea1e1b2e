"""What a client may ask: decoded and checked in one pass, refused with the field and the reason."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec

MAX_ITEMS = 100
MAX_ID = 2**63 - 1
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)

Id = Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
Device = Literal["mobile", "desktop", "tablet"]


class Context(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """When and where the items are shown."""

    device: Device | None = None
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class RankRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Items to rank for a user."""

    user_id: Id
    item_ids: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=MAX_ITEMS)]
    context: Context | None = None


class Batch(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of V1's `:predict`. TensorFlow Serving's clients name a signature; there is one."""

    instances: list[RankRequest]
    signature_name: Literal["serving_default"] | None = None


class RefusedError(Exception):
    """A request that gets no ranking."""

    def __init__(self, reason: str, *, status: int, kind: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.status, self.kind, self.field = reason, status, kind, field


T = TypeVar("T")

_DECODER = msgspec.json.Decoder(RankRequest)
_BATCH_DECODER = msgspec.json.Decoder(Batch)
_UNKNOWN_FIELD = re.compile(r"contains unknown field `(.*)`", re.DOTALL)
_MISSING_FIELD = re.compile(r"missing required field `(.*?)`")
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_SHOWN = 100
"""Characters of a client's own text that an answer repeats."""


def decode(body: bytes | bytearray) -> RankRequest:
    """Reads the JSON of one request.

    Raises:
        RefusedError: 422 with the field and the reason.
    """
    request = read(_DECODER, body)
    # Valid requests have quotes around names and context's values only, and none between the items' brackets.
    start = body.find(b"[")
    if body.count(b'"', 0, start) + body.count(b'"', body.find(b"]", start)) != _quotes(request):
        refuse_repeated_names(body)
    return checked(request)


def decode_batch(body: bytes | bytearray, *, limit: int) -> list[RankRequest]:
    """Reads the JSON of V1's `:predict`.

    Raises:
        RefusedError: 422 with the instance's field and the reason.
    """
    try:
        batch = read(_BATCH_DECODER, body)
    except RefusedError as refused:
        if refused.reason.startswith("Expected `object`") and refused.field == "body":
            raise invalid("body", f'{refused.reason}; send {{"instances": [requests]}}') from None
        raise
    instances = batch.instances
    if not 1 <= len(instances) <= limit:
        raise invalid("instances", f"send 1 to {limit} requests (limits.max_instances), not {len(instances)}")
    named = 2 if batch.signature_name is None else 6
    if body.count(b'"') != named + sum(map(_quotes, instances)):
        refuse_repeated_names(body)
    for place, request in enumerate(instances):
        try:
            checked(request)
        except RefusedError as refused:
            raise invalid(f"instances[{place}].{refused.field}", refused.reason) from None
    return instances


def read(decoder: msgspec.json.Decoder[T], body: bytes | bytearray) -> T:
    """What the decoder makes of JSON.

    Raises:
        RefusedError: 422 with the field and the reason.
    """
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        refused = refusal(str(error))
        if refused.field == "body" and _LONE_SURROGATE.search(body):
            refused = invalid("body", "is no JSON of Unicode text: half of a surrogate pair stands alone")
        raise refused from None
    except UnicodeDecodeError:
        raise _not_utf_8() from None
    except RecursionError:
        raise invalid("body", "is nested too deeply") from None


def refuse_repeated_names(body: bytes | bytearray) -> None:
    """Raises a `RefusedError` if an object of the JSON has a name twice."""
    try:
        json.loads(body, object_pairs_hook=_without_repetition)
    except UnicodeDecodeError:
        raise _not_utf_8() from None
    except RecursionError:
        raise invalid("body", "is nested too deeply") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise invalid(name[:_SHOWN], "is in the object twice")
        seen.add(name)


def _quotes(request: RankRequest) -> int:
    """How many quotation marks the JSON of a request has if no name is repeated, and none is given as null."""
    context = request.context
    if context is None:
        return 4
    return 6 + 4 * (context.device is not None) + 4 * (context.timestamp is not None)


def convert(value: object) -> RankRequest:
    """A request from values that are parsed already (V2).

    Raises:
        RefusedError: 422 with the field and the reason.
    """
    try:
        request = msgspec.convert(value, RankRequest)
    except msgspec.ValidationError as error:
        raise refusal(str(error)) from None
    return checked(request)


def checked(request: RankRequest) -> RankRequest:
    """The request, if it also holds what its types can't say.

    Raises:
        RefusedError: 422 with the field and the reason.
    """
    if len(set(request.item_ids)) != len(request.item_ids):
        seen: set[int] = set()
        for place, item in enumerate(request.item_ids):
            if item in seen:
                raise invalid(f"item_ids[{place}]", f"{item} is in the list twice")
            seen.add(item)
    context = request.context
    if context is not None and context.timestamp is not None and not EARLIEST <= context.timestamp < LATEST:
        raise invalid("context.timestamp", f"must be from {EARLIEST:%Y-%m-%d} to before {LATEST:%Y-%m-%d}")
    return request


def invalid(field: str, reason: str) -> RefusedError:
    """The 422 of a wrong field."""
    return RefusedError(reason, status=422, kind="invalid", field=field)


def _not_utf_8() -> RefusedError:
    return invalid("body", "is not valid UTF-8")


def refusal(message: str) -> RefusedError:
    """The 422 of msgspec's message, which ends with the value's path: 'Expected `int`, got `str` - at `$.user_id`'."""
    reason, _, path = message.rpartition(" - at `$")
    field = path.rstrip("`").lstrip(".") if reason else ""
    reason = reason or message
    named = _UNKNOWN_FIELD.search(reason)
    if named is not None:
        name = named[1][:_SHOWN]
        return invalid(f"{field}.{name}" if field else name or "body", f"Object contains unknown field `{name}`")
    named = _MISSING_FIELD.search(reason)
    if named is not None:
        field = f"{field}.{named[1]}" if field else named[1]
    return invalid(field or "body", reason)
