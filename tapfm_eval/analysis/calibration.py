"""Whether scores are risks, as they are and after a recalibration fitted on validation patients, and what use they are.

Probabilities of patients of different folds are read side by side here: a risk of 0.3 means the same whoever said it.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tapfm_eval import statistics
from tapfm_eval.analysis.panels import Floats, Panel, studied
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.patients import CLIP
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import CalibrationResult, DecisionCurveResult, RecalibrationResult, ReliabilityCurve, Scale
from tapfm_eval.statistics.recalibration import Recalibration
from tapfm_eval.statistics.reliability import SmoothCurve

RISKS = tuple(np.round(np.arange(0.01, 1.0, 0.01), 2).tolist())  # threshold risks of a decision curve
CURVE_POINTS = 100  # of a smoothed curve that are kept

Fits = Mapping[tuple[str, str], Recalibration]  # (target, arm) -> fit


def fit_recalibrations(validation: Panel | None, protocol: Protocol) -> dict[tuple[str, str], Recalibration]:
    """A logistic recalibration per target and arm, on the out-of-fold validation patients of all folds."""
    if validation is None:
        return {}
    return {
        (target, arm.id): statistics.fit_recalibration(
            validation.known(target, arm.id), validation.score(arm.id, target), clip=CLIP
        )
        for target, arm in itertools.product(studied(protocol), protocol.arms)
    }


def recalibrations(fits: Fits, validation: Panel | None, protocol: Protocol) -> Iterator[RecalibrationResult]:
    """The fits as results; the slope's limits are those of the calibration slope among the same patients."""
    for (target, arm), fit in fits.items():
        lower = upper = math.nan
        if validation is not None and fit.reason is None:
            y, s = validation.known(target, arm), validation.score(arm, target)
            slope = statistics.calibration(y, s, level=protocol.analysis.level, clip=CLIP).slope
            lower, upper = slope.lower, slope.upper
        yield RecalibrationResult(target, arm, fit.intercept, fit.slope, lower, upper, fit.n, fit.positives, fit.reason)


def calibrations(
    panels: Sequence[Panel], cohorts: Mapping[str, Cohort], fits: Fits, protocol: Protocol
) -> Iterator[CalibrationResult]:
    """Calibration of every arm on every target that the cohort assesses, on both scales."""
    for panel, target, arm in _assessed(panels, cohorts, protocol):
        y = panel.known(target, arm)
        for scale, risks in _scales(panel, target, arm, fits):
            found = statistics.calibration(y, risks, level=protocol.analysis.level, clip=CLIP)
            yield CalibrationResult(
                target, arm, panel.cohort, panel.split, scale, found.intercept, found.slope, found.oe_ratio,
                found.brier, found.quantile_bins, _thinned(found.smooth),
            )  # fmt: skip


def decision_curves(
    panels: Sequence[Panel], cohorts: Mapping[str, Cohort], fits: Fits, protocol: Protocol
) -> Iterator[DecisionCurveResult]:
    """Net benefit over all threshold risks; recalibrated where that could be fitted, since thresholds are risks."""
    for panel, target, arm in _assessed(panels, cohorts, protocol):
        scale, risks = _scales(panel, target, arm, fits)[-1]
        found = statistics.net_benefit(panel.known(target, arm), risks, RISKS, level=protocol.analysis.level)
        yield DecisionCurveResult(
            target, arm, panel.cohort, panel.split, scale, found.n, found.positives, RISKS,
            tuple(point.model.value for point in found.points),
            tuple(point.model.lower for point in found.points),
            tuple(point.model.upper for point in found.points),
            tuple(point.treat_all.value for point in found.points),
            tuple(point.versus_all.lower for point in found.points),
            tuple(point.versus_all.upper for point in found.points),
        )  # fmt: skip


def _assessed(
    panels: Sequence[Panel], cohorts: Mapping[str, Cohort], protocol: Protocol
) -> Iterator[tuple[Panel, str, str]]:
    for panel, target, arm in itertools.product(panels, studied(protocol), protocol.arms):
        if target in cohorts[panel.cohort].assessed:
            yield panel, target, arm.id


def _scales(panel: Panel, target: str, arm: str, fits: Fits) -> list[tuple[Scale, Floats]]:
    scores = panel.score(arm, target)
    found: list[tuple[Scale, Floats]] = [("as they are", scores)]
    fit = fits.get((target, arm))
    if fit is not None and fit.reason is None:
        found.append(("recalibrated", statistics.apply_recalibration(fit, scores)))
    return found


def _thinned(curve: SmoothCurve) -> ReliabilityCurve | None:
    """The curve at no more than `CURVE_POINTS` of its points, spread evenly over patients, ends kept."""
    if curve.reason is not None:
        return None
    size = curve.predicted.size
    kept = np.unique(np.linspace(0, size - 1, min(size, CURVE_POINTS)).round().astype(np.intp))
    return ReliabilityCurve(
        tuple(curve.predicted[kept].tolist()), tuple(curve.observed[kept].tolist()), curve.mean_distance
    )
