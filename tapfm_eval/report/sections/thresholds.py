"""How each arm fares as a yes-or-no test, at thresholds fixed beforehand on validation patients."""

import math

from tapfm_eval.report.blocks import Cell, Column, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.numbers import estimate_cell, number_cell, percent, text_cell, visible
from tapfm_eval.report.scope import Scope
from tapfm_eval.results import OperatingPointResult


def thresholds_section(scope: Scope) -> Section | None:
    """Operating points with their two-by-two tables; left out where the protocol asks for none."""
    results = scope.inputs.results.operating_points
    if not results:
        if not scope.inputs.protocol.analysis.operating_points:
            return None
        return Section("operating-points", "Operating points", (Paragraph("No threshold could be fixed."),))
    groups = tuple(
        RowGroup(
            f"{visible(rule)} · {part.title}" + (" (fixed here)" if part.split == "validation" else ""),
            tuple(
                _row(result)
                for result in results
                if (result.rule, result.cohort, result.split) == (rule, part.cohort, part.split)
            ),
        )
        for rule in dict.fromkeys(result.rule for result in results)
        for part in scope.parts(
            (result for result in results if result.rule == rule), splits=("validation", "test", "external")
        )
    )
    table = Table(
        "operating-points",
        "Operating points, fixed on validation patients and carried unchanged to all others",
        (
            Column("Target", ("target",), width=0.9),
            Column("Arm", ("arm",), width=2.05),
            Column("Threshold", ("threshold",), "number", 0.85),
            Column(
                "TP / FP / FN / TN",
                ("true_positives", "false_positives", "false_negatives", "true_negatives"),
                "number",
                1.75,
            ),
            Column("Sensitivity", ("sensitivity", "sensitivity_lower", "sensitivity_upper"), "number", 1.55),
            Column("Specificity", ("specificity", "specificity_lower", "specificity_upper"), "number", 1.55),
            Column("PPV", ("ppv", "ppv_lower", "ppv_upper"), "number", 1.55),
            Column("NPV", ("npv", "npv_lower", "npv_upper"), "number", 1.55),
            Column("Tests avoided", ("tests_avoided",), "number", 0.8),
        ),
        groups,
        group_name="rule_and_part",
        note=f"A score at or above the threshold counts as positive. {scope.interval} in brackets{_methods(results)}. "
        "Tests avoided: share of patients below the threshold. PPV and NPV hold at the cohort’s own prevalence.",
    )
    return Section("operating-points", "Operating points", (table,))


def _methods(results: tuple[OperatingPointResult, ...]) -> str:
    methods = dict.fromkeys(visible(result.sensitivity.method) for result in results)
    return f" ({', '.join(methods)})"


def _row(result: OperatingPointResult) -> tuple[Cell, ...]:
    matrix = (result.true_positives, result.false_positives, result.false_negatives, result.true_negatives)
    total = sum(matrix)
    avoided = (result.true_negatives + result.false_negatives) / total if total else math.nan
    if math.isnan(result.threshold):
        avoided = math.nan
    return (
        text_cell(result.target),
        text_cell(result.arm),
        number_cell(result.threshold, 3),
        Cell(" / ".join(str(number) for number in matrix), matrix, float(result.true_positives)),
        estimate_cell(result.sensitivity, 2),
        estimate_cell(result.specificity, 2),
        estimate_cell(result.ppv, 2),
        estimate_cell(result.npv, 2),
        Cell("–" if math.isnan(avoided) else percent(avoided), (avoided,), None if math.isnan(avoided) else avoided),
    )
