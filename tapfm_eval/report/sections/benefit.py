"""Whether acting on a score is better than testing everybody, or nobody: decision curves."""

import math

from tapfm_eval.report.blocks import Block, Cell, Column, Figure, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.drawings import NO_ARM, OTHERS, Band, Curve, Panel
from tapfm_eval.report.numbers import (
    count,
    decimals_for_widths,
    fixed,
    interval_text,
    number_cell,
    percent,
    text_cell,
    visible,
)
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.report.sections.few_events import recalibrated_on_few
from tapfm_eval.report.sections.grids import grid_figures
from tapfm_eval.results import DecisionCurveResult

TABLED_RISKS = (0.05, 0.1, 0.2, 0.3, 0.5)
MOST_NAMED = 6  # arms with a colour in one panel


def benefit_section(scope: Scope) -> Section | None:
    """Decision curves of all arms, with testing all and none; None where none was estimated."""
    results = scope.inputs.results.decision_curves
    if not results:
        return None
    mended = sum(result.scale == "recalibrated" for result in results)
    scale = (
        "Scores are recalibrated on validation patients"
        if mended == len(results)
        else "Scores are as they are"
        if not mended
        else "Scores are recalibrated on validation patients where that could be fitted"
    )
    blocks: list[Block] = [
        Paragraph(
            "A threshold risk says how many needless confirmatory tests one would accept to find one mutated patient: "
            "at a risk of 10%, nine. Net benefit is the number of patients found, less the needless tests at that "
            f"price, per patient. {scale}. A model is of use only where it lies above both testing everybody and "
            "testing nobody." + (f" {few}" if (few := recalibrated_on_few(scope)) and mended else "")
        )
    ]
    for part in scope.parts(results, splits=("test", "external")):
        blocks += _figures(scope, part)
    blocks.append(_table(scope))
    return Section("decision-curves", "Clinical usefulness", tuple(blocks))


def _figures(scope: Scope, part: Part) -> list[Figure]:
    own = [r for r in scope.inputs.results.decision_curves if Part(r.cohort, r.split) == part and r.n > 0]
    panels = [
        _panel(scope, target, [r for r in own if r.target == target]) for target in dict.fromkeys(r.target for r in own)
    ]
    legend = [(visible(arm), scope.style(arm), False) for arm in scope.arms if arm in _named(scope)]
    legend += [("other arms", OTHERS, False)] if len(legend) < len(scope.arms) else []
    return grid_figures(
        panels,
        name=f"decision-{part.id}",
        caption=f"Decision curves, {part.title}",
        remark=f"Band: {scope.interval} of {visible(scope.accent_arm)} at each risk by itself. Each panel has axes of "
        "its own; lines are cut off below minus a quarter of its top, bands also above it.",
        alt=lambda titles: (
            f"Net benefit against threshold risk in {part.title}, a panel per target "
            f"({', '.join(titles)}), a line per arm, and lines for testing everybody and "
            f"nobody. {_seen(scope, part, titles)}The table of net benefit holds more."
        ),
        x_label="Threshold risk",
        y_label="Net benefit",
        legend=[*legend, ("test everybody", NO_ARM, True), ("test nobody", NO_ARM, False)],
    )


def _seen(scope: Scope, part: Part, titles: list[str]) -> str:
    """Where the accent arm does more good than testing everybody or nobody: what a look at its curve tells."""
    told = []
    for r in scope.inputs.results.decision_curves:
        if Part(r.cohort, r.split) == part and r.arm == scope.accent_arm and visible(r.target) in titles:
            best = [
                t
                for t, value, everybody in zip(r.thresholds, r.net_benefit, r.treat_all, strict=True)
                if value > max(everybody, 0.0)
            ]
            where = f"between {percent(min(best))} and {percent(max(best))}" if best else "nowhere"
            told.append(f"{visible(r.target)} {where}")
    if not told:
        return ""
    return f"Above both, somewhere in this range of risks, is {visible(scope.accent_arm)}: {'; '.join(told)}. "


def _named(scope: Scope) -> frozenset[str]:
    """Arms told apart by colour: all of a few; of many the accent arm, and the one that it is tested against."""
    if len(scope.arms) <= MOST_NAMED:
        return frozenset(scope.arms)
    primary = scope.inputs.results.primary
    return frozenset({scope.accent_arm} if primary is None else {scope.accent_arm, primary.versus})


def _panel(scope: Scope, target: str, results: list[DecisionCurveResult]) -> Panel:
    """Risks up to where no line is above testing nobody any more; net benefit from a little below zero."""
    first = results[0]
    prevalence = first.positives / first.n
    useful = [
        t
        for r in results
        for t, *values in zip(r.thresholds, r.net_benefit, r.treat_all, strict=True)
        if max(values) > 0
    ]
    right = min(1.0, math.ceil((max(useful, default=0.0) + 0.02) * 10) / 10) if useful else 0.5
    top = max(prevalence, *(max(r.net_benefit) for r in results)) * 1.08 or 0.1
    bottom = -0.25 * top
    named = _named(scope)
    curves = tuple(
        Curve(*run, scope.style(r.arm) if r.arm in named else OTHERS)
        for r in results
        for run in _runs(r.thresholds, r.net_benefit, right, bottom)
    )
    everybody = tuple(
        Curve(*run, NO_ARM, dashed=True) for run in _runs(first.thresholds, first.treat_all, right, bottom)
    )
    nobody = Curve((0.0, right), (0.0, 0.0), NO_ARM)
    bands = []
    for r in results:
        if r.arm == scope.accent_arm:
            inside = [i for i, t in enumerate(r.thresholds) if t <= right]
            bands.append(
                Band(
                    tuple(r.thresholds[i] for i in inside),
                    tuple(max(r.lower[i], bottom) for i in inside),
                    tuple(min(max(r.upper[i], bottom), top) for i in inside),
                    scope.style(r.arm),
                )
            )
    return Panel(
        visible(target),
        f"{count(first.positives)} / {count(first.n)}",
        (*curves, *everybody, nobody),
        bands=tuple(bands),
        limits=((0.0, right), (bottom, top)),
    )


def _runs(
    x: tuple[float, ...], y: tuple[float, ...], right: float, bottom: float
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """The stretches of a line up to `right` that lie at or above `bottom`, each ending where the line crosses it."""
    runs: list[list[tuple[float, float]]] = []
    below = True
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        if a > right:
            break
        entered = below and b >= bottom
        if entered:
            runs.append([])
        if i and below != (b < bottom):
            share = (bottom - y[i - 1]) / (b - y[i - 1])
            runs[-1].append((x[i - 1] + share * (a - x[i - 1]), bottom))
        below = b < bottom
        if not below:
            runs[-1].append((a, b))
    return [(tuple(a for a, _ in run), tuple(b for _, b in run)) for run in runs]


def _table(scope: Scope) -> Table:
    results = [r for r in scope.inputs.results.decision_curves if r.arm == scope.accent_arm]

    widths = [
        upper - lower
        for r in results
        for t, lower, upper in zip(r.thresholds, r.lower, r.upper, strict=True)
        if any(abs(t - risk) < 1e-9 for risk in TABLED_RISKS)
    ]
    decimals = decimals_for_widths(widths, fine_below=0.04)

    def cells(result: DecisionCurveResult, risk: float) -> tuple[Cell, ...]:
        at = min(range(len(result.thresholds)), key=lambda i: abs(result.thresholds[i] - risk))
        value, lower, upper = result.net_benefit[at], result.lower[at], result.upper[at]
        limits = interval_text(lower, upper, decimals)
        text = "not estimable" if math.isnan(value) else f"{fixed(value, decimals)} ({limits})"
        price = risk / (1 - risk)
        avoided = (value - result.treat_all[at]) / price
        return (
            text_cell(result.target),
            text_cell(result.arm),
            Cell(percent(risk), (risk,), risk),
            Cell(text, (value, lower, upper), None if math.isnan(value) else value),
            number_cell(result.treat_all[at], decimals),
            _avoided_cell(
                100 * avoided, *(100 * limit[at] / price for limit in (result.over_all_lower, result.over_all_upper))
            ),
        )

    groups = tuple(
        RowGroup(
            part.title,
            tuple(
                cells(result, risk)
                for result in results
                if (result.cohort, result.split) == (part.cohort, part.split)
                for risk in TABLED_RISKS
            ),
        )
        for part in scope.parts(results)
    )
    return Table(
        "net-benefit",
        f"Net benefit of {visible(scope.accent_arm)} at some threshold risks",
        (
            Column("Target", ("target",), width=1.0),
            Column("Arm", ("arm",), width=2.0, shown=False),
            Column("Threshold risk", ("threshold_risk",), "number", 1.0),
            Column(f"Net benefit ({scope.interval})", ("net_benefit", "lower", "upper"), "number", 2.2),
            Column("Testing everybody", ("treat_all",), "number", 1.3),
            Column(
                f"Tests avoided per 100 ({scope.interval})",
                ("tests_avoided_per_100", "tests_avoided_lower", "tests_avoided_upper"),
                "number",
                1.7,
            ),
        ),
        groups,
        group_name="part",
        note="Testing nobody has a net benefit of 0. Tests avoided: against testing everybody, per 100 patients, once "
        "every missed patient is paid for at the price of that risk; below 0, testing everybody would be better.",
    )


def _avoided_cell(value: float, lower: float, upper: float) -> Cell:
    if math.isnan(value):
        return Cell("–", (value, lower, upper))
    limits = "" if math.isnan(lower) else f" ({interval_text(lower, upper, 0)})"
    return Cell(f"{fixed(value, 0)}{limits}", (value, lower, upper), value)
