"""Are the probabilities right: intercept, slope, O/E, Brier, calibration error and the reliability curve.

All of it is about one row a patient and probabilities that were fixed before these patients were seen. Recalibration
is in `recalibration`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit, ndtr, stdtrit, xlog1py, xlogy

from tapfm_eval.errors import Problem
from tapfm_eval.statistics.border import Floats, check_choice, number_of, whole_number
from tapfm_eval.statistics.chi_squared import ChiSquaredTest, chi_squared_test
from tapfm_eval.statistics.logistic import (
    LogisticFit,
    best_intercept,
    fit_logistic,
    fit_slope,
    log_likelihood,
    profile_limits,
)
from tapfm_eval.statistics.proportions import normal_quantile, proportion_limits
from tapfm_eval.statistics.records import Estimate
from tapfm_eval.statistics.reliability import ReliabilityBin, SmoothCurve, bin_error, reliability_bins, smooth_curve
from tapfm_eval.statistics.single import Rows, known_rows, why_not_two_classes

INTERVALS = ("profile", "wald")


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How far predicted probabilities agree with observed outcomes, in one set of patients."""

    n: int
    positives: int
    intercept: Estimate  # in the large: logit(p) as offset; above 0 means that risks are underestimated
    intercept_se: float
    slope: Estimate  # coefficient of logit(p); below 1 means too extreme
    slope_se: float
    intercept_with_slope: float  # intercept of the model that has the slope
    oe_ratio: Estimate  # observed / expected positives
    mean_difference: Estimate  # observed share less mean prediction
    brier: Estimate
    brier_scaled: Estimate  # 1 - Brier / Brier of predicting the prevalence for everybody; may be negative
    log_loss: float  # mean; infinite if a certain prediction was wrong
    ece_quantile: float  # expected calibration error on quantile bins; biased upwards, so no interval is given
    ece_equal_width: float
    quantile_bins: tuple[ReliabilityBin, ...]
    equal_width_bins: tuple[ReliabilityBin, ...]  # empty ones left out
    smooth: SmoothCurve
    unreliability: ChiSquaredTest  # likelihood ratio test of intercept 0 and slope 1 together, df 2
    hosmer_lemeshow: ChiSquaredTest  # quantile bins, df = bins: predictions not fitted on these patients
    hosmer_lemeshow_fitted: ChiSquaredTest  # the same statistic with df = bins - 2: fitted on these patients
    spiegelhalter_z: float
    spiegelhalter_p: float  # two-sided
    nagelkerke_r2: float  # the four indices of R's rms::val.prob
    discrimination_d: float
    unreliability_u: float
    quality_q: float  # D - U
    reason: str | None = None  # why fields without a reason of their own are NaN


def calibration(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    level: float = 0.95,
    bins: int = 10,
    interval: str = "profile",
    clip: float | None = None,
) -> Calibration:
    """Calibration of probabilities fixed beforehand, one row a patient.

    Intercept and slope are binomial GLMs on logit(p) (statsmodels), with profile likelihood (default) or Wald limits.
    O/E: Wilson limits of the observed share over the mean prediction, which is taken as fixed. Brier score and mean
    difference: Student t on the patients' terms; scaled Brier: delta method with t. Bins: `reliability_bins`; smoothed
    curve: `smooth_curve`.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        probabilities: (n,) in [0, 1] where the label is known.
        level: confidence level.
        bins: number of bins of both kinds, at least 2.
        interval: `profile` or `wald`, for intercept and slope.
        clip: move probabilities into [clip, 1 - clip] before anything else; None leaves them. Without it,
            probabilities of exactly 0 or 1 make intercept and slope not estimable, because their logit is infinite.

    Returns:
        Calibration; what is not estimable is NaN with a reason: a class is absent, predictions are constant (slope),
        positives and negatives are separated (slope infinite).

    Raises:
        StatisticsError: for malformed arrays or values outside [0, 1].

    Sources: Cox 1958, doi:10.1093/biomet/45.3-4.562 (slope); Van Calster et al. 2019, doi:10.1186/s12916-019-1466-7;
    Spiegelhalter 1986, doi:10.1002/sim.4780050506; Harrell's rms::val.prob (indices).
    """
    check_choice(interval, INTERVALS, "interval")
    problems: list[Problem] = []
    bins = whole_number(bins, "bins", 2, "Ten is usual.", problems)
    if clip is not None and not 0 < number_of(clip) < 0.5:
        problems.append(Problem("clip", "between 0 and 0.5", repr(clip), "1e-6 is usual."))
    rows = known_rows(labels, probabilities, level=level, name="probabilities", probabilities=True, problems=problems)
    p = rows.scores if clip is None else np.clip(rows.scores, clip, 1 - clip)
    y = rows.positive.astype(np.float64)
    fits = _fit(p, rows.positive)
    intercept, slope = _intercept(fits, rows, level, interval), _slope(fits, rows, level, interval)
    quantile_bins = reliability_bins(y, p, bins=bins, level=level, kind="quantile")
    equal_width_bins = reliability_bins(y, p, bins=bins, level=level, kind="equal_width")
    unreliability, indices = _likelihood_indices(fits, rows, y, p)
    z, z_p = _spiegelhalter(y, p)
    fitted, external = _hosmer_lemeshow(quantile_bins)
    return Calibration(
        n=rows.n,
        positives=rows.positives,
        intercept=intercept,
        intercept_se=math.sqrt(fits.large.covariance[0, 0]),
        slope=slope,
        slope_se=math.sqrt(fits.joint.covariance[1, 1]),
        intercept_with_slope=float(fits.joint.coefficients[0]),
        oe_ratio=_oe_ratio(rows, p, level),
        mean_difference=_mean(y - p, rows, level, -1.0),
        brier=_mean((p - y) ** 2, rows, level, 0.0),
        brier_scaled=_brier_scaled(y, p, rows, level),
        log_loss=float(-np.mean(xlogy(y, p) + xlog1py(1 - y, -p))) if rows.n else math.nan,
        ece_quantile=bin_error(quantile_bins),
        ece_equal_width=bin_error(equal_width_bins),
        quantile_bins=quantile_bins,
        equal_width_bins=equal_width_bins,
        smooth=smooth_curve(y, p),
        unreliability=unreliability,
        hosmer_lemeshow=external,
        hosmer_lemeshow_fitted=fitted,
        spiegelhalter_z=z,
        spiegelhalter_p=z_p,
        nagelkerke_r2=indices[0],
        discrimination_d=indices[1],
        unreliability_u=indices[2],
        quality_q=indices[1] - indices[2],
        reason=why_not_two_classes(rows.positives, rows.negatives) or fits.infinite,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Fits:
    logits: Floats
    large: LogisticFit  # intercept alone, logit(p) as offset
    joint: LogisticFit  # intercept and slope
    infinite: str | None  # why logits are unusable


def _fit(p: Floats, positive: NDArray[np.bool_]) -> _Fits:
    certain = int(((p == 0) | (p == 1)).sum())
    if certain:
        reason = f"{certain} probabilities are exactly 0 or 1, their logit is infinite; set clip"
        one, two = np.full((1, 1), math.nan), np.full((2, 2), math.nan)
        return _Fits(p, LogisticFit(one[0], one, math.nan, reason), LogisticFit(two[0], two, math.nan, reason), reason)
    logits: Floats = logit(p)
    large = fit_logistic(np.ones((p.size, 1)), positive, offset=logits)
    return _Fits(logits, large, fit_slope(logits, positive), None)


def _intercept(fits: _Fits, rows: Rows, level: float, interval: str) -> Estimate:
    name = f"binomial GLM with offset, {interval}"
    if fits.large.reason is not None:
        return _missing(name, rows, level, fits.large.reason)
    value, se = float(fits.large.coefficients[0]), math.sqrt(fits.large.covariance[0, 0])
    if interval == "wald":
        return _wald(value, se, name, rows, level)

    def excess(at: float) -> float:
        return 2 * (fits.large.log_likelihood - log_likelihood(at + fits.logits, rows.positive))

    lower, upper = profile_limits(value, se, excess, level)
    return Estimate(value, lower, upper, level, name, rows.n, rows.positives, rows.n)


def _slope(fits: _Fits, rows: Rows, level: float, interval: str) -> Estimate:
    name = f"binomial GLM, {interval}"
    if fits.joint.reason is not None:
        return _missing(name, rows, level, fits.joint.reason)
    value, se = float(fits.joint.coefficients[1]), math.sqrt(fits.joint.covariance[1, 1])
    if interval == "wald":
        return _wald(value, se, name, rows, level)

    def excess(at: float) -> float:
        linear = at * fits.logits
        linear = linear + best_intercept(linear, rows.positive)
        return 2 * (fits.joint.log_likelihood - log_likelihood(linear, rows.positive))

    lower, upper = profile_limits(value, se, excess, level)
    return Estimate(value, lower, upper, level, name, rows.n, rows.positives, rows.n)


def _wald(value: float, se: float, name: str, rows: Rows, level: float) -> Estimate:
    half = normal_quantile(level) * se
    return Estimate(value, value - half, value + half, level, name, rows.n, rows.positives, rows.n)


def _missing(name: str, rows: Rows, level: float, reason: str) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, level, name, rows.n, rows.positives, rows.n, reason)


def _oe_ratio(rows: Rows, p: Floats, level: float) -> Estimate:
    name = "wilson limits of the observed share over the mean prediction"
    expected = float(p.sum())
    if not rows.n or expected == 0:
        return _missing(name, rows, level, "no row with a known label" if not rows.n else "no positive is expected")
    lower, upper = proportion_limits(rows.positives, rows.n, level, "wilson")
    scale = rows.n / expected
    return Estimate(
        rows.positives / expected, lower * scale, upper * scale, level, name, rows.n, rows.positives, rows.n
    )


def _mean(terms: Floats, rows: Rows, level: float, floor: float) -> Estimate:
    name = "mean over patients, Student t"
    if not rows.n:
        return _missing(name, rows, level, "no row with a known label")
    return _t_estimate(float(terms.mean()), terms, rows, level, name, floor)


def _brier_scaled(y: Floats, p: Floats, rows: Rows, level: float) -> Estimate:
    name = "delta method, Student t"
    reason = why_not_two_classes(rows.positives, rows.negatives)
    if reason is not None:
        return _missing(name, rows, level, reason)
    squared, share = (p - y) ** 2, float(y.mean())
    brier, reference = float(squared.mean()), share * (1 - share)
    influence = -(squared - brier) / reference + brier * (1 - 2 * share) * (y - share) / reference**2
    return _t_estimate(1 - brier / reference, influence, rows, level, name, -math.inf)


def _t_estimate(value: float, influence: Floats, rows: Rows, level: float, name: str, floor: float) -> Estimate:
    """Value with t limits from each patient's influence; both limits stay within [floor, 1]."""
    if rows.n < 2:
        reason = "limits: one patient has no variance"
        return Estimate(value, math.nan, math.nan, level, name, rows.n, rows.positives, rows.n, reason)
    half = float(stdtrit(rows.n - 1, 1 - (1 - level) / 2)) * float(influence.std(ddof=1)) / math.sqrt(rows.n)
    lower, upper = max(value - half, floor), min(value + half, 1.0)
    return Estimate(value, lower, upper, level, name, rows.n, rows.positives, rows.n)


def _likelihood_indices(
    fits: _Fits, rows: Rows, y: Floats, p: Floats
) -> tuple[ChiSquaredTest, tuple[float, float, float]]:
    name = "likelihood ratio, intercept 0 and slope 1"
    nan = math.nan
    if fits.infinite is not None or rows.positives in (0, rows.n):
        reason = fits.infinite or why_not_two_classes(rows.positives, rows.negatives)
        return chi_squared_test(nan, 2, name, reason), (nan, nan, nan)
    n, share = rows.n, float(y.mean())
    as_given = log_likelihood(fits.logits, rows.positive)
    null = n * float(xlogy(share, share) + xlog1py(1 - share, -share))
    gained = 2 * (as_given - null)
    # a huge negative gain overflows to an R2 of -inf, which is what it means
    r2 = (1 - math.exp(min(-gained / n, 700.0))) / (1 - math.exp(2 * null / n))
    d = (gained - 1) / n
    if fits.joint.reason is not None:
        return chi_squared_test(nan, 2, name, fits.joint.reason), (r2, d, nan)
    lost = 2 * (fits.joint.log_likelihood - as_given)
    return chi_squared_test(lost, 2, name), (r2, d, (lost - 2) / n)


def _spiegelhalter(y: Floats, p: Floats) -> tuple[float, float]:
    variance = float(((1 - 2 * p) ** 2 * p * (1 - p)).sum())
    if variance == 0:
        return math.nan, math.nan
    z = float(((y - p) * (1 - 2 * p)).sum()) / math.sqrt(variance)
    return z, 2 * float(ndtr(-abs(z)))


def _hosmer_lemeshow(bins: tuple[ReliabilityBin, ...]) -> tuple[ChiSquaredTest, ChiSquaredTest]:
    """The test for fitted predictions (df = bins - 2) and for predictions from elsewhere (df = bins)."""
    name = "Hosmer-Lemeshow on quantile bins"
    count = len(bins)
    expected_variances = [b.n * b.mean_predicted * (1 - b.mean_predicted) for b in bins]
    reason = None
    if count < 3:
        reason = "fewer than 3 bins"
    elif not all(expected_variances):
        reason = "a bin expects all or none to be positive"
    if reason is not None:
        missing = chi_squared_test(math.nan, max(count - 2, 0), name, reason)
        return missing, chi_squared_test(math.nan, count, name, reason)
    statistic = sum(
        (b.n * (b.observed.value - b.mean_predicted)) ** 2 / v for b, v in zip(bins, expected_variances, strict=True)
    )
    return chi_squared_test(statistic, count - 2, name), chi_squared_test(statistic, count, name)
