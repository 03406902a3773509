"""How pure the patients ranked first are: average precision beside the prevalence."""

import math

from tapfm_eval.report.blocks import Block, Cell, Column, Figure, Paragraph, Section, Table, method_column
from tapfm_eval.report.drawings import ForestGroup, ForestRow
from tapfm_eval.report.numbers import (
    counts,
    estimate_cell,
    estimate_text,
    events_cell,
    fixed,
    number_cell,
    text_cell,
    visible,
)
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.report.sections.forests import forest_figures
from tapfm_eval.results import AurocResult


def precision_section(scope: Scope) -> Section:
    """Average precision of every arm beside the prevalence."""
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
            number_cell(prevalence, _decimals(prevalence)),
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
        note="A score without information has an average precision equal to the prevalence among many patients, and "
        f"on average somewhat above it among few.{method_note}",
    )
    blocks: list[Block] = [table]
    for part in scope.parts(results, splits=("test", "external")):
        blocks += _figures(scope, part)
    return Section("average-precision", "Average precision", tuple(blocks))


def _figures(scope: Scope, part: Part) -> list[Figure]:
    """Average precision of each arm with the prevalence as an upright line; none where nothing could be estimated."""
    own = [
        r
        for r in scope.inputs.results.aurocs
        if Part(r.cohort, r.split) == part and r.assessed and not math.isnan(r.average_precision.value)
    ]
    groups = []
    for target in dict.fromkeys(r.target for r in own):
        rows = [r for r in own if r.target == target]
        first = rows[0].average_precision
        prevalence = first.positives / first.n
        groups.append(
            ForestGroup(
                f"{visible(target)} (prevalence {fixed(prevalence, _decimals(prevalence))})",
                tuple(_row(scope, r) for r in rows),
                prevalence,
            )
        )
    return forest_figures(
        scope,
        groups,
        name=f"average-precision-{part.id}",
        caption=f"Average precision with {scope.interval}, {part.title}",
        shows=f"average precisions in {part.title}",
        measure="Average precision",
        axis="Average precision",
        reference=None,
        remark=". Upright line: prevalence, which a guess reaches among many patients.",
    )


def _decimals(prevalence: float) -> int:
    return 3 if prevalence < 0.095 else 2


def _row(scope: Scope, result: AurocResult) -> ForestRow:
    found = result.average_precision
    return ForestRow(
        visible(result.arm), counts(found.positives, found.n), estimate_text(found, 2),
        found.value, found.lower, found.upper, scope.style(result.arm),
    )  # fmt: skip
