"""The `ingest` section of `data_config.yaml`, and the mapping file of a person's own data."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from feedrank import schema
from feedrank.config.base import Section

TimeUnit = Literal["us", "ms", "s", "min"]
MICROSECONDS: dict[str, int] = {"us": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000}


class IngestConfig(Section):
    """How foreign interaction files are read."""

    chunk_rows: int = Field(default=1_000_000, ge=1, description="rows held in memory at a time")
    max_unreadable_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="a larger share of rows that can't be cast to the schema fails the ingestion",
    )


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class ColumnSource(Section):
    """Where one of our columns comes from: file columns (`from`) or a `constant`, and how they are cast."""

    source: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(default=(), alias="from")
    constant: int | float | str | None = None
    hash: bool = Field(default=False, description="a stable 63-bit id from the text of the columns")
    unit: TimeUnit | None = Field(default=None, description="of a number: unix time, or the length of dwell_time")
    at_least: float | None = Field(default=None, description="1 where the number reaches it, else 0")
    values: dict[str, str] = Field(default_factory=dict, description="renames values, others stay as they are")
    fill: int | float | str | None = Field(default=None, description="takes the place of empty cells")

    @model_validator(mode="after")
    def _one_source(self) -> "ColumnSource":
        if bool(self.source) == (self.constant is not None):
            raise ValueError("give either 'from' (one or more columns of the file) or 'constant'")
        if len(self.source) > 1 and not self.hash:
            raise ValueError("several columns make an id only with 'hash: true'")
        return self


_OPTIONS: dict[str, tuple[str, ...]] = {
    "hash": (schema.INTERACTION_ID, schema.USER_ID, schema.ITEM_ID),
    "unit": (schema.TIMESTAMP, schema.DWELL_TIME),
    "at_least": (schema.CLICK, schema.LIKE, schema.SHARE),
}


class Mapping(Section):
    """A mapping file. A column of ours that it doesn't name is taken from the file's column of the same name,
    else derived (interaction_id, time_of_day, day_of_week), else filled with its default."""

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
    delimiter: str = Field(default=",", min_length=1, max_length=1, description="of CSV files")
    column_names: tuple[str, ...] = Field(default=(), description="of CSV files without a header line")

    @model_validator(mode="after")
    def _known_columns(self) -> "Mapping":
        known = schema.INTERACTIONS.names
        for name in (*self.columns, *self.defaults):
            if name not in known:
                raise ValueError(f"'{name}' is no column of ours; they are {', '.join(known)}")
        for name, source in self.columns.items():
            for option, allowed in _OPTIONS.items():
                if getattr(source, option) and name not in allowed:
                    raise ValueError(f"{name}: '{option}' is for {', '.join(allowed)} only")
        return self
