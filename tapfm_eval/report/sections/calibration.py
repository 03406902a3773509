"""Whether a score of 0.3 means that three patients in ten carry the mutation, before and after recalibration."""

import math

from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.report.blocks import Block, Cell, Column, Figure, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.drawings import Curve, Panel, Whisker
from tapfm_eval.report.numbers import (
    count,
    counted,
    decimals_for,
    estimate_cell,
    events_cell,
    fixed,
    interval_text,
    number_cell,
    text_cell,
    visible,
)
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.report.sections.arms import smoothing_note
from tapfm_eval.report.sections.few_events import FEW_FITTED, recalibrated_on_few
from tapfm_eval.report.sections.grids import grid_figures
from tapfm_eval.results import CalibrationResult, RecalibrationResult

_RECALIBRATED = 1  # colour of the recalibrated curve


def calibration_section(scope: Scope) -> Section:
    """Calibration per target, arm and cohort, the fits made on validation patients, and reliability curves."""
    results = scope.inputs.results.calibrations
    if not results:
        return Section("calibration", "Calibration", (Paragraph("Calibration was not estimated."),))
    blocks: list[Block] = [
        _table(scope, scale, tuple(result for result in results if result.scale == scale))
        for scale in dict.fromkeys(result.scale for result in results)
    ]
    few = recalibrated_on_few(scope)
    if few:
        blocks.insert(0, Paragraph(few))
    if scope.inputs.results.recalibrations:
        blocks.append(_fits(scope, scope.inputs.results.recalibrations))
    for part in scope.parts(results, splits=("test", "external")):
        blocks += _figures(scope, part)
    return Section("calibration", "Calibration", tuple(blocks))


def _table(scope: Scope, scale: str, results: tuple[CalibrationResult, ...]) -> Table:
    decimals = decimals_for((result.brier for result in results), fine_below=0.04)

    def row(result: CalibrationResult) -> tuple[Cell, ...]:
        distance = math.nan if result.curve is None else result.curve.mean_distance
        return (
            text_cell(result.target),
            text_cell(result.arm),
            events_cell(result.brier.positives, result.brier.n),
            estimate_cell(result.intercept, 2),
            estimate_cell(result.slope, 2),
            estimate_cell(result.observed_expected, 2),
            estimate_cell(result.brier, decimals),
            number_cell(distance, decimals),
        )

    mended = scale != "as they are"
    return Table(
        "calibration-recalibrated" if mended else "calibration",
        "Calibration after recalibration on validation patients" if mended else "Calibration of the scores as they are",
        (
            Column("Target", ("target",), width=0.75),
            Column("Arm", ("arm",), width=1.65),
            Column("Events / n", ("positives", "n"), "number", 0.95),
            Column("Intercept (ideal 0)", ("intercept", "intercept_lower", "intercept_upper"), "number", 2.1),
            Column("Slope (ideal 1)", ("slope", "slope_lower", "slope_upper"), "number", 1.8),
            Column(
                "Observed / expected (ideal 1)",
                ("observed_expected", "observed_expected_lower", "observed_expected_upper"),
                "number",
                1.4,
            ),
            Column("Brier score", ("brier", "brier_lower", "brier_upper"), "number", 1.65),
            Column("Mean distance", ("integrated_calibration_index",), "number", 0.85),
        ),
        scope.by_part(results, row),
        group_name="part",
        note=(
            f"{scope.interval} in brackets. Intercept and slope were fitted on validation patients and carried "
            "unchanged; a cohort with another prevalence still shifts the intercept."
            if mended
            else f"{scope.interval} in brackets. Intercept in the large: above 0, the scores are too low on average. "
            "Slope below 1: the scores are too extreme. Mean distance: of the smoothed curve from the diagonal, over "
            "patients." + ("" if scope.inputs.scored else _trained_on(scope.inputs.protocol))
        ),
    )


def _trained_on(protocol: Protocol) -> str:
    """What training did to the level of the scores; of models from elsewhere nobody here knows."""
    return (
        " Scores are at the prevalence of the training patients, so a cohort with another prevalence shifts the "
        f"intercept.{smoothing_note(protocol)}"
    )


def _fits(scope: Scope, results: tuple[RecalibrationResult, ...]) -> Table:
    def row(result: RecalibrationResult) -> tuple[Cell, ...]:
        return (
            text_cell(result.target),
            text_cell(result.arm),
            events_cell(result.positives, result.n),
            number_cell(result.intercept, 2),
            _slope_cell(result),
            text_cell(_remark(result)),
        )

    return Table(
        "recalibration",
        "Recalibration fitted on validation patients",
        (
            Column("Target", ("target",), width=0.8),
            Column("Arm", ("arm",), width=1.8),
            Column("Events / n", ("positives", "n"), "number", 1.0),
            Column("Intercept", ("intercept",), "number", 0.8),
            Column(f"Slope ({scope.interval})", ("slope", "slope_lower", "slope_upper"), "number", 1.4),
            Column("Remark", ("remark",), width=3.0),
        ),
        (RowGroup("", tuple(row(result) for result in results)),),
        note="The logit of a score becomes intercept + slope × logit."
        + (f" Fitted on the out-of-fold scores of all {scope.folds} folds together." if scope.folds > 1 else ""),
    )


def _remark(result: RecalibrationResult) -> str:
    if result.reason is not None:
        return f"scores stay as they are: {result.reason}"
    rarer = min(result.positives, result.n - result.positives)
    return f"rests on {counted(rarer, 'patient')} of the rarer class" if rarer < FEW_FITTED else ""


def _slope_cell(result: RecalibrationResult) -> Cell:
    """The slope with its limits; a dash where nothing could be fitted, which the remark explains."""
    if math.isnan(result.slope):
        return Cell("–", (math.nan, math.nan, math.nan))
    known = math.isfinite(result.slope_lower) and math.isfinite(result.slope_upper)
    limits = interval_text(result.slope_lower, result.slope_upper, 2) if known else "interval not estimable"
    values = (result.slope, result.slope_lower, result.slope_upper)
    return Cell(f"{fixed(result.slope, 2)} ({limits})", values, result.slope)


def _seen(results: list[CalibrationResult], titles: list[str]) -> str:
    """How far each curve lies from the diagonal, which is what a look at it tells."""
    told = [
        f"{visible(r.target)}, scores {r.scale}: {fixed(r.curve.mean_distance, 2)}"
        for r in results
        if r.curve is not None and visible(r.target) in titles
    ]
    return f"Mean distance from the diagonal: {'; '.join(told)}."


def _figures(scope: Scope, part: Part) -> list[Figure]:
    """Reliability of the accent arm: smoothed curves on both scales, tenths of patients with their intervals."""
    own = [
        result
        for result in scope.inputs.results.calibrations
        if Part(result.cohort, result.split) == part and result.arm == scope.accent_arm
    ]
    panels = []
    for target in dict.fromkeys(result.target for result in own):
        shown = [result for result in own if result.target == target]
        curves = tuple(
            Curve(r.curve.predicted, r.curve.observed, 0 if r.scale == "as they are" else _RECALIBRATED)
            for r in shown
            if r.curve is not None
        )
        whiskers = tuple(
            Whisker(b.mean_predicted, b.observed.value, b.observed.lower, b.observed.upper, 0)
            for r in shown
            if r.scale == "as they are"
            for b in r.bins
        )
        note = f"{count(shown[0].brier.positives)} / {count(shown[0].brier.n)}"
        panels.append(
            Panel(visible(target), note if curves else "no curve could be smoothed", curves, whiskers=whiskers)
        )
    if not any(panel.curves for panel in panels):
        return []
    legend = [("as they are", 0, False)]
    if any(result.scale == "recalibrated" for result in own):
        legend.append(("recalibrated", _RECALIBRATED, False))
    return grid_figures(
        panels,
        name=f"reliability-{part.id}",
        caption=f"Reliability of {visible(scope.accent_arm)}, {part.title}",
        remark=f"Lines: smoothed. Squares: tenths of the patients by score as it is, with {scope.interval}. Under each "
        "target: events / n.",
        alt=lambda titles: (
            f"Reliability curves in {part.title}, a panel per target ({', '.join(titles)}): "
            f"observed share of mutated patients against the score. {_seen(own, titles)} "
            "The tables of calibration hold more."
        ),
        x_label="Score",
        y_label="Share mutated",
        legend=legend,
        unit_square=True,
    )
