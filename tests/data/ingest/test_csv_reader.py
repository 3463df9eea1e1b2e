"""CSV and TSV as people have them: quotes anywhere, other marks, odd lines, which cost their own row at most."""

import gzip

import pytest

from feedrank.errors import ConfigError, DataError
from tests.data.ingest.conftest import PLAIN, Table

SECONDS = PLAIN.replace("{from: ts}", "{from: ts, unit: s}")
HEADER = "user,item,ts,click,title"


def lines(titles: list[str], *, delimiter: str = ",") -> str:
    """Rows of users 0, 1, … with these titles as they are."""
    rows = [[str(n), str(n % 9), str(1_704_103_200 + n), str(n % 2), title] for n, title in enumerate(titles)]
    return "\n".join(delimiter.join(row) for row in [HEADER.split(","), *rows]) + "\n"


@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize(
    "stray", ['"Live at the Harbour', 'the "best" of', '12" vinyl', 'vinyl 12"', '"', '""" x', '"a" b']
)
def test_a_stray_quote_costs_no_row(table: Table, stray: str, delimiter: str) -> None:
    titles = [f"Track {n}" for n in range(300)]
    titles[12] = stray
    ending = "tsv" if delimiter == "\t" else "csv"
    summary = table.ingest(lines(titles, delimiter=delimiter), ending, mapping=SECONDS)
    assert (summary.rows_read, summary.rows_added) == (300, 300)


def test_two_stray_quotes_that_could_enclose_rows_are_said(table: Table) -> None:
    titles = [f"Track {n}" for n in range(1000)]
    titles[12], titles[30] = '"Heroes', 'vinyl 12"'
    summary = table.ingest(lines(titles, delimiter="\t"), "tsv", mapping=SECONDS)
    assert (summary.rows_read, summary.rows_added, summary.rows_quarantined) == (1000, 981, 19)
    assert "say in the mapping what 'quote' is" in table.quarantine()[13]
    literal = Table(table.folder / "b")
    literal.folder.mkdir()
    content = lines(titles, delimiter="\t")
    assert literal.ingest(content, "tsv", mapping=SECONDS + "quote: ''\n").rows_added == 1000
    warned = literal.ingest(lines(titles, delimiter=","), "csv", mapping=SECONDS)
    assert "lines that look like rows stand in quoted cells" in warned.warnings[0]


@pytest.mark.parametrize("pasted", [1, 3, 500, 60_000])
def test_rows_are_not_invented_out_of_a_cell_of_any_size(table: Table, pasted: int) -> None:
    title = '"pasted:' + "\n999999,888888,1704103200,1,xxxxxxtotal" * pasted + '"'
    titles = [title if n % 100 == 0 else "plain " + "y" * (n % 7) for n in range(300)]
    summary = table.ingest(lines(titles), mapping=SECONDS, block_mb=1)
    assert (summary.rows_added, summary.rows_quarantined) == (300, 0)
    assert table.column("user_id") == list(range(300))


def test_a_line_of_another_width_costs_itself_and_numbers_stay_right(table: Table) -> None:
    content = (
        HEADER
        + "\n1,1,2024-01-01T10:00:00Z,1,surplus,x\n\n2,1,2024-01-01T10:00:01Z,1,ok\nbad,1,2024-01-01T10:00:02Z,1,ok\n"
    )
    assert table.ingest(content).rows_added == 1
    reasons = table.quarantine()
    assert reasons[1] == "line can't be parsed: 6 cells instead of 5"
    assert reasons[3].startswith("user_id 'bad' is not a whole number")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_line_end_is_one(table: Table, line_end: str) -> None:
    assert table.ingest(lines(["a", "b"]).replace("\n", line_end), mapping=SECONDS).rows_added == 2


def test_a_return_within_a_cell_ends_no_row(table: Table) -> None:
    summary = table.ingest(lines(["a\rb", "c\r", '"d\r\ne"']), mapping=SECONDS)
    assert (summary.rows_added, summary.rows_quarantined) == (3, 0)


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")]
)
def test_a_byte_order_mark_is_no_part_of_a_name(table: Table, encoding: str, mark: bytes) -> None:
    assert table.ingest(mark + lines(["ä", "€"]).encode(encoding), mapping=SECONDS).rows_added == 2


def test_bytes_that_are_no_text_cost_a_row_only_where_they_are_read(table: Table) -> None:
    content = lines(["caf\udce9"] * 20).encode("utf-8", errors="surrogateescape")
    assert table.ingest(content, mapping=SECONDS).rows_added == 20
    by_title = SECONDS.replace("{from: user}", "{from: title, hash: true}")
    content = lines(["tea"] * 20 + ["caf\udce9"]).encode("utf-8", errors="surrogateescape")
    summary = table.ingest(content, mapping=by_title)
    assert (summary.rows_quarantined, summary.quarantine_reasons) == (1, {"title is no UTF-8 text": 1})


def test_a_mapping_names_delimiter_quote_escape_and_columns(table: Table) -> None:
    mapping = SECONDS + "delimiter: '::'\nquote: \"'\"\nescape: '\\'\ncolumn_names: [user, item, ts, click, title]\n"
    content = "1::2::1704103200::1::'it\\'s :: a\nline'\n3::4::1704103201::0::plain\n"
    assert table.ingest(content, "dat", mapping=mapping).rows_added == 2
    assert table.column("user_id") == [1, 3]


def test_a_wrong_delimiter_is_guessed_in_the_error(table: Table) -> None:
    with pytest.raises(DataError, match=r"or is its delimiter ';'\? Then say 'delimiter: \";\"'"):
        table.ingest(lines(["a"], delimiter=";"), mapping=SECONDS)


@pytest.mark.parametrize("wrong", ["quote: ab", "delimiter: '\"'\nquote: '\"'", 'delimiter: "a\\n"', "escape: ä"])
def test_marks_that_can_not_be_are_refused(table: Table, wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"mapping\.yaml"):
        table.ingest(lines(["a"]), mapping=SECONDS + wrong)


def test_a_column_that_is_there_twice_is_refused_if_it_is_read(table: Table) -> None:
    content = "user,item,ts,click,title,title\n1,2,1704103200,1,a,b\n"
    assert table.ingest(content, mapping=SECONDS).rows_added == 1
    with pytest.raises(DataError, match=r"file-2.csv: column 'user' \(for user_id\) is there 2 times"):
        table.ingest(content.replace("title,title", "title,user"), mapping=SECONDS)


def test_an_empty_part_beside_others_is_a_warning_and_alone_an_error(table: Table) -> None:
    full, empty = table.folder / "a.csv", table.folder / "b.csv.gz"
    full.write_text(lines(["a"]))
    empty.write_bytes(gzip.compress(b""))
    summary = table.ingest_files(full, empty, mapping=SECONDS)
    assert (summary.rows_added, len(summary.warnings)) == (1, 1)
    with pytest.raises(DataError, match=r"b\.csv\.gz: the file is empty"):
        table.ingest_files(empty, mapping=SECONDS)


def test_null_words_are_missing_in_numbers_and_names_in_ids(table: Table) -> None:
    mapping = SECONDS.replace("{from: user}", "{from: user, hash: true}").replace(
        "defaults:", "  dwell_time: {from: dwell, fill: 0}\nnulls: [unknown, '-']\ndefaults:"
    )
    users = ["anna", '"NA"', "null", "NaN", "", "unknown"]
    rows = [
        f"{user},1,{1_704_103_200 + n},1,{dwell}" for n, (user, dwell) in enumerate(zip(users, "1- 3NA", strict=True))
    ]
    rows[2] = rows[2][:-1] + "\\N"
    summary = table.ingest("\n".join(["user,item,ts,click,dwell", *rows]), mapping=mapping)
    assert (summary.rows_added, summary.quarantine_reasons) == (4, {"user_id is missing": 2})
    assert table.column("dwell_time") == [1.0, 0.0, 0.0, 3.0]
    assert len(set(table.column("user_id"))) == 4


def test_every_whole_number_of_64_bits_is_an_id(table: Table) -> None:
    good = ["0", "9223372036854775807", "-9223372036854775808", "0001234567890123456789", "+7", "12.0", " 5 "]
    bad = ["9223372036854775808", "-9223372036854775809", "99999999999999999999", "guest", "1.5", "1e3", "٣"]
    rows = [f"{user},1,{1_704_103_200 + n},1,x" for n, user in enumerate(good + bad)]
    summary = table.ingest("\n".join([HEADER, *rows]), mapping=SECONDS)
    assert summary.rows_quarantined == len(bad)
    assert table.column("user_id") == [0, 2**63 - 1, -(2**63), 1234567890123456789, 7, 12, 5]


def test_a_small_file_with_a_bad_row_is_read_and_one_without_a_good_row_is_not(table: Table) -> None:
    rows = ["1,1,1704103200,1,x", "guest,1,1704103200,1,x"]
    assert table.ingest("\n".join([HEADER, *rows]), mapping=SECONDS).rows_quarantined == 1
    with pytest.raises(DataError, match="1 of 1 rows"):
        table.ingest("\n".join([HEADER, rows[1]]), mapping=SECONDS)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PAR1", "Parquet"),
        (b"PK\x03\x04", "an Excel workbook"),
        (gzip.compress(b"a", mtime=0), "compressed by gzip"),
        ("\ufeffa".encode("utf-32-le"), "UTF-32"),
        ("user,item".encode("utf-16-le"), "UTF-16 without a byte order mark"),
    ],
)
def test_a_file_of_another_format_is_named(table: Table, start: bytes, what: str) -> None:
    with pytest.raises(DataError, match=rf"file-1\.csv: this is .*{what}"):
        table.ingest(start + bytes(200))


def test_an_error_shows_no_more_of_a_header_than_a_person_reads(table: Table) -> None:
    with pytest.raises(DataError) as error:
        table.ingest(",".join(f"column {n}" for n in range(5000)) + "\n" + "\x00" * 9000)
    assert len(str(error.value)) < 2000
    assert str(error.value).isprintable()
