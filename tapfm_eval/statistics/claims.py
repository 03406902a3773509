"""Claims about a paired difference that are fixed in advance: superiority, non-inferiority, equivalence."""

from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import number_of
from tapfm_eval.statistics.compare import compare_auroc
from tapfm_eval.statistics.records import Comparison


class PairedOptions(TypedDict, total=False):
    """Options that a claim hands to `compare_auroc` as they are."""

    test: str
    method: str
    clusters: ArrayLike | None
    strata: ArrayLike | None
    rng: np.random.Generator | None
    replicates: int


def superiority(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    alpha: float = 0.025,
    **options: Unpack[PairedOptions],
) -> Comparison:
    """Give the one-sided paired test that A's AUROC exceeds B's; shown if p < alpha, equally if the lower limit > 0.

    The limits are those of the two-sided interval at level 1 - 2 alpha. Else as `compare_auroc`, which takes `options`
    (test, method, clusters, strata, rng, replicates).
    """
    return compare_auroc(labels, scores_a, scores_b, level=_level(alpha), hypothesis="superiority", **options)


def non_inferiority(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.025,
    **options: Unpack[PairedOptions],
) -> Comparison:
    """Give the paired test that A's AUROC is not below B's by `margin` or more; shown if the lower limit > -margin.

    The limits are those of the two-sided interval at level 1 - 2 alpha, so the lower one is the one-sided limit at
    level 1 - alpha. `statistic` is (difference + margin) / standard error. Else, and for `options`, as `superiority`.
    """
    return compare_auroc(
        labels, scores_a, scores_b, level=_level(alpha), hypothesis="non-inferiority", margin=margin, **options
    )


def equivalence(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    **options: Unpack[PairedOptions],
) -> Comparison:
    """Give the two one-sided paired tests that the AUROCs differ by less than `margin`.

    The limits are those of the two-sided interval at level 1 - 2 alpha; equivalence is shown if both lie within
    (-margin, margin). p and `statistic` belong to the weaker of the two tests. Else, and for `options`, as
    `superiority`.
    """
    return compare_auroc(
        labels, scores_a, scores_b, level=_level(alpha), hypothesis="equivalence", margin=margin, **options
    )


def _level(alpha: float) -> float:
    """Give the level of the two-sided interval whose limits decide one-sided at `alpha`."""
    if not 0.0 < number_of(alpha) < 0.5:
        remedy = "0.025 one-sided goes with a 95 % interval."
        raise StatisticsError(Problem("alpha", "a one-sided level between 0 and 0.5", repr(alpha), remedy))
    return 1.0 - 2.0 * alpha
