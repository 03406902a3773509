"""The reliability curve: observed share against predicted probability, in bins and smoothed."""

import math
from dataclasses import dataclass

import numpy as np

from tapfm_eval.statistics.border import Floats
from tapfm_eval.statistics.proportions import proportion
from tapfm_eval.statistics.records import Estimate

SMOOTHING_SHARE = 2 / 3  # of the patients that each local line sees; R's lowess default
SMALLEST_SMOOTHED = 5  # patients below which a smoothed curve says nothing


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Patients with neighbouring predictions: what was predicted and what came."""

    n: int
    mean_predicted: float
    observed: Estimate  # share of positives, Wilson interval


@dataclass(frozen=True, slots=True, eq=False)
class SmoothCurve:
    """Locally linear observed share at every distinct prediction, and its distance from the diagonal over patients."""

    predicted: Floats  # (points,) ascending
    observed: Floats  # (points,) may leave [0, 1] a little at the ends
    mean_distance: float  # over patients; integrated calibration index, Eavg of rms::val.prob
    median_distance: float  # E50
    distance_90: float  # E90
    largest_distance: float  # Emax
    reason: str | None = None


def reliability_bins(y: Floats, p: Floats, *, bins: int, level: float, kind: str) -> tuple[ReliabilityBin, ...]:
    """Bins of patients by prediction, ascending; empty ones are left out.

    `quantile`: the i-th of n patients by prediction goes to bin ceil(i bins / n); tied predictions keep the order
    given, as R's `order` does. `equal_width`: bins closed on the left, the last on both sides; edges are the floats of
    R's `seq` and numpy's `linspace`, of which the third, sixth and seventh of ten lie just above 0.3, 0.6 and 0.7, so
    that these very numbers fall into the bin below.

    Args:
        y: (n,) 0 or 1, checked.
        p: (n,) in [0, 1], checked.
        bins: number of bins.
        level: confidence level of the observed shares.
        kind: `quantile` or `equal_width`.
    """
    n = p.size
    if kind == "quantile":
        places = np.empty(n, dtype=np.intp)
        places[np.argsort(p, kind="stable")] = -(-np.arange(1, n + 1) * bins // max(n, 1)) - 1
    else:
        edges = np.linspace(0.0, 1.0, bins + 1)
        places = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, bins - 1)
    result = []
    for place in np.unique(places):
        inside = places == place
        size = int(inside.sum())
        observed = proportion(int(y[inside].sum()), size, level=level)
        result.append(ReliabilityBin(size, float(p[inside].mean()), observed))
    return tuple(result)


def bin_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """Expected calibration error: mean over patients of |observed - predicted| of their bin; NaN without patients."""
    n = sum(b.n for b in bins)
    return sum(b.n * abs(b.observed.value - b.mean_predicted) for b in bins) / n if n else math.nan


def smooth_curve(y: Floats, p: Floats) -> SmoothCurve:
    """Lowess of outcome on prediction (span 2/3, no robustness steps), as R's `lowess(p, y, iter = 0)`.

    Not estimable, with a reason, for fewer than 5 patients or predictions that do not vary.

    Source: Austin and Steyerberg 2019, doi:10.1002/sim.8281 (integrated calibration index).
    """
    empty, nan = np.empty(0), math.nan
    if p.size < SMALLEST_SMOOTHED:
        return SmoothCurve(empty, empty, nan, nan, nan, nan, f"fewer than {SMALLEST_SMOOTHED} patients")
    spread = float(np.ptp(p))
    if spread == 0:
        return SmoothCurve(empty, empty, nan, nan, nan, nan, "the predictions do not vary")
    from statsmodels.nonparametric.smoothers_lowess import lowess  # pulls in pandas: paid only here

    order = np.lexsort((y, p))
    x = p[order]
    with np.errstate(divide="ignore", invalid="ignore"):  # ends as NaN, told below
        fitted = lowess(
            y[order], x, frac=SMOOTHING_SHARE, it=0, delta=0.01 * spread, is_sorted=True, return_sorted=False
        )
    predicted, place = np.unique(x, return_inverse=True)
    observed = np.bincount(place, weights=fitted) / np.bincount(place)
    distance = np.abs(observed[place] - x)
    if not np.isfinite(distance).all():
        return SmoothCurve(empty, empty, nan, nan, nan, nan, "too many tied predictions to fit local lines")
    return SmoothCurve(
        predicted=predicted,
        observed=observed,
        mean_distance=float(distance.mean()),
        median_distance=float(np.quantile(distance, 0.5)),
        distance_90=float(np.quantile(distance, 0.9)),
        largest_distance=float(distance.max()),
    )
