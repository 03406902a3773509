"""One target and one score, checked, with the rows of unknown label left out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import Codes, Floats, as_numbers, observe
from tapfm_eval.statistics.records import Estimate


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows whose label is known, in the order given."""

    positive: NDArray[np.bool_]  # (n,)
    scores: Floats  # (n,), finite; larger = more likely positive
    clusters: Codes | None  # (n,) patient of each row; None where each row is a patient
    known: NDArray[np.bool_]  # (rows given,): which of them these are

    @property
    def n(self) -> int:
        return int(self.positive.size)

    @property
    def positives(self) -> int:
        return int(self.positive.sum())

    @property
    def negatives(self) -> int:
        return self.n - self.positives

    @property
    def patients(self) -> int:
        return self.n if self.clusters is None else int(np.unique(self.clusters).size)


def known_rows(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    name: str = "scores",
    probabilities: bool = False,
    problems: Sequence[Problem] = (),
) -> Rows:
    """The rows with a known label, after checking everything; NaN labels are unknown, NaN scores are refused.

    `problems` are those found with other arguments, to be told together with these.

    Raises:
        StatisticsError: as `observe`; with `probabilities`, also for values outside [0, 1]; for any of `problems`.
    """
    found = [*_outside_unit_interval(scores, name), *problems] if probabilities else list(problems)
    try:
        observed = observe(labels, {name: scores}, clusters=clusters, level=level)
    except StatisticsError as error:
        raise StatisticsError([*error.problems, *found]) from None
    if found:
        raise StatisticsError(found)
    label = observed.labels[:, 0]
    known = ~np.isnan(label)
    codes = None if observed.clusters is None else observed.clusters[known]
    return Rows(label[known] == 1, observed.scores[0, known, 0], codes, known)


def _outside_unit_interval(scores: ArrayLike, name: str) -> list[Problem]:
    values = as_numbers(scores, name, [])
    if values is None:
        return []  # `observe` says what is wrong with these
    outside = np.isfinite(values) & ((values < 0) | (values > 1))
    if not outside.any():
        return []
    example = float(values[outside].flat[0])
    return [
        Problem(
            name,
            "probabilities in [0, 1]",
            f"{int(outside.sum())} outside, first {example:g}",
            "Map logits to probabilities first.",
        )
    ]


def why_not_two_classes(positives: int, negatives: int) -> str | None:
    """The reason why a statistic that needs both classes is not estimable; None where both are there."""
    if positives and negatives:
        return None
    if not positives and not negatives:
        return "no row with a known label"
    return "no positives" if not positives else "no negatives"


def unestimable(name: str, rows: Rows, level: float, reason: str) -> Estimate:
    """An estimate that is NaN for a reason; one row a patient."""
    return Estimate(math.nan, math.nan, math.nan, level, name, rows.n, rows.positives, rows.n, reason)
