"""How many patients one AUROC needs: power, sample size and the smallest AUROC that can be told from 0.5.

Normal approximations (Obuchowski), good for a few dozen patients of each class; with fewer than 20 positives use
`planning_simulated`, which runs the very interval and test that the analysis will run. Two AUROCs: `planning_paired`.
"""

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import check_choice, number_of

ALTERNATIVES = ("two-sided", "one-sided")
_FEWEST, _MOST = 1e-9, 1e12  # patients and ratios of them, beyond which quotients leave the numbers there are
_NULL_VARIANCE = 0.0792  # Obuchowski's variance constant at AUROC 0.5, as printed
_ROOT_2 = 1.414  # as printed in the paper and used by pROC; sqrt(2) would move powers in the fourth digit


@dataclass(frozen=True, slots=True)
class AurocPower:
    """Power of a test that one AUROC differs from 0.5."""

    auroc: float  # true AUROC
    positives: float  # patients; fractional where solved for
    negatives: float
    alpha: float
    alternative: str
    power: float
    method: str
    reason: str | None = None


def power_auroc(
    auroc: float, positives: float, negatives: float, *, alpha: float = 0.05, alternative: str = "two-sided"
) -> AurocPower:
    """Power to tell a true AUROC above 0.5 from 0.5, as pROC's `power.roc.test`.

    Args:
        auroc: true AUROC, strictly between 0.5 and 1.
        positives: number of positive patients.
        negatives: number of negative patients.
        alpha: significance level.
        alternative: `two-sided` or `one-sided`.

    Raises:
        StatisticsError: listing every argument outside its range.

    Source: Obuchowski, Lieber and Wians 2004, doi:10.1373/clinchem.2004.031823.

    >>> round(power_auroc(0.7, 10, 100).power, 6)
    0.572455
    """
    check_planned(alternative, auroc=auroc, positives=positives, negatives=negatives, alpha=alpha)
    kappa = negatives / positives
    z_alpha = z_alpha_of(alpha, alternative)
    z_beta = (math.sqrt(positives) * (auroc - 0.5) - z_alpha * _null_sd(kappa)) / math.sqrt(_variance(auroc, kappa))
    return AurocPower(auroc, positives, negatives, alpha, alternative, float(ndtr(z_beta)), "Obuchowski")


def sample_size_auroc(
    auroc: float,
    *,
    power: float = 0.8,
    ratio: float = 1.0,
    alpha: float = 0.05,
    alternative: str = "two-sided",
) -> AurocPower:
    """Positives and negatives (not rounded) that give the wanted power to tell a true AUROC from 0.5.

    Args:
        auroc: true AUROC, strictly between 0.5 and 1.
        power: wanted power.
        ratio: negatives per positive; (1 - prevalence) / prevalence in a cohort.
        alpha: significance level.
        alternative: `two-sided` or `one-sided`.

    Raises:
        StatisticsError: listing every argument outside its range.

    Source: as `power_auroc`.

    >>> round(sample_size_auroc(0.7, power=0.9).positives, 2)
    40.21
    """
    check_planned(alternative, auroc=auroc, power=power, ratio=ratio, alpha=alpha)
    positives = _needed_positives(auroc, power, ratio, alpha, alternative)
    return AurocPower(auroc, positives, ratio * positives, alpha, alternative, power, "Obuchowski")


def detectable_auroc(
    positives: float,
    negatives: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    alternative: str = "two-sided",
) -> AurocPower:
    """The smallest true AUROC that these numbers tell from 0.5 with the wanted power.

    NaN with a reason if not even an AUROC of 0.999999 is told from 0.5 with that power.

    Args:
        positives: number of positive patients.
        negatives: number of negative patients.
        power: wanted power.
        alpha: significance level.
        alternative: `two-sided` or `one-sided`.

    Raises:
        StatisticsError: listing every argument outside its range.

    Source: as `power_auroc`. pROC's `uniroot` stops 1e-6 short of this root.
    """
    check_planned(alternative, positives=positives, negatives=negatives, power=power, alpha=alpha)
    ratio = negatives / positives

    def excess(value: float) -> float:
        return _needed_positives(value, power, ratio, alpha, alternative) - positives

    low, high = 0.5 + 1e-6, 1 - 1e-6
    if excess(high) > 0:
        reason = "no AUROC is told from 0.5 with that power by so few patients"
        return AurocPower(math.nan, positives, negatives, alpha, alternative, power, "Obuchowski", reason)
    found = float(brentq(excess, low, high, xtol=1e-13)) if excess(low) > 0 else low
    return AurocPower(found, positives, negatives, alpha, alternative, power, "Obuchowski")


def check_planned(alternative: str, **values: float) -> None:
    """Raise unless every argument of a power calculation lies in its range, listing all that do not."""
    check_choice(alternative, ALTERNATIVES, "alternative")
    problems = []
    for name, value in values.items():
        if name == "auroc":
            if not 0.5 < number_of(value) < 1:
                remedy = "Power is about telling a score from guessing."
                problems.append(Problem(name, "strictly between 0.5 and 1", repr(value), remedy))
        elif name in ("alpha", "power"):
            if not 0 < number_of(value) < 1:
                problems.append(Problem(name, "strictly between 0 and 1", repr(value), "Write 0.05 for 5 %."))
        elif not _FEWEST <= number_of(value) <= _MOST:
            problems.append(Problem(name, f"above 0, {_FEWEST:g} to {_MOST:g}", repr(value), "Count patients."))
    if not problems and values.get("power", 1.0) <= values["alpha"]:
        remedy = "Guessing has a power of alpha."
        problems.append(Problem("power", f"more than alpha, {values['alpha']:g}", repr(values["power"]), remedy))
    if problems:
        raise StatisticsError(problems)


def z_alpha_of(alpha: float, alternative: str) -> float:
    """The normal quantile that a test statistic must exceed."""
    return float(-ndtri(alpha / 2 if alternative == "two-sided" else alpha))


def _variance(auroc: float, kappa: float) -> float:
    """Obuchowski's variance of an AUROC times the number of positives."""
    a = float(ndtri(auroc)) * _ROOT_2
    return 0.0099 * math.exp(-a * a / 2) * ((5 * a * a + 8) + (a * a + 8) / kappa)


def _null_sd(kappa: float) -> float:
    return math.sqrt(_NULL_VARIANCE * (1 + 1 / kappa))


def _needed_positives(auroc: float, power: float, ratio: float, alpha: float, alternative: str) -> float:
    spread = z_alpha_of(alpha, alternative) * _null_sd(ratio) + float(ndtri(power)) * math.sqrt(_variance(auroc, ratio))
    return (spread / (auroc - 0.5)) ** 2
