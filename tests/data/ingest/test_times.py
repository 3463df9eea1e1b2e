"""Times in every form that exports have, and only plausible ones."""

import datetime as dt

import pytest

from feedrank.errors import ConfigError, DataError
from tests.data.ingest.conftest import PLAIN, Table

TEN = dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC)


def csv(*times: str) -> str:
    return "\n".join(["user;item;ts;click", *(f"{n};1;{time};1" for n, time in enumerate(times))])


def mapping(options: str) -> str:
    return PLAIN.replace("{from: ts}", f"{{from: ts{options}}}") + "delimiter: ';'\n"


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-01T10:00:00Z",
        "2024-01-01 10:00:00 UTC",
        "2024-01-01 10:00:00.000000 UTC",
        "2024-01-01 10:00:00 GMT",
        "2024-01-01 10:00:00+00",
        "2024-01-01 10:00:00 +0000",
        "2024-01-01T11:00:00.000+01:00",
        "2024-01-01T11:00:00+01:00[Europe/Berlin]",
        "2024-01-01 11:00:00.000 Europe/Berlin",
        "2024-01-01 05:00:00 America/New_York",
        "20240101T100000Z",
        "2024-01-01 10:00:00,000",
        "2024-01-01 10:00",
        "2024-01-01t10:00:00z",
        " 2024-01-01T10:00:00.000000000Z ",
    ],
)
def test_a_written_time_is_understood_alone_and_among_others(table: Table, text: str) -> None:
    table.ingest(csv(text), mapping=mapping(""))
    assert table.column("timestamp") == [TEN]
    summary = table.ingest(csv(text, "2024-01-01T10:00:00.5Z", "yesterday"), mapping=mapping(""))
    assert (summary.rows_known, summary.rows_added, summary.rows_quarantined) == (1, 1, 1)


@pytest.mark.parametrize(
    ("unit", "number"),
    [
        ("s", "1704103200"),
        ("s", "1704103200.0"),
        ("s", "1.7041032E9"),
        ("ms", "1704103200000"),
        ("us", "1704103200000000"),
        ("ns", "1704103200000000999"),
        ("min", "28401720"),
    ],
)
def test_a_number_of_each_unit_is_a_time(table: Table, unit: str, number: str) -> None:
    table.ingest(csv(number), mapping=mapping(f", unit: {unit}"))
    assert table.column("timestamp") == [TEN]


def test_numbers_may_count_from_another_origin(table: Table) -> None:
    table.ingest(csv("36000"), mapping=mapping(", unit: s, origin: 2024-01-01T00:00:00Z"))
    assert table.column("timestamp") == [TEN]


def test_a_number_of_another_unit_is_refused_and_the_unit_named(table: Table) -> None:
    good = [str(1_704_103_200 + n) for n in range(39)]
    summary = table.ingest(csv(*good, "1704103240000"), mapping=mapping(", unit: s"))
    assert (summary.rows_added, summary.rows_quarantined) == (39, 1)
    wrong = [f"{number}000" for number in good]
    with pytest.raises(
        DataError, match=r"timestamp '1704103200000' is not a number of s that .*unit: ms in the mapping"
    ):
        table.ingest(csv(*wrong), mapping=mapping(", unit: s"))
    with pytest.raises(DataError, match=r"timestamp '1704103200' is not a number of ms .*unit: s in the mapping"):
        table.ingest(csv(*good), mapping=mapping(", unit: ms"))
    with pytest.raises(DataError, match=r"is not an ISO 8601 time .*numbers need 'unit'.*unit: s in the mapping"):
        table.ingest(csv(*good), mapping=mapping(""))
    with pytest.raises(DataError, match=r"is not a number of s .*leave unit and format out of the mapping"):
        table.ingest(csv("2024-01-01T10:00:00Z"), mapping=mapping(", unit: s"))


def test_a_mapping_can_name_any_other_form(table: Table) -> None:
    berlin = mapping(", format: '%d/%m/%Y %I:%M %p', zone: Europe/Berlin")
    summary = table.ingest(csv("01/01/2024 11:00 AM", "31/13/2024 11:00 AM"), mapping=berlin)
    assert (summary.rows_added, summary.rows_quarantined, summary.naive_times) == (1, 1, 1)
    table.ingest(csv("", "Mon, 01 Jan 2024 11:00:00 +0100"), mapping=mapping(", format: '%a, %d %b %Y %H:%M:%S %z'"))
    assert table.column("timestamp") == [TEN, TEN]


@pytest.mark.parametrize(
    "far", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1970-01-01 00:00:00", "1e400", "inf", "-1"]
)
def test_a_time_out_of_any_plausible_range_costs_its_row(table: Table, far: str) -> None:
    assert table.ingest(csv(far, "2024-01-01T10:00:00Z"), mapping=mapping("")).rows_quarantined == 1


def test_times_without_a_zone_are_of_the_one_that_the_mapping_names(table: Table) -> None:
    summary = table.ingest(csv("2024-01-01 11:00:00", "2024-01-01 10:00:00Z"), mapping=mapping(", zone: Europe/Berlin"))
    assert table.column("timestamp") == [TEN, TEN]
    assert (summary.naive_times, summary.zone) == (1, "Europe/Berlin")
    assert table.ingest(csv("2024-01-01 12:00:00"), mapping=mapping("")).naive_times == 1


def test_a_time_that_the_clock_skips_is_refused_and_the_first_of_two_taken(table: Table) -> None:
    content = csv("2024-03-31 02:30:00", "2024-10-27 02:30:00", "2024-10-27 03:30:00")
    summary = table.ingest(content, mapping=mapping(", zone: Europe/Berlin"))
    assert summary.rows_quarantined == 1
    assert table.column("timestamp") == [dt.datetime(2024, 10, 27, hour, 30, tzinfo=dt.UTC) for hour in (0, 2)]


@pytest.mark.parametrize(
    "options", [", zone: Berlin", ", zone: ../../etc/passwd", ", origin: 2024-01-01T00:00:00Z", ", unit: h"]
)
def test_options_that_can_not_be_are_refused(table: Table, options: str) -> None:
    with pytest.raises(ConfigError, match=r"mapping\.yaml: columns\.timestamp"):
        table.ingest(csv("2024-01-01T10:00:00Z"), mapping=mapping(options))


def test_the_time_of_an_action_is_read_and_may_be_empty(table: Table) -> None:
    rows = [
        "1,1,2024-01-01T10:00:00Z,1,2024-01-01T10:05:00Z",
        "1,2,2024-01-01T10:00:00Z,0,",
        "1,3,2024-01-01T10:00:00Z,1,soon",
    ]
    content = "\n".join(["user,item,ts,click,action_time", *rows]) + "\n"
    assert table.ingest(content).rows_quarantined == 1
    assert table.column("action_time") == [TEN + dt.timedelta(minutes=5), None]
    named = PLAIN.replace("columns:", "columns:\n  action_time: {from: clicked, unit: ms}")
    assert (
        table.ingest(
            f"user,item,ts,click,clicked\n2,1,2024-01-01T11:00:00Z,1,{1704106800000}\n", mapping=named
        ).rows_added
        == 1
    )
    assert table.column("action_time")[-1] == dt.datetime(2024, 1, 1, 11, tzinfo=dt.UTC)


def test_without_a_column_for_it_the_time_of_an_action_is_unknown(table: Table) -> None:
    table.ingest(csv("2024-01-01T10:00:00Z"), mapping=mapping(""))
    assert table.column("action_time") == [None]
