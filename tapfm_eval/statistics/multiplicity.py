"""What many tests allow one to claim: adjusted p-values over a declared family, and gates in declared order."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import as_numbers, number_of

ADJUSTMENTS = ("holm", "hochberg", "hommel", "bh", "by", "bonferroni", "sidak")
GATE_ADJUSTMENTS = ("holm", "hochberg", "hommel", "bonferroni", "sidak")


@dataclass(frozen=True, slots=True)
class GatedFamily:
    """One family of a gatekeeping sequence, with p-values that account for every gate before it."""

    adjusted: tuple[float, ...]  # compare with alpha; in the order given; NaN where the test was not estimable
    rejected: tuple[bool, ...]  # adjusted <= alpha
    open: bool  # whether every hypothesis of all earlier families was rejected


def adjust_p(p_values: ArrayLike, *, method: str = "holm") -> NDArray[np.float64]:
    """Adjusted p-values of one declared family, in the order given.

    `holm` (default; strong control under any dependence), `hochberg` and `hommel` (under positive dependence),
    `bonferroni`, `sidak` (single step, independence) control the chance of any false claim; `bh` (Benjamini-Hochberg)
    and `by` (Benjamini-Yekutieli) control the expected share of false ones and are for exploratory tables.

    A NaN (a comparison that was not estimable) stays NaN but keeps its place in the family, counted as p = 1: the
    family is what was declared, and a failed test must not make the others easier. R's `p.adjust` drops it instead.

    Args:
        p_values: 1-D, each in [0, 1] or NaN; may be empty.
        method: one of `ADJUSTMENTS`; upper case (`BH`) is accepted.

    Returns:
        Array of the same length.

    Raises:
        StatisticsError: for an unknown method, a p-value outside [0, 1], or an array that is not 1-D.

    Sources: Holm 1979, jstor:4615733; Hochberg 1988, doi:10.1093/biomet/75.4.800; Benjamini and Hochberg 1995,
    doi:10.1111/j.2517-6161.1995.tb02031.x. Equal to R's `p.adjust` and statsmodels' `multipletests`, which collects
    garbage at every call (10 ms) and is used for `hommel` only.

    >>> adjust_p([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    name = str(method).lower()
    if name not in ADJUSTMENTS:
        raise StatisticsError(Problem("method", " or ".join(ADJUSTMENTS), repr(method), "Choose one of them."))
    values = _checked_p_values("p_values", p_values)
    if values.size == 0:
        return values
    missing = np.isnan(values)
    adjusted = _adjusted(np.where(missing, 1.0, values), name)
    return np.where(missing, math.nan, np.minimum(adjusted, 1.0))


def gatekeeping(families: Sequence[ArrayLike], *, alpha: float = 0.05, method: str = "holm") -> tuple[GatedFamily, ...]:
    """Adjusted p-values of families tested in the declared order, each only if all before it were wholly rejected.

    Serial gatekeeping: within a family the p-values are adjusted by `method`; a later family's adjusted p-value is at
    least the largest adjusted p-value of every earlier family. With one hypothesis a family this is the
    fixed-sequence procedure. The familywise error over all families is at most alpha. A NaN closes the gate: what
    follows gets an adjusted p-value of 1.

    Args:
        families: 1-D p-values of each family, in the order declared in the protocol; none may be empty.
        alpha: familywise level, between 0 and 1.
        method: adjustment inside a family; one that controls the familywise error (`GATE_ADJUSTMENTS`).

    Returns:
        One GatedFamily per family, in order.

    Raises:
        StatisticsError: for p-values outside [0, 1], an empty family, or a method that does not control the error.

    Sources: Westfall and Krishen 2001, doi:10.1016/S0378-3758(01)00077-5; Maurer, Hothorn and Lehmacher 1995.

    >>> [gate.adjusted for gate in gatekeeping([[0.01], [0.03], [0.02]])]
    [(0.01,), (0.03,), (0.03,)]
    """
    given: object = families  # whatever the annotation promises
    without_rows = isinstance(given, np.ndarray) and given.ndim == 0
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping) or without_rows:
        remedy = "Give one list of p-values a family."
        raise StatisticsError(Problem("families", "a list of lists of p-values", repr(families), remedy))
    checked = [_checked_p_values(f"families, number {i + 1}", family) for i, family in enumerate(families)]
    problems = [
        Problem(f"families, number {i + 1}", "at least one p-value", "none", "Remove the empty family.")
        for i, family in enumerate(checked)
        if family.size == 0
    ]
    if str(method).lower() not in GATE_ADJUSTMENTS:
        allowed = " or ".join(GATE_ADJUSTMENTS)
        problems.append(Problem("method", allowed, repr(method), "A gate needs familywise control."))
    if not 0 < number_of(alpha) < 1:
        problems.append(Problem("alpha", "between 0 and 1", repr(alpha), "Write 0.05 for 5 %."))
    if problems:
        raise StatisticsError(problems)
    gates: list[GatedFamily] = []
    floor, gate_open = 0.0, True
    for family in checked:
        adjusted = np.maximum(adjust_p(family, method=method), floor)
        rejected = adjusted <= alpha
        gates.append(GatedFamily(tuple(adjusted.tolist()), tuple(rejected.tolist()), gate_open))
        floor = 1.0 if np.isnan(adjusted).any() else float(adjusted.max())
        gate_open = gate_open and bool(rejected.all())
    return tuple(gates)


def _adjusted(p: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Adjusted p-values, not yet cut at 1."""
    k = p.size
    if name == "bonferroni":
        return k * p
    if name == "sidak":
        with np.errstate(divide="ignore"):  # log of 0 at p = 1
            at_once: NDArray[np.float64] = -np.expm1(k * np.log1p(-p))  # 1 - (1 - p)^k would round small p to 0
        return at_once
    if name == "hommel":
        from statsmodels.stats.multitest import multipletests  # pulls in pandas: over a second, paid only here

        return np.asarray(multipletests(p, method="hommel")[1], dtype=np.float64)
    order = np.argsort(p, kind="stable")
    rank = np.arange(1, k + 1)
    if name == "holm":
        stepped = np.maximum.accumulate((k - rank + 1) * p[order])
    else:
        factor = k - rank + 1 if name == "hochberg" else k / rank
        if name == "by":
            factor = factor * (1 / rank).sum()
        stepped = np.minimum.accumulate((factor * p[order])[::-1])[::-1]
    adjusted = np.empty(k)
    adjusted[order] = stepped
    return adjusted


def _checked_p_values(where: str, p_values: ArrayLike) -> NDArray[np.float64]:
    problems: list[Problem] = []
    values = as_numbers(p_values, where, problems)
    if values is None:
        raise StatisticsError(problems)
    if values.ndim != 1:
        problems.append(Problem(where, "one dimension", f"{values.ndim}", "Flatten the p-values of the family."))
    outside = int(((values < 0) | (values > 1)).sum())
    if outside:
        first = float(values[(values < 0) | (values > 1)].flat[0])
        problems.append(
            Problem(where, "p-values in [0, 1] or NaN", f"{outside} outside, first {first:g}", "Check the tests.")
        )
    if problems:
        raise StatisticsError(problems)
    return values
