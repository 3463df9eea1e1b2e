"""Casts of a whole column that say which cells failed instead of failing as a whole."""

import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feedrank.schema import TIMESTAMP_TYPE

Places = npt.NDArray[np.int64]
Column: TypeAlias = Any
"""A pyarrow Array or ChunkedArray; pyarrow ships no types."""

_WHOLE_NUMBER = r"^\s*([+-]?\d{1,18})(\.0*)?\s*$"
_TRUTH = {"true": "1", "false": "0"}


def _nowhere() -> Places:
    return np.array([], dtype=np.int64)


@dataclass(frozen=True)
class Cast:
    """A column of our type; the cells at `bad` couldn't be cast and have no meaning."""

    name: str
    values: Column
    raw: Column | None = None
    bad: Places = field(default_factory=_nowhere)
    expected: str = "a value"

    def reason(self, place: int) -> str:
        """Why the cell is refused."""
        cell = None if self.raw is None else self.raw[place].as_py()
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return f"{self.name} is missing"
        return f"{self.name} {str(cell)[:80]!r} is not {self.expected}"


def _is_text(raw: Column) -> bool:
    return pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type)


def _plain(raw: Column) -> Column:
    return raw.cast(raw.type.value_type) if pa.types.is_dictionary(raw.type) else raw


def _bad_where(mask: Column) -> Places:
    return np.flatnonzero(pc.fill_null(mask, True).to_numpy(zero_copy_only=False))


def _checked(name: str, values: Column, raw: Column, *, expected: str, empty: object) -> Cast:
    """A null in `values` is a cell that couldn't be cast."""
    if not values.null_count:
        return Cast(name, values)
    return Cast(
        name, pc.fill_null(values, pa.scalar(empty, values.type)), raw, _bad_where(pc.is_null(values)), expected
    )


def cast_text(name: str, raw: Column) -> Cast:
    """Any type to text; nulls are refused."""
    return _checked(name, _plain(raw).cast(pa.string()), raw, expected="text", empty="")


def cast_integer(name: str, raw: Column, *, kind: pa.DataType) -> Cast:
    """Whole numbers (also as text, truth value or float without a fraction) to `kind`."""
    info = np.iinfo(kind.to_pandas_dtype())
    values = _plain(raw)
    if _is_text(values):
        values = _integers_of_text(values)
    elif pa.types.is_floating(values.type):
        whole = pc.and_(pc.equal(values, pc.trunc(values)), pc.less_equal(pc.abs(values), 2.0**62))
        values = pc.if_else(pc.fill_null(whole, False), values, None).cast(pa.int64())
    elif pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_null(values.type):
        values = values.cast(pa.int64())
    else:
        values = pa.nulls(len(values), pa.int64())
    if kind != pa.int64():
        fits = pc.and_(pc.greater_equal(values, info.min), pc.less_equal(values, info.max))
        values = pc.if_else(fits, values, None)
    return _checked(
        name, values.cast(kind), raw, expected="a whole number (text ids need 'hash: true' in the mapping)", empty=0
    )


def _integers_of_text(text: Column) -> Column:
    try:
        return text.cast(pa.int64())
    except pa.ArrowInvalid:
        lower = pc.utf8_lower(text)
        for word, digit in _TRUTH.items():
            lower = pc.if_else(pc.equal(lower, word), digit, lower)
        matches = pc.fill_null(pc.match_substring_regex(lower, _WHOLE_NUMBER), False)
        digits = pc.replace_substring_regex(lower, _WHOLE_NUMBER, r"\1")
        digits = pc.replace_substring_regex(digits, r"^\+", "")
        return pc.if_else(matches, digits, None).cast(pa.int64())


def cast_number(name: str, raw: Column, *, factor: float = 1.0) -> Cast:
    """Numbers (also as text) to float64, times `factor`; NaN counts as missing."""
    values = _plain(raw)
    if _is_text(values):
        numbers = pd.to_numeric(values.to_pandas(), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        values = pa.array(numbers)
    elif pa.types.is_temporal(values.type):
        values = pa.nulls(len(values), pa.float64())
    else:
        values = values.cast(pa.float64())
    values = pc.if_else(pc.is_nan(values), None, values)
    if factor != 1.0:
        values = pc.multiply(values, factor)
    return _checked(name, values, raw, expected="a number", empty=0.0)


def cast_timestamp(name: str, raw: Column, *, unit_us: int | None) -> Cast:
    """To UTC microseconds: ISO 8601 text, timestamps (without a zone they are UTC), or numbers of `unit_us`."""
    values = _plain(raw)
    expected = "an ISO 8601 time (numbers need 'unit' in the mapping)"
    if unit_us is not None:
        number = cast_number(name, values)
        limit = np.iinfo(np.int64).max / unit_us
        inside = pc.less(pc.abs(number.values), limit)
        scaled = pc.multiply(pc.if_else(inside, number.values, 0.0), float(unit_us))
        whole = pc.round(scaled).cast(pa.int64()).cast(TIMESTAMP_TYPE)
        bad = np.union1d(number.bad, _bad_where(pc.invert(inside)))
        return Cast(name, whole, raw, bad, "a number of seconds since 1970 that fits")
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        times = values.cast(pa.timestamp("us", tz=getattr(values.type, "tz", None)), safe=False).cast(TIMESTAMP_TYPE)
    elif _is_text(values):
        parsed = pd.to_datetime(values.to_pandas(), format="ISO8601", utc=True, errors="coerce")
        times = pa.array(parsed).cast(TIMESTAMP_TYPE, safe=False)
    else:
        times = pa.nulls(len(values), TIMESTAMP_TYPE)
    return _checked(name, times, raw, expected=expected, empty=0)
