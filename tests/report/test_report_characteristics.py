"""Table 1: which level a standardised difference speaks of, its sign, and the order of levels."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from golden_study import golden_inputs

from tapfm_eval.report.blocks import Table, as_shown
from tapfm_eval.report.content import build_content
from tapfm_eval.report.csvfile import table_csv
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.results import BaselineDifference, BaselineRow, StudyPart

NAN = math.nan


def tables(inputs: ReportInputs) -> Iterator[Table]:
    return (table for table in build_content(inputs).tables if table.id.startswith("characteristics-"))


def rows(table: Table) -> dict[str, list[str]]:
    shown = [row for group in as_shown(table).groups for row in group.rows]
    return {row[0].text: [cell.text for cell in row[1:]] for row in shown}


def level(variable: str, name: str, part: StudyPart, count: int, known: int = 20) -> BaselineRow:
    return BaselineRow(variable, name, "home", part, 20, known, count, NAN, NAN, NAN)


def made(baseline: tuple[BaselineRow, ...], differences: tuple[BaselineDifference, ...]) -> dict[str, list[str]]:
    inputs = golden_inputs()
    results = replace(inputs.results, baseline=baseline, baseline_differences=differences)
    (table,) = tables(replace(inputs, results=results))
    return rows(table)


def test_the_sign_of_a_difference_is_that_of_the_share_on_its_own_line() -> None:
    """Of the real analysis: every signed difference of two levels, against the shares of both cohorts."""
    shares: dict[tuple[str, str], float] = {}
    for row in golden_inputs().results.baseline:
        if row.level and row.known:
            shares[row.cohort, f"{row.variable}: {row.level}".lower()] = row.count / row.known
    (away,) = (table for table in tables(golden_inputs()) if table.id == "characteristics-away")
    checked = 0
    for name, (_, smd) in rows(away).items():
        if smd.startswith(("+", "−")) and ": " in name:
            here, there = shares["away", name.lower()], shares["home", name.lower()]
            assert (smd[0] == "+") == (here > there), name
            checked += 1
    assert checked >= 4  # targets, and sex and smoking among the covariates


@pytest.mark.parametrize(("second", "smd"), [(5, -1.15), (15, 0.0)])
def test_a_level_that_nobody_has_keeps_its_line_for_the_sign(second: int, smd: float) -> None:
    baseline = tuple(
        level("sex", name, part, count)
        for part, counts in (("train", (0, 20)), ("test", (second, 20 - second)))
        for name, count in zip(("female", "male"), counts, strict=True)
    )
    found = made(baseline, (BaselineDifference("sex", "home", "test", "home", "train", "female", smd),))
    assert found["Sex: female"] == ["0 (0%)", f"{second} ({second * 5}%)", "0.00" if smd == 0 else "−1.15"]
    assert found["Sex: male"][-1] == ""


def test_a_length_over_three_levels_has_no_sign_and_levels_keep_their_order() -> None:
    baseline = (
        *(level("stage", name, "train", count) for name, count in (("I", 10), ("II", 0), ("III", 10))),
        level("grade", "1", "train", 20),
        *(level("stage", name, "test", count, 18) for name, count in (("I", 6), ("II", 6), ("III", 6))),
        level("stage", "unknown", "test", 2, 18),
        level("grade", "1", "test", 20),
    )
    found = made(baseline, (BaselineDifference("stage", "home", "test", "home", "train", "", 0.55),))
    assert list(found) == ["Stage: I", "Stage: II", "Stage: III", "Stage: unknown", "Grade: 1"]
    assert found["Stage: I"][-1] == "0.55"


def test_a_median_says_of_how_many_it_is_and_the_csv_says_so_of_every_line() -> None:
    def age(part: StudyPart, known: int) -> BaselineRow:
        return BaselineRow("age", "", "home", part, 20, known, known, 66.0, 59.0, 73.0)

    inputs = golden_inputs()
    baseline = (age("train", 20), level("sex", "female", "train", 8, 18), age("test", 7))
    results = replace(inputs.results, baseline=baseline, baseline_differences=())
    (table,) = tables(replace(inputs, results=results))
    assert [cell.text for cell in as_shown(table).groups[0].rows[0][1:]] == ["66 (59–73)", "66 (59–73), n = 7"]
    first, second = csv.DictReader(io.StringIO(table_csv(table)))
    assert (first["train_known"], first["test_known"]) == ("20", "7")
    assert (second["train_known"], second["test_known"]) == ("18", "")
    assert "n of those known" in table.note


def test_an_age_has_its_unit() -> None:
    for table in tables(golden_inputs()):
        assert "Age, years, median (quartiles)" in rows(table)
