"""Claims about a paired difference that are fixed in advance: superiority, non-inferiority, equivalence."""

from numpy.typing import ArrayLike

from tapfm_eval.statistics.compare import compare_auroc
from tapfm_eval.statistics.records import Comparison


def superiority(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    alpha: float = 0.025,
    test: str = "t",
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
) -> Comparison:
    """Give the one-sided paired test that A's AUROC exceeds B's; shown if p < alpha, equally if the lower limit > 0.

    The limits are those of the two-sided interval at level 1 - 2 alpha. Else as `compare_auroc`.
    """
    return compare_auroc(
        labels,
        scores_a,
        scores_b,
        test=test,
        level=1.0 - 2.0 * alpha,
        hypothesis="superiority",
        clusters=clusters,
        strata=strata,
    )


def non_inferiority(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.025,
    test: str = "t",
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
) -> Comparison:
    """Give the paired test that A's AUROC is not below B's by `margin` or more; shown if the lower limit > -margin.

    The limits are those of the two-sided interval at level 1 - 2 alpha, so the lower one is the one-sided limit at
    level 1 - alpha. `statistic` is (difference + margin) / standard error. Else as `compare_auroc`.
    """
    return compare_auroc(
        labels,
        scores_a,
        scores_b,
        test=test,
        level=1.0 - 2.0 * alpha,
        hypothesis="non-inferiority",
        margin=margin,
        clusters=clusters,
        strata=strata,
    )


def equivalence(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    test: str = "t",
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
) -> Comparison:
    """Give the two one-sided paired tests that the AUROCs differ by less than `margin`.

    The limits are those of the two-sided interval at level 1 - 2 alpha; equivalence is shown if both lie within
    (-margin, margin). p and `statistic` belong to the weaker of the two tests. Else as `compare_auroc`.
    """
    return compare_auroc(
        labels,
        scores_a,
        scores_b,
        test=test,
        level=1.0 - 2.0 * alpha,
        hypothesis="equivalence",
        margin=margin,
        clusters=clusters,
        strata=strata,
    )
