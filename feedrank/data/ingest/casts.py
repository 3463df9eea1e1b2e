"""Casts of a whole column that say which cells failed instead of failing as a whole."""

import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Places = npt.NDArray[np.int64]
Column: TypeAlias = Any
"""A pyarrow Array or ChunkedArray; pyarrow ships no types."""

USUAL_NULLS = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "\\N", "<NA>", "#N/A")
"""Words for an empty cell. In an id that is text each of them but the empty one may be a name."""
_WHOLE_NUMBER = r"^\s*([+-]?)0*(\d{1,19})(?:\.0*)?\s*$"
_LARGEST = {"": str(2**63 - 1), "-": str(2**63)}
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
    naive_times: int = 0
    """How many times named no zone."""
    from_file: bool = False
    """Whether the file has a value of it."""

    def reason(self, place: int) -> str:
        """Why the cell is refused."""
        cell = None if self.raw is None else self.raw[place].as_py()
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return f"{self.name} is missing"
        return f"{self.name} {str(cell)[:80]!r} is not {self.expected}"


def is_text(column: Column) -> bool:
    """Whether the cells are text."""
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)


def bad_where(mask: Column) -> Places:
    """The places where a truth column is true or empty."""
    return np.flatnonzero(pc.fill_null(mask, True).to_numpy(zero_copy_only=False))


def without(values: Column, *, usual: tuple[str, ...], own: tuple[str, ...]) -> Column:
    """The column with empty cells for NaN, for the usual words in a text and for a mapping's own words."""
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    words = (*usual, *own) if is_text(values) else own
    if not words or pa.types.is_null(values.type):
        return values
    found = pc.is_in(as_text(values), pa.array(words))
    return pc.if_else(found, None, values) if pc.any(found).as_py() else values


def as_text(values: Column) -> Column:
    """The cells as text."""
    return values if is_text(values) else values.cast(pa.string())


def filled(values: Column, fill: float | str) -> Column:
    """The column with `fill` in its empty cells; as text where it doesn't fit their type."""
    if not values.null_count:
        return values
    try:
        return pc.fill_null(values, pa.scalar(fill).cast(values.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pc.fill_null(as_text(values), str(fill))


def checked(name: str, values: Column, raw: Column, *, expected: str, empty: object) -> Cast:
    """A null in `values` is a cell that couldn't be cast."""
    if not values.null_count:
        return Cast(name, values)
    return Cast(name, pc.fill_null(values, pa.scalar(empty, values.type)), raw, bad_where(pc.is_null(values)), expected)


def cast_text(name: str, raw: Column) -> Cast:
    """Any type to text; nulls are refused."""
    return checked(name, as_text(raw), raw, expected="text", empty="")


def cast_integer(name: str, raw: Column, *, kind: pa.DataType) -> Cast:
    """Whole numbers (also as text, truth value or float without a fraction) to `kind`."""
    values = whole_numbers(raw)
    if kind != pa.int64():
        info = np.iinfo(kind.to_pandas_dtype())
        fits = pc.and_(pc.greater_equal(values, info.min), pc.less_equal(values, info.max))
        values = pc.if_else(fits, values, None)
    return checked(
        name,
        values.cast(kind),
        raw,
        expected="a whole number of 64 bits (text ids need 'hash: true' in the mapping)",
        empty=0,
    )


def whole_numbers(raw: Column) -> Column:
    """The cells as int64, without rounding any; null where a cell is no whole number of 64 bits."""
    types = pa.types
    if is_text(raw):
        return _integers_of_text(raw)
    if types.is_floating(raw.type):
        raw = raw.cast(pa.float64())
        whole = pc.and_(pc.equal(raw, pc.trunc(raw)), pc.less_equal(pc.abs(raw), 2.0**53))
        return pc.if_else(pc.fill_null(whole, False), raw, None).cast(pa.int64())
    if types.is_uint64(raw.type):
        return pc.if_else(pc.less_equal(raw, pa.scalar(2**63 - 1, pa.uint64())), raw, None).cast(pa.int64())
    if types.is_boolean(raw.type) or types.is_integer(raw.type) or types.is_null(raw.type):
        return raw.cast(pa.int64())
    return pa.nulls(len(raw), pa.int64())


def _integers_of_text(text: Column) -> Column:
    try:
        return text.cast(pa.int64())
    except pa.ArrowInvalid:
        lower = pc.utf8_lower(text)
        for word, digit in _TRUTH.items():
            lower = pc.if_else(pc.equal(lower, word), digit, lower)
        matches = pc.fill_null(pc.match_substring_regex(lower, _WHOLE_NUMBER), False)
        sign = pc.replace_substring_regex(lower, _WHOLE_NUMBER, r"\1")
        digits = pc.replace_substring_regex(lower, _WHOLE_NUMBER, r"\2")
        negative = pc.equal(sign, "-")
        largest = pc.if_else(negative, _LARGEST["-"], _LARGEST[""])
        fits = pc.or_(pc.less(pc.utf8_length(digits), 19), pc.less_equal(digits, largest))
        signed = pc.binary_join_element_wise(pc.if_else(negative, "-", ""), digits, "")
        return pc.if_else(pc.and_(matches, fits), signed, None).cast(pa.int64())


def cast_number(name: str, raw: Column, *, factor: float = 1.0) -> Cast:
    """Numbers (also as text) to float64, times `factor`; NaN counts as missing."""
    values = numbers(raw)
    if factor != 1.0:
        values = pc.multiply(values, factor)
    return checked(name, values, raw, expected="a number", empty=0.0)


def numbers(raw: Column) -> Column:
    """The cells as float64; null where a cell is no finite number."""
    if is_text(raw):
        try:
            values = raw.cast(pa.float64())
        except pa.ArrowInvalid:
            parsed = pd.to_numeric(raw.to_pandas(), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
            values = pa.array(parsed)
    elif pa.types.is_temporal(raw.type):
        values = pa.nulls(len(raw), pa.float64())
    else:
        values = raw.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(values), values, None)
