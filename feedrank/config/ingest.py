"""The `ingest` section of `data_config.yaml`, and the mapping file of a person's own data."""

import zoneinfo
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from feedrank import schema
from feedrank.config.base import Section

TimeUnit = Literal["ns", "us", "ms", "s", "min"]
NANOSECONDS: dict[str, int] = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
}


class IngestConfig(Section):
    """How foreign interaction files are read."""

    erased_users: Path = Field(
        default=Path("runs/erased-users.json"),
        description="list of users whose rows are refused; `feedrank erase` keeps it",
    )
    chunk_rows: int = Field(default=1_000_000, ge=1, description="rows held in memory at a time")
    block_mb: int = Field(default=64, ge=1, description="text of CSV and JSON files that is parsed at a time")
    max_unreadable_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="a larger share of rows that can't be cast to the schema fails the ingestion",
    )
    max_unreadable_rows: int = Field(
        default=10, ge=0, description="so many fail no ingestion of which another row can be read, however small it is"
    )
    earliest: datetime = Field(
        default=datetime(1990, 1, 1, tzinfo=UTC), description="an earlier timestamp is refused: its unit is wrong"
    )
    latest: datetime = Field(default=datetime(2100, 1, 1, tzinfo=UTC), description="so is one from here on")

    @model_validator(mode="after")
    def _a_range_of_times(self) -> "IngestConfig":
        if self.earliest.tzinfo is None or self.latest.tzinfo is None or self.earliest >= self.latest:
            raise ValueError("earliest must be before latest, both with a zone (2100-01-01T00:00:00Z)")
        return self


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _known_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"'{name}' is no IANA time zone; write one such as Europe/Berlin") from error
    return name


def _one_byte(text: str) -> str:
    if len(text.encode()) > 1 or text in ("\r", "\n"):
        raise ValueError("give one ASCII character, or '' for none")
    return text


Mark = Annotated[str, AfterValidator(_one_byte)]


class ColumnSource(Section):
    """Where one of our columns comes from: file columns (`from`) or a `constant`, and how they are cast."""

    source: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(default=(), alias="from")
    constant: int | float | str | None = None
    hash: bool = Field(default=False, description="a stable 63-bit id from the text of the columns")
    unit: TimeUnit | None = Field(default=None, description="of a number: time since `origin`, or length of dwell_time")
    origin: datetime | None = Field(default=None, description="the time that the number 0 stands for; 1970 in UTC")
    format: str | None = Field(default=None, description="of a written time that is not ISO 8601, as strptime has it")
    zone: Annotated[str, AfterValidator(_known_zone)] = Field(
        default="UTC", description="IANA time zone of times that name none"
    )
    at_least: float | None = Field(default=None, description="1 where the number reaches it, else 0")
    values: dict[str, str] = Field(default_factory=dict, description="renames values, others stay as they are")
    fill: int | float | str | None = Field(default=None, description="takes the place of empty cells")

    @model_validator(mode="after")
    def _one_source(self) -> "ColumnSource":
        if bool(self.source) == (self.constant is not None):
            raise ValueError("give either 'from' (one or more columns of the file) or 'constant'")
        if len(self.source) > 1 and not self.hash:
            raise ValueError("several columns make an id only with 'hash: true'")
        if self.origin is not None and self.unit is None:
            raise ValueError("'origin' is for numbers; give their 'unit', too")
        if self.format is not None and (self.unit is not None or "%" not in self.format):
            raise ValueError("'format' is for text, such as %d/%m/%Y %H:%M, and needs no 'unit'")
        return self


_OPTIONS: dict[str, tuple[str, ...]] = {
    "hash": (schema.INTERACTION_ID, schema.USER_ID, schema.ITEM_ID),
    "unit": (schema.TIMESTAMP, schema.ACTION_TIME, schema.DWELL_TIME),
    "origin": (schema.TIMESTAMP, schema.ACTION_TIME),
    "format": (schema.TIMESTAMP, schema.ACTION_TIME),
    "zone": (schema.TIMESTAMP, schema.ACTION_TIME),
    "at_least": (schema.CLICK, schema.LIKE, schema.SHARE),
}


class Mapping(Section):
    """A mapping file. A column of ours that it doesn't name is taken from the file's column of the same name,
    else derived (interaction_id, time_of_day, day_of_week), else filled with its default, else null (action_time)."""

    columns: dict[str, ColumnSource] = Field(default_factory=dict)
    defaults: dict[str, int | float | str] = Field(
        default={
            schema.LIKE: 0,
            schema.SHARE: 0,
            schema.DWELL_TIME: 0.0,
            schema.DEVICE: "mobile",
        },
        description="value of a column that the file doesn't have",
    )
    ignore: tuple[str, ...] = Field(
        default=(), description="our columns whose namesakes in the file mean something else: derived or defaulted"
    )
    nulls: tuple[str, ...] = Field(default=(), description="words that mean an empty cell here, beside the usual ones")
    delimiter: str = Field(default="", description="of CSV files, one or more characters; '' goes by the file's ending")
    quote: Mark | None = Field(
        default=None, description="around CSV cells; '' for none; without it, a double quote where it can be one"
    )
    escape: Mark = Field(default="", description="before a CSV character that means itself; quotes may be doubled too")
    column_names: tuple[str, ...] = Field(default=(), description="of CSV files without a header line")

    @model_validator(mode="after")
    def _known_columns(self) -> "Mapping":
        known = schema.INTERACTIONS.names
        for name in (*self.columns, *self.defaults, *self.ignore):
            if name not in known:
                raise ValueError(f"'{name}' is no column of ours; they are {', '.join(known)}")
        for name, source in self.columns.items():
            if name in self.ignore:
                raise ValueError(f"{name}: either ignore it or say where it comes from")
            for option, allowed in _OPTIONS.items():
                if option in source.model_fields_set and getattr(source, option) and name not in allowed:
                    raise ValueError(f"{name}: '{option}' is for {', '.join(allowed)} only")
        return self

    @model_validator(mode="after")
    def _marks_differ(self) -> "Mapping":
        marks = [mark for mark in (self.delimiter, self.quote, self.escape) if mark]
        if len(set(marks)) < len(marks):
            raise ValueError("delimiter, quote and escape must differ; a doubled quote needs no escape")
        if "\n" in self.delimiter or "\r" in self.delimiter:
            raise ValueError("delimiter: a line break ends a row")
        return self
