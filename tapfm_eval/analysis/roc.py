"""ROC curves, over folds as well, with a band."""

import numpy as np
from numpy.typing import NDArray

from tapfm_eval import statistics
from tapfm_eval.analysis.panels import Floats
from tapfm_eval.results import RocBand

BAND_RATES = tuple(np.round(np.linspace(0.0, 1.0, 41), 3).tolist())
BAND_DRAWS = 2000
BAND_METHOD = "per false positive rate: drawn thresholds, Jeffreys sensitivity"


def mean_roc(labels: Floats, scores: Floats, strata: NDArray[np.int64] | None) -> tuple[Floats, Floats]:
    """ROC curve of known labels; over strata the pair-weighted vertical mean, whose area is the pair-weighted AUROC.

    Returns:
        False and true positive rates (points,), ascending; empty where no stratum holds both classes.
    """
    curves, weights = [], []
    for y, s in _with_both_classes(labels, scores, strata):
        positives, negatives = int((y == 1).sum()), int((y == 0).sum())
        curve = statistics.roc_curve(y, s)
        x, y_axis = np.r_[0.0, curve.fp[::-1] / negatives, 1.0], np.r_[0.0, curve.tp[::-1] / positives, 1.0]
        at, first = np.unique(x, return_index=True)
        last = (
            np.r_[first[1:], len(x)] - 1
        )  # both axes ascend: the first of equal x is the lowest, the last the highest
        curves.append((at, y_axis[first], y_axis[last]))
        weights.append(positives * negatives)
    if not curves:
        return np.empty(0), np.empty(0)
    share = np.asarray(weights) / sum(weights)
    grid = np.unique(np.concatenate([at for at, _, _ in curves]))
    below, above = np.zeros_like(grid), np.zeros_like(grid)
    for weight, (at, low, high) in zip(share, curves, strict=True):
        # between two breakpoints a curve runs from the upper value at the left to the lower value at the right
        left = np.clip(np.searchsorted(at, grid, side="right") - 1, 0, len(at) - 1)
        right = np.minimum(left + 1, len(at) - 1)
        span = np.where(at[right] > at[left], at[right] - at[left], 1.0)
        between = high[left] + (low[right] - high[left]) * (grid - at[left]) / span
        on = at[left] == grid
        below += weight * np.where(on, low[left], between)
        above += weight * np.where(on, high[left], between)
    x, y_axis = np.repeat(grid, 2), np.column_stack([below, above]).ravel()
    return _without_collinear(np.r_[0.0, x], np.r_[0.0, y_axis])


def roc_band(
    labels: Floats, scores: Floats, strata: NDArray[np.int64] | None, *, level: float, rng: np.random.Generator
) -> RocBand | None:
    """Limits of the sensitivity at fixed false positive rates; over strata, of the pair-weighted mean curve.

    At a true false positive rate t, the number of sampled negatives above the threshold is binomial (n, t). It is
    drawn; the sensitivity at that threshold is then drawn from its Jeffreys posterior, the share of positives above
    it being known. The limits are quantiles of the draws. Unlike the bootstrap they do not close to nothing where all
    positives lie above the threshold. They hold at each rate by itself.

    Returns:
        None where no stratum holds both classes.

    Idea: Gu, Ghosal and Roy 2008 (Bayesian bootstrap of the ROC curve), doi:10.1002/sim.3366.
    """
    rates = np.asarray(BAND_RATES)
    total = np.zeros((BAND_DRAWS, rates.size))
    weight = 0
    for y, s in _with_both_classes(labels, scores, strata):
        positive, negative = np.sort(s[y == 1]), np.sort(s[y == 0])
        m, n = positive.size, negative.size
        above = rng.binomial(n, rates, size=(BAND_DRAWS, rates.size))  # sampled negatives above the true threshold
        # the threshold lies between two neighbouring negatives; positives between them fall on either side of it
        low = np.r_[-np.inf, negative][n - above]
        high = np.r_[negative, np.inf][n - above]
        most = m - np.searchsorted(positive, low, side="right")
        least = m - np.searchsorted(positive, high, side="left")
        hits = rng.integers(np.minimum(least, most), most, endpoint=True)
        total += m * n * rng.beta(hits + 0.5, m - hits + 0.5)
        weight += m * n
    if not weight:
        return None
    drawn = total / weight
    drawn[:, -1] = 1.0
    lower, upper = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    # a sensitivity cannot fall as more negatives are let through
    lower, upper = np.maximum.accumulate(lower), np.maximum.accumulate(upper)
    return RocBand(BAND_RATES, tuple(lower.tolist()), tuple(upper.tolist()), level, BAND_METHOD)


def _with_both_classes(labels: Floats, scores: Floats, strata: NDArray[np.int64] | None) -> list[tuple[Floats, Floats]]:
    """Known labels and scores of each stratum that holds both classes."""
    groups = np.zeros(len(labels), dtype=np.int64) if strata is None else strata
    found = []
    for stratum in np.unique(groups):
        rows = (groups == stratum) & ~np.isnan(labels)
        if (labels[rows] == 1).any() and (labels[rows] == 0).any():
            found.append((labels[rows], scores[rows]))
    return found


def _without_collinear(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The same broken line without points that repeat or lie on a straight stretch."""
    fresh = np.r_[True, (np.diff(x) > 0) | (np.diff(y) > 0)]
    x, y = x[fresh], y[fresh]
    if len(x) > 2:
        turn = np.abs((x[1:-1] - x[:-2]) * (y[2:] - y[1:-1]) - (y[1:-1] - y[:-2]) * (x[2:] - x[1:-1])) > 1e-15
        keep = np.r_[True, turn, True]
        x, y = x[keep], y[keep]
    return x, y
