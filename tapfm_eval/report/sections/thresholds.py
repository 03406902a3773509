"""How each arm fares as a yes-or-no test, at thresholds fixed beforehand on validation patients."""

import math
from collections.abc import Iterable

from tapfm_eval.report.blocks import Block, Cell, Column, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.numbers import count, fixed, number_cell, share_cell, text_cell, visible
from tapfm_eval.report.scope import Scope
from tapfm_eval.report.sections.few_events import fixed_on_few
from tapfm_eval.results import FailedCaseResult, OperatingPointResult, TriageResult
from tapfm_eval.statistics.records import Estimate


def thresholds_section(scope: Scope) -> Section | None:
    """Operating points with their two-by-two tables, alone and in pairs; left out where the protocol asks for none."""
    results = scope.inputs.results.operating_points
    if not results:
        if not scope.inputs.protocol.analysis.operating_points:
            return None
        return Section("operating-points", "Operating points", (Paragraph("No threshold could be fixed."),))
    blocks: list[Block] = []
    if scope.inputs.scored is None:
        blocks.append(Paragraph(_fixed_where(scope)))
    blocks.append(_points_table(scope))
    if scope.inputs.results.triage:
        blocks += _triage_blocks(scope)
    if scope.inputs.results.failed_cases:
        blocks.append(_failed_table(scope))
    return Section("operating-points", "Operating points", tuple(blocks))


def _fixed_where(scope: Scope) -> str:
    units = scope.inputs.units
    several = max((sum(unit.arm == arm for unit in units) for arm in scope.arms), default=0)
    text = "Thresholds were fixed on validation patients, on whom the model that scored them was not trained"
    if scope.folds > 1:
        text += f": on the out-of-fold scores of all {scope.folds} folds together"
    text += (
        ". They were carried unchanged to all other patients. The rows of validation patients show where a threshold "
        "was placed and are optimistic; how it fares is said by the rows of test and external patients."
    )
    if several > 1 and any(point.split == "external" for point in scope.inputs.results.operating_points):
        text += (
            f" Scores of external patients are means over the {several} models of an arm and lie closer together than "
            "those of one model, on which the thresholds were placed."
        )
    few = fixed_on_few(scope)
    return f"{text} {few}" if few else text


def _points_table(scope: Scope) -> Table:
    results = scope.inputs.results.operating_points
    endless = any(math.isinf(result.threshold) for result in results)
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
    return Table(
        "operating-points",
        "Operating points, fixed on validation patients and carried unchanged to all others",
        (
            Column("Target", ("target",), width=0.8),
            Column("Arm", ("arm",), width=1.9),
            Column("Threshold", ("threshold",), "number", 0.9),
            Column(
                "TP / FP / FN / TN",
                ("true_positives", "false_positives", "false_negatives", "true_negatives"),
                "number",
                1.7,
            ),
            Column("Sensitivity, %", ("sensitivity", "sensitivity_lower", "sensitivity_upper"), "number", 1.3),
            Column("Specificity, %", ("specificity", "specificity_lower", "specificity_upper"), "number", 1.3),
            Column("PPV, %", ("ppv", "ppv_lower", "ppv_upper"), "number", 1.3),
            Column("NPV, %", ("npv", "npv_lower", "npv_upper"), "number", 1.3),
            Column("Below, %", ("tests_avoided", "tests_avoided_lower", "tests_avoided_upper"), "number", 1.25),
            Column("Remark", ("remark",), shown=False),
        ),
        groups,
        group_name="rule_and_part",
        note=f"A score at or above the threshold counts as positive. {scope.interval} in brackets{_methods(results)}. "
        "Below: share of patients under the threshold, whom a rule-out would spare the confirmatory test. PPV and NPV "
        "hold at the cohort’s own prevalence."
        + (" A threshold of ∞: no score met the rule, and nobody counts as positive." if endless else "")
        + _why_not((r.target, r.sensitivity) for r in results),
    )


def _why_not(estimates: Iterable[tuple[str, Estimate]]) -> str:
    """Why there are dashes, each reason once with the targets that it holds for."""
    reasons: dict[str, dict[str, None]] = {}
    for target, estimate in estimates:
        if math.isnan(estimate.value) and estimate.reason:
            reasons.setdefault(visible(estimate.reason), {})[visible(target)] = None
    return "".join(f" A dash for {', '.join(targets)}: {reason}." for reason, targets in reasons.items())


def _triage_blocks(scope: Scope) -> list[Block]:
    results = scope.inputs.results.triage
    pairs = dict.fromkeys((result.rule_out, result.rule_in) for result in results)
    groups = tuple(
        RowGroup(
            f"out below the threshold of {visible(out)}, in from that of {visible(into)} · {part.title}",
            tuple(
                _triage_row(r)
                for r in results
                if (r.rule_out, r.rule_in, r.cohort, r.split) == (out, into, part.cohort, part.split)
            ),
        )
        for out, into in pairs
        for part in scope.parts(results, splits=("test", "external"))
    )
    text = (
        "Two thresholds used together divide the patients in three: below the lower one the mutation is ruled out, at "
        "or above the upper one it is ruled in, and those between are left to the confirmatory test. What this would "
        "spare depends on whether a patient who is ruled in is tested all the same, as is usual before a targeted "
        "drug: then only those ruled out are spared."
    )
    table = Table(
        "triage",
        "Rule-out and rule-in together: tests avoided",
        (
            Column("Target", ("target",), width=0.8),
            Column("Arm", ("arm",), width=1.9),
            Column("Thresholds", ("rule_out_below", "rule_in_from"), "number", 1.2),
            Column("Ruled out, %", ("ruled_out", "ruled_out_lower", "ruled_out_upper"), "number", 1.3),
            Column("Missed", ("ruled_out_positives", "ruled_out_n"), "number", 0.9),
            Column("Ruled in, %", ("ruled_in", "ruled_in_lower", "ruled_in_upper"), "number", 1.3),
            Column("Found", ("ruled_in_positives", "ruled_in_n"), "number", 0.9),
            Column("Left to test, %", ("left", "left_lower", "left_upper"), "number", 1.3),
            Column("Remark", ("remark",), shown=False),
        ),
        groups,
        group_name="rules_and_part",
        note=f"{scope.interval} in brackets. Missed: patients with the mutation, of those ruled out. Found: the same "
        "of those ruled in." + _why_not((r.target, r.ruled_out) for r in results if r.split != "validation"),
    )
    return [Paragraph(text), table]


def _triage_row(result: TriageResult) -> tuple[Cell, ...]:
    known = not math.isnan(result.ruled_out.value)
    thresholds = f"{fixed(result.lower, 3)} / {fixed(result.upper, 3)}" if known else "–"
    return (
        text_cell(result.target),
        text_cell(result.arm),
        Cell(thresholds, (result.lower, result.upper), None if math.isnan(result.lower) else result.lower),
        share_cell(result.ruled_out),
        _of(result.missed, known=known),
        share_cell(result.ruled_in),
        _of(result.confirmed, known=known),
        share_cell(result.left),
        text_cell(result.ruled_out.reason or ""),
    )


def _of(share: Estimate, *, known: bool) -> Cell:
    if not known:
        return Cell("–", (None, None))
    return Cell(f"{count(share.positives)} / {count(share.n)}", (share.positives, share.n), float(share.positives))


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
            Column("Sensitivity, %, worst to best", ("worst_sensitivity", "best_sensitivity"), "number", 1.4),
            Column("Specificity, %, worst to best", ("worst_specificity", "best_specificity"), "number", 1.4),
        ),
        scope.by_part(results, row),
        group_name="part",
        note="Worst: every such patient counted as called wrongly; best: as called rightly.",
    )


def _range_cell(worst: float, best: float) -> Cell:
    if math.isnan(worst):
        return Cell("–", (worst, best))
    return Cell(f"{fixed(100 * worst, 0)} to {fixed(100 * best, 0)}", (worst, best), worst)


def _methods(results: tuple[OperatingPointResult, ...]) -> str:
    methods = dict.fromkeys(visible(result.sensitivity.method) for result in results if result.sensitivity.method)
    named = ", ".join(name[:1].upper() + name[1:] for name in dict.fromkeys(methods))
    return f" ({named})" if named else ""


def _row(result: OperatingPointResult) -> tuple[Cell, ...]:
    matrix = (result.true_positives, result.false_positives, result.false_negatives, result.true_negatives)
    return (
        text_cell(result.target),
        text_cell(result.arm),
        number_cell(result.threshold, 3),
        Cell(" / ".join(str(number) for number in matrix), matrix, float(result.true_positives)),
        share_cell(result.sensitivity),
        share_cell(result.specificity),
        share_cell(result.ppv),
        share_cell(result.npv),
        share_cell(result.avoided),
        text_cell(result.sensitivity.reason or ""),
    )
