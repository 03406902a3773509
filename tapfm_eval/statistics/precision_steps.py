"""How average precision varies from cohort to cohort: resampled patients, and each patient's influence.

Recall grows only where a positive scores, so all that counts is how many positives and negatives fall on each step.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from tapfm_eval.statistics.border import Codes, Floats
from tapfm_eval.statistics.resampling import CHUNK, draw_times
from tapfm_eval.statistics.single import Rows

Counts = NDArray[np.intp] | Floats  # a resampled patient may bring several rows, as weights


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Rows by the distinct scores of positives, descending, which is where recall grows."""

    positive: NDArray[np.bool_]  # (n,)
    step: Codes  # (n,) the first step whose score the row reaches; `steps` below all positives
    positive_counts: Codes  # (steps,) positives at each
    negative_counts: Codes  # (steps,) negatives that reach it, but not the one before
    units: Codes | None  # (n,) patient of each row as 0..patients-1; None where each row is a patient
    groups: tuple[Codes, ...]  # patients with positive rows only, negative rows only, both; none of them empty
    positive_patients: int


def steps_of(rows: Rows) -> Steps:
    """Give the steps of rows of which at least one is positive."""
    distinct = np.unique(rows.scores[rows.positive])
    step = distinct.size - np.searchsorted(distinct, rows.scores, side="right")
    units = None if rows.clusters is None else np.unique(rows.clusters, return_inverse=True)[1]
    kind = np.where(rows.positive, 1, 2)
    if units is not None:
        of_row, kind = kind, np.zeros(int(units.max()) + 1, dtype=np.intp)
        np.bitwise_or.at(kind, units, of_row)
    groups = (np.flatnonzero(kind == value) for value in (1, 2, 3))
    return Steps(
        positive=rows.positive,
        step=step,
        positive_counts=np.bincount(step[rows.positive], minlength=distinct.size),
        negative_counts=np.bincount(step[~rows.positive], minlength=distinct.size + 1)[:-1],
        units=units,
        groups=tuple(group for group in groups if group.size),
        positive_patients=int((kind != 2).sum()),
    )


def average_precisions(positives: Counts, negatives: Counts) -> Floats:
    """Give the average precision of each row of counts by step, (samples, steps) -> (samples,)."""
    tp = np.cumsum(positives, axis=1, dtype=np.float64)
    called = tp + np.cumsum(negatives, axis=1)
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    result: Floats = (positives * precision).sum(axis=1) / tp[:, -1]
    return result


def resampled_precisions(steps: Steps, rng: np.random.Generator, replicates: int) -> Floats:
    """Give average precisions, (replicates,), of patients resampled within those with positive rows, negative, both."""
    draws = _rows_drawn if steps.units is None else _patients_drawn
    return np.concatenate([average_precisions(*counts) for counts in draws(steps, rng, replicates)])


def influence_error(steps: Steps, value: float) -> float:
    """Give the standard error of the average precision from each patient's influence (infinitesimal jackknife).

    One more positive adds its own precision and raises that of all positives below it; one more negative lowers it.
    """
    tp = np.cumsum(steps.positive_counts, dtype=np.float64)
    called = tp + np.cumsum(steps.negative_counts)

    def below(gain: Floats) -> Floats:
        return np.append(np.cumsum((steps.positive_counts * gain)[::-1])[::-1], 0.0)

    of_positive = np.append(tp / called - value, 0.0) + below((called - tp) / called**2)
    of_negative = -below(tp / called**2)
    influence = np.where(steps.positive, of_positive[steps.step], of_negative[steps.step]) / tp[-1]
    patients = influence if steps.units is None else np.bincount(steps.units, weights=influence)
    return math.sqrt(sum(float(((patients[g] - patients[g].mean()) ** 2).sum()) for g in steps.groups))


def _rows_drawn(steps: Steps, rng: np.random.Generator, replicates: int) -> Iterator[tuple[Counts, Counts]]:
    """Give counts by step (samples, steps) where each row is a patient: only how many fall on each step is drawn."""
    count = steps.positive_counts.size
    below = int((~steps.positive).sum()) - int(steps.negative_counts.sum())
    negative_counts = np.append(steps.negative_counts, below)
    for size in _chunks(replicates, 2 * count + 1):
        yield _drawn(steps.positive_counts, size, rng), _drawn(negative_counts, size, rng)[:, :count]


def _drawn(counts: Codes, size: int, rng: np.random.Generator) -> Codes:
    """Give how many of as many rows, drawn with replacement, fall on each step: (size, steps), multinomial."""
    total = int(counts.sum())
    if total > 4 * counts.size:  # a draw for each step takes less time than one for each row
        return rng.multinomial(total, counts / total, size=size)
    place = np.repeat(np.arange(counts.size), counts)[rng.integers(0, total, size=(size, total))]
    place += np.arange(0, size * counts.size, counts.size)[:, None]
    return np.bincount(place.reshape(-1), minlength=size * counts.size).reshape(size, counts.size)


def _patients_drawn(steps: Steps, rng: np.random.Generator, replicates: int) -> Iterator[tuple[Counts, Counts]]:
    """Give counts by step (samples, steps) where patients bring several rows."""
    assert steps.units is not None
    count, patients = steps.positive_counts.size, int(steps.units.max()) + 1
    places = (steps.step + np.where(steps.positive, 0, count + 1), steps.units)
    per_patient = coo_array((np.ones(steps.step.size), places), shape=(2 * count + 2, patients)).tocsr()
    for size in _chunks(replicates, max(2 * count + 2, patients)):
        weights = np.zeros((patients, size))
        for group in steps.groups:
            weights[group] = draw_times(group.size, size, rng)
        by_step = np.asarray(per_patient @ weights).T
        yield by_step[:, :count], by_step[:, count + 1 : -1]


def _chunks(replicates: int, width: int) -> Iterator[int]:
    """Give numbers of replicates whose arrays of this width stay within bounds."""
    step = max(CHUNK // width, 1)
    for start in range(0, replicates, step):
        yield min(step, replicates - start)
