"""Whether lines cross: what tells a drawn outline that has one inside from one that does not."""

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 500_000  # bounds memory

Points = NDArray[np.float64]


def first_crossing(a: Points, b: Points) -> tuple[float, float] | None:
    """Where two of the lines a[i]-b[i] cross, or None. Lines that merely touch or overlap do not cross.

    Lines are swept by one coordinate, and only the `compared` pairs that overlap in it are looked at.

    Args:
        a: (E, 2) one end of each line.
        b: (E, 2) its other end.
    """
    axis = min((0, 1), key=lambda each: _overlapping(a[:, each], b[:, each]))
    low, high = np.minimum(a[:, axis], b[:, axis]), np.maximum(a[:, axis], b[:, axis])
    order = np.argsort(low, kind="stable")
    a, b, low, high = a[order], b[order], low[order], high[order]
    partners = np.searchsorted(low, high, side="left") - np.arange(len(low)) - 1  # following lines that begin within
    partners = np.maximum(partners, 0)
    ends = np.cumsum(partners)
    start = 0
    while start < len(partners):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
        first = np.repeat(np.arange(start, stop), partners[start:stop])
        begins = ends[start:stop] - partners[start:stop] - before  # of each line's partners within this batch
        second = first + 1 + np.arange(len(first)) - np.repeat(begins, partners[start:stop])
        crossing = _cross(a[first], b[first], a[second], b[second])
        if crossing.any():
            at = int(np.argmax(crossing))
            where = (a[first[at]] + b[first[at]] + a[second[at]] + b[second[at]]) / 4
            return float(where[0]), float(where[1])
        start = stop
    return None


def compared(a: Points, b: Points) -> int:
    """How many pairs of the lines a[i]-b[i] `first_crossing` looks at: some for a drawn outline, all for a scribble."""
    return min(_overlapping(a[:, axis], b[:, axis]) for axis in (0, 1))


def _overlapping(one: NDArray[np.float64], two: NDArray[np.float64]) -> int:
    low = np.sort(np.minimum(one, two))
    begun = np.searchsorted(low, np.maximum(one, two), side="left")  # lines that begin before this one ends
    return int(begun.sum()) - len(low) * (len(low) + 1) // 2


def _cross(a: Points, b: Points, c: Points, d: Points) -> NDArray[np.bool_]:
    """(P,) whether the open lines a-b and c-d have exactly one point in common."""
    return (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)


def _side(a: Points, b: Points, c: Points) -> NDArray[np.float64]:
    """(P,) on which side of the line a-b the point c lies: -1, 0 or 1."""
    ab, ac = b - a, c - a
    return np.sign(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
