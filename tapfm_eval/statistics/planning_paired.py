"""How many patients the difference of two AUROCs on the same patients needs, from a pilot study or from a model."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import check_choice, check_record, number_of, observe
from tapfm_eval.statistics.covariance import covariance_of
from tapfm_eval.statistics.planning import check_planned, z_alpha_of

NULLS = ("difference", "reference")


@dataclass(frozen=True, slots=True)
class PairedPower:
    """Power of a test that two AUROCs on the same patients differ."""

    auroc_a: float
    auroc_b: float
    positives: float  # patients; fractional where solved for
    negatives: float
    alpha: float
    alternative: str
    power: float
    method: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PairedMoments:
    """How two AUROCs vary together: (co)variance = positive part / positives + negative part / negatives."""

    auroc_a: float
    auroc_b: float
    positive_part: tuple[float, float, float]  # variance of A, variance of B, covariance
    negative_part: tuple[float, float, float]
    ratio: float  # negatives per positive where the moments come from; NaN where they come from a model
    reason: str | None = None  # why moments are NaN


def pilot_moments(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike) -> PairedMoments:
    """What a pilot study tells about the variances of two AUROCs on the same patients (DeLong); one row a patient.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        scores_a: (n,) finite where the label is known.
        scores_b: (n,) finite where the label is known.

    Raises:
        StatisticsError: for malformed arrays.
    """
    aurocs = covariance_of(observe(labels, {"scores_a": scores_a, "scores_b": scores_b}))
    part, values = aurocs.by_target[0], aurocs.aurocs[:, 0]
    positive = part.positive @ part.positive.T * part.positives
    negative = part.negative @ part.negative.T * part.negatives
    return PairedMoments(
        auroc_a=float(values[0]),
        auroc_b=float(values[1]),
        positive_part=(float(positive[0, 0]), float(positive[1, 1]), float(positive[0, 1])),
        negative_part=(float(negative[0, 0]), float(negative[1, 1]), float(negative[0, 1])),
        ratio=part.negatives / part.positives if part.positives else math.nan,
        reason=aurocs.reasons[0],
    )


def binormal_moments(
    auroc_a: float, auroc_b: float, *, correlation_positives: float = 0.5, correlation_negatives: float = 0.5
) -> PairedMoments:
    """Variances of two AUROCs whose scores are normal with equal spread in both classes, for want of a pilot study.

    Two models of the same slides often correlate at 0.5 to 0.8. Leading order: a term in 1 / (positives x negatives)
    is left out.

    Args:
        auroc_a: true AUROC of A, at least 0.5 and below 1.
        auroc_b: true AUROC of B, likewise.
        correlation_positives: correlation of the two scores among positives, in [-1, 1].
        correlation_negatives: the same among negatives.

    Raises:
        StatisticsError: listing every argument outside its range.

    Source: Plackett 1954, doi:10.1093/biomet/41.3-4.351 (bivariate normal probabilities as an integral over the
    correlation); two pairs that share a positive correlate at half the scores' correlation.
    """
    problems = [
        Problem(name, "at least 0.5 and below 1", repr(value), "Orient both scores so that larger means positive.")
        for name, value in (("auroc_a", auroc_a), ("auroc_b", auroc_b))
        if not 0.5 <= number_of(value) < 1
    ]
    problems += correlation_problems(correlation_positives, correlation_negatives)
    if problems:
        raise StatisticsError(problems)
    a, b = float(ndtri(auroc_a)), float(ndtri(auroc_b))
    own_a, own_b = _bivariate_excess(a, a, 0.5), _bivariate_excess(b, b, 0.5)
    return PairedMoments(
        auroc_a,
        auroc_b,
        (own_a, own_b, _bivariate_excess(a, b, correlation_positives / 2)),
        (own_a, own_b, _bivariate_excess(a, b, correlation_negatives / 2)),
        math.nan,
    )


def power_paired_auroc(
    moments: PairedMoments,
    positives: float,
    negatives: float,
    *,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    null: str = "difference",
) -> PairedPower:
    """Power to tell the AUROCs of A and B apart on the same patients.

    `null` says what variance the difference has under the null hypothesis. `difference` (default): the same as under
    the alternative, which is what the paired test estimates. `reference`: as if B varied like A, as pROC's
    `power.roc.test(roc1, roc2)`; since the better AUROC varies less, that overstates the power when A is the better one
    and changes when A and B swap. Binormal scores, correlations .6 and .5, 60 positives and 240 negatives: for .85
    against .78 simulated power .63, `difference` .66, `reference` .80 (.52 if swapped); 100 and 300, .90 against .85:
    .71, .71, .85.

    Args:
        moments: from `pilot_moments` or `binormal_moments`.
        positives: number of positive patients of the planned study.
        negatives: number of negative patients.
        alpha: significance level.
        alternative: `two-sided` or `one-sided`.
        null: `difference` or `reference`.

    Returns:
        PairedPower; NaN with a reason where the moments are not estimable, the difference has no variance, or A and B
        vary together more than A does alone (null="reference").

    Raises:
        StatisticsError: listing every argument outside its range.

    Source: Obuchowski and McClish 1997, doi:10.1002/(SICI)1097-0258(19970715)16:13<1529::AID-SIM565>3.0.CO;2-H.
    """
    check_record(moments, PairedMoments, "moments", "pilot_moments or binormal_moments")
    check_planned(alternative, positives=positives, negatives=negatives, alpha=alpha)
    null_variance, variance = _difference_variances(moments, negatives / positives, null)
    reason = _why_not_estimable(moments, null_variance, variance)
    power = math.nan
    if reason is None:
        difference = abs(moments.auroc_a - moments.auroc_b)
        z_alpha = z_alpha_of(alpha, alternative)
        z_beta = (math.sqrt(positives) * difference - z_alpha * math.sqrt(null_variance)) / math.sqrt(variance)
        power = float(ndtr(z_beta))
    a, b = moments.auroc_a, moments.auroc_b
    return PairedPower(
        a, b, positives, negatives, alpha, alternative, power, f"Obuchowski and McClish, null {null}", reason
    )


def sample_size_paired_auroc(
    moments: PairedMoments,
    *,
    power: float = 0.8,
    ratio: float | None = None,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    null: str = "difference",
) -> PairedPower:
    """Positives and negatives (not rounded) that give the wanted power to tell two AUROCs apart.

    Args:
        moments: from `pilot_moments` or `binormal_moments`.
        power: wanted power.
        ratio: negatives per positive; None takes the pilot study's.
        alpha: significance level.
        alternative: `two-sided` or `one-sided`.
        null: see `power_paired_auroc`.

    Returns:
        PairedPower; NaN with a reason where there is no difference to find, and as `power_paired_auroc`.

    Raises:
        StatisticsError: listing every argument outside its range; `ratio` missing for `binormal_moments`.

    Source: as `power_paired_auroc`.
    """
    check_record(moments, PairedMoments, "moments", "pilot_moments or binormal_moments")
    used = moments.ratio if ratio is None else ratio
    if ratio is None and math.isnan(moments.ratio) and moments.reason is None:
        remedy = "Give (1 - prevalence) / prevalence."
        raise StatisticsError(Problem("ratio", "a number, as there is no pilot study", "None", remedy))
    check_planned(alternative, power=power, alpha=alpha, **({} if moments.reason else {"ratio": used}))
    null_variance, variance = _difference_variances(moments, used, null)
    reason = _why_not_estimable(moments, null_variance, variance)
    if reason is None and moments.auroc_a == moments.auroc_b:
        reason = "the two AUROCs are equal: no number of patients tells them apart"
    positives = math.nan
    if reason is None:
        z_beta = float(ndtri(power))
        spread = z_alpha_of(alpha, alternative) * math.sqrt(null_variance) + z_beta * math.sqrt(variance)
        positives = (spread / (moments.auroc_a - moments.auroc_b)) ** 2
    a, b = moments.auroc_a, moments.auroc_b
    return PairedPower(
        a, b, positives, used * positives, alpha, alternative, power, f"Obuchowski and McClish, null {null}", reason
    )


def correlation_problems(positives: float, negatives: float) -> list[Problem]:
    """What is wrong with the correlations of two scores."""
    return [
        Problem(name, "between -1 and 1", repr(value), "0.5 is a fair first guess.")
        for name, value in (("correlation_positives", positives), ("correlation_negatives", negatives))
        if not -1 <= number_of(value) <= 1
    ]


def _bivariate_excess(h: float, k: float, correlation: float) -> float:
    """P(X < h, Y < k) - P(X < h) P(Y < k) for standard normals with this correlation, by 40-point Gauss-Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    end = math.asin(correlation)
    angles = end / 2 * (nodes + 1)
    exponent = (h * h - 2 * h * k * np.sin(angles) + k * k) / (2 * np.cos(angles) ** 2)
    return float(end / 2 * (weights @ np.exp(-exponent)) / (2 * math.pi))


def _difference_variances(moments: PairedMoments, ratio: float, null: str) -> tuple[float, float]:
    """Variance of A - B per positive under the null hypothesis and as it is, at `ratio` negatives a positive."""
    check_choice(null, NULLS, "null")
    a, b, c = (p + n / ratio for p, n in zip(moments.positive_part, moments.negative_part, strict=True))
    variance = a + b - 2 * c
    return (2 * a - 2 * c if null == "reference" else variance), variance


def _why_not_estimable(moments: PairedMoments, null_variance: float, variance: float) -> str | None:
    if moments.reason is not None:
        return moments.reason
    if not variance > 1e-14:
        return "the difference has no variance"
    if null_variance < 0:
        return "the covariance exceeds the variance of A, so that B cannot vary like A; use null='difference'"
    return None
