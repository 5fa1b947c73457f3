"""Tables are no wider than the terminal, and lose no cell."""

import re

from hypothesis import given
from hypothesis import strategies as st

from rbst._tables import text_table, wrapped

WORDS = st.text("abcxyz019±.-", min_size=1, max_size=9)
CELLS = st.lists(WORDS, max_size=4).map(" ".join)
TABLES = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=2, max_size=5)
)


def letters(text):
    return sorted(re.sub(r"[\s-]", "", text))


@given(TABLES, st.integers(20, 100))
def test_a_table_fits_and_holds_every_cell(rows, width):
    table = text_table(rows, width)
    if ": " not in table:  # else it is a list
        assert max(map(len, table.splitlines())) <= width
        assert letters(table) == letters("".join(map("".join, rows)))


def test_what_fits_nowhere_is_a_list():
    assert text_table([["name", "value"], ["st", "1" * 30]], 20) == "name: st\nvalue: " + 30 * "1"


def test_a_footnote_keeps_its_indent(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert wrapped("    n = 2: gs, gr-mc100, reinforce").splitlines() == [
        "    n = 2: gs,",
        "        gr-mc100,",
        "        reinforce",
    ]


def test_an_error_stays_on_the_line_of_its_sign_and_no_name_is_broken_at_a_hyphen():
    rows = [["estimator", "minus st-gs"], ["gr-mc10", "-12.25 ± 0.15"]]
    lines = text_table(rows, width=17).splitlines()
    assert [line.split() for line in lines] == [
        ["estimator", "minus"],
        ["st-gs"],
        ["-" * 17],
        ["gr-mc10", "-12.25"],
        ["±", "0.15"],
    ]
