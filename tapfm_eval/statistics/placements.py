"""Placement counts: for each row how many of the other class it is ranked rightly against, in O(n log n)."""

import numpy as np
from numpy.typing import NDArray

from tapfm_eval.statistics.border import Floats


def placement_counts(scores: Floats, positive: NDArray[np.bool_]) -> Floats:
    """Give DeLong's placements as counts, ties counted one half; a larger score speaks for the positive class.

    For a positive row: the negatives scored below it; for a negative row: the positives scored above it. Divided by
    the size of the other class these are DeLong's V10 and V01; the sum over either class, divided by positives x
    negatives, is the AUROC. Counts are exact halves of integers, so that what is equal compares equal.

    Args:
        scores: (..., n), finite float64; leading axes (arms, simulations) are independent and share the labels.
        positive: (n,), which rows are positive.

    Source: DeLong, DeLong & Clarke-Pearson 1988 (doi:10.2307/2531595); by sorting as Sun & Xu 2014
    (doi:10.1109/LSP.2014.2337313). `tests/statistics/slow_twin.py` compares all pairs instead.
    """
    n = scores.shape[-1]
    m = int(np.count_nonzero(positive))
    order = np.argsort(scores, axis=-1)
    ordered = np.take_along_axis(scores, order, axis=-1)
    labels = positive[order]
    positives_through = np.cumsum(labels, axis=-1, dtype=np.int64)
    position = np.arange(n)
    starts = ordered[..., 1:] != ordered[..., :-1]
    counts: Floats
    if starts.all():
        counts = np.where(labels, position + 1.0, float(m)) - positives_through
    else:
        edge = np.ones((*starts.shape[:-1], 1), dtype=bool)
        first = np.maximum.accumulate(np.where(np.concatenate([edge, starts], axis=-1), position, 0), axis=-1)
        ends = np.where(np.concatenate([starts, edge], axis=-1), position, n)
        last = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
        through = np.take_along_axis(positives_through, last, axis=-1)
        before = np.take_along_axis(positives_through - labels, first, axis=-1)
        positives_below = 0.5 * (before + through)  # tied ones counted one half
        counts = np.where(labels, 0.5 * (first + last + 1) - positives_below, m - positives_below)
    placed = np.empty_like(counts)
    np.put_along_axis(placed, order, counts, axis=-1)
    return placed
