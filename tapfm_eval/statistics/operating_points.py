"""What a threshold is worth: the 2 x 2 table at a cut fixed beforehand, two cuts, and two tests on the same patients.

The rule is always "positive if score >= threshold"; `thresholds.threshold_at` picks one on validation patients.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import check_choice, number_of, observe
from tapfm_eval.statistics.predictive_values import PredictiveValues, likelihood_ratios, predictive_values
from tapfm_eval.statistics.proportions import (
    MCNEMAR_METHODS,
    PROPORTION_METHODS,
    check_counts,
    mcnemar,
    proportion,
)
from tapfm_eval.statistics.records import Comparison, Estimate
from tapfm_eval.statistics.single import known_rows
from tapfm_eval.statistics.two_by_two import f1_score, matthews_correlation, youden_index


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A 2 x 2 table at a threshold fixed beforehand, and all that follows from it, with intervals."""

    threshold: float  # NaN where the table was given as counts
    tp: int
    fp: int
    tn: int
    fn: int
    sensitivity: Estimate  # tp / (tp + fn)
    specificity: Estimate  # tn / (tn + fp)
    ppv: Estimate  # tp / (tp + fp), at the prevalence of these patients
    npv: Estimate  # tn / (tn + fn), at the prevalence of these patients
    accuracy: Estimate
    balanced_accuracy: Estimate  # (sensitivity + specificity) / 2; square-and-add interval
    youden: Estimate  # sensitivity + specificity - 1; square-and-add interval
    f1: Estimate  # 2 tp / (2 tp + fp + fn); interval of tp / (tp + fp + fn), transformed
    mcc: Estimate  # Matthews correlation (phi); delta method on Fisher's z
    lr_positive: Estimate  # sensitivity / (1 - specificity)
    lr_negative: Estimate  # (1 - sensitivity) / specificity
    prevalence: Estimate  # (tp + fn) / n in these patients
    at_prevalence: PredictiveValues | None  # PPV and NPV at the stated prevalence; None where none was stated


@dataclass(frozen=True, slots=True)
class PairedOperatingPoints:
    """Two tests on the same patients, each at its own fixed threshold: A - B with exact McNemar tests."""

    sensitivity: Comparison  # among positives
    specificity: Comparison  # among negatives


@dataclass(frozen=True, slots=True)
class RuleOutRuleIn:
    """Three groups of patients: ruled out (score < lower), ruled in (score >= upper), and those sent to the assay."""

    lower: float
    upper: float
    ruled_out: int
    indeterminate: int
    ruled_in: int
    missed: int  # positives among the ruled out
    false_alarms: int  # negatives among the ruled in
    avoided: Estimate  # share of patients who need no confirmatory test: ruled out or ruled in
    avoided_by_rule_out: Estimate
    avoided_by_rule_in: Estimate
    npv: Estimate  # among the ruled out
    ppv: Estimate  # among the ruled in
    sensitivity: Estimate  # of the rule-out cut: share of positives not ruled out
    specificity: Estimate  # of the rule-in cut: share of negatives not ruled in


def operating_point(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    *,
    level: float = 0.95,
    method: str = "wilson",
    prevalence: float | None = None,
) -> OperatingPoint:
    """The 2 x 2 table at a threshold fixed beforehand, with intervals; one row a patient.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        scores: (n,) finite where the label is known; larger = more likely positive.
        threshold: positive if score >= threshold; chosen on other patients.
        level: confidence level.
        method: interval of the simple proportions, one of `PROPORTION_METHODS`.
        prevalence: also give PPV and NPV at this prevalence (see `predictive_values`).

    Returns:
        OperatingPoint; whatever lacks a denominator is NaN with a reason.

    Raises:
        StatisticsError: for malformed arrays, a NaN threshold, an unknown method.
    """
    rows = known_rows(labels, scores, level=level, problems=_threshold_problems("threshold", threshold))
    called = rows.scores >= threshold
    tp = int((called & rows.positive).sum())
    fp = int((called & ~rows.positive).sum())
    return _from_counts(threshold, tp, fp, rows.negatives - fp, rows.positives - tp, level, method, prevalence)


def operating_point_from_counts(
    tp: int,
    fp: int,
    tn: int,
    fn: int,
    *,
    level: float = 0.95,
    method: str = "wilson",
    prevalence: float | None = None,
) -> OperatingPoint:
    """As `operating_point`, from the four counts of a published 2 x 2 table.

    >>> point = operating_point_from_counts(37, 22, 180, 6)
    >>> round(point.lr_positive.value, 4), round(point.lr_positive.lower, 4)
    (7.9006, 5.2306)
    """
    check_counts({"tp": tp, "fp": fp, "tn": tn, "fn": fn}, level)
    tp, fp, tn, fn, level = int(tp), int(fp), int(tn), int(fn), float(level)
    return _from_counts(math.nan, tp, fp, tn, fn, level, method, prevalence)


def compare_operating_points(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    threshold_a: float,
    threshold_b: float,
    *,
    level: float = 0.95,
    method: str = "exact",
) -> PairedOperatingPoints:
    """Sensitivity and specificity of A minus those of B on the same patients, each at its own fixed threshold.

    Exact McNemar tests by default, with Newcombe's paired score intervals (see `mcnemar`).

    Raises:
        StatisticsError: for malformed arrays, a NaN threshold, an unknown method.
    """
    check_choice(method, MCNEMAR_METHODS, "method")
    problems = [*_threshold_problems("threshold_a", threshold_a), *_threshold_problems("threshold_b", threshold_b)]
    try:
        observed = observe(labels, {"scores_a": scores_a, "scores_b": scores_b}, level=level)
    except StatisticsError as error:
        raise StatisticsError([*error.problems, *problems]) from None
    if problems:
        raise StatisticsError(problems)
    known = ~np.isnan(observed.labels[:, 0])
    positive = observed.labels[known, 0] == 1
    right_a, right_b = (
        (observed.scores[arm, known, 0] >= threshold) == positive
        for arm, threshold in enumerate((threshold_a, threshold_b))
    )

    def compared(rows: NDArray[np.bool_]) -> Comparison:
        first, second = right_a[rows], right_b[rows]
        counts = (first & second, first & ~second, ~first & second, ~first & ~second)
        both, only_a, only_b, neither = (int(count.sum()) for count in counts)
        return mcnemar(both, only_a, only_b, neither, level=level, method=method)

    return PairedOperatingPoints(sensitivity=compared(positive), specificity=compared(~positive))


def rule_out_rule_in(
    labels: ArrayLike,
    scores: ArrayLike,
    lower: float,
    upper: float,
    *,
    level: float = 0.95,
    method: str = "wilson",
) -> RuleOutRuleIn:
    """What two thresholds fixed beforehand would do: patients ruled out, ruled in, and confirmatory tests avoided.

    Ruled out if score < `lower`, ruled in if score >= `upper`, otherwise sent to the confirmatory assay. Predictive
    values and the share avoided hold at the prevalence of these patients.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        scores: (n,) finite where the label is known; larger = more likely positive.
        lower: rule-out threshold, e.g. from `threshold_at(..., {"at_npv": 0.98})` on validation.
        upper: rule-in threshold, at least `lower`.
        level: confidence level.
        method: interval, one of `PROPORTION_METHODS`.

    Returns:
        RuleOutRuleIn; a share without a denominator is NaN with a reason.

    Raises:
        StatisticsError: for malformed arrays, NaN thresholds, or `lower` above `upper`.
    """
    problems = [*_threshold_problems("lower", lower), *_threshold_problems("upper", upper)]
    rows = known_rows(labels, scores, level=level, problems=problems)
    if lower > upper:
        raise StatisticsError(
            Problem("lower", "lower <= upper", f"{lower:g}, with upper {upper:g}", "Swap the thresholds.")
        )
    out, into = rows.scores < lower, rows.scores >= upper
    ruled_out, ruled_in = int(out.sum()), int(into.sum())
    missed, false_alarms = int((out & rows.positive).sum()), int((into & ~rows.positive).sum())

    def share(successes: int, n: int) -> Estimate:
        return proportion(successes, n, level=level, method=method)

    return RuleOutRuleIn(
        lower=lower,
        upper=upper,
        ruled_out=ruled_out,
        indeterminate=rows.n - ruled_out - ruled_in,
        ruled_in=ruled_in,
        missed=missed,
        false_alarms=false_alarms,
        avoided=share(ruled_out + ruled_in, rows.n),
        avoided_by_rule_out=share(ruled_out, rows.n),
        avoided_by_rule_in=share(ruled_in, rows.n),
        npv=share(ruled_out - missed, ruled_out),
        ppv=share(ruled_in - false_alarms, ruled_in),
        sensitivity=share(rows.positives - missed, rows.positives),
        specificity=share(rows.negatives - false_alarms, rows.negatives),
    )


def _threshold_problems(where: str, threshold: float) -> list[Problem]:
    remedy = "NaN: the rule found none on validation."
    return [Problem(where, "a number", repr(threshold), remedy)] if math.isnan(number_of(threshold)) else []


def _from_counts(
    threshold: float, tp: int, fp: int, tn: int, fn: int, level: float, method: str, prevalence: float | None
) -> OperatingPoint:
    check_choice(method, PROPORTION_METHODS, "method")

    def share(successes: int, n: int) -> Estimate:
        return proportion(successes, n, level=level, method=method)

    sensitivity, specificity = share(tp, tp + fn), share(tn, tn + fp)
    lr_positive, lr_negative = likelihood_ratios(tp, fp, tn, fn, level=level)
    youden = youden_index(sensitivity, specificity, tp + fp + tn + fn, tp + fn)
    half = Estimate(
        value=(youden.value + 1) / 2,
        lower=(youden.lower + 1) / 2,
        upper=(youden.upper + 1) / 2,
        level=level,
        method=youden.method,
        n=youden.n,
        positives=youden.positives,
        clusters=youden.clusters,
        reason=youden.reason,
    )
    return OperatingPoint(
        threshold=float(threshold),
        tp=tp,
        fp=fp,
        tn=tn,
        fn=fn,
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=share(tp, tp + fp),
        npv=share(tn, tn + fn),
        accuracy=share(tp + tn, tp + fp + tn + fn),
        balanced_accuracy=half,
        youden=youden,
        f1=f1_score(tp, fp, tn, fn, level),
        mcc=matthews_correlation(tp, fp, tn, fn, level),
        lr_positive=lr_positive,
        lr_negative=lr_negative,
        prevalence=share(tp + fn, tp + fp + tn + fn),
        at_prevalence=None if prevalence is None else predictive_values(tp, fp, tn, fn, prevalence, level=level),
    )
