"""Confidence limits of AUROCs from their variances and counts, for whole arrays at once.

Every function takes arrays (or numbers) that broadcast and gives (lower, upper); NaN where not estimable. Nothing here
chooses a method: `estimate.auroc` does.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, stdtrit

from tapfm_eval.statistics.border import Floats
from tapfm_eval.statistics.proportions import normal_quantile

Limits = tuple[Floats, Floats]

SMALL_CLASS = 20  # patients in the smaller class
SMALL_ERROR_MASS = 5.0  # (patients in the smaller class) x min(A, 1 - A)


def wald_limits(auroc: ArrayLike, variance: ArrayLike, level: float) -> Limits:
    """Give A +- z se clipped to [0, 1], as pROC's `ci.auc`; no width where the variance is 0 (A of 0 or 1)."""
    a, half = (
        np.asarray(auroc, dtype=np.float64),
        normal_quantile(level) * np.sqrt(np.asarray(variance, dtype=np.float64)),
    )
    return np.clip(a - half, 0.0, 1.0), np.clip(a + half, 0.0, 1.0)


def logit_limits(auroc: ArrayLike, variance: ArrayLike, level: float, df: ArrayLike = np.inf) -> Limits:
    """Give expit(logit A +- t se / (A (1 - A))) with t of `df` degrees of freedom, z by default.

    NaN where A is 0 or 1 or the variance is NaN; no width where the variance is 0 and A is neither.
    """
    a, var, nu = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (auroc, variance, df)))
    inside = (a > 0.0) & (a < 1.0) & ~np.isnan(var)
    safe = np.where(inside, a, 0.5)
    t = np.where(np.isinf(nu), normal_quantile(level), stdtrit(np.where(nu > 0, nu, np.nan), 0.5 + level / 2.0))
    centre, half = logit(safe), t * np.sqrt(var) / (safe * (1.0 - safe))
    return np.where(inside, expit(centre - half), np.nan), np.where(inside, expit(centre + half), np.nan)


def score_terms(positives: ArrayLike, negatives: ArrayLike) -> Limits:
    """Give the two terms that `newcombe5_limits` needs, 1/(m n) and ((m + n)/2 - 1)/(m n), for m and n patients."""
    m, n = np.asarray(positives, dtype=np.float64), np.asarray(negatives, dtype=np.float64)
    return 1.0 / (m * n), ((m + n) / 2.0 - 1.0) / (m * n)


def newcombe5_limits(auroc: ArrayLike, pair_term: ArrayLike, placement_term: ArrayLike, level: float) -> Limits:
    """Give the limits theta with |A - theta| = z sqrt(V(theta)): score-type, so also for one positive and A of 0 or 1.

    V(theta) = theta (1 - theta) [pair_term + placement_term ((1 - theta)/(2 - theta) + theta/(1 + theta))]: Hanley and
    McNeil's variance with both class sizes less 1 replaced by N = (m + n)/2 - 1. It takes scores to be exponential, a
    fair stand-in where the classes spread alike; coverage falls to about .85 when positives spread twice as much.

    Source: Newcombe 2006, method 5 (doi:10.1002/sim.2324); Hanley & McNeil 1982 (doi:10.1148/radiology.143.1.7063747).
    """
    a, pair, placement = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (auroc, pair_term, placement_term))
    )
    squared = normal_quantile(level) ** 2

    def outside(theta: Floats) -> NDArray[np.bool_]:
        spread = (1.0 - theta) / (2.0 - theta) + theta / (1.0 + theta)
        accepted = squared * theta * (1.0 - theta) * (pair + placement * spread)
        result: NDArray[np.bool_] = (a - theta) ** 2 > accepted
        return result

    ends = np.array([0.0, 1.0]).reshape(2, *[1] * a.ndim)
    far, near = np.broadcast_to(ends, (2, *a.shape)), np.broadcast_to(a, (2, *a.shape))
    for _ in range(60):  # bisection to the last bit: the near side is accepted, the far side is not
        middle = 0.5 * (far + near)
        out = outside(middle)
        far, near = np.where(out, middle, far), np.where(out, near, middle)
    # at A = end the estimate is its own limit
    lower, upper = np.where(np.isnan(a + pair + placement), np.nan, np.where(a == ends, ends, near))
    return lower, upper


def logit_t_limits(
    auroc: ArrayLike, variance: ArrayLike, df: ArrayLike, pair_term: ArrayLike, placement_term: ArrayLike, level: float
) -> Limits:
    """Give `logit_limits` with Student's t, or `newcombe5_limits` where A is 0 or 1 or the variance is 0 or NaN."""
    variance = np.asarray(variance, dtype=np.float64)
    by_t = logit_limits(auroc, variance, level, df)
    stands_in = np.isnan(by_t[0]) | ~(variance > 0)
    if not stands_in.any():  # solving for the score limits takes longer than all the rest
        return by_t
    by_score = newcombe5_limits(auroc, pair_term, placement_term, level)
    return np.where(stands_in, by_score[0], by_t[0]), np.where(stands_in, by_score[1], by_t[1])


def envelope_limits(
    auroc: ArrayLike, variance: ArrayLike, df: ArrayLike, pair_term: ArrayLike, placement_term: ArrayLike, level: float
) -> Limits:
    """Give the smaller lower and the larger upper limit of `newcombe5_limits` and `logit_t_limits`."""
    variance = np.asarray(variance, dtype=np.float64)
    by_t = logit_limits(auroc, variance, level, df)
    by_score = newcombe5_limits(auroc, pair_term, placement_term, level)
    alone = np.isnan(by_t[0]) | ~(variance > 0)  # where the score limits stand in, they are both
    outer = np.minimum(by_t[0], by_score[0]), np.maximum(by_t[1], by_score[1])
    return np.where(alone, by_score[0], outer[0]), np.where(alone, by_score[1], outer[1])


def is_small(auroc: ArrayLike, positive_patients: ArrayLike, negative_patients: ArrayLike) -> NDArray[np.bool_]:
    """Tell where the default interval is `envelope`: min(m, n) < 20 or min(m, n) min(A, 1 - A) < 5."""
    a = np.asarray(auroc, dtype=np.float64)
    smaller = np.minimum(positive_patients, negative_patients)
    result: NDArray[np.bool_] = (smaller < SMALL_CLASS) | (smaller * np.minimum(a, 1.0 - a) < SMALL_ERROR_MASS)
    return result


def mover_limits(aurocs: Floats, lower: Floats, upper: Floats, correlation: Floats) -> tuple[float, float]:
    """Give limits of the mean of L AUROCs from their own limits: sqrt(d' R d)/L away, d the distances to the limits.

    Correlations that are NaN (a variance of 0 or not estimable) are taken as 1, the widest.

    Source: the method of variance estimates recovery; Zou & Donner 2008 (doi:10.1002/sim.3095), with correlated parts
    Zou 2007 (doi:10.1037/1082-989X.12.4.399).
    """
    filled = np.where(np.isnan(correlation), 1.0, correlation)
    mean = float(np.mean(aurocs))
    below, above = aurocs - lower, upper - aurocs
    down, up = (np.sqrt(max(float(d @ filled @ d), 0.0)) / aurocs.size for d in (below, above))
    return max(mean - float(down), 0.0), min(mean + float(up), 1.0)
