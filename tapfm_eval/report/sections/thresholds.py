"""How each arm fares as a yes-or-no test, at thresholds fixed beforehand on validation patients."""

import math

from tapfm_eval.report.blocks import Cell, Column, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.numbers import estimate_cell, fixed, number_cell, text_cell, visible
from tapfm_eval.report.scope import Scope
from tapfm_eval.results import FailedCaseResult, OperatingPointResult


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
            Column("Tests avoided", ("tests_avoided", "tests_avoided_lower", "tests_avoided_upper"), "number", 1.4),
        ),
        groups,
        group_name="rule_and_part",
        note=f"A score at or above the threshold counts as positive. {scope.interval} in brackets{_methods(results)}. "
        "Tests avoided: share of patients below the threshold, whom a negative score would spare the confirmatory "
        "test. PPV and NPV hold at the cohort’s own prevalence.",
    )
    failed = scope.inputs.results.failed_cases
    return Section("operating-points", "Operating points", (table, *((_failed_table(scope),) if failed else ())))


def _failed_table(scope: Scope) -> Table:
    results = scope.inputs.results.failed_cases

    def row(result: FailedCaseResult) -> tuple[Cell, ...]:
        return (
            text_cell(result.rule),
            text_cell(result.target),
            text_cell(result.arm),
            Cell(
                f"{result.failed_positives} / {result.failed_negatives}",
                (result.failed_positives, result.failed_negatives),
                float(result.failed_positives),
            ),
            _range_cell(result.worst_sensitivity, result.best_sensitivity),
            _range_cell(result.worst_specificity, result.best_specificity),
        )

    return Table(
        "failed-cases",
        "What patients without a usable slide could change",
        (
            Column("Rule", ("rule",), width=1.4),
            Column("Target", ("target",), width=0.9),
            Column("Arm", ("arm",), width=2.0),
            Column("Failed, mutated / not", ("failed_positives", "failed_negatives"), "number", 1.2),
            Column("Sensitivity, worst to best", ("worst_sensitivity", "best_sensitivity"), "number", 1.4),
            Column("Specificity, worst to best", ("worst_specificity", "best_specificity"), "number", 1.4),
        ),
        scope.by_part(results, row),
        group_name="part",
        note="Worst: every such patient counted as called wrongly; best: as called rightly.",
    )


def _range_cell(worst: float, best: float) -> Cell:
    if math.isnan(worst):
        return Cell("–", (worst, best))
    return Cell(f"{fixed(worst, 2)} to {fixed(best, 2)}", (worst, best), worst)


def _methods(results: tuple[OperatingPointResult, ...]) -> str:
    methods = dict.fromkeys(visible(result.sensitivity.method) for result in results)
    return f" ({', '.join(methods)})"


def _row(result: OperatingPointResult) -> tuple[Cell, ...]:
    matrix = (result.true_positives, result.false_positives, result.false_negatives, result.true_negatives)
    return (
        text_cell(result.target),
        text_cell(result.arm),
        number_cell(result.threshold, 3),
        Cell(" / ".join(str(number) for number in matrix), matrix, float(result.true_positives)),
        estimate_cell(result.sensitivity, 2),
        estimate_cell(result.specificity, 2),
        estimate_cell(result.ppv, 2),
        estimate_cell(result.npv, 2),
        estimate_cell(result.avoided, 2),
    )
