"""A fixed predictions file gives the stored tables; a wanted change is stored anew by `golden_study.py`."""

import csv
import io
import math

import pytest
from golden_study import TABLES, golden_tables

NAMES = sorted(path.stem for path in TABLES.glob("*.csv"))


def test_the_report_has_the_stored_tables_and_no_other() -> None:
    assert sorted(golden_tables()) == NAMES
    assert len(NAMES) > 20


@pytest.mark.parametrize("name", NAMES)
def test_a_table_says_what_is_stored(name: str) -> None:
    """Words to the letter; unrounded numbers to ten digits, which other versions of numpy may change."""
    stored = list(csv.reader(io.StringIO((TABLES / f"{name}.csv").read_text(encoding="utf-8"))))
    found = list(csv.reader(io.StringIO(golden_tables()[name])))
    assert [len(row) for row in found] == [len(row) for row in stored]
    for row, expected in zip(found, stored, strict=True):
        for cell, wanted in zip(row, expected, strict=True):
            assert cell == wanted or same_number(cell, wanted), (row, wanted)


def same_number(cell: str, wanted: str) -> bool:
    try:
        return math.isclose(float(cell), float(wanted), rel_tol=1e-10, abs_tol=1e-12)
    except ValueError:
        return False
