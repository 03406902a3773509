"""Reasons and counts: said once where many rows share them, whole in the CSV, and n as the notes define it."""

import csv
import io
import math
import re

import pytest
from golden_study import golden_inputs, golden_tables

from tapfm_eval.report.blocks import Cell, Column, RowGroup, Table
from tapfm_eval.report.content import build_content
from tapfm_eval.report.csvfile import table_csv
from tapfm_eval.report.drawings import ForestPlot
from tapfm_eval.report.reasons import reasons_once
from tapfm_eval.report.scope import scope_of

SEPARATED = "positives and negatives are separated (all of them)"


def made(*texts: str) -> Table:
    rows = tuple((Cell(text, (math.nan, math.nan, math.nan)),) for text in texts)
    return Table("t", "T", (Column("A", ("a", "lower", "upper"), "number"),), (RowGroup("", rows),), note="As it is.")


def test_a_reason_of_three_rows_is_said_in_the_note_and_whole_in_the_csv() -> None:
    alone, within = f"not estimable: {SEPARATED}", f"0.90 (interval not estimable: {SEPARATED})"
    table = reasons_once(made(alone, within, alone, "not estimable: no positives", "0.90 (0.80–0.95)"))
    assert [row[0].text for row in table.groups[0].rows] == [
        "not estimable (a)",
        "0.90 (interval not estimable, a)",
        "not estimable (a)",
        "not estimable: no positives",
        "0.90 (0.80–0.95)",
    ]
    assert table.note == f"As it is. (a) {SEPARATED}."
    texts = [row["a_text"] for row in csv.DictReader(io.StringIO(table_csv(table)))]
    assert texts[:4] == [alone, within, alone, "not estimable: no positives"]


def test_reasons_of_two_rows_stay_where_they_are() -> None:
    table = made("not estimable: no positives", "not estimable: no positives")
    assert reasons_once(table) == table


def test_no_table_of_a_study_repeats_a_reason_three_times() -> None:
    for table in build_content(golden_inputs()).tables:
        cells = [cell.text for group in table.groups for row in group.rows for cell in row]
        for text in set(cells):
            assert "not estimable: " not in text or cells.count(text) < 3, (table.id, text)


def test_average_precision_over_folds_says_once_why_there_is_none() -> None:
    table = next(t for t in build_content(golden_inputs()).tables if t.id == "average-precision")
    home = next(group for group in table.groups if group.title == "home · test")
    assert {row[4].text for row in home.rows} == {"not estimable (a)"}
    assert table.note.count("scores of different folds are not pooled") == 1


@pytest.mark.parametrize("name", ["summary", "auroc", "average-precision"])
def test_n_is_everybody_with_a_known_label(name: str) -> None:
    """In each of two folds ALK has 30 patients, in one of them no positive: 60 are known, 30 compared."""
    rows = list(csv.DictReader(io.StringIO(golden_tables()[name])))
    (found,) = {(r["positives"], r["n"]) for r in rows if r["part"] == "home · test" and r["target"] == "ALK"}
    flow = next(f for f in build_content(golden_inputs()).figures if f.id == "flow-home")
    assert found == ("1", "60")
    assert "analysed for ALK: 1 mutated, 59 not" in flow.alt
    if name != "average-precision":
        table = next(t for t in build_content(golden_inputs()).tables if t.id == name)
        assert "folds without both classes have no say" in table.note


def test_the_table_of_aurocs_says_how_many_were_compared() -> None:
    rows = list(csv.DictReader(io.StringIO(golden_tables()["auroc"])))
    assert {r["compared"] for r in rows if r["part"] == "home · test" and r["target"] == "ALK"} == {"30"}


def test_forest_plots_count_patients_as_the_tables_do() -> None:
    scope = scope_of(golden_inputs(), show_ids=False)
    rows = {
        (group.title, row.label): row.counts
        for figure in build_content(golden_inputs()).figures
        if figure.id.startswith("forest-home-test") and isinstance(figure.drawing, ForestPlot)
        for group in figure.drawing.groups
        for row in group.rows
    }
    for arm in scope.arms:
        assert rows["ALK", arm] == "1 / 60"
        assert re.fullmatch(r"\d+ patients", rows["Macro-average", arm])
