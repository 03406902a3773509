"""How well each arm tells mutated from unmutated patients, per target and cohort."""

import math
from collections.abc import Sequence

from tapfm_eval.report.blocks import Block, Cell, Column, Figure, Paragraph, Section, Table, method_column
from tapfm_eval.report.drawings import Curve, CurveGrid, ForestGroup, ForestPlot, ForestRow, Mark, Panel
from tapfm_eval.report.numbers import (
    count,
    count_cell,
    estimate_cell,
    estimate_text,
    events_cell,
    fixed,
    number_cell,
    text_cell,
    visible,
)
from tapfm_eval.report.published import published_note, published_value
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.results import AurocResult, MacroResult
from tapfm_eval.statistics.records import Estimate

FOREST_ROWS = 40  # rows of a forest plot that fill a page
ROC_PANELS = 9  # panels of a figure that fill a page
_UNSEEN = ("test", "external")


def auroc_section(scope: Scope) -> Section:
    """AUROCs as table, forest plots and ROC curves."""
    results = scope.inputs.results.aurocs
    if not results:
        return Section("auroc", "Discrimination", (Paragraph("No AUROC was estimated."),))
    blocks: list[Block] = [_auroc_table(scope)]
    for part in scope.parts(results, splits=_UNSEEN):
        blocks += [*_forests(scope, part), *_roc_figures(scope, part)]
    return Section("auroc", "Discrimination", tuple(blocks))


def precision_section(scope: Scope) -> Section:
    """Average precision beside the prevalence that chance would give."""
    results = scope.inputs.results.aurocs
    if not results:
        return Section("average-precision", "Average precision", (Paragraph("No average precision was estimated."),))

    def row(result: AurocResult) -> tuple[Cell, ...]:
        n, positives = result.average_precision.n, result.average_precision.positives
        prevalence = positives / n if n else math.nan
        estimate = (
            estimate_cell(result.average_precision, 2)
            if result.assessed
            else Cell("not assessed", (math.nan, math.nan, math.nan))
        )
        return (
            text_cell(result.target),
            text_cell(result.arm),
            events_cell(positives, n),
            number_cell(prevalence, 2 if math.isnan(prevalence) or prevalence >= 0.095 else 3),
            estimate,
            text_cell(result.average_precision.method if result.assessed else ""),
        )

    method, method_note = method_column(
        "Interval", (visible(result.average_precision.method) for result in results if result.assessed), 2.3
    )
    table = Table(
        "average-precision",
        "Average precision (area under the precision–recall curve)",
        (
            Column("Target", ("target",), width=0.9),
            Column("Arm", ("arm",), width=2.0),
            Column("Events / n", ("positives", "n"), "number", 1.1),
            Column("Prevalence", ("prevalence",), "number", 1.0),
            Column(f"Average precision ({scope.interval})", ("average_precision", "lower", "upper"), "number", 2.0),
            method,
        ),
        scope.by_part(results, row),
        group_name="part",
        note=f"A score without information has an average precision equal to the prevalence.{method_note}",
    )
    return Section("average-precision", "Average precision", (table,))


def macro_section(scope: Scope) -> Section:
    """Mean AUROC over the targets, per arm."""
    results = scope.inputs.results.macros
    if not results:
        return Section("macro", "Macro-average AUROC", (Paragraph("No macro-average was estimated."),))

    def row(result: MacroResult) -> tuple[Cell, ...]:
        return (
            text_cell(result.arm),
            text_cell(", ".join(result.targets) or "none"),
            text_cell(", ".join(result.left_out) or "none"),
            Cell(count(result.macro.clusters), (result.macro.clusters,), float(result.macro.clusters)),
            estimate_cell(result.macro, scope.decimals),
            text_cell(result.macro.method),
        )

    method, method_note = method_column("Interval", (visible(result.macro.method) for result in results), 2.0)
    table = Table(
        "macro-auroc",
        "Mean of the targets’ AUROCs",
        (
            Column("Arm", ("arm",), width=1.9),
            Column("Targets averaged", ("targets",), width=2.0),
            Column("Left out", ("left_out",), width=1.0),
            Column("Patients", ("patients",), "number", 0.8),
            Column(f"Macro AUROC ({scope.interval})", ("macro_auroc", "lower", "upper"), "number", 1.9),
            method,
        ),
        scope.by_part(results, row),
        group_name="part",
        note="A target is left out where all its patients belong to one class. Averages over different targets do not "
        f"compare.{method_note}",
    )
    return Section("macro", "Macro-average AUROC", (table,))


def _auroc_table(scope: Scope) -> Table:
    protocol = scope.inputs.protocol
    values = {
        id(result): None if scope.inputs.rehearsal is not None else published_value(protocol, result)
        for result in scope.inputs.results.aurocs
    }
    has_published = any(value is not None for value in values.values())

    def row(result: AurocResult) -> tuple[Cell, ...]:
        estimate = (
            estimate_cell(result.auroc, scope.decimals)
            if result.assessed
            else Cell("not assessed: the cohort has no such label", (math.nan, math.nan, math.nan))
        )
        value = values[id(result)]
        published = (Cell("–" if value is None else fixed(value, scope.decimals), (value,), value),)
        return (
            text_cell(result.target),
            text_cell(result.arm),
            events_cell(result.auroc.positives, result.auroc.n),
            count_cell(result.missing),
            estimate,
            *(published if has_published else ()),
            text_cell(result.auroc.method if result.assessed else ""),
        )

    method, method_note = method_column(
        "Interval", (visible(result.auroc.method) for result in scope.inputs.results.aurocs if result.assessed), 2.5
    )
    note = "Events are patients with the mutation, n those with a known label; unknown labels are left out."
    note += method_note
    if has_published:
        note += f" {published_note(protocol)}"
    return Table(
        "auroc",
        "Area under the ROC curve",
        (
            Column("Target", ("target",), width=0.75),
            Column("Arm", ("arm",), width=1.9),
            Column("Events / n", ("positives", "n"), "number", 1.0),
            Column("Unknown", ("missing",), "number", 0.85),
            Column(f"AUROC ({scope.interval})", ("auroc", "lower", "upper"), "number", 1.9),
            *((Column("Published", ("published",), "number", 0.95),) if has_published else ()),
            method,
        ),
        scope.by_part(scope.inputs.results.aurocs, row),
        group_name="part",
        note=note,
    )


def forest_row(scope: Scope, label: str, estimate: Estimate, style: int) -> ForestRow:
    """One AUROC as a line of a forest plot."""
    return ForestRow(
        label=visible(label),
        counts=f"{count(estimate.positives)} / {count(estimate.n)}",
        text="not estimable" if math.isnan(estimate.value) else estimate_text(estimate, scope.decimals),
        value=estimate.value,
        lower=estimate.lower,
        upper=estimate.upper,
        style=style,
    )


def forest_span(rows: Sequence[ForestRow], *, step: float, floor: float, ceiling: float) -> tuple[float, float]:
    """Axis limits that hold every interval, rounded outwards to `step` and kept within floor and ceiling."""
    finite = [limit for row in rows for limit in (row.lower, row.upper, row.value) if math.isfinite(limit)]
    if not finite:
        return floor, ceiling
    low = max(floor, math.floor(min(finite) / step) * step)
    high = min(ceiling, math.ceil(max(finite) / step) * step)
    return (low, high) if high > low else (floor, ceiling)


def pages(groups: Sequence[ForestGroup], limit: int) -> tuple[tuple[ForestGroup, ...], ...]:
    """Groups dealt out, in order, so that no page holds more than `limit` rows unless one group alone does."""
    found: list[list[ForestGroup]] = []
    used = 0
    for group in groups:
        size = len(group.rows) + 1
        if not found or used + size > limit:
            found.append([])
            used = 0
        found[-1].append(group)
        used += size
    return tuple(tuple(page) for page in found)


def _forests(scope: Scope, part: Part) -> list[Figure]:
    own = [r for r in scope.inputs.results.aurocs if Part(r.cohort, r.split) == part and r.assessed]
    groups = [
        ForestGroup(
            visible(target),
            tuple(forest_row(scope, r.arm, r.auroc, scope.style(r.arm)) for r in own if r.target == target),
        )
        for target in dict.fromkeys(r.target for r in own)
    ]
    macros = [m for m in scope.inputs.results.macros if Part(m.cohort, m.split) == part]
    if macros:
        rows = tuple(forest_row(scope, m.arm, m.macro, scope.style(m.arm)) for m in macros)
        rows = tuple(ForestRow(r.label, "", r.text, r.value, r.lower, r.upper, r.style) for r in rows)
        groups.append(ForestGroup("Macro-average", rows))
    every = [row for group in groups for row in group.rows]
    low, high = forest_span(every, step=0.1, floor=0.0, ceiling=1.0)
    paged = pages(groups, FOREST_ROWS)
    return [
        Figure(
            id=f"forest-{part.id}" + (f"-{number}" if len(paged) > 1 else ""),
            caption=f"AUROC with {scope.interval}, {part.title}" + _of(number, len(paged)),
            alt=f"Forest plot of AUROCs in {part.title}. "
            + " ".join(f"{g.title}: " + "; ".join(f"{r.label} {r.text}" for r in g.rows) + "." for g in page),
            drawing=ForestPlot(
                groups=page,
                headers=("", "Events / n", f"AUROC ({scope.interval})"),
                axis="AUROC",
                reference=0.5,
                span=(min(low, 0.5), max(high, 0.5)),
            ),
        )
        for number, page in enumerate(paged, 1)
    ]


def _of(number: int, total: int) -> str:
    return f" ({number} of {total})" if total > 1 else ""


def _roc_figures(scope: Scope, part: Part) -> list[Figure]:
    results = scope.inputs.results
    aurocs = {(r.target, r.arm): r for r in results.aurocs if Part(r.cohort, r.split) == part}
    curves = [c for c in results.curves if Part(c.cohort, c.split) == part]
    panels = []
    for target in dict.fromkeys(curve.target for curve in curves):
        own = [curve for curve in curves if curve.target == target]
        drawn = tuple(
            Curve(c.false_positive_rate, c.true_positive_rate, scope.style(c.arm)) for c in own if c.false_positive_rate
        )
        known = next((aurocs[target, c.arm].auroc for c in own if (target, c.arm) in aurocs), None)
        note = "" if known is None else f"{count(known.positives)} / {count(known.n)}"
        if not drawn:
            note = "not estimable: " + (
                visible(known.reason) if known is not None and known.reason else "a class is missing"
            )
        panels.append(Panel(visible(target), note, drawn, _marks(scope, part, target) if drawn else ()))
    pages_of_panels = [panels[i : i + ROC_PANELS] for i in range(0, len(panels), ROC_PANELS)]
    has_marks = any(panel.marks for panel in panels)
    remark = f" Rings: operating points of {visible(scope.accent_arm)} as fixed on validation." if has_marks else ""
    return [
        Figure(
            id=f"roc-{part.id}" + (f"-{number}" if len(pages_of_panels) > 1 else ""),
            caption=f"ROC curves, {part.title}{_of(number, len(pages_of_panels))}. "
            f"Under each target: events / n.{remark}",
            alt=f"ROC curves in {part.title}, a panel per target ({', '.join(panel.title for panel in page)}) "
            f"and a line per arm ({', '.join(visible(arm) for arm in scope.arms)}). "
            "The table of AUROCs holds the areas.",
            drawing=CurveGrid(
                panels=tuple(page),
                x_label="1 − specificity",
                y_label="Sensitivity",
                legend=tuple((visible(arm), scope.style(arm), False) for arm in scope.arms),
                unit_square=True,
            ),
        )
        for number, page in enumerate(pages_of_panels, 1)
    ]


def _marks(scope: Scope, part: Part, target: str) -> tuple[Mark, ...]:
    return tuple(
        Mark(1 - point.specificity.value, point.sensitivity.value, 0)
        for point in scope.inputs.results.operating_points
        if Part(point.cohort, point.split) == part
        and (point.target, point.arm) == (target, scope.accent_arm)
        and math.isfinite(point.sensitivity.value)
        and math.isfinite(point.specificity.value)
    )
