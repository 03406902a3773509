"""ROC curves, a panel per target, with the lead arm's band and operating points."""

import math
from collections.abc import Mapping, Sequence

from tapfm_eval.report.blocks import Figure
from tapfm_eval.report.drawings import Band, Curve, Mark, Panel
from tapfm_eval.report.numbers import counts, fixed, visible
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.report.sections.grids import grid_figures
from tapfm_eval.results import AurocResult


def roc_figures(scope: Scope, part: Part) -> list[Figure]:
    results = scope.inputs.results
    aurocs = {(r.target, r.arm): r for r in results.aurocs if Part(r.cohort, r.split) == part}
    curves = [c for c in results.curves if Part(c.cohort, c.split) == part]
    panels = []
    for target in dict.fromkeys(curve.target for curve in curves):
        own = [curve for curve in curves if curve.target == target]
        drawn = tuple(
            Curve(c.false_positive_rate, c.true_positive_rate, scope.style(c.arm)) for c in own if c.false_positive_rate
        )
        known = next((aurocs[target, c.arm] for c in own if (target, c.arm) in aurocs), None)
        note = "" if known is None else counts(known.positives, known.known)
        if not drawn:
            note = "not estimable: " + (
                visible(known.auroc.reason) if known is not None and known.auroc.reason else "a class is missing"
            )
        bands = tuple(
            Band(c.band.false_positive_rate, c.band.lower, c.band.upper, scope.style(c.arm))
            for c in own
            if c.band is not None and c.arm == scope.accent_arm
        )
        panels.append(Panel(visible(target), note, drawn, _marks(scope, part, target) if drawn else (), bands))
    remark = "Under each target: events / n."
    if any(panel.bands for panel in panels):
        remark += (
            f" Band: {scope.interval} of the sensitivity of {visible(scope.accent_arm)} at each false positive rate by "
            "itself."
        )
    if any(panel.marks for panel in panels):
        remark += f" Rings: operating points of {visible(scope.accent_arm)} {_placed(scope)}."
    return grid_figures(
        panels,
        name=f"roc-{part.id}",
        caption=f"ROC curves, {part.title}",
        remark=remark,
        alt=lambda titles: (
            f"ROC curves in {part.title}, a panel per target ({', '.join(titles)}) "
            f"and a line per arm ({', '.join(visible(arm) for arm in scope.arms)}). "
            f"Areas under them: {_areas(scope, aurocs, titles)}."
        ),
        x_label="1 − specificity",
        y_label="Sensitivity",
        legend=[(visible(arm), scope.style(arm), False) for arm in scope.arms],
        unit_square=True,
    )


def _areas(scope: Scope, aurocs: Mapping[tuple[str, str], AurocResult], titles: Sequence[str]) -> str:
    told: dict[str, list[str]] = {}
    for (target, arm), result in aurocs.items():
        if visible(target) in titles:
            told.setdefault(visible(target), []).append(f"{visible(arm)} {fixed(result.auroc.value, scope.decimals)}")
    return "; ".join(f"{target}: {', '.join(areas)}" for target, areas in told.items())


def _placed(scope: Scope) -> str:
    """Where the thresholds of the rings came from."""
    declared = {point.declared for point in scope.inputs.results.operating_points if point.arm == scope.accent_arm}
    if declared == {True, False}:
        return "as fixed on validation, and as declared"
    return "as declared" if True in declared else "as fixed on validation"


def _marks(scope: Scope, part: Part, target: str) -> tuple[Mark, ...]:
    return tuple(
        Mark(1 - point.specificity.value, point.sensitivity.value, 0)
        for point in scope.inputs.results.operating_points
        if Part(point.cohort, point.split) == part
        and (point.target, point.arm) == (target, scope.accent_arm)
        and math.isfinite(point.sensitivity.value)
        and math.isfinite(point.specificity.value)
    )
