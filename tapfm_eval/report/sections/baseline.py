"""Who the patients were: Table 1 of each cohort, with standardised differences from those trained on."""

import math

from tapfm_eval.analysis.subgroups import UNKNOWN
from tapfm_eval.report.blocks import Block, Cell, Column, RowGroup, Section, Table
from tapfm_eval.report.numbers import count, count_cell, covariate_name, fixed, percent, signed, text_cell, visible
from tapfm_eval.report.scope import Scope
from tapfm_eval.results import BaselineDifference, BaselineRow

_PARTS = {"train": "Training", "validation": "Validation", "test": "Test", "external": "External", "all": "All folds"}
_KINDS = ("value", "known", "smd")  # what each part has a column for, the last where it is compared
_KEPT = ("", "mutated")  # shown where nobody has them; other levels are those of another cohort


def baseline_section(scope: Scope) -> Section | None:
    """A table for each cohort; None where nothing was recorded (predictions made elsewhere)."""
    rows = scope.inputs.results.baseline
    blocks: list[Block] = [_table(scope, cohort) for cohort in dict.fromkeys(row.cohort for row in rows)]
    return Section("characteristics", "Patient characteristics", tuple(blocks)) if blocks else None


def _table(scope: Scope, cohort: str) -> Table:
    results = scope.inputs.results
    own = [row for row in results.baseline if row.cohort == cohort]
    parts = list(dict.fromkeys(row.part for row in own))
    sizes = {row.part: row.patients for row in own}
    differences = [d for d in results.baseline_differences if d.cohort == cohort]
    compared = list(dict.fromkeys(d.part for d in differences))
    columns: list[Column] = [Column("Characteristic", ("characteristic",), width=2.3)]
    for part in parts:
        name = f"{_PARTS[part]}, n = {count(sizes[part])}"
        columns.append(Column(name, (f"{part}", f"{part}_share_or_quartile_1", f"{part}_quartile_3"), "number", 1.35))
        columns.append(Column("Known", (f"{part}_known",), "number", shown=False))
        if part in compared:
            columns.append(Column("SMD", (f"{part}_smd",), "number", 0.6))
    folds = [part for part in compared if part not in parts]
    columns += [Column("Largest SMD in a fold", (f"{part}_smd_largest_over_folds",), "number", 1.0) for part in folds]
    order = [*((part, kind) for part in parts for kind in _KINDS), *((part, "smd") for part in folds)]
    rows = []
    for variable in dict.fromkeys(row.variable for row in own):
        sided = {d.level for d in differences if d.variable == variable} - {""}
        shown = _levels([row for row in own if row.variable == variable], sided)
        with_difference = next(iter(sided), shown[0] if shown else "")
        for level in shown:
            found = {row.part: row for row in own if (row.variable, row.level) == (variable, level)}
            cells = [text_cell(_label(variable, level))]
            for part, kind in order:
                row = found.get(part)
                if kind == "value":
                    cells.append(_value(row))
                elif kind == "known":
                    cells.append(Cell("–", (None,)) if row is None else count_cell(row.known))
                elif part in compared:
                    has_sign = bool(sided) or level == ""
                    cells.append(
                        _smd(differences, variable, part, has_sign=has_sign)
                        if level == with_difference
                        else Cell("", (math.nan,))
                    )
            rows.append(tuple(cells))
    return Table(
        f"characteristics-{cohort}",
        f"Characteristics of the patients, {visible(cohort)}",
        tuple(columns),
        (RowGroup("", tuple(rows)),),
        note=_note(differences, folds=bool(folds)),
    )


def _levels(rows: list[BaselineRow], sided: set[str]) -> list[str]:
    """The levels that a table shows, in its order: those that somebody has, and the one that a sign speaks of."""
    shown = dict.fromkeys(row.level for row in rows)
    there = {row.level for row in rows if row.count or row.level in _KEPT} | sided
    return sorted((level for level in shown if level in there), key=lambda level: level == UNKNOWN)


def _note(differences: list[BaselineDifference], *, folds: bool) -> str:
    note = (
        "Patients in the study with a usable slide: number (share of those known, of “unknown” of all), or median "
        "(quartiles), with n of those known where it is not known of all. The CSV has them unrounded."
    )
    against = {(d.reference_cohort, d.reference_part) for d in differences if d.part != "test" or not folds}
    for cohort, part in sorted(against):
        whom = "all patients" if part == "all" else "the training patients"
        note += f" SMD: standardised mean difference from {whom} of {visible(cohort)}."
    if any(not math.isnan(d.smd) for d in differences):
        note += (
            " The sign of an SMD is that of this part less the other, for the level on whose line it stands; of three "
            "levels or more it is a length over all of them and has no sign."
        )
    if folds:
        note += " Largest SMD in a fold: between the test and the training part of that fold where it is largest."
    return note + " Above 0.1 in size a difference is often called relevant."


def _label(variable: str, level: str) -> str:
    name = covariate_name(variable)
    name = name if name[:1].isupper() else name[:1].upper() + name[1:]
    years = ", years" if variable == "age" else ""
    return f"{name}: {level}" if level else f"{name}{years}, median (quartiles)"


def _value(row: BaselineRow | None) -> Cell:
    if row is None:
        return Cell("–", (math.nan, math.nan, math.nan))
    if not row.level:
        if math.isnan(row.median):
            return Cell("–", (math.nan, math.nan, math.nan))
        values = (row.median, row.lower_quartile, row.upper_quartile)
        short = [fixed(value, 0 if abs(value) >= 10 else 1) for value in values]
        of_known = f", n = {count(row.known)}" if row.known < row.patients else ""
        return Cell(f"{short[0]} ({short[1]}–{short[2]}){of_known}", values, row.median)
    of = row.patients if row.level == UNKNOWN else row.known
    share = row.count / of if of else math.nan
    text = count(row.count) if math.isnan(share) else f"{count(row.count)} ({percent(share)})"
    return Cell(text, (row.count, share, math.nan), float(row.count))


def _smd(differences: list[BaselineDifference], variable: str, part: str, *, has_sign: bool) -> Cell:
    found = next((d.smd for d in differences if (d.variable, d.part) == (variable, part)), math.nan)
    if math.isnan(found):
        return Cell("–", (found,))
    return Cell(signed(found, 2) if has_sign else fixed(found, 2), (found,), found)
