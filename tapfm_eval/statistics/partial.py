"""The area under a part of the ROC curve, such as where specificity is at least 90 %."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import Floats, check_choice, check_flag, check_random, number_of, observe
from tapfm_eval.statistics.records import Estimate
from tapfm_eval.statistics.resampling import bootstrap_limits, bootstrap_name, resampled


def partial_auroc(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    focus: str = "specificity",
    at_least: float = 0.9,
    corrected: bool = False,
    level: float = 0.95,
    clusters: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    replicates: int = 2000,
) -> Estimate:
    """Give the area under the ROC curve where specificity (or sensitivity) is `at_least` so much, up to 1.

    The curve joins its points by straight lines, as pROC's `auc(partial.auc = c(1, at_least))`. The area is at most
    1 - at_least; `corrected` maps it to 0.5 for the diagonal and 1 for a perfect curve (McClish), so that different
    ranges compare.

    Args:
        labels: (n,), 0, 1, or NaN where unknown (dropped).
        scores: (n,), a larger score speaks for label 1.
        focus: "specificity" or "sensitivity".
        at_least: in [0, 1).
        clusters: (n,), the patient of each row, for the bootstrap.
        rng: draws the stratified percentile bootstrap; None is a generator with seed 0, so that the same data give the
            same limits.

    Returns:
        NaN with a reason if a class is missing, or if `corrected` and the area lies below the diagonal's; NaN limits
        with a reason if a class has one patient or all resamples agree.

    Raises:
        StatisticsError: malformed arrays (all faults listed), an unknown focus, a bound outside [0, 1).

    Source: McClish 1989 (doi:10.1177/0272989X8900900307).
    """
    check_choice(focus, ("specificity", "sensitivity"), "focus")
    if not 0.0 <= number_of(at_least) < 1.0:
        remedy = "0.9 takes the part from 0.9 to 1."
        raise StatisticsError(Problem("at_least", "a number in [0, 1)", repr(at_least), remedy))
    check_flag(corrected, "corrected")
    draws = check_random(rng, replicates, "bootstrap")
    observed = observe(labels, {"scores": scores}, clusters=clusters, level=level)
    known = ~np.isnan(observed.labels[:, 0])
    positive, values = observed.labels[known, 0] == 1, observed.scores[0, known, 0]
    m, n = int(positive.sum()), int(known.sum())
    patients = n if observed.clusters is None else int(np.unique(observed.clusters[known]).size)
    method = f"partial, {focus} at least {at_least:g}" + (", McClish-corrected" if corrected else "")
    method = f"{method}; {bootstrap_name(draws)}"
    if m in (0, n):
        absent = "known labels" if n == 0 else ("positives" if m == 0 else "negatives")
        return Estimate(np.nan, np.nan, np.nan, level, method, n, m, patients, f"no {absent}")
    curve = _Curve(positive, values, focus, 1.0 - at_least)
    value = float(curve.areas(np.ones((n, 1)))[0])
    drawn = resampled(observed, draws.rng, draws.replicates, lambda weights: curve.areas(weights[known]))
    units = np.flatnonzero(known) if observed.clusters is None else observed.clusters[known]
    fewest = min(np.unique(units[positive]).size, np.unique(units[~positive]).size)
    lower, upper, reason = bootstrap_limits(value, drawn, level, fewest)
    if corrected:
        value, lower, upper = (_mcclish(area, 1.0 - at_least) for area in (value, lower, upper))
        if value < 0.5:
            value, lower, upper = np.nan, np.nan, np.nan
            reason = "the correction is not defined below the diagonal"
    return Estimate(value, lower, upper, level, method, n, m, patients, reason)


class _Curve:
    """The ROC curve of fixed scores, for any weights of the rows."""

    def __init__(self, positive: NDArray[np.bool_], scores: Floats, focus: str, width: float) -> None:
        # the part of high sensitivity is that of high specificity with the classes and the order reversed
        flip = focus == "sensitivity"
        self.event = ~positive if flip else positive
        self.order = np.argsort(scores if flip else -scores, kind="stable")
        ordered = scores[self.order]
        self.last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), scores.size - 1)  # of each tied group
        self.width = width

    def areas(self, weights: Floats) -> Floats:
        """Give the area from 0 to `width` for each column of weights (rows, size); NaN where a class is absent."""
        sorted_weights, event = weights[self.order], self.event[self.order][:, None]
        hits = np.cumsum(sorted_weights * event, axis=0)[self.last]
        alarms = np.cumsum(sorted_weights * ~event, axis=0)[self.last]
        usable = (hits[-1] > 0) & (alarms[-1] > 0)
        origin = np.zeros((1, weights.shape[1]))
        y = np.concatenate([origin, hits / np.where(usable, hits[-1], np.nan)])
        x = np.concatenate([origin, alarms / np.where(usable, alarms[-1], np.nan)])
        run = np.diff(x, axis=0)
        kept = np.clip(self.width - x[:-1], 0.0, run)
        rise = np.diff(y, axis=0) * np.divide(kept, run, out=np.zeros_like(run), where=run > 0)
        areas: Floats = (kept * (y[:-1] + rise / 2.0)).sum(axis=0)
        return areas


def _mcclish(area: float, width: float) -> float:
    least = width**2 / 2.0  # under the diagonal
    return (1.0 + (area - least) / (width - least)) / 2.0
