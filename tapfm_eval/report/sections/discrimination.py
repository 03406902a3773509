"""How well each arm tells mutated from unmutated patients, per target and cohort."""

import math
from collections.abc import Iterable
from dataclasses import replace

from tapfm_eval.report.blocks import Block, Cell, Column, Figure, Paragraph, Section, Table, method_column
from tapfm_eval.report.drawings import ForestGroup
from tapfm_eval.report.numbers import (
    count,
    count_cell,
    counted,
    counts,
    estimate_cell,
    events_cell,
    fixed,
    text_cell,
    visible,
)
from tapfm_eval.report.published import published_macro, published_note, published_value
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.report.sections.forests import forest_figures, forest_row
from tapfm_eval.report.sections.roc import roc_figures
from tapfm_eval.results import AurocResult, MacroResult

_UNSEEN = ("test", "external")


def auroc_section(scope: Scope) -> Section:
    """AUROCs as table, forest plots and ROC curves."""
    results = scope.inputs.results.aurocs
    if not results:
        return Section("auroc", "Discrimination", (Paragraph("No AUROC was estimated."),))
    blocks: list[Block] = [_auroc_table(scope)]
    for part in scope.parts(results, splits=_UNSEEN):
        blocks += [*_forests(scope, part), *roc_figures(scope, part)]
    return Section("auroc", "Discrimination", tuple(blocks))


def macro_section(scope: Scope) -> Section | None:
    """Mean AUROC over the targets, and the AUROC over all pairs of patient and target, per arm; None for one target."""
    if scope.one_target:
        return None
    results = scope.inputs.results.macros
    if not results:
        return Section("macro", "Several targets together", (Paragraph("No average over targets was estimated."),))
    protocol = scope.inputs.protocol
    values = [None if scope.inputs.rehearsal is not None else published_macro(protocol, r) for r in results]
    published = dict(zip(map(id, results), values, strict=True))
    has_published = any(value is not None for value in values)

    def row(result: MacroResult) -> tuple[Cell, ...]:
        return (
            text_cell(result.arm),
            text_cell(", ".join(result.targets) or "none"),
            text_cell(", ".join(result.left_out) or "none"),
            Cell(count(result.macro.clusters), (result.macro.clusters,), float(result.macro.clusters)),
            estimate_cell(result.macro, scope.decimals),
            *((_published_cell(scope, published[id(result)]),) if has_published else ()),
            Cell(
                f"{count(result.micro.positives)} / {count(result.micro.n)}",
                (result.micro.positives, result.micro.n),
                float(result.micro.positives),
            ),
            estimate_cell(result.micro, scope.decimals),
            text_cell(result.macro.method),
        )

    method, method_note = method_column("Interval, macro", (visible(result.macro.method) for result in results), 1.7)
    table = Table(
        "macro-auroc",
        "Macro and micro AUROC over the targets",
        (
            Column("Arm", ("arm",), width=1.8),
            Column("Targets", ("targets",), width=1.5),
            Column("Left out", ("left_out",), width=0.9),
            Column("Patients", ("patients",), "number", 0.8),
            Column(f"Macro AUROC ({scope.interval})", ("macro_auroc", "lower", "upper"), "number", 1.6),
            *((Column("Published", ("published",), "number", 0.9),) if has_published else ()),
            Column("Events / pairs", ("micro_positives", "micro_pairs"), "number", 1.1),
            Column(f"Micro AUROC ({scope.interval})", ("micro_auroc", "micro_lower", "micro_upper"), "number", 1.6),
            method,
        ),
        scope.by_part(results, row),
        group_name="part",
        note="Macro: mean of the targets’ AUROCs. Micro: AUROC of all pairs of patient and target, clustered by "
        "patient; it also rewards knowing that one target is more frequent than another. A target is left out where "
        "all its patients belong to one class; averages over different targets do not compare. "
        f"Micro intervals: {visible(_joined(result.micro.method for result in results))}.{method_note}"
        + (f" {published_note(protocol)}" if has_published else ""),
    )
    return Section("macro", "Several targets together", (table,))


def _published_cell(scope: Scope, value: float | None) -> Cell:
    return Cell("–" if value is None else fixed(value, scope.decimals), (value,), value)


def _joined(names: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(names))


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
        published = (_published_cell(scope, value),)
        return (
            text_cell(result.target),
            text_cell(result.arm),
            events_cell(result.positives, result.known),
            count_cell(result.missing),
            *((count_cell(result.auroc.n),) if scope.compared_note else ()),
            estimate,
            *(published if has_published else ()),
            text_cell(result.auroc.method if result.assessed else ""),
        )

    method, method_note = method_column(
        "Interval", (visible(result.auroc.method) for result in scope.inputs.results.aurocs if result.assessed), 2.5
    )
    note = "Events are patients with the mutation, n those with a known label; unknown labels are left out."
    note += scope.control_note + scope.compared_note + method_note
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
            *((Column("Compared", ("compared",), "number", 0.85),) if scope.compared_note else ()),
            Column(f"AUROC ({scope.interval})", ("auroc", "lower", "upper"), "number", 1.9),
            *((Column("Published", ("published",), "number", 0.95),) if has_published else ()),
            method,
        ),
        scope.by_part(scope.inputs.results.aurocs, row),
        group_name="part",
        note=note,
    )


def _forests(scope: Scope, part: Part) -> list[Figure]:
    own = [r for r in scope.inputs.results.aurocs if Part(r.cohort, r.split) == part and r.assessed]
    groups = [
        ForestGroup(
            visible(target),
            tuple(
                replace(forest_row(scope, r.arm, r.auroc, scope.style(r.arm)), counts=counts(r.positives, r.known))
                for r in own
                if r.target == target
            ),
        )
        for target in dict.fromkeys(r.target for r in own)
    ]
    macros = [m for m in scope.inputs.results.macros if Part(m.cohort, m.split) == part]
    if macros and not scope.one_target:
        rows = tuple(
            replace(forest_row(scope, m.arm, m.macro, scope.style(m.arm)), counts=counted(m.macro.clusters, "patient"))
            for m in macros
        )
        groups.append(ForestGroup("Macro-average", rows))
    return forest_figures(
        scope,
        groups,
        name=f"forest-{part.id}",
        caption=f"AUROC with {scope.interval}, {part.title}",
        shows=f"AUROCs in {part.title}",
        measure="AUROC",
        axis="AUROC",
        reference=0.5,
    )
