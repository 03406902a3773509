"""Single numbers for a 2 x 2 table, with intervals: Youden's index, F1, Matthews correlation."""

import math

import numpy as np

from tapfm_eval.statistics.proportions import mover_distance, normal_quantile, proportion_limits
from tapfm_eval.statistics.records import Estimate


def youden_index(sensitivity: Estimate, specificity: Estimate, n: int, positives: int) -> Estimate:
    """Sensitivity + specificity - 1 with square-and-add limits (MOVER) of the two intervals."""
    value = sensitivity.value + specificity.value - 1
    method = f"square-and-add {sensitivity.method}"
    if math.isnan(value):
        reason = "no positives" if math.isnan(sensitivity.value) else "no negatives"
        return Estimate(value, math.nan, math.nan, sensitivity.level, method, n, positives, n, reason)
    down = mover_distance(sensitivity.value - sensitivity.lower, specificity.value - specificity.lower)
    up = mover_distance(sensitivity.upper - sensitivity.value, specificity.upper - specificity.value)
    return Estimate(value, value - down, value + up, sensitivity.level, method, n, positives, n)


def f1_score(tp: int, fp: int, tn: int, fn: int, level: float) -> Estimate:
    """2 tp / (2 tp + fp + fn), a monotone function of tp / (tp + fp + fn), whose Wilson limits it takes over."""
    n, trials = tp + fp + tn + fn, tp + fp + fn
    method = "wilson of tp / (tp + fp + fn), transformed"
    if trials == 0:
        reason = "no positives and nobody called positive"
        return Estimate(math.nan, math.nan, math.nan, level, method, n, tp + fn, n, reason)
    lower, upper = proportion_limits(tp, trials, level, "wilson")
    value = 2 * tp / (2 * tp + fp + fn)
    return Estimate(value, 2 * lower / (1 + lower), 2 * upper / (1 + upper), level, method, n, tp + fn, n)


def matthews_correlation(tp: int, fp: int, tn: int, fn: int, level: float) -> Estimate:
    """Matthews correlation (phi) with multinomial delta-method limits on Fisher's z."""
    n, method = tp + fp + tn + fn, "delta method on Fisher's z"
    rows = np.array([tp + fp, tp + fn, tn + fp, tn + fn], dtype=np.float64)
    if not rows.all():
        reason = "a row or column of the 2 x 2 table is empty"
        return Estimate(math.nan, math.nan, math.nan, level, method, n, tp + fn, n, reason)
    called, truly, truly_not, not_called = (rows / n).tolist()
    cells = np.array([tp, fp, tn, fn]) / n
    scale = math.sqrt(called * truly * truly_not * not_called)
    value = float((cells[0] * cells[2] - cells[1] * cells[3]) / scale)
    if abs(value) > 1 - 1e-12:
        reason = "limits: perfect agreement leaves no variance to estimate"
        return Estimate(math.copysign(1.0, value), math.nan, math.nan, level, method, n, tp + fn, n, reason)
    cross = np.array([cells[2], -cells[3], cells[0], -cells[1]]) / scale
    margins = np.array(
        [1 / called + 1 / truly, 1 / called + 1 / truly_not, 1 / not_called + 1 / truly_not, 1 / not_called + 1 / truly]
    )
    gradient = cross - value / 2 * margins
    variance = float((cells @ gradient**2 - (cells @ gradient) ** 2) / n)
    half = normal_quantile(level) * math.sqrt(max(variance, 0.0)) / (1 - value * value)
    centre = math.atanh(value)
    lower, upper = math.tanh(centre - half), math.tanh(centre + half)
    return Estimate(value, lower, upper, level, method, n, tp + fn, n)
