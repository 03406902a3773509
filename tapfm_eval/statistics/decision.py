"""Is acting on the score worth it: decision curves, net benefit against treating all and treating none."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from tapfm_eval.errors import Problem
from tapfm_eval.statistics.border import as_numbers, check_choice
from tapfm_eval.statistics.proportions import mover_distance, normal_quantile, proportion_limits
from tapfm_eval.statistics.records import Comparison, Estimate
from tapfm_eval.statistics.single import known_rows

INTERVALS = ("score", "wald")


@dataclass(frozen=True, slots=True)
class NetBenefit:
    """Net benefit at one threshold probability, per patient, in units of true positives."""

    threshold: float  # positive if p >= threshold; threshold / (1 - threshold) is the price of a false positive
    tp: int
    fp: int
    model: Estimate
    standard_error: float  # multinomial, of the model's net benefit
    treat_all: Estimate
    treat_none: float  # 0 by definition
    versus_all: Comparison  # model less treat all, on the same patients
    versus_none: Comparison  # model less 0
    standardized: float  # net benefit / prevalence; 1 is a perfect model
    interventions_avoided: float  # per patient, against treating all, at no loss of true positives


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """Net benefit at each threshold, in the order given."""

    n: int
    positives: int
    level: float
    points: tuple[NetBenefit, ...]
    reason: str | None = None  # why everything is NaN


def net_benefit(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    *,
    level: float = 0.95,
    interval: str = "score",
) -> DecisionCurve:
    """Decision curve: TP/n - FP/n t/(1-t) at each threshold probability t, one row a patient.

    Limits hold at each threshold by itself, not for the curve as a whole. `score` (default): Wilson limits of TP/n and
    FP/n joined by square-and-add (MOVER) with their multinomial correlation; they stay sensible when TP or FP is 0.
    `wald`: net benefit +- z standard errors, as R's dcurves-like tools. Treat all: Wilson limits of the prevalence,
    transformed. The tests (`versus_all`, `versus_none`) are z tests on each patient's difference.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        probabilities: (n,) in [0, 1] where the label is known, calibrated: t is compared with them as a risk.
        thresholds: threshold probabilities, each strictly between 0 and 1.
        level: confidence level.
        interval: `score` or `wald`, for the model and the differences.

    Returns:
        DecisionCurve; NaN with a reason without patients. A single class is no obstacle, except that the standardized
        net benefit is NaN without positives.

    Raises:
        StatisticsError: for malformed arrays, values outside [0, 1], thresholds outside (0, 1).

    Sources: Vickers and Elkin 2006, doi:10.1177/0272989X06295361; Vickers et al. 2008, doi:10.1186/1472-6947-8-53
    (standard error); Zou and Donner 2008, doi:10.1002/sim.3095 (MOVER).

    >>> curve = net_benefit([1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1], [0.5])
    >>> curve.points[0].model.value, curve.points[0].treat_all.value
    (0.0, 0.0)
    """
    check_choice(interval, INTERVALS, "interval")
    problems: list[Problem] = []
    numbers = as_numbers(thresholds, "thresholds", problems)
    cuts = np.atleast_1d(np.empty(0) if numbers is None else numbers)
    outside = cuts[~((cuts > 0) & (cuts < 1))]
    if outside.size or cuts.ndim != 1:
        got = f"{outside.size} outside, first {outside.flat[0]:g}" if outside.size else f"{cuts.ndim} dimensions"
        remedy = "A threshold is a risk at which one would act."
        problems.append(Problem("thresholds", "a list of numbers strictly between 0 and 1", got, remedy))
    rows = known_rows(labels, probabilities, level=level, name="probabilities", probabilities=True, problems=problems)
    called = rows.scores[:, None] >= cuts
    tp = (called & rows.positive[:, None]).sum(axis=0)
    fp = called.sum(axis=0) - tp
    points = tuple(
        _point(float(t), int(a), int(b), rows.positives, rows.n, level, interval)
        for t, a, b in zip(cuts, tp, fp, strict=True)
    )
    return DecisionCurve(rows.n, rows.positives, level, points, None if rows.n else "no row with a known label")


def _point(t: float, tp: int, fp: int, positives: int, n: int, level: float, interval: str) -> NetBenefit:
    weight = t / (1 - t)
    nan = math.nan
    if n == 0:
        reason = "no row with a known label"
        nothing = Estimate(nan, nan, nan, level, interval, 0, 0, 0, reason)
        untested = Comparison(nan, nan, nan, level, nan, nan, nan, interval, 0, 0, 0, reason)
        return NetBenefit(t, 0, 0, nothing, nan, nothing, 0.0, untested, untested, nan, nan)
    share = positives / n
    treat_all = share - (1 - share) * weight
    low, high = proportion_limits(positives, n, level, "wilson")
    everybody = Estimate(
        treat_all, low - (1 - low) * weight, high - (1 - high) * weight, level, "wilson", n, positives, n
    )
    versus_none = _difference(tp, fp, weight, n, positives, level, interval, "model less treat none")
    # against treating all, a patient called negative gains the price of a false alarm or loses a true positive
    versus_all = _difference(
        positives - tp, n - positives - fp, weight, n, positives, level, interval, "model less treat all", sign=-1.0
    )
    model = Estimate(
        versus_none.value, versus_none.lower, versus_none.upper, level, _interval_name(interval), n, positives, n,
        versus_none.reason if math.isnan(versus_none.lower) else None,
    )  # fmt: skip
    return NetBenefit(
        threshold=t,
        tp=tp,
        fp=fp,
        model=model,
        standard_error=_standard_error(tp, fp, weight, n),
        treat_all=everybody,
        treat_none=0.0,
        versus_all=versus_all,
        versus_none=versus_none,
        standardized=model.value / share if positives else nan,
        interventions_avoided=(model.value - treat_all) / weight,
    )


def _interval_name(interval: str) -> str:
    return "square-and-add wilson" if interval == "score" else "wald"


def _standard_error(gains: int, losses: int, weight: float, n: int) -> float:
    """Standard error of gains/n - weight losses/n with n - 1 in the variance; NaN for one patient."""
    if n < 2:
        return math.nan
    mean = gains / n - weight * losses / n
    return math.sqrt(max((gains + weight**2 * losses - n * mean**2) / (n - 1), 0.0) / n)


def _difference(
    gains: int,
    losses: int,
    weight: float,
    n: int,
    positives: int,
    level: float,
    interval: str,
    what: str,
    sign: float = 1.0,
) -> Comparison:
    """sign x (gains/n - weight losses/n), where no patient is both a gain and a loss."""
    a, b = gains / n, losses / n
    value = a - weight * b
    se = _standard_error(gains, losses, weight, n)
    reason = None
    if interval == "wald":
        half = normal_quantile(level) * se
        lower, upper = value - half, value + half
        reason = "limits: one patient has no variance" if n < 2 else None
    else:
        (low_a, high_a), (low_b, high_b) = (proportion_limits(x, n, level, "wilson") for x in (gains, losses))
        spread = a * (1 - a) * b * (1 - b)
        correlation = -a * b / math.sqrt(spread) if spread else 0.0
        lower = value - mover_distance(a - low_a, weight * (high_b - b), correlation)
        upper = value + mover_distance(high_a - a, weight * (b - low_b), correlation)
    if sign < 0:
        value, lower, upper = -value, -upper, -lower
    if se > 0:
        statistic = value / se
        p_value = 2 * float(ndtr(-abs(statistic)))
    elif value == 0:
        statistic, p_value = 0.0, 1.0
    else:
        statistic = p_value = math.nan
        reason = reason or "test: every patient has the same difference"
    name = f"{what}, {_interval_name(interval)}, z test"
    return Comparison(value, lower, upper, level, statistic, math.inf, p_value, name, n, positives, n, reason)
