"""Whether the tissue was read, or something that goes with it: covariates alone, strata, and what the score adds."""

import math

from tapfm_eval.report.blocks import Block, Bullets, Cell, Column, Figure, Paragraph, Section, Table
from tapfm_eval.report.drawings import ForestGroup
from tapfm_eval.report.measured import COVARIATES_COVERED
from tapfm_eval.report.numbers import (
    count_cell,
    covariate_name,
    estimate_cell,
    events_cell,
    number_cell,
    p_cell,
    percent,
    text_cell,
    visible,
)
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.report.sections.forests import forest_figures, forest_row
from tapfm_eval.results import AddedValueResult, ControlResult, StratifiedResult

_ALONE = 1  # colour of covariates without a score


def confounding_section(scope: Scope) -> Section | None:
    """Negative controls, strata and added value of the accent arm, and of which covariates there are none."""
    results = scope.inputs.results
    if not (results.controls or results.stratified or results.added_values or results.unused_covariates):
        return None
    blocks: list[Block] = [
        Paragraph(
            "A model may seem to see a mutation when it sees what goes with it: the hospital, the scanner, the "
            "patient’s sex or smoking, another mutation. Three questions are asked of "
            f"{visible(scope.accent_arm)}: how far covariates get without any slide, what remains of its AUROC when "
            "patients are compared within strata only, and whether its score adds to clinical covariates. Exploratory; "
            "p values are not adjusted."
        )
    ]
    if results.unused_covariates:
        blocks.append(_unused(scope))
    if results.controls:
        for part in scope.parts(results.controls, splits=("test", "external")):
            blocks += _figures(scope, part)
        blocks.append(_controls(scope))
    if results.stratified:
        blocks.append(_strata(scope))
    if results.added_values:
        blocks.append(_added(scope))
    return Section("confounding", "Confounding", tuple(blocks))


def _unused(scope: Scope) -> Bullets:
    """Where nothing could be asked, and so nothing was ruled out."""
    results = scope.inputs.results.unused_covariates
    lines = []
    for part in scope.parts(results):
        own = [r for r in results if Part(r.cohort, r.split) == part]
        told = [
            f"{', '.join(covariate_name(r.variable) for r in own if r.reason == reason)}: {reason}"
            for reason in dict.fromkeys(r.reason for r in own)
        ]
        lines.append(visible(f"{part.cohort} · {part.split}. {'; '.join(told)}."))
    return Bullets(tuple(lines), "Not looked at, and so not ruled out")


def _alone(covariates: tuple[str, ...]) -> str:
    return f"{', '.join(map(covariate_name, covariates))} alone"


def _figures(scope: Scope, part: Part) -> list[Figure]:
    results = scope.inputs.results
    groups = []
    own = [r for r in results.controls if Part(r.cohort, r.split) == part]
    for target in dict.fromkeys(r.target for r in own):
        scored = [
            forest_row(scope, f"score of {r.arm}", r.auroc, 0)
            for r in results.aurocs
            if Part(r.cohort, r.split) == part and (r.target, r.arm) == (target, scope.accent_arm)
        ]
        alone = [forest_row(scope, _alone(r.covariates), r.auroc, _ALONE) for r in own if r.target == target]
        groups.append(ForestGroup(visible(target), (*scored, *alone)))
    return forest_figures(
        scope,
        groups,
        name=f"controls-{part.id}",
        caption=f"The score beside covariates without any slide, AUROC with {scope.interval}, {part.title}",
        shows=f"the AUROCs of the score and of covariates alone in {part.title}",
        measure="AUROC",
        axis="AUROC",
        reference=0.5,
    )


def _controls(scope: Scope) -> Table:
    results = scope.inputs.results.controls

    def row(result: ControlResult) -> tuple[Cell, ...]:
        return (
            text_cell(result.target),
            text_cell(", ".join(map(covariate_name, result.covariates))),
            events_cell(result.auroc.positives, result.auroc.n),
            estimate_cell(result.auroc, scope.decimals),
            text_cell(result.auroc.method),
        )

    return Table(
        "controls",
        "Covariates alone: AUROC without any slide",
        (
            Column("Target", ("target",), width=0.9),
            Column("Covariates", ("covariates",), width=2.2),
            Column("Events / n", ("positives", "n"), "number", 1.0),
            Column(f"AUROC ({scope.interval})", ("auroc", "lower", "upper"), "number", 1.9),
            Column("Method", ("method",), shown=False),
        ),
        scope.by_part(results, row),
        group_name="part",
        note="Ridge logistic regression, cross-validated among the patients of the part itself; the CSV names the "
        "method of each interval. Around 0.5, covariates tell nothing; where they reach what the score reaches, the "
        "score may be reading them. The intervals leave out that the predictions were fitted: where covariates told "
        f"nothing, simulated 95% intervals covered {percent(COVARIATES_COVERED[0])} to "
        f"{percent(COVARIATES_COVERED[1])}. Low values may be chance, and speak of no inverse relation. Unknown values "
        "are a category of their own; patients without a known number are left out.",
    )


def _strata(scope: Scope) -> Table:
    results = scope.inputs.results.stratified

    def row(result: StratifiedResult) -> tuple[Cell, ...]:
        return (
            text_cell(result.target),
            text_cell(covariate_name(result.variable)),
            events_cell(result.crude.positives, result.crude.n),
            count_cell(result.missing),
            estimate_cell(result.crude, scope.decimals),
            events_cell(result.within.positives, result.within.n),
            estimate_cell(result.within, scope.decimals),
            text_cell(result.arm),
        )

    return Table(
        "stratified",
        f"AUROC of {visible(scope.accent_arm)} across and within strata",
        (
            Column("Target", ("target",), width=0.9),
            Column("Strata", ("strata",), width=1.4),
            Column("Events / n", ("positives", "n"), "number", 1.0),
            Column("Unknown", ("missing",), "number", 0.8),
            Column("Across strata", ("crude", "crude_lower", "crude_upper"), "number", 1.7),
            Column("Compared", ("within_positives", "within_n"), "number", 1.0),
            Column("Within strata", ("within", "within_lower", "within_upper"), "number", 1.7),
            Column("Arm", ("arm",), width=1.5, shown=False),
        ),
        scope.by_part(results, row),
        group_name="part",
        note=f"{scope.interval} in brackets. Within: patients are compared with patients of their own stratum only, "
        "pairs weighted alike; strata without both classes have no say. Compared: events / n of the strata that have. "
        "A fall from the first to the second may be what the stratum explains, or come of other patients being "
        "compared. Numbers are cut at their median; other targets are strata too.",
    )


def _added(scope: Scope) -> Table:
    results = scope.inputs.results.added_values

    def row(result: AddedValueResult) -> tuple[Cell, ...]:
        return (
            text_cell(result.target),
            text_cell(", ".join(map(covariate_name, result.covariates))),
            events_cell(result.log_odds.positives, result.log_odds.n),
            estimate_cell(result.log_odds, 2),
            number_cell(result.chi_squared, 1) if not math.isnan(result.chi_squared) else Cell("–", (math.nan,)),
            p_cell(result.p_value),
            text_cell(result.arm),
        )

    return Table(
        "added-value",
        f"Does the score of {visible(scope.accent_arm)} add to clinical covariates",
        (
            Column("Target", ("target",), width=0.8),
            Column("Covariates held", ("covariates",), width=1.8),
            Column("Events / n", ("positives", "n"), "number", 0.9),
            Column(f"Log odds per SD ({scope.interval})", ("log_odds", "lower", "upper"), "number", 2.0),
            Column("χ², 1 df", ("chi_squared",), "number", 0.7),
            Column("p", ("p_value",), "number", 0.6),
            Column("Arm", ("arm",), width=1.5, shown=False),
        ),
        scope.by_part(results, row),
        group_name="part",
        note="Logistic regression with and without the score on the logit scale; likelihood ratio test. Where scores "
        "of several folds meet, the fold is a covariate. Not estimable: too few events for that many covariates, or a "
        "covariate that separates the classes.",
    )
