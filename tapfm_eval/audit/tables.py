"""How two groups of patients differ in a category or a number: standardised differences, exact tests, Cramer's V."""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from tapfm_eval.statistics.multiplicity import adjust_p
from tapfm_eval.statistics.proportions import normal_quantile

PERMUTATIONS = 19_999  # many tests are adjusted together: the smallest p-value must outlive that
SIGNIFICANT = 0.05  # of adjusted p-values, throughout the audit
_FIRST_LOOK, _CHANCE = 999, 0.1
_CELLS_AT_ONCE = 2_000_000  # bounds memory
MAX_LEVELS = 1_000  # a category of more, such as free text, is left untested
_LEAST_EXPECTED = 5.0  # below it in any cell, chi-squared gives way to an exact or a permutation test
_MAX_FISHER = 5_000  # patients; above it a 2 x 2 table is permuted: the same test, sampled

Codes = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a variable differs between two groups of patients."""

    variable: str
    between: str  # `fold 2, train and test`
    level: str  # the category that differs most; empty for a number
    smd: float  # standardised mean difference, second group less first; infinite where they overlap in nothing
    lower: float  # 95 % interval; NaN where the difference is infinite
    upper: float
    p_value: float  # of the whole variable
    adjusted: float  # over the family that it was tested in; NaN before `adjusted_together`
    method: str
    counts: str  # what was compared: `12 of 60 and 3 of 20`

    @property
    def significant(self) -> bool:
        """Whether the adjusted p-value says more than chance."""
        return self.adjusted < SIGNIFICANT

    @property
    def said(self) -> str:
        """The difference as a line of evidence."""
        name = f"{self.variable}={self.level}" if self.level else self.variable
        limits = "" if math.isinf(self.smd) else f" ({signed(self.lower)} to {signed(self.upper)})"
        return (
            f"{name}, {self.between}: {self.counts}; standardised difference {signed(self.smd)}{limits}; "
            f"adjusted p {p_said(self.adjusted)} ({self.method})"
        )


@dataclass(frozen=True, slots=True)
class Association:
    """Cramer's V of a category and a 0/1 label, with a permutation p-value."""

    variable: str
    label: str
    v: float  # 0 to 1; grows with the number of categories by chance alone, hence the p-value
    p_value: float
    adjusted: float
    n: int
    levels: int


Tested = TypeVar("Tested", Difference, Association)


def p_said(p: float) -> str:
    """A p-value for a line of evidence."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float) -> str:
    """A difference for a line of evidence, with its sign; where groups overlap in nothing, no number says how far.

    >>> signed(0.421), signed(-0.65), signed(float("-inf"))
    ('+0.42', '−0.65', 'complete')
    """
    return "complete" if math.isinf(value) else f"{value:+.2f}".replace("-", "−")


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and on what it is for, never on the order of calls."""
    return np.random.default_rng([seed, zlib.crc32("\0".join(names).encode())])


def factorised(values: "pd.Series[str]") -> tuple[Codes, list[str]]:
    """Codes of the values in sorted order, and the values; an empty one is called `unknown`."""
    codes, levels = pd.factorize(values.replace("", "unknown"), sort=True)
    return codes.astype(np.intp), [str(level) for level in levels]


def category_difference(
    variable: str, between: str, first: "pd.Series[str]", second: "pd.Series[str]", rng: np.random.Generator
) -> Difference:
    """The difference in a category: of all its levels, that with the largest standardised difference is shown.

    Tested on the whole table: chi-squared where every expected count is at least 5, else Fisher's exact test (two
    levels) or a permutation test with the margins fixed. Standardised difference of shares: Austin 2009,
    doi:10.1080/03610910902859574; its interval: Hedges and Olkin 1985.
    """
    codes, levels = factorised(pd.concat([first, second]))
    table = np.stack([
        np.bincount(part, minlength=len(levels)) for part in (codes[: len(first)], codes[len(first) :])
    ])  # fmt: skip
    p_value, method = table_test(table, rng)
    sizes = table.sum(axis=1)
    if not sizes.all():
        return Difference(variable, between, "", math.nan, math.nan, math.nan, math.nan, math.nan, method, "none")
    shares = table / sizes[:, None]
    spread = np.sqrt((shares * (1 - shares)).mean(axis=0))
    apart = shares[1] - shares[0]
    # all of one group and none of the other have the level: nothing spreads, and the difference has no end
    smds = np.divide(apart, spread, out=np.where(apart == 0, 0.0, np.copysign(np.inf, apart)), where=spread > 0)
    at = int(np.abs(smds).argmax())
    lower, upper = _smd_limits(float(smds[at]), int(sizes[0]), int(sizes[1]))
    counts = f"{table[0, at]} of {sizes[0]} and {table[1, at]} of {sizes[1]}"
    return Difference(variable, between, levels[at], float(smds[at]), lower, upper, p_value, math.nan, method, counts)


def number_difference(variable: str, between: str, first: "pd.Series[float]", second: "pd.Series[float]") -> Difference:
    """The difference in a number: standardised means, tested by Mann and Whitney (exact where few and untied)."""
    a, b = (part.dropna().to_numpy(dtype=np.float64) for part in (first, second))
    if min(len(a), len(b)) < 2:
        return Difference(variable, between, "", math.nan, math.nan, math.nan, math.nan, math.nan, "too few", "none")
    spread = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    apart = float(b.mean() - a.mean())
    smd = apart / spread if spread > 0 else math.copysign(math.inf, apart) if apart else 0.0
    lower, upper = _smd_limits(smd, len(a), len(b))
    p_value = float(stats.mannwhitneyu(a, b).pvalue)
    counts = f"mean {a.mean():.1f} of {len(a)} and {b.mean():.1f} of {len(b)}"
    return Difference(variable, between, "", smd, lower, upper, p_value, math.nan, "Mann-Whitney", counts)


def association(
    variable: str, label: str, values: "pd.Series[str]", labels: "pd.Series[float]", rng: np.random.Generator
) -> Association:
    """Cramer's V of `values` and 0/1 `labels`, patients without a label or a value left out, and its permutation p.

    Where every expected count is at least 5 and chi-squared gives a p-value that no number of permutations drawn here
    could reach, that one stands: it must outlive the adjustment for hundreds of columns.
    """
    known = labels.notna() & (values != "")
    codes, levels = factorised(values[known])
    positive = labels[known].to_numpy(dtype=np.intp)
    table = np.stack([np.bincount(codes[positive == side], minlength=len(levels)) for side in (0, 1)])
    n = int(table.sum())
    if not 2 <= len(levels) <= MAX_LEVELS or not table.sum(axis=1).all():
        return Association(variable, label, math.nan, math.nan, math.nan, n, len(levels))
    statistic = float(_chi_squared(table[1], table))
    v = math.sqrt(statistic / n)  # one side has two categories: min(r, c) - 1 = 1
    p_value = float(stats.chi2.sf(statistic, len(levels) - 1))
    if _expected(table).min() < _LEAST_EXPECTED or p_value * (1 + PERMUTATIONS) > 1:
        p_value = permutation_p(table, rng)
    return Association(variable, label, v, p_value, math.nan, n, len(levels))


def table_test(table: NDArray[np.intp], rng: np.random.Generator) -> tuple[float, str]:
    """P-value and method for a (2, C) table of counts; NaN where a group or all but one level is empty."""
    table = table[:, table.sum(axis=0) > 0]
    n = int(table.sum())
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return math.nan, "nothing varies"
    if _expected(table).min() >= _LEAST_EXPECTED:
        return float(stats.chi2.sf(_chi_squared(table[1], table), table.shape[1] - 1)), "chi-squared"
    if table.shape[1] == 2 and n <= _MAX_FISHER:
        return float(stats.fisher_exact(table).pvalue), "Fisher's exact test"
    if table.shape[1] > MAX_LEVELS:
        return math.nan, "too many levels"
    return permutation_p(table, rng), "permutation test"


def permutation_p(table: NDArray[np.intp], rng: np.random.Generator) -> float:
    """P-value of a (2, C) table by drawing tables with the same margins: patients of the second row dealt out anew.

    Where 999 draws already show that chance explains the table (p above 0.1), it draws no more.
    """
    columns, second = table.sum(axis=0), int(table[1].sum())
    observed = _chi_squared(table[1], table) * (1 - 1e-12)
    reached = drawn = 0
    batch = max(1, _CELLS_AT_ONCE // len(columns))
    for look in (_FIRST_LOOK, PERMUTATIONS):
        while drawn < look:
            size = min(batch, look - drawn)
            tables = rng.multivariate_hypergeometric(columns, second, size=size, method="marginals")
            reached += int((_chi_squared(tables, table) >= observed).sum())
            drawn += size
        if reached > _CHANCE * drawn:
            break
    return (1 + reached) / (1 + drawn)


def adjusted_together(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """The differences with p-values adjusted by Holm over all that could be tested."""
    return _holm(differences, lambda difference, p: replace(difference, adjusted=p))


def associations_adjusted(associations: Sequence[Association]) -> tuple[Association, ...]:
    """The associations with p-values adjusted by Holm over all that could be tested."""
    return _holm(associations, lambda association, p: replace(association, adjusted=p))


def _holm(tests: Sequence[Tested], with_p: Callable[[Tested, float], Tested]) -> tuple[Tested, ...]:
    tested = [test for test in tests if not math.isnan(test.p_value)]
    adjusted = adjust_p([test.p_value for test in tested])
    return tuple(with_p(test, float(p)) for test, p in zip(tested, adjusted, strict=True))


def _expected(table: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.asarray(np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum(), dtype=np.float64)


def _chi_squared(second: NDArray[np.intp], table: NDArray[np.intp]) -> NDArray[np.float64]:
    """Pearson's statistic of (2, C) tables with the margins of `table`, from their second rows (..., C)."""
    columns, n = table.sum(axis=0), table.sum()
    filled = columns > 0
    share = table[1].sum() / n
    excess = second[..., filled] - share * columns[filled]
    return np.asarray((excess**2 / columns[filled]).sum(axis=-1) / (share * (1 - share)), dtype=np.float64)


def _smd_limits(smd: float, first: int, second: int) -> tuple[float, float]:
    if math.isinf(smd):
        return math.nan, math.nan
    half = normal_quantile(0.95) * math.sqrt((first + second) / (first * second) + smd**2 / (2 * (first + second)))
    return smd - half, smd + half
