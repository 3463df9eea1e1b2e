"""What a client may ask: decoded and checked in one pass, refused with the field and the reason."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

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


class RefusedError(Exception):
    """A request that gets no ranking."""

    def __init__(self, reason: str, *, status: int, kind: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.status, self.kind, self.field = reason, status, kind, field


_DECODER = msgspec.json.Decoder(RankRequest)
_UNKNOWN_FIELD = re.compile(r"contains unknown field `(.*?)`", re.DOTALL)
_MISSING_FIELD = re.compile(r"missing required field `(.*?)`")


def decode(body: bytes | bytearray) -> RankRequest:
    """Reads the JSON of one request.

    Raises:
        RefusedError: 422 with the field and the reason.
    """
    try:
        request = _DECODER.decode(body)
    except msgspec.DecodeError as error:
        raise _invalid(str(error)) from None
    return checked(request)


def convert(value: object) -> RankRequest:
    """The same from JSON that is already parsed (V1).

    Raises:
        RefusedError: 422 with the field and the reason.
    """
    try:
        request = msgspec.convert(value, RankRequest)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
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


def _invalid(message: str) -> RefusedError:
    """From msgspec's message, which ends with the path of the value: 'Expected `int`, got `str` - at `$.user_id`'."""
    reason, _, path = message.partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    named = _UNKNOWN_FIELD.search(reason) or _MISSING_FIELD.search(reason)
    if named is not None:
        field = f"{field}.{named[1]}" if field else named[1]
    return invalid(field or "body", reason)
