"""Whether discrimination differs between kinds of patients."""

import math
from collections.abc import Sequence
from dataclasses import replace

from tapfm_eval.analysis.comparisons import MIN_EVENTS_FOR_A_TEST
from tapfm_eval.report.blocks import Block, Cell, Column, Figure, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.drawings import ForestGroup
from tapfm_eval.report.numbers import covariate_name, estimate_cell, events_cell, p_cell, p_text, text_cell, visible
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.report.sections.forests import forest_figures, forest_row
from tapfm_eval.results import SubgroupResult

_TESTED = f"the known levels with at least {MIN_EVENTS_FOR_A_TEST} patients of each class"


def subgroups_section(scope: Scope) -> Section | None:
    """AUROC per level of each covariate; left out where the protocol asks for none."""
    results = scope.inputs.results.subgroups
    asked = scope.inputs.protocol.analysis.subgroups
    if not results:
        if not asked:
            return None
        names = visible(", ".join(asked))
        text = f"No subgroup could be formed: no tested cohort records any of {names}."
        return Section("subgroups", "Subgroups", (Paragraph(text),))
    blocks: list[Block] = [_table(scope)]
    absent = [name for name in asked if name not in {result.variable for result in results}]
    if absent:
        blocks.append(
            Paragraph(f"Asked for but not recorded in any tested cohort: {visible(', '.join(absent))}.", "note")
        )
    target = _shown_target(scope, results)
    for part in scope.parts(results, splits=("test", "external")):
        blocks += _figures(scope, part, target)
    return Section("subgroups", "Subgroups", tuple(blocks))


def _shown_target(scope: Scope, results: tuple[SubgroupResult, ...]) -> str:
    """The primary target where it has subgroups, else the first that has."""
    primary = scope.inputs.results.primary
    targets = [result.target for result in results if result.arm == scope.accent_arm] or [results[0].target]
    return primary.target if primary is not None and primary.target in targets else targets[0]


def _figures(scope: Scope, part: Part, target: str) -> list[Figure]:
    own = [
        result
        for result in scope.inputs.results.subgroups
        if Part(result.cohort, result.split) == part and (result.target, result.arm) == (target, scope.accent_arm)
    ]
    groups = []
    for variable in dict.fromkeys(result.variable for result in own):
        levels = [result for result in own if result.variable == variable]
        p = levels[0].heterogeneity_p
        heterogeneity = (
            "" if math.isnan(p) else f" (heterogeneity p = {p_text(p)})".replace("= <", "< ").replace("= >", "> ")
        )
        groups.append(
            ForestGroup(
                f"{visible(covariate_name(variable))}{heterogeneity}",
                tuple(forest_row(scope, result.level, result.auroc, 0) for result in levels),
            )
        )
    return forest_figures(
        scope,
        groups,
        name=f"subgroups-{part.id}",
        caption=f"AUROC of {visible(scope.accent_arm)} for {visible(target)} in subgroups, {part.title}",
        shows=f"AUROCs in subgroups of {part.title}",
        measure="AUROC",
        axis="AUROC",
        reference=0.5,
        remark=f". Heterogeneity is that of {_TESTED}."
        if any(not math.isnan(result.heterogeneity_p) for result in own)
        else "",
    )


def _table(scope: Scope) -> Table:
    results = scope.inputs.results.subgroups
    groups = tuple(
        RowGroup(
            f"{visible(covariate_name(variable))} · {part.title}",
            _rows(
                scope,
                [
                    result
                    for result in results
                    if (result.variable, result.cohort, result.split) == (variable, part.cohort, part.split)
                ],
            ),
        )
        for variable in dict.fromkeys(result.variable for result in results)
        for part in scope.parts(result for result in results if result.variable == variable)
    )
    return Table(
        "subgroups",
        f"AUROC of {visible(scope.accent_arm)} in subgroups",
        (
            Column("Target", ("target",), width=0.9),
            Column("Arm", ("arm",), shown=False),
            Column("Level", ("level",), width=1.6),
            Column("Tested", ("tested",), width=0.7),
            Column("Events / n", ("positives", "n"), "number", 1.0),
            Column(f"AUROC ({scope.interval})", ("auroc", "lower", "upper"), "number", 2.0),
            Column("p, heterogeneity", ("heterogeneity_p",), "number", 1.2),
        ),
        groups,
        group_name="variable_and_part",
        note="Exploratory: p values are not adjusted, and a subgroup without a difference may be too small to show "
        f"one. The p value stands beside the first level and is that of {_TESTED}, by Welch’s F test of their AUROCs "
        "on the logit scale. A dash there: fewer than two levels could be tested, or one of their AUROCs is 0 or 1."
        f"{scope.compared_note}",
    )


def _rows(scope: Scope, results: Sequence[SubgroupResult]) -> tuple[tuple[Cell, ...], ...]:
    """The levels of one covariate; its p value once for each target."""
    told: set[str] = set()
    rows = []
    for result in results:
        rows.append(_row(scope, result, with_p=result.target not in told))
        told.add(result.target)
    return tuple(rows)


def _row(scope: Scope, result: SubgroupResult, *, with_p: bool) -> tuple[Cell, ...]:
    return (
        text_cell(result.target),
        text_cell(result.arm),
        text_cell(result.level),
        text_cell("yes" if result.tested else "no"),
        events_cell(result.auroc.positives, result.auroc.n),
        estimate_cell(result.auroc, scope.decimals),
        p_cell(result.heterogeneity_p) if with_p else replace(p_cell(result.heterogeneity_p), text=""),
    )
