"""Times of any form to UTC microseconds: ISO 8601 text, timestamps, numbers of a unit; within a plausible range."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feedrank.config.ingest import NANOSECONDS, ColumnSource, IngestConfig
from feedrank.data.ingest.casts import Cast, Column, bad_where, is_text, numbers, whole_numbers
from feedrank.schema import TIMESTAMP_TYPE

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AWARE = r"(?:[Zz]|:\d\d(?:[.,]\d+)?\s*[+-]\d\d(?::?\d\d)?|T\d\d(?:\d\d)*\s*[+-]\d\d(?::?\d\d)?)$"
_ZONE_NAME = r"\s+([A-Za-z_]+/[A-Za-z0-9_+/-]+)$"


@dataclass(frozen=True)
class TimeForm:
    """How times are written, and between which they must be."""

    source: ColumnSource
    config: IngestConfig


def cast_timestamp(name: str, raw: Column, *, form: TimeForm, may_lack: bool = False) -> Cast:
    """To UTC microseconds; times without a zone are of the mapping's. Where they `may_lack`, an empty cell is null."""
    values, naive = _microseconds_of(raw, form)
    fits = _plausible(values, form)
    if may_lack:
        fits = pc.or_(fits, pc.is_null(raw))
    bad = bad_where(pc.invert(fits))
    if not len(bad):
        return Cast(name, values.cast(TIMESTAMP_TYPE), naive_times=naive)
    values = pc.if_else(fits, values, 0)
    return Cast(name, values.cast(TIMESTAMP_TYPE), raw, bad, _expected(raw, form), naive)


def _microseconds_of(raw: Column, form: TimeForm) -> tuple[Column, int]:
    """Microseconds since 1970, null for what is no such time; and how many times named no zone."""
    source = form.source
    if pa.types.is_timestamp(raw.type) or pa.types.is_date(raw.type):
        return _of_timestamps(raw, source.zone)
    if source.unit is not None:
        return _of_numbers(raw, form), 0
    if not is_text(raw):
        return pa.nulls(len(raw), pa.int64()), 0
    if source.format is not None:
        return _of_format(raw, source.format, source.zone)
    return _of_text(raw, source.zone)


def _plausible(values: Column, form: TimeForm) -> Column:
    earliest, latest = _microseconds(form.config.earliest), _microseconds(form.config.latest)
    return pc.fill_null(pc.and_(pc.greater_equal(values, earliest), pc.less(values, latest)), False)


def _microseconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def _expected(raw: Column, form: TimeForm) -> str:
    """What was wanted, and how else most of the cells would be plausible."""
    source, years = form.source, f"from {form.config.earliest:%Y-%m-%d} to before {form.config.latest:%Y-%m-%d}"
    if source.unit is not None:
        expected = f"a number of {source.unit} that gives a time {years}"
    elif source.format is not None:
        expected = f"a time {years} of the format '{source.format}'"
    else:
        expected = f"an ISO 8601 time {years} (numbers need 'unit' in the mapping, other forms 'format')"
    for unit in (None, *NANOSECONDS):
        other = TimeForm(source.model_copy(update={"unit": unit, "format": None}), form.config)
        if other.source == source or source.origin is not None:
            continue
        fits = _plausible(_microseconds_of(raw.slice(0, 1000), other)[0], other)
        if pc.mean(fits.cast(pa.int8())).as_py() > 0.5:
            as_what = f"as numbers of {unit} they would be (unit: {unit} in the mapping)"
            return f"{expected}; {as_what if unit else 'they are ISO 8601: leave unit and format out of the mapping'}"
    return expected


def _of_numbers(raw: Column, form: TimeForm) -> Column:
    """Whole numbers exactly, others as floats; null where a cell is none, or far out of range."""
    assert form.source.unit is not None
    unit_ns = NANOSECONDS[form.source.unit]
    origin = _microseconds(form.source.origin or EPOCH)
    floats = numbers(raw)
    limit = 2.0**62 * 1000.0 / unit_ns
    inside = pc.fill_null(pc.less(pc.abs(floats), limit), False)
    rounded = pc.round(pc.multiply(pc.if_else(inside, floats, None), unit_ns / 1000.0)).cast(pa.int64(), safe=False)
    whole = pc.if_else(inside, whole_numbers(raw), None)
    exact = pc.multiply(whole, unit_ns // 1000) if unit_ns >= 1000 else pc.divide(whole, 1000 // unit_ns)
    return pc.add(pc.coalesce(exact, rounded), origin)


def _of_timestamps(raw: Column, zone: str) -> tuple[Column, int]:
    values = raw.cast(pa.timestamp("us", tz=getattr(raw.type, "tz", None)), safe=False)
    if values.type.tz is not None:
        return values.cast(pa.int64()), 0
    return _localised(values, zone), len(values) - values.null_count


def _localised(naive: Column, zone: str) -> Column:
    return naive.cast(pa.int64()) if zone == "UTC" else _int64(_in_utc(naive.to_pandas(), zone))


def _in_utc(local: "pd.Series[pd.Timestamp]", zone: str) -> "pd.Series[pd.Timestamp]":
    """Local times in UTC; NaT for those that a clock skips, the first of those that it shows twice."""
    local = local.astype("datetime64[us]")
    return local.dt.tz_localize(zone, ambiguous=np.ones(len(local), dtype=bool), nonexistent="NaT").dt.tz_convert("UTC")


def _int64(times: "pd.Series[pd.Timestamp]") -> Column:
    return pa.array(times.dt.tz_localize(None).astype("datetime64[us]"), pa.timestamp("us")).cast(pa.int64())


def _of_format(raw: Column, form: str, zone: str) -> tuple[Column, int]:
    parsed = pd.to_datetime(raw.to_pandas().astype(str).str.strip(), format=form, errors="coerce", utc="%z" in form)
    return (_int64(parsed), 0) if "%z" in form else (_int64(_in_utc(parsed, zone)), int(parsed.notna().sum()))


def _of_text(raw: Column, zone: str) -> tuple[Column, int]:
    """The whole column by Arrow where it is all of one kind, else cell by cell."""
    for kind in (pa.timestamp("us", tz="UTC"), pa.timestamp("us")):
        try:
            return _of_timestamps(raw.cast(kind), zone)
        except pa.ArrowInvalid:
            continue
    return _of_mixed_text(raw.to_pandas().astype(str).str.strip(), pc.is_null(raw), zone)


def _of_mixed_text(text: "pd.Series[str]", empty: Column, zone: str) -> tuple[Column, int]:
    text = text.mask(empty.to_pandas(), "").str.replace(r"\[[^\]]*\]$", "", regex=True)
    text = text.str.replace(r"(\d)t(\d)", r"\1T\2", regex=True)
    text = text.str.replace(r"\s*(?:UTC|GMT|UT|z)$", "Z", regex=True).str.replace(r"(:\d\d),(\d)", r"\1.\2", regex=True)
    aware = text.str.contains(_AWARE, regex=True)
    zones = text.str.extract(_ZONE_NAME, expand=False)
    naive = ~aware & zones.isna()
    times = pd.Series(pd.NaT, index=text.index, dtype="datetime64[us, UTC]")
    times[aware] = pd.to_datetime(text[aware], format="ISO8601", utc=True, errors="coerce")
    times[naive] = _parsed(text[naive], zone)
    for name in zones.dropna().unique():
        there = zones == name
        times[there] = _parsed(text[there].str.replace(_ZONE_NAME, "", regex=True), str(name))
    return _int64(times.dt.tz_convert("UTC")), int((naive & times.notna()).sum())


def _parsed(text: "pd.Series[str]", zone: str) -> "pd.Series[pd.Timestamp]":
    local = pd.to_datetime(text, format="ISO8601", errors="coerce")
    try:
        return _in_utc(local, zone)
    except (KeyError, ValueError, OSError):  # no such zone
        return pd.Series(pd.NaT, index=text.index, dtype="datetime64[us, UTC]")
