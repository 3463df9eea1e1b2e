"""The client's request: ids and times of any Python, NumPy or pandas type as exact JSON; anything else is refused."""

import numbers
import operator
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, SupportsIndex, get_args

import numpy as np

from feedrank.errors import PredictionError

Device = Literal["mobile", "desktop", "tablet"]
EXACT_FLOATS = 2**53
"""Above, a float can't hold every whole number."""


def request_body(
    user_id: SupportsIndex,
    item_ids: Iterable[SupportsIndex],
    *,
    device: Device | None,
    timestamp: datetime | np.datetime64 | None,
) -> dict[str, Any]:
    """The JSON of a request.

    Raises:
        PredictionError: an argument can't be sent; it names the argument.
    """
    body: dict[str, Any] = {"user_id": _whole("user_id", user_id), "item_ids": _item_ids(item_ids)}
    context: dict[str, Any] = {}
    if device is not None:
        if not isinstance(device, str) or device not in get_args(Device):
            raise _wrong("device", device, f"one of {', '.join(get_args(Device))}")
        context["device"] = device
    if timestamp is not None:
        context["timestamp"] = _utc(timestamp).isoformat()
    return body | {"context": context} if context else body


def _item_ids(values: Any) -> list[int]:
    listed = values.to_pylist() if hasattr(values, "to_pylist") else values  # Arrow's scalars are no numbers
    if isinstance(listed, (str, bytes, bytearray, Mapping)) or not isinstance(listed, Iterable) or _has_no_rows(listed):
        raise _wrong("item_ids", values, "a list of whole numbers")
    return [_whole(f"item_ids[{place}]", value) for place, value in enumerate(listed)]


def _has_no_rows(values: Iterable[object]) -> bool:
    """Whether it is a single number in the guise of an array."""
    return getattr(values, "ndim", 1) == 0


def _whole(name: str, value: Any) -> int:
    """The exact value of any kind of whole number."""
    if not isinstance(value, (bool, np.bool_, np.timedelta64)):
        if hasattr(value, "__index__"):
            try:
                return operator.index(value)
            except TypeError:  # an array of several numbers
                pass
        elif isinstance(value, numbers.Number) and _is_whole(value):
            return int(value)  # type: ignore[call-overload]
    raise _wrong(name, value, "a whole number")


def _is_whole(value: Any) -> bool:
    """Whether a number without `__index__`, such as a float or Decimal, is whole and exact."""
    try:
        exact = not isinstance(value, (float, np.floating)) or abs(float(value)) <= EXACT_FLOATS
        return exact and bool(value == int(value))
    except (ValueError, ArithmeticError, TypeError):  # NaN, infinity, a complex number
        return False


def _utc(timestamp: Any) -> datetime:
    moment = timestamp.astype("datetime64[us]").item() if isinstance(timestamp, np.datetime64) else timestamp
    if not isinstance(moment, datetime):
        raise _wrong("timestamp", timestamp, "a datetime with a time zone")
    if moment is not timestamp:
        moment = moment.replace(tzinfo=UTC)
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise PredictionError(
            f"timestamp: {timestamp} has no time zone; pass an aware datetime, such as datetime.now(UTC)",
            field="timestamp",
        )
    utc = moment.astimezone(UTC)
    return datetime.combine(utc.date(), utc.time(), UTC)  # without the nanoseconds of pandas


def _wrong(name: str, value: object, expected: str) -> PredictionError:
    return PredictionError(f"{name}: expected {expected}, got {type(value).__name__} {value!r:.80}", field=name)
