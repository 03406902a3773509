"""One AUROC with its interval, and the variance behind it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tapfm_eval.statistics.border import Draws, Observed, check_choice, check_random, observe
from tapfm_eval.statistics.covariance import AurocCovariance, Spread, covariance_of, spread
from tapfm_eval.statistics.intervals import (
    envelope_limits,
    is_small,
    logit_limits,
    logit_t_limits,
    newcombe5_limits,
    wald_limits,
)
from tapfm_eval.statistics.records import Estimate
from tapfm_eval.statistics.resampling import bootstrap_limits, bootstrap_name, resampled_aurocs

METHODS = ("auto", "delong", "delong-logit", "logit-t", "newcombe5", "envelope", "bootstrap")


@dataclass(frozen=True, slots=True)
class AurocVariance:
    """An AUROC with the parts of its variance; NaN with a `reason` where not estimable."""

    auroc: float
    variance: float  # positive_part + negative_part + cross_part
    positive_part: float  # S10 / positives
    negative_part: float  # S01 / negatives
    cross_part: float  # 2 S11 / (positives x negatives): 0 unless a patient holds both labels
    df: float  # Satterthwaite's
    positives: int  # rows
    negatives: int
    positive_patients: int
    negative_patients: int
    patients: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TargetLimits:
    """Limits of one AUROC by one method, with the name that the method gives itself."""

    lower: float
    upper: float
    method: str
    reason: str | None


def auroc(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    level: float = 0.95,
    method: str = "auto",
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    replicates: int = 2000,
) -> Estimate:
    """Give the area under the ROC curve with its interval.

    The share of (positive, negative) pairs in which the positive scores higher, ties counted one half. A larger score
    speaks for label 1; an AUROC below 0.5 is reported as such. The sampling unit is the row, or the patient if
    `clusters` are given; `positives` and `n` of the result count rows, `clusters` patients.

    Methods:
        auto: `envelope`, flagged "small sample", if min(m, n) < 20 or min(m, n) min(A, 1 - A) < 5 for m positive and n
            negative patients; `logit-t` otherwise.
        delong: A +- z se clipped to [0, 1], as pROC. Covers .49 to .88 with 5 positives; [1, 1] at A = 1.
        delong-logit: the same on the logit scale; not estimable at A of 0 or 1.
        logit-t: logit scale with Student's t and Satterthwaite's df; `newcombe5` stands in, saying so, if A is 0 or 1,
            the variance is 0, or there is one patient of a class.
        newcombe5: Newcombe's method 5, from A and the counts alone (patients, if clustered).
        envelope: the smaller lower and the larger upper limit of `newcombe5` and `logit-t`.
        bootstrap: percentiles of `replicates` resamples of patients within class (and stratum), drawn from `rng`;
            the value is the estimate, not their mean. No cure for few positives (it covers .6-.8 with 3 to 5);
            no limits with one patient of a class or where all resamples agree (A = 1).
    Measured coverage of 95 % intervals is in docs/statistics-auroc.md; `auto` stayed at .94 or above in all 60 cells (3
    to 50 positives of 400, AUROC .70 to .95, four shapes).

    Args:
        labels: (n,), 0, 1, or NaN where unknown (dropped).
        scores: (n,), any scale.
        clusters: (n,), the patient of each row. Variance after Obuchowski 1997; auto then covers .956 or more (3 to 40
            positive patients of 120 with 2.2 slides on average).
        strata: (n,), e.g. the test fold; scores are compared within strata only (see `auroc_covariance`); auto then
            covers .959 or more (5 to 50 positives in 5 folds).
        rng: for the bootstrap; None is a generator with seed 0, so that the same data give the same limits.

    Returns:
        NaN with a reason if a class is missing; NaN limits with a reason where the method cannot give any.

    Raises:
        StatisticsError: malformed arrays (all faults listed), an unknown method, unusable `rng` or `replicates`.

    Example:
        >>> estimate = auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], method="delong")
        >>> estimate.value
        0.75

    Sources: DeLong, DeLong & Clarke-Pearson 1988 (doi:10.2307/2531595); Newcombe 2006 (doi:10.1002/sim.2324).
    """
    check_choice(method, METHODS, "method")
    observed = observe(labels, {"scores": scores}, clusters=clusters, strata=strata, level=level)
    draws = check_random(rng, replicates, method) if method == "bootstrap" else None
    return estimate_of(observed, level, method, draws)


def estimate_of(observed: Observed, level: float, method: str, draws: Draws | None) -> Estimate:
    """Give `auroc` of checked arrays with one arm and one target; `draws` for the bootstrap."""
    aurocs = covariance_of(observed)
    part = aurocs.by_target[0]
    value = float(aurocs.aurocs[0, 0])
    if np.isnan(value):
        limits = TargetLimits(np.nan, np.nan, method if draws is None else bootstrap_name(draws), aurocs.reasons[0])
    elif draws is not None:
        drawn = resampled_aurocs(observed, draws.rng, draws.replicates)[:, 0, 0]
        fewest = min(part.positive_patients, part.negative_patients)
        lower, upper, reason = bootstrap_limits(value, drawn, level, fewest)
        limits = TargetLimits(lower, upper, bootstrap_name(draws), reason)
    else:
        limits = limits_of(aurocs, 0, 0, level, method)
    return Estimate(
        value=value,
        lower=limits.lower,
        upper=limits.upper,
        level=level,
        method=limits.method + strata_note(aurocs),
        n=part.positives + part.negatives,
        positives=part.positives,
        clusters=part.patients,
        reason=limits.reason,
    )


def limits_of(aurocs: AurocCovariance, arm: int, target: int, level: float, method: str) -> TargetLimits:
    """Give the limits of one arm on one target by a closed-form method, `auto` included."""
    part = aurocs.by_target[target]
    value = float(aurocs.aurocs[arm, target])
    single = _single(aurocs, arm, target)
    variance, df, reason = single.variance, single.df, aurocs.reasons[target]
    if np.isnan(value):
        return TargetLimits(np.nan, np.nan, method, reason)
    small = bool(is_small(value, part.positive_patients, part.negative_patients))
    chosen = ("envelope" if small else "logit-t") if method == "auto" else method
    name = chosen
    if chosen == "delong":
        lower, upper = wald_limits(value, variance, level)
    elif chosen == "delong-logit":
        lower, upper = logit_limits(value, variance, level)
        reason = reason or ("the logit scale has no limits at an AUROC of 0 or 1" if np.isnan(lower) else None)
    elif chosen == "newcombe5":
        lower, upper = newcombe5_limits(value, part.pair_term, part.placement_term, level)
    else:
        rule = logit_t_limits if chosen == "logit-t" else envelope_limits
        lower, upper = rule(value, variance, df, part.pair_term, part.placement_term, level)
        if not variance > 0:
            stands_in = "one patient of a class" if np.isnan(variance) else "variance 0"
            name += f" [newcombe5 stands in for logit-t: {stands_in}]"
    if method == "auto":
        name = f"auto: {name}" + (" (small sample)" if small else "")
    return TargetLimits(float(lower), float(upper), name, reason if np.isnan(lower) else None)


def auroc_variance(
    labels: ArrayLike, scores: ArrayLike, *, clusters: ArrayLike | None = None, strata: ArrayLike | None = None
) -> AurocVariance:
    """Give DeLong's variance of an AUROC in its parts (Obuchowski's with `clusters`), and its degrees of freedom.

    Arguments, errors and sources are those of `auroc`. S10 = positive_part x positives, S01 likewise.
    """
    aurocs = covariance_of(observe(labels, {"scores": scores}, clusters=clusters, strata=strata))
    part = aurocs.by_target[0]
    single = _single(aurocs, 0, 0)
    return AurocVariance(
        auroc=float(aurocs.aurocs[0, 0]),
        variance=single.variance,
        positive_part=float(part.positive[0] @ part.positive[0]) if single.reason is None else np.nan,
        negative_part=float(part.negative[0] @ part.negative[0]) if single.reason is None else np.nan,
        cross_part=2.0 * part.cross * float(part.positive[0] @ part.negative[0]) if single.reason is None else np.nan,
        df=single.df,
        positives=part.positives,
        negatives=part.negatives,
        positive_patients=part.positive_patients,
        negative_patients=part.negative_patients,
        patients=part.patients,
        reason=single.reason,
    )


def strata_note(aurocs: AurocCovariance) -> str:
    """Give the end of a method's name that tells of strata, empty if there is one; of several targets' the worst."""
    divided = [part for part in aurocs.by_target if part.strata and part.strata + part.strata_left_out > 1]
    if not divided:
        return ""
    worst = max(divided, key=lambda part: part.strata_left_out)
    left_out = f" ({worst.strata_left_out} without both classes left out)" if worst.strata_left_out else ""
    return f", within {worst.strata} {'stratum' if worst.strata == 1 else 'strata'}{left_out}"


def _single(aurocs: AurocCovariance, arm: int, target: int) -> Spread:
    weights = np.zeros(aurocs.aurocs.shape)
    weights[arm, target] = 1.0
    return spread(aurocs, weights)
