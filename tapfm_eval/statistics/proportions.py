"""What share, and how sure: proportions with score and exact intervals, and McNemar's test for paired shares."""

import math
from collections.abc import Mapping

from scipy import special

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import check_choice, check_level, whole_number
from tapfm_eval.statistics.records import Comparison, Estimate

PROPORTION_METHODS = ("wilson", "clopper-pearson", "jeffreys", "agresti-coull")
MCNEMAR_METHODS = ("exact", "chi2", "chi2-corrected")


def proportion(successes: int, n: int, *, level: float = 0.95, method: str = "wilson") -> Estimate:
    """The share `successes / n` of independent patients, with a two-sided interval.

    Methods: `wilson` (score interval without continuity correction, R's `prop.test(correct=FALSE)`), `clopper-pearson`
    (exact and conservative, R's `binom.test`), `jeffreys` (Beta(1/2, 1/2) prior; lower limit 0 without a success, upper
    limit 1 without a failure), `agresti-coull` (as published: its limits are not cut at 0 and 1).

    Args:
        successes: patients with the property, 0 to n; a sum of float labels, such as 8.0, will do.
        n: patients looked at; 0 gives NaN with a reason.
        level: confidence level, between 0 and 1.
        method: one of `PROPORTION_METHODS`.

    Returns:
        Estimate whose `positives` are the successes and whose `clusters` equal `n`.

    Raises:
        StatisticsError: for counts that are negative, fractional or larger than `n`, or an unknown method.

    Sources: Wilson 1927, doi:10.1080/01621459.1927.10502953; Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404;
    Brown, Cai and DasGupta 2001, doi:10.1214/ss/1009213286.

    >>> share = proportion(37, 43)
    >>> round(share.lower, 6), round(share.upper, 6)
    (0.727364, 0.934443)
    """
    check_counts({"successes": successes, "n": n}, level)
    successes, n, level = int(successes), int(n), float(level)
    check_choice(method, PROPORTION_METHODS, "method")
    if successes > n:
        raise StatisticsError(
            Problem("successes", f"at most n = {n}", str(successes), "Check the order of the two counts.")
        )
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, level, method, 0, 0, 0, "no patients in the denominator")
    lower, upper = proportion_limits(successes, n, level, method)
    return Estimate(successes / n, lower, upper, level, method, n, successes, n)


def proportion_limits(successes: float, n: float, level: float, method: str) -> tuple[float, float]:
    """Lower and upper limit of a share; for callers that have checked the counts and hold n > 0.

    `wilson` and `agresti-coull` also take fractional counts (an effective sample size).
    """
    tail = (1 - level) / 2
    failures = n - successes
    if method == "clopper-pearson":
        lower = 0.0 if successes == 0 else float(special.betaincinv(successes, failures + 1, tail))
        upper = 1.0 if failures == 0 else float(special.betaincinv(successes + 1, failures, 1 - tail))
        return lower, upper
    if method == "jeffreys":
        lower = 0.0 if successes == 0 else float(special.betaincinv(successes + 0.5, failures + 0.5, tail))
        upper = 1.0 if failures == 0 else float(special.betaincinv(successes + 0.5, failures + 0.5, 1 - tail))
        return lower, upper
    z = normal_quantile(level)
    if method == "agresti-coull":
        total = n + z * z
        centre = (successes + z * z / 2) / total
        half = z * math.sqrt(centre * (1 - centre) / total)
        return centre - half, centre + half
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * failures / n + z * z / 4)
    # at the ends the closed form is 0 and 1 but for rounding
    return (0.0 if successes == 0 else centre - half), (1.0 if failures == 0 else centre + half)


def mcnemar(
    both: int, only_a: int, only_b: int, neither: int, *, level: float = 0.95, method: str = "exact"
) -> Comparison:
    """Share of patients for whom A holds minus the share for whom B holds, on the same patients, with McNemar's test.

    The interval is Newcombe's hybrid score interval for paired proportions (his method 10), whatever the test.
    `statistic` is (only_a - only_b) / sqrt(only_a + only_b), so its square is McNemar's chi-squared; for
    `chi2-corrected` the difference is drawn 1 towards zero first. No discordant patient: the p-value is 1, because the
    two agree on everybody.

    Args:
        both: patients for whom A and B both hold.
        only_a: patients for whom only A holds.
        only_b: patients for whom only B holds.
        neither: patients for whom neither holds.
        level: confidence level, between 0 and 1.
        method: `exact` (two-sided binomial on the discordant patients), `chi2` or `chi2-corrected`.

    Returns:
        Comparison with `n` = all patients and `positives` = discordant patients; NaN with a reason when n is 0.

    Raises:
        StatisticsError: for negative or fractional counts or an unknown method.

    Sources: McNemar 1947, doi:10.1007/BF02295996; Newcombe 1998,
    doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C.

    >>> round(mcnemar(40, 5, 12, 20).p_value, 6)
    0.143463
    """
    check_counts({"both": both, "only_a": only_a, "only_b": only_b, "neither": neither}, level)
    both, only_a, only_b, neither, level = int(both), int(only_a), int(only_b), int(neither), float(level)
    check_choice(method, MCNEMAR_METHODS, "method")
    name = f"McNemar {method}, interval Newcombe paired score"
    n, discordant = both + only_a + only_b + neither, only_a + only_b
    if n == 0:
        nan = math.nan
        return Comparison(nan, nan, nan, level, nan, nan, nan, name, 0, 0, 0, "no patients in the denominator")
    lower, upper = _newcombe_paired_limits(both, only_a, only_b, neither, level)
    gap = only_a - only_b
    if method == "chi2-corrected":
        gap = int(math.copysign(max(abs(gap) - 1, 0), gap))
    statistic = gap / math.sqrt(discordant) if discordant else 0.0
    if method == "exact":
        # at a share of 1/2 both tails are alike
        p_value = min(2 * float(special.bdtr(min(only_a, only_b), discordant, 0.5)), 1.0) if discordant else 1.0
    else:
        p_value = math.erfc(abs(statistic) / math.sqrt(2))
    difference = (only_a - only_b) / n
    return Comparison(difference, lower, upper, level, statistic, math.inf, p_value, name, n, discordant, n)


def _newcombe_paired_limits(both: int, only_a: int, only_b: int, neither: int, level: float) -> tuple[float, float]:
    n = both + only_a + only_b + neither
    a, b = both + only_a, both + only_b
    lower_a, upper_a = proportion_limits(a, n, level, "wilson")
    lower_b, upper_b = proportion_limits(b, n, level, "wilson")
    down_a, up_a, down_b, up_b = a / n - lower_a, upper_a - a / n, b / n - lower_b, upper_b - b / n
    margins = a * (n - a) * b * (n - b)
    correlation = 0.0
    if margins:
        cross = both * neither - only_a * only_b
        # method 10 shrinks a positive correlation by n/2, so that the interval does not become too narrow
        correlation = (max(cross - n / 2, 0.0) if cross > 0 else float(cross)) / math.sqrt(margins)
    difference = (a - b) / n
    lower = difference - mover_distance(down_a, up_b, correlation)
    upper = difference + mover_distance(up_a, down_b, correlation)
    return lower, upper


def mover_distance(first: float, second: float, correlation: float = 0.0) -> float:
    """Distance from a difference to its limit, given the two terms' distances to theirs (square and add; MOVER).

    Source: Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    return math.sqrt(max(first * first - 2 * correlation * first * second + second * second, 0.0))


def normal_quantile(level: float) -> float:
    """z of a two-sided interval at `level`, e.g. 1.96 at 0.95."""
    return float(special.ndtri(1 - (1 - level) / 2))


def check_counts(counts: Mapping[str, object], level: float) -> None:
    """Raise unless every count is a whole number of patients and `level` lies between 0 and 1.

    Raises:
        StatisticsError: listing every fault.
    """
    problems: list[Problem] = []
    for name, count in counts.items():
        whole_number(count, name, 0, "Count patients, not shares.", problems, most=2**53)
    check_level(level, problems)
    if problems:
        raise StatisticsError(problems)
