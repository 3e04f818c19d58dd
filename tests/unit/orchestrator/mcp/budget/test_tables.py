"""Tables are recognised, and summarised by columns, ranges and whole rows; other text is not taken for one."""

from __future__ import annotations

import time

import pytest

from orchestrator.mcp.budget.cleaning import as_data
from orchestrator.mcp.budget.excerpts import window
from orchestrator.mcp.budget.material import Stream
from orchestrator.mcp.budget.tables import Table, column_type, html_rows, html_table, table
from orchestrator.mcp.budget.tokens import count


def found(text: str) -> Table | None:
    return table(window("stdout", Stream.of(text.encode()), 500, as_data))


def rows(separator: str, number: int = 300) -> str:
    return "".join(separator.join((str(n), f"n{n}", str(n / 4))) + "\n" for n in range(number))


@pytest.mark.parametrize(
    ("text", "heading"),
    [
        ("id,name,share\n" + rows(","), "CSV: 300 rows x 3 columns"),
        ("id;name;share\n" + rows(";"), "CSV: 300 rows x 3 columns"),
        ("id\tname\tshare\n" + rows("\t"), "TSV: 300 rows x 3 columns"),
        ("id|name|share\n" + rows("|"), "table: 300 rows x 3 columns"),
        ("| id | name |\n|:--|--:|\n" + "| 1 | x |\n" * 40, "Markdown table: 40 rows x 2 columns"),
        ("id   name   share\n" + rows("    "), "table: 300 rows x 3 columns"),
        ("     name   share\n" + rows("    "), "table: 300 rows x 3 columns"),
        ("     x   y\n" + rows("    ") + "\n[90000 rows x 2 columns]\n", "table: 90,000 rows x 3 columns"),
    ],
)
def test_kinds_of_tables(text: str, heading: str) -> None:
    made = found(text)
    assert made is not None and made.within(400).splitlines()[0] == heading


@pytest.mark.parametrize(
    "text",
    [
        "one, two\nthree\nfour, five, six\n" * 20,
        "a line of prose, with a comma\n" + "another line without\n" * 30,
        "a,b\n1,2\n",
        "x" * 9000,
        "word\n" * 100,
        "Epoch 1: loss=1, accuracy=2\nsaved\n" * 50,
    ],
)
def test_other_text_is_no_table(text: str) -> None:
    assert found(text) is None


@pytest.mark.parametrize(("misfits", "is_table"), [(10, True), (11, False)])
def test_nine_of_ten_lines_have_the_columns_of_a_table(misfits: int, is_table: bool) -> None:
    body = [f"{number},x" if number < 100 - misfits else "a line of prose" for number in range(100)]
    assert (found("\n".join(["id,name", *body])) is not None) is is_table


@pytest.mark.parametrize(("number", "is_table"), [(4, False), (5, True)])
def test_few_rows_are_no_table(number: int, is_table: bool) -> None:
    assert (found("id,name,share\n" + rows(",", number)) is not None) is is_table
    html = "<table>" + "<tr><td>1<td>2</tr>" * (number + 1) + "</table>"
    assert (html_table(html, as_data) is not None) is is_table


def test_rows_are_the_first_ones_and_the_last() -> None:
    text = ["id,name,share", *rows(",").splitlines()]
    made = found("\n".join(text))
    assert made is not None
    heading, columns, *shown = made.within(5000).splitlines()
    assert heading == "CSV: 300 rows x 3 columns"
    assert columns.startswith("columns (in the first 199 rows): id int (0 to 198), ")
    assert shown == [*text[:7], "…", *text[-2:]]


def test_of_many_columns_the_first_are_described() -> None:
    names = [f"c{number}" for number in range(43)]
    made = found("\n".join(",".join(line) for line in [names] + [["1"] * 43] * 9))
    assert made is not None
    columns = made.within(5000).splitlines()[1]
    assert columns.endswith(" c39 int (1 to 1), and 3 more")


def test_rows_are_shown_whole_or_not_at_all() -> None:
    text = "id,name,share\n" + rows(",")
    made = found(text)
    assert made is not None
    for limit in range(10, 200, 7):
        summary = made.within(limit)
        assert count(summary) <= limit
        lines = [line for line in summary.splitlines()[2:] if line != "…"]
        assert set(lines) <= set(text.splitlines())


@pytest.mark.parametrize(
    ("values", "described"),
    [
        (["1", "2", "-3"], "int (-3 to 2)"),
        (["1.5", "2", "1e3"], "float (1.5 to 1000)"),
        (["1", "", "nan"], "int (1 to 1, 2 empty)"),
        (["a", "b", "a"], "text (a, b)"),
        (["a", "b", "c", "d", "e", "f"], "text"),
        (["", "NaN"], "empty"),
        (["9" * 50], "text"),
        (["a", "b", ""], "text (1 empty)"),
        (["a", "b", "c", "d", "e", "e"], "text (a, b, c, d, e)"),
        (["x" * 21, "x" * 21], f"text ({'x' * 20})"),
        (["9" * 39], "int (1e+39 to 1e+39)"),
        (["9" * 40], "text"),
    ],
)
def test_columns_have_their_types(values: list[str], described: str) -> None:
    assert column_type(values) == described


def test_data_frames_in_html() -> None:
    body = "".join(f"<tr><th>{n}</th><td>{n * 2}</td><td>&lt;b&gt;</td></tr>" for n in range(60))
    html = f"<div><table><tr><th></th><th>x</th><th>y</th></tr>{body}</table><p>5000 rows × 2 columns</p></div>"
    made = html_table(html, as_data)
    assert made is not None
    summary = made.within(400)
    assert summary.startswith(
        "HTML table: 5,000 rows x 3 columns\ncolumns (in the first 60 rows): (index) int (0 to 59)"
    )
    assert "0 | 0 | <b>" in summary and "59 | 118 | <b>" in summary


@pytest.mark.parametrize("html", ["", "<p>x</p>", "<table>", "<table><tr><td>1", "<table>" + "<tr><td>" * 100_000])
def test_broken_html_raises_nothing(html: str) -> None:
    made = html_table(html, as_data)
    assert made is None or count(made.within(100)) <= 100


@pytest.mark.parametrize(
    "unit",
    [
        "<!--",
        "<!",
        "<",
        "<a ",
        "<a b=",
        '<a "',
        "</",
        "<![CDATA[",
        "<?",
        "&",
        "&#x",
        "<td>",
        "<td>x</b>",
        "<tr><td a='\"",
    ],
)
def test_cost_of_hostile_html_is_linear(unit: str) -> None:
    def seconds(length: int) -> float:
        html = "<table>" + unit * (length // len(unit))
        begin = time.thread_time()
        html_table(html, str)
        return time.thread_time() - begin

    small = min(seconds(20_000) for _ in range(5))
    assert min(seconds(200_000) for _ in range(2)) < 40 * small + 0.002  # quadratic would be 100 times


def test_cells_have_the_text_of_nested_elements() -> None:
    head = "<table class='a'><TR><TH>a&amp;b<th title=\"x\">c</tr>"
    (first, second, *_) = html_rows(head + "<tr><td><b>bold</b> &lt;1&gt;</td> between <td>2 < 3" * 9)
    assert first == ["a&b", "c"]
    assert second == ["bold <1>", "2 < 3"]
