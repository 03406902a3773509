"""What a study of so many patients will show, by simulating it: interval width, coverage and power; for rare labels."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import check_random, number_of, whole_number
from tapfm_eval.statistics.compare import compare_auroc
from tapfm_eval.statistics.estimate import auroc
from tapfm_eval.statistics.planning_paired import PairedPower, correlation_problems

WIDEST = 1000  # standard deviations of positives' scores in units of the negatives'


@dataclass(frozen=True, slots=True)
class ExpectedInterval:
    """What the interval of an AUROC will look like, over simulated studies of one size."""

    auroc: float  # true AUROC
    positives: int
    negatives: int
    level: float
    method: str
    width: float  # mean
    lower: float  # mean limits
    upper: float
    excludes_half: float  # share of studies whose interval lies above 0.5
    coverage: float  # share of studies whose interval holds the true AUROC
    replicates: int
    reason: str | None = None


def expected_interval(
    auroc_true: float,
    positives: int,
    negatives: int,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    method: str = "auto",
    spread: float = 1.0,
    replicates: int = 500,
) -> ExpectedInterval:
    """How wide the interval of an AUROC will be with so many positives and negatives, by simulated studies.

    Args:
        auroc_true: true AUROC, strictly between 0 and 1.
        positives: number of positive patients, at least 1.
        negatives: number of negative patients, at least 1.
        rng: source of all randomness.
        level: confidence level.
        method: interval, as in `auroc`, other than `bootstrap`.
        spread: standard deviation of positives' scores in units of the negatives'.
        replicates: simulated studies.

    Returns:
        ExpectedInterval; `excludes_half` is the power of a study that asks for an interval above 0.5.

    Raises:
        StatisticsError: listing every argument outside its range.
    """
    draws = check_random(rng, replicates, "expected_interval")
    problems = share_problems(auroc_true=auroc_true, level=level)
    positives, negatives = _patients(positives, negatives, problems)
    if not 0 < number_of(spread) <= WIDEST:
        problems.append(Problem("spread", f"above 0, at most {WIDEST}", repr(spread), "1 is equal spread."))
    if problems:
        raise StatisticsError(problems)
    labels = np.repeat([1.0, 0.0], [positives, negatives])
    shift = math.sqrt(1 + spread**2) * float(ndtri(auroc_true))
    limits = np.empty((draws.replicates, 2))
    name, reason = method, None
    for i in range(draws.replicates):
        scores = draws.rng.standard_normal(labels.size)
        scores[:positives] = shift + spread * scores[:positives]
        estimate = auroc(labels, scores, level=level, method=method)
        limits[i] = estimate.lower, estimate.upper
        reason = reason or estimate.reason
    lower, upper = limits.T
    return ExpectedInterval(
        auroc=auroc_true,
        positives=positives,
        negatives=negatives,
        level=level,
        method=name,
        width=float((upper - lower).mean()),
        lower=float(lower.mean()),
        upper=float(upper.mean()),
        excludes_half=math.nan if reason else float((lower > 0.5).mean()),
        coverage=math.nan if reason else float(((lower <= auroc_true) & (auroc_true <= upper)).mean()),
        replicates=draws.replicates,
        reason=reason,
    )


def simulated_paired_power(
    auroc_a: float,
    auroc_b: float,
    positives: int,
    negatives: int,
    *,
    rng: np.random.Generator,
    correlation_positives: float = 0.5,
    correlation_negatives: float = 0.5,
    alpha: float = 0.05,
    replicates: int = 1000,
) -> PairedPower:
    """Power of the default paired test, by running it on simulated studies; for rare labels.

    Scores are normal with equal spread in both classes, correlated between A and B. Two-sided; counted as found only if
    the difference has the right sign (either, where the AUROCs are equal).

    Args:
        auroc_a: true AUROC of A, strictly between 0 and 1.
        auroc_b: true AUROC of B, likewise.
        positives: number of positive patients, at least 1.
        negatives: number of negative patients, at least 1.
        rng: source of all randomness.
        correlation_positives: correlation of the two scores among positives.
        correlation_negatives: the same among negatives.
        alpha: significance level.
        replicates: simulated studies; 1,000 give a Monte-Carlo error of at most 0.016.

    Raises:
        StatisticsError: listing every argument outside its range.
    """
    draws = check_random(rng, replicates, "simulated_paired_power")
    problems = correlation_problems(correlation_positives, correlation_negatives)
    problems += share_problems(auroc_a=auroc_a, auroc_b=auroc_b, alpha=alpha)
    positives, negatives = _patients(positives, negatives, problems)
    if problems:
        raise StatisticsError(problems)
    labels = np.repeat([1.0, 0.0], [positives, negatives])
    shift = math.sqrt(2) * np.array([ndtri(auroc_a), ndtri(auroc_b)])
    wanted = np.sign(auroc_a - auroc_b)
    found = 0
    for _ in range(draws.replicates):
        first = draws.rng.standard_normal((2, labels.size))
        r = np.where(labels == 1, correlation_positives, correlation_negatives)
        second = r * first[0] + np.sqrt(1 - r**2) * first[1]
        result = compare_auroc(labels, first[0] + shift[0] * labels, second + shift[1] * labels, level=1 - alpha)
        found += bool(result.p_value < alpha and (wanted == 0 or np.sign(result.value) == wanted))
    method = f"simulation of paired DeLong, Satterthwaite t, {draws.replicates} replicates"
    return PairedPower(auroc_a, auroc_b, positives, negatives, alpha, "two-sided", found / draws.replicates, method)


def _patients(positives: int, negatives: int, problems: list[Problem]) -> tuple[int, int]:
    return (
        whole_number(positives, "positives", 1, "Count patients.", problems),
        whole_number(negatives, "negatives", 1, "Count patients.", problems),
    )


def share_problems(**shares: float) -> list[Problem]:
    """What is wrong with the shares of a simulated study."""
    return [
        Problem(name, "strictly between 0 and 1", repr(value), "Write 0.95 for 95 %.")
        for name, value in shares.items()
        if not 0 < number_of(value) < 1
    ]
