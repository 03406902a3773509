"""From a difference and its spread to interval, test statistic and p-value, whatever the difference is of."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import Floats, check_choice, check_level, number_of
from tapfm_eval.statistics.covariance import Spread
from tapfm_eval.statistics.records import Comparison
from tapfm_eval.statistics.resampling import bootstrap_limits

HYPOTHESES = ("two-sided", "superiority", "inferiority", "non-inferiority", "equivalence")
WITH_MARGIN = ("non-inferiority", "equivalence")
NO_INTERVAL = "both AUROCs have no sampling variance, so that their difference has no interval"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a difference A - B."""

    hypothesis: str  # one of HYPOTHESES
    margin: float  # on the AUROC scale; 0 for hypotheses without one
    level: float  # of the two-sided interval


class Counts(NamedTuple):
    """The counts that a comparison carries, in its order."""

    n: int
    positives: int
    clusters: int


def ask(hypothesis: str, margin: float | None, level: float) -> Question:
    """Give the question, checked.

    Raises:
        StatisticsError: an unknown hypothesis, a margin that is missing, not positive or out of place, a level
            outside (0, 1).
    """
    check_choice(hypothesis, HYPOTHESES, "hypothesis")
    problems: list[Problem] = []
    check_level(level, problems)
    if hypothesis in WITH_MARGIN:
        if not 0.0 < number_of(margin) < 1.0:
            remedy = "State it on the AUROC scale, fixed before the data were seen."
            problems.append(Problem("margin", f"a number in (0, 1) for {hypothesis}", repr(margin), remedy))
    elif margin is not None:
        remedy = "Leave it out, or ask for non-inferiority or equivalence."
        problems.append(Problem("margin", f"none for hypothesis {hypothesis!r}", repr(margin), remedy))
    if problems:
        raise StatisticsError(problems)
    return Question(hypothesis, float(margin or 0.0), float(level))


def decide(difference: Spread, question: Question, counts: Counts, method: str) -> Comparison:
    """Give the comparison for a difference referred to Student's t, or to the normal distribution if df is infinite.

    Limits of a t interval are clipped to [-1, 1]; those of a z interval are not, as in pROC. NaN with the reason where
    the variance is NaN or 0.
    """
    value, df = difference.value, difference.df
    if not difference.variance > 0:
        reason = difference.reason or "the difference has no sampling variance"
        return undecided(value, question, counts, method, reason)
    error = float(np.sqrt(difference.variance))
    half = float(-_quantile(0.5 - question.level / 2.0, df)) * error
    lower, upper = value - half, value + half
    if np.isfinite(df):
        lower, upper = max(lower, -1.0), min(upper, 1.0)
    statistic, p_value = statistic_and_p(value, error, df, question)
    return Comparison(
        value=value,
        lower=lower,
        upper=upper,
        level=question.level,
        statistic=statistic,
        df=df,
        p_value=p_value,
        method=method + wording(question),
        n=counts.n,
        positives=counts.positives,
        clusters=counts.clusters,
    )


def decide_by_draws(
    difference: Spread,
    draws: Floats,
    fewest: int,
    question: Question,
    counts: Counts,
    method: str,
    *,
    same_order: bool = False,
) -> Comparison:
    """Give the comparison for a difference with its bootstrap draws: percentiles, and a z test by their deviation.

    `fewest` as `bootstrap_limits`. Where the draws show no spread: no difference if the two scores order patients
    alike (`same_order`), or if the difference is 0 without sampling variance; else NaN with the reason.
    """
    value = difference.value
    lower, upper, reason = bootstrap_limits(value, draws, question.level, fewest)
    if reason is not None:
        if same_order:
            return no_difference(question, counts, method, df=np.inf, interval=True)
        if value == 0.0 and difference.variance == 0.0:
            return no_difference(question, counts, method, df=np.inf, interval=False, reason=NO_INTERVAL)
        return undecided(value, question, counts, method, reason)
    statistic, p_value = statistic_and_p(value, float(draws.std(ddof=1)), np.inf, question)
    name = method + wording(question)
    return Comparison(value, lower, upper, question.level, statistic, np.inf, p_value, name, *counts)


def undecided(value: float, question: Question, counts: Counts, method: str, reason: str) -> Comparison:
    """Give the comparison of a difference (perhaps NaN) whose spread is not estimable."""
    nan = np.nan
    return Comparison(value, nan, nan, question.level, nan, nan, nan, method + wording(question), *counts, reason)


def no_difference(
    question: Question, counts: Counts, method: str, *, df: float, interval: bool, reason: str | None = None
) -> Comparison:
    """Give the comparison of two AUROCs that are equal without sampling variance.

    p = 1 for hypotheses of no difference, never 0; with a margin there is nothing to refer it to: NaN.
    """
    statistic, p_value, limit = 0.0, 1.0, 0.0 if interval else np.nan
    if question.hypothesis in WITH_MARGIN:
        statistic = p_value = np.nan
        reason = reason or "the difference has no sampling variance to refer the margin to"
    name = method + wording(question)
    return Comparison(0.0, limit, limit, question.level, statistic, df, p_value, name, *counts, reason)


def statistic_and_p(value: float, error: float, df: float, question: Question) -> tuple[float, float]:
    """Give the statistic and the p-value of a difference with a standard error, for the question asked."""
    above, below = (value + question.margin) / error, (value - question.margin) / error
    match question.hypothesis:
        case "superiority" | "non-inferiority":
            return above, _tail(-above, df)
        case "inferiority":
            return below, _tail(below, df)
        case "equivalence":
            tests = ((above, _tail(-above, df)), (below, _tail(below, df)))
            return max(tests, key=lambda one_sided: one_sided[1])
        case _:
            return above, 2.0 * _tail(-abs(above), df)


def permutation_p(observed: float, exchanged: Floats, question: Question) -> float:
    """Give the share of permutations at least as extreme as the data, which count as one of them: never 0."""
    dust = 1e-12
    match question.hypothesis:
        case "superiority":
            extreme = exchanged >= observed - dust
        case "inferiority":
            extreme = exchanged <= observed + dust
        case _:
            extreme = np.abs(exchanged) >= abs(observed) - dust
    return (1.0 + float(extreme.sum())) / (1.0 + exchanged.size)


def wording(question: Question) -> str:
    """Give the end of a method's name that tells the hypothesis, empty for the two-sided one."""
    match question.hypothesis:
        case "two-sided":
            return ""
        case "equivalence":
            return f"; equivalence, two one-sided tests, margin {question.margin:g}"
        case "non-inferiority":
            return f"; non-inferiority, one-sided, margin {question.margin:g}"
        case _:
            return f"; {question.hypothesis}, one-sided"


def _tail(x: float, df: float) -> float:
    return float(ndtr(x) if np.isinf(df) else stdtr(df, x))


def _quantile(p: float, df: float) -> float:
    return float(ndtri(p) if np.isinf(df) else stdtrit(df, p))
