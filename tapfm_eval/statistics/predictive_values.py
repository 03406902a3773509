"""What a result means for a patient: likelihood ratios, and predictive values at a prevalence stated by the reader."""

import math
from dataclasses import dataclass

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import check_choice, number_of
from tapfm_eval.statistics.proportions import check_counts, normal_quantile, proportion_limits
from tapfm_eval.statistics.records import Estimate

RATIO_METHODS = ("auto", "log", "exact")
PREDICTIVE_METHODS = ("auto", "logit", "exact")


@dataclass(frozen=True, slots=True)
class PredictiveValues:
    """PPV and NPV carried to another prevalence."""

    prevalence: float  # taken as known
    ppv: Estimate
    npv: Estimate


def likelihood_ratios(
    tp: int, fp: int, tn: int, fn: int, *, level: float = 0.95, method: str = "auto"
) -> tuple[Estimate, Estimate]:
    """LR+ = sensitivity / (1 - specificity) and LR- = (1 - sensitivity) / specificity, in this order.

    Both are ratios of two independent shares. Methods: `log` (normal on the log scale; needs events in both shares;
    R's epiR), `exact` (MOVER-R on Clopper-Pearson limits; always defined, conservative), and the default `auto`: `log`
    if all four cells hold at least 5 patients, else the wider of the two on each side, else (an empty cell) `exact`.
    Coverage computed exactly, nominal 0.95, 400 patients of whom 3 to 100 positive, sensitivity .5 to .99,
    specificity .6 to .97: `auto` at least .936 everywhere; `log` down to 0 where an empty cell is likely.

    Args:
        tp, fp, tn, fn: counts of patients.
        level: confidence level.
        method: one of `RATIO_METHODS`.

    Returns:
        (LR+, LR-). LR+ is infinite, with an infinite upper limit, when no negative was called positive; NaN with a
        reason when a class is absent or the ratio is 0 / 0.

    Raises:
        StatisticsError: for counts that are negative or fractional or an unknown method.

    Sources: Simel, Samsa and Matchar 1991, doi:10.1016/0895-4356(91)90128-V (log); Donner and Zou 2012,
    doi:10.1177/0962280210383081 (MOVER-R).
    """
    check_counts({"tp": tp, "fp": fp, "tn": tn, "fn": fn}, level)
    tp, fp, tn, fn, level = int(tp), int(fp), int(tn), int(fn), float(level)
    check_choice(method, RATIO_METHODS, "method")
    return _ratio(tp, fp, tn, fn, True, level, method), _ratio(tp, fp, tn, fn, False, level, method)


def predictive_values(
    tp: int, fp: int, tn: int, fn: int, prevalence: float, *, level: float = 0.95, method: str = "auto"
) -> PredictiveValues:
    """PPV and NPV of a test with this 2 x 2 table where a known share `prevalence` of patients is positive.

    Methods: `logit` (Mercaldo 2007; NaN limits with a reason when a needed cell is empty), `exact`, and `auto`: the
    limits of the likelihood ratio by `log`, `exact` or `auto` (see `likelihood_ratios`, with its coverage), turned into
    probabilities; `logit` is identical to `log` on the likelihood ratio.

    Args:
        tp, fp, tn, fn: counts of patients; sensitivity and specificity are taken to hold at the new prevalence.
        prevalence: share of positives in the intended use, strictly between 0 and 1, taken as known.
        level: confidence level.
        method: one of `PREDICTIVE_METHODS`.

    Returns:
        PredictiveValues; NaN with a reason when a class is absent or nobody is called positive (PPV) or negative (NPV).

    Raises:
        StatisticsError: for malformed counts, a prevalence outside (0, 1), an unknown method.

    Source: Mercaldo, Lau and Zhou 2007, doi:10.1002/sim.2677.

    >>> round(predictive_values(37, 22, 180, 6, 0.05).ppv.value, 4)
    0.2937
    """
    check_counts({"tp": tp, "fp": fp, "tn": tn, "fn": fn}, level)
    tp, fp, tn, fn, level = int(tp), int(fp), int(tn), int(fn), float(level)
    check_choice(method, PREDICTIVE_METHODS, "method")
    if not 0 < number_of(prevalence) < 1:
        expected = "a share strictly between 0 and 1"
        raise StatisticsError(Problem("prevalence", expected, repr(prevalence), "State the intended use's prevalence."))
    prevalence = float(prevalence)
    odds = prevalence / (1 - prevalence)
    ratio_method = "log" if method == "logit" else method
    positive = _ratio(tp, fp, tn, fn, True, level, ratio_method)
    negative = _ratio(tp, fp, tn, fn, False, level, ratio_method)
    ppv = _renamed(positive, [_share(odds * x) for x in (positive.value, positive.lower, positive.upper)])
    npv = _renamed(negative, [1 - _share(odds * x) for x in (negative.value, negative.upper, negative.lower)])
    return PredictiveValues(prevalence, ppv, npv)


def _share(odds: float) -> float:
    return 1.0 if odds == math.inf else odds / (1 + odds)


def _renamed(ratio: Estimate, limits: list[float]) -> Estimate:
    method = ratio.method.replace("log", "logit")
    value, lower, upper = limits
    return Estimate(value, lower, upper, ratio.level, method, ratio.n, ratio.positives, ratio.clusters, ratio.reason)


def _ratio(tp: int, fp: int, tn: int, fn: int, positive: bool, level: float, method: str) -> Estimate:
    m, n = tp + fn, tn + fp
    x1, x2 = (tp, fp) if positive else (fn, tn)
    name, reason = method, None
    lower = upper = value = math.nan
    if not m or not n:
        reason = "no positives" if not m else "no negatives"
    elif not x1 and not x2:
        reason = f"nobody was called {'positive' if positive else 'negative'}"
    else:
        value = (x1 / m) / (x2 / n) if x2 else math.inf
        smallest = min(tp, fp, tn, fn)
        if method == "auto":
            name = "auto: log" if smallest >= 5 else "auto: wider of log and exact" if x1 and x2 else "auto: exact"
        if not x1 or not x2:
            if method == "log":
                reason = "limits: the log interval needs events in both classes"
            else:
                lower, upper = _exact_limits(x1, m, x2, n, level)
        elif method == "exact":
            lower, upper = _exact_limits(x1, m, x2, n, level)
        else:
            half = normal_quantile(level) * math.sqrt((1 - x1 / m) / x1 + (1 - x2 / n) / x2)
            lower, upper = value * math.exp(-half), value * math.exp(half)
            if method == "auto" and smallest < 5:
                exact_lower, exact_upper = _exact_limits(x1, m, x2, n, level)
                lower, upper = min(lower, exact_lower), max(upper, exact_upper)
    return Estimate(value, lower, upper, level, name, m + n, m, m + n, reason)


def _exact_limits(x1: int, m: int, x2: int, n: int, level: float) -> tuple[float, float]:
    """MOVER-R limits of (x1 / m) / (x2 / n) from the Clopper-Pearson limits of both shares."""
    a, b = x1 / m, x2 / n
    lower_a, upper_a = proportion_limits(x1, m, level, "clopper-pearson")
    lower_b, upper_b = proportion_limits(x2, n, level, "clopper-pearson")

    # a count of 0 pins the lower limit at 0; no event in the denominator leaves the ratio unbounded above
    lower = 0.0 if x1 == 0 else _lower_limit(a, b, lower_a, upper_b)
    # the upper limit of a / b is the inverse of the lower limit of b / a
    upper = math.inf if lower_b == 0 else 1 / _lower_limit(b, a, lower_b, upper_a)
    return lower, upper


def _lower_limit(a: float, b: float, lower_a: float, upper_b: float) -> float:
    """The lower MOVER-R limit, in the form that has no 0 / 0 where upper_b is 2 b."""
    product = lower_a * (2 * a - lower_a)
    inner = (a * b) ** 2 - product * upper_b * (2 * b - upper_b)
    return product / (a * b + math.sqrt(max(inner, 0.0)))
