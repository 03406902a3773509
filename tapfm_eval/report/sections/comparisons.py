"""Which arms differ on the same patients, and which differences survive adjustment for their number."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tapfm_eval.report.blocks import Block, Cell, Column, Figure, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.drawings import ForestGroup, ForestRow
from tapfm_eval.report.measured import FEW_POSITIVES, NEAR_1, PAIRED_TEST
from tapfm_eval.report.numbers import (
    counted,
    difference_cell,
    difference_text,
    events_cell,
    fixed,
    p_cell,
    percent,
    signed,
    text_cell,
    visible,
)
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.report.sections.forests import forest_figures
from tapfm_eval.results import ComparisonResult
from tapfm_eval.statistics.records import Comparison

ADJUSTMENTS = {"holm": "Holm", "hochberg": "Hochberg", "bh": "Benjamini–Hochberg"}
_NARROW = "§"  # marks an interval that is narrower than it says; figures can draw it


def comparisons_section(scope: Scope) -> Section | None:
    """Paired differences per family; left out where the protocol declares no family."""
    results = tuple(r for r in scope.inputs.results.comparisons if not (scope.one_target and r.target == "macro"))
    declared = scope.inputs.protocol.analysis.families
    if not results:
        if not declared:
            return None
        return Section("comparisons", "Paired comparisons", (Paragraph("No comparison could be made."),))
    blocks: list[Block] = []
    for number, family in enumerate(dict.fromkeys(result.family for result in results), 1):
        own = tuple(result for result in results if result.family == family)
        blocks += [_table(scope, f"comparisons-{number}", family, own), *_matrices(scope, number, own)]
        blocks += _figures(scope, number, own)
    return Section("comparisons", "Paired comparisons", tuple(blocks))


def _table(scope: Scope, name: str, family: str, results: tuple[ComparisonResult, ...]) -> Table:
    adjustment = ADJUSTMENTS.get(results[0].adjustment, results[0].adjustment)
    methods = dict.fromkeys(visible(result.difference.method) for result in results if result.difference.method)
    tests = sum(1 for result in results if math.isfinite(result.p_adjusted))

    def row(result: ComparisonResult) -> tuple[Cell, ...]:
        difference = result.difference
        return (
            Cell(_target(result.target), (result.target,)),
            Cell(f"{visible(result.arm_a)} − {visible(result.arm_b)}", (result.arm_a, result.arm_b)),
            _events_cell(result),
            _difference_cell(scope, result),
            _statistic_cell(result),
            p_cell(difference.p_value),
            p_cell(result.p_adjusted),
            text_cell(difference.method),
            text_cell(narrow_reason() if _narrow(scope, result) else ""),
        )

    return Table(
        name,
        f"Differences in AUROC on the same patients: {visible(family)}",
        (
            Column("Target", ("target",), width=0.8),
            Column("Arms, A − B", ("arm_a", "arm_b"), width=3.1),
            Column("Events / n", ("positives", "n"), "number", 1.0),
            Column(f"Difference ({scope.interval})", ("difference", "lower", "upper"), "number", 2.0),
            Column("t (df)", ("statistic", "df"), "number", 1.0),
            Column("p", ("p_value",), "number", 0.7),
            Column(f"p, {adjustment} per target", ("p_adjusted",), "number", 1.0),
            Column("Test", ("method",), shown=False),
            Column("Remark", ("remark",), shown=False),
        ),
        scope.by_part(results, row),
        group_name="part",
        note=f"p values are two-sided unless the test says otherwise. {adjustment}: adjusted for the comparisons of "
        f"this family on the same target and patients, and not over all its {counted(tests, 'test')}. A dash: too few "
        f"patients for a test. n are the patients compared.{scope.compared_note} Tests: {'; '.join(methods)}."
        + _narrow_note(scope, results),
    )


def too_narrow(scope: Scope, target: str, part: Part, arms: tuple[str, str], difference: Comparison) -> bool:
    """Whether the interval of a difference rests on so few events, so near 1, that it covers less than it says."""
    rarer = min(difference.positives, difference.n - difference.positives)
    if target == "macro" or math.isnan(difference.lower) or rarer >= FEW_POSITIVES:
        return False
    return any(
        r.auroc.value >= NEAR_1
        for r in scope.inputs.results.aurocs
        if r.arm in arms and (r.target, Part(r.cohort, r.split)) == (target, part)
    )


def narrow_reason() -> str:
    """Why, as a clause."""
    return (
        f"fewer than {FEW_POSITIVES} patients of the rarer class and an AUROC of {NEAR_1:g} or more; in simulations "
        f"such 95% intervals of a difference covered as little as {percent(PAIRED_TEST.covered_near_1)}"
    )


def _narrow(scope: Scope, result: ComparisonResult) -> bool:
    part, arms = Part(result.cohort, result.split), (result.arm_a, result.arm_b)
    return too_narrow(scope, result.target, part, arms, result.difference)


def _narrow_note(scope: Scope, results: Iterable[ComparisonResult]) -> str:
    """What the mark means, where one stands."""
    if not any(_narrow(scope, result) for result in results):
        return ""
    return f" {_NARROW} Too narrow: {narrow_reason()}. Read these beside the intervals of the two AUROCs."


def _difference_cell(scope: Scope, result: ComparisonResult) -> Cell:
    cell = difference_cell(result.difference, scope.difference_decimals)
    return replace(cell, text=cell.text + _NARROW, whole=cell.text) if _narrow(scope, result) else cell


def _target(target: str) -> str:
    return "Macro-average" if target == "macro" else visible(target)


def _matrices(scope: Scope, number: int, results: tuple[ComparisonResult, ...]) -> list[Table]:
    """Where more than one arm is compared with several: differences above the diagonal, adjusted p values below it."""
    if len({result.arm_a for result in results}) < 2:
        return []
    arms = tuple(arm for arm in scope.arms if any(arm in (r.arm_a, r.arm_b) for r in results))
    tables = []
    for part in scope.parts(results, splits=("test", "external")):
        own = [result for result in results if Part(result.cohort, result.split) == part]
        groups = tuple(
            RowGroup(
                _target(target),
                _matrix(scope, arms, {(r.arm_a, r.arm_b): r for r in own if r.target == target}),
            )
            for target in dict.fromkeys(result.target for result in own)
        )
        tables.append(
            Table(
                f"matrix-{number}-{part.id}",
                f"Differences in AUROC and adjusted p values, arm by arm, {part.title}",
                (
                    Column("Arm", ("arm",), width=2.6 if len(arms) > 8 else 1.8),
                    *(Column(str(i), (visible(arm),), "number") for i, arm in enumerate(arms, 1)),
                ),
                groups,
                group_name="target",
                note="Columns are the arms by their number. Above the diagonal: AUROC of the row’s arm less that of "
                "the column’s. Below: p value of the same pair, adjusted for "
                "the pairs on that target and those patients alone; a dash where no test was made.",
            )
        )
    return tables


def _matrix(
    scope: Scope, arms: tuple[str, ...], pairs: Mapping[tuple[str, str], ComparisonResult]
) -> tuple[tuple[Cell, ...], ...]:
    rows = []
    for i, row in enumerate(arms):
        cells = [Cell(f"{i + 1}  {visible(row)}", (row,))]
        for j, column in enumerate(arms):
            result, sign = pairs.get((row, column)), 1.0
            if result is None:
                result, sign = pairs.get((column, row)), -1.0
            if i == j or result is None:
                cells.append(Cell("" if i == j else "–", (None,)))
            elif i < j:
                value = sign * result.difference.value
                text = "–" if math.isnan(value) else signed(value, scope.difference_decimals)
                cells.append(Cell(text, (value,), None if math.isnan(value) else value))
            else:
                cells.append(p_cell(result.p_adjusted))
        rows.append(tuple(cells))
    return tuple(rows)


def _events_cell(result: ComparisonResult) -> Cell:
    """Events among the patients compared; patients alone for an average, whose events are of several targets."""
    difference = result.difference
    if result.target == "macro":
        return Cell(counted(difference.clusters, "patient"), (None, difference.clusters))
    return events_cell(difference.positives, difference.n)


def _statistic_cell(result: ComparisonResult) -> Cell:
    statistic, df = result.difference.statistic, result.difference.df
    if math.isnan(statistic):
        return Cell("–", (statistic, df))
    return Cell(f"{fixed(statistic, 2)} ({fixed(df, 0)})", (statistic, df), statistic)


def _figures(scope: Scope, number: int, results: tuple[ComparisonResult, ...]) -> list[Figure]:
    figures = []
    for part in scope.parts(results, splits=("test", "external")):
        own = [result for result in results if Part(result.cohort, result.split) == part]
        groups = [
            ForestGroup(
                _target(target),
                tuple(_row(scope, result) for result in own if result.target == target),
            )
            for target in dict.fromkeys(result.target for result in own)
        ]
        figures += forest_figures(
            scope,
            groups,
            name=f"differences-{number}-{part.id}",
            caption=f"Differences in AUROC with {scope.interval}, not adjusted, {part.title}",
            shows=f"differences between arms in {part.title}",
            label="A − B",
            measure="Difference",
            axis="Difference in AUROC",
            reference=0.0,
            limits=(-1.0, 1.0),
            step=0.05,
            remark=f".{note}" if (note := _narrow_note(scope, own)) else "",
        )
    return figures


def _short(difference: Comparison, decimals: int) -> str:
    """The difference as a figure has room for it; the table says why something is not estimable."""
    if math.isnan(difference.value):
        return "not estimable"
    if math.isnan(difference.lower):
        return f"{signed(difference.value, decimals)} (not estimable)"
    return difference_text(difference, decimals)


def _row(scope: Scope, result: ComparisonResult) -> ForestRow:
    difference = result.difference
    return ForestRow(
        label=f"{visible(result.arm_a)} − {visible(result.arm_b)}",
        counts=_events_cell(result).text,
        text=_short(difference, scope.difference_decimals) + (_NARROW if _narrow(scope, result) else ""),
        value=difference.value,
        lower=difference.lower,
        upper=difference.upper,
        style=scope.style(result.arm_b if result.arm_a == scope.accent_arm else result.arm_a),
    )
