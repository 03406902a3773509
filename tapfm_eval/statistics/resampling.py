"""Resampled AUROCs: the patient bootstrap within classes, and exchanges of two scores or of two groups' patients."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tapfm_eval.statistics.border import Codes, Draws, Floats, Observed
from tapfm_eval.statistics.placements import placement_counts

MINIMUM_GROUP = 10  # patients; smaller groups of equal labels are resampled together, or they would hardly vary
CHUNK = 4_000_000  # weights held at once
ATTEMPTS = 20  # draws per usable sample, on average, before resampling is given up
_DUST = 1e-12  # draws that differ by less do so by rounding


def percentile_limits(draws: Floats, level: float) -> tuple[float, float]:
    """Give the two percentiles of bootstrap draws that enclose `level` of them (linear interpolation, R's type 7)."""
    lower, upper = np.quantile(draws, [0.5 - level / 2.0, 0.5 + level / 2.0])
    return float(lower), float(upper)


def bootstrap_name(draws: Draws) -> str:
    """Give the name of limits by `bootstrap_limits`."""
    return f"bootstrap (stratified percentile, {draws.replicates} replicates)"


def bootstrap_limits(value: float, draws: Floats, level: float, fewest: int) -> tuple[float, float, str | None]:
    """Give percentiles, widened to the estimate where they miss it, or NaN and why the draws show no spread.

    `fewest` are the patients of the smallest class; a single one is in every resample, so that its class never varies.
    """
    if fewest < 2:
        return np.nan, np.nan, "limits: the bootstrap needs two patients of each class"
    if np.isnan(draws).any():
        return np.nan, np.nan, "limits: hardly any resample keeps both classes of every target"
    if float(np.ptp(draws)) <= _DUST:
        return np.nan, np.nan, "limits: the bootstrap shows no variance"
    lower, upper = percentile_limits(draws, level)
    return min(lower, value), max(upper, value), None


def resampled(
    observed: Observed, rng: np.random.Generator, replicates: int, statistic: Callable[[Floats], Floats]
) -> Floats:
    """Give a statistic of bootstrap samples of patients, (replicates, ...).

    `statistic` takes how often each row was drawn, (rows, size), and gives (size, ...), NaN for a sample that cannot be
    used; such a sample is drawn again, and all are NaN where that takes more than 20 draws for a usable one.

    Patients are drawn with replacement within groups of the same stratum and the same labels, so that with one target
    the class sizes stay fixed. With more than two sets of labels (several targets, or patients holding both labels),
    groups of fewer than 10 patients are pooled.
    """
    groups = _groups(observed)
    units = sum(group.size for group in groups)
    rows = observed.labels.shape[0]
    clusters = np.arange(rows) if observed.clusters is None else observed.clusters
    drawn: list[Floats] = []
    missing = replicates
    attempts = 0
    while missing > 0:
        size = min(missing, max(CHUNK // max(rows, 1), 1))
        weights = np.zeros((units, size))
        for group in groups:
            weights[group] = draw_times(group.size, size, rng)
        values = statistic(weights[clusters])
        usable = ~np.isnan(values.reshape(size, -1)).any(axis=1)
        drawn.append(values[usable])
        missing -= int(usable.sum())
        attempts += size
        if missing > 0 and attempts >= ATTEMPTS * replicates:
            return np.full((replicates, *values.shape[1:]), np.nan)
    return np.concatenate(drawn)


def resampled_aurocs(observed: Observed, rng: np.random.Generator, replicates: int) -> Floats:
    """Give bootstrap AUROCs of shape (replicates, arms, targets); all arms and targets share each draw of patients.

    Drawn as `resampled` says: a sample that leaves a target without a class is drawn again, so that none voids or
    biases an interval. Targets that lack a class in the data stay NaN.
    """
    frames = [_frames(observed, target) for target in range(observed.labels.shape[1])]
    live = [target for target, own in enumerate(frames) if own]
    aurocs = np.full((replicates, observed.scores.shape[0], len(frames)), np.nan)
    if live:
        aurocs[:, :, live] = resampled(
            observed,
            rng,
            replicates,
            lambda weights: np.stack([_weighted(observed, one, frames[one], weights) for one in live], axis=2),
        )
    return aurocs


def exchanged_differences(observed: Observed, rng: np.random.Generator, replicates: int) -> Floats:
    """Give differences AUROC(A) - AUROC(B) of one target, (replicates,), after exchanging ranks at random in patients.

    Each score is first replaced by its midrank within its stratum, so that the two are on one scale; then each patient
    keeps or swaps the ranks of all its rows with probability one half: exact if the two are exchangeable under H0.
    """
    patients = np.arange(observed.labels.shape[0]) if observed.clusters is None else observed.clusters
    frames = _frames(observed, 0)
    units = int(patients.max(initial=-1)) + 1
    step = max(CHUNK // max(observed.labels.shape[0], 1), 1)
    differences = []
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        swap = rng.integers(0, 2, size=(size, units), dtype=np.uint8).astype(bool)
        wins = np.zeros(size)
        pairs = 0
        for positive, negative in frames:
            rows = np.concatenate([positive, negative])
            is_positive = np.arange(rows.size) < positive.size
            first, second = (_midranks(observed.scores[arm, rows, 0]) for arm in range(2))
            swapped = swap[:, patients[rows]]
            a, b = np.where(swapped, second, first), np.where(swapped, first, second)
            counted = [placement_counts(mixed, is_positive)[:, : positive.size].sum(axis=1) for mixed in (a, b)]
            wins += counted[0] - counted[1]
            pairs += positive.size * negative.size
        differences.append(wins / pairs)
    return np.concatenate(differences)


def regrouped_ratios(
    first: Observed, second: Observed, rng: np.random.Generator, replicates: int
) -> tuple[float, Floats]:
    """Give difference / standard error of the AUROCs of two groups, and (replicates,) of it after regrouping patients.

    Patients, one row each, are dealt anew to the two groups within class, so that class sizes stay. The standard error
    is DeLong's, computed for each deal; with one patient of a class in a group it does not exist, and the differences
    themselves take the place of the ratios. A standard error of 0 makes the ratio 0 or infinite.
    """
    pooled, sizes = [], []
    for label in (1.0, 0.0):
        members = [one.scores[0, one.labels[:, 0] == label, 0] for one in (first, second)]
        sizes.append(members[0].size)
        pooled.append(np.concatenate(members))
    studentised = all(min(size, values.size - size) > 1 for size, values in zip(sizes, pooled, strict=True))

    def ratios(positives: Floats, negatives: Floats) -> Floats:
        (m, n) = sizes
        difference, variance = np.zeros(positives.shape[0]), np.zeros(positives.shape[0])
        for sign, own in ((1.0, (positives[:, :m], negatives[:, :n])), (-1.0, (positives[:, m:], negatives[:, n:]))):
            count, others = own[0].shape[1], own[1].shape[1]
            placed = placement_counts(np.concatenate(own, axis=1), np.arange(count + others) < count)
            v10, v01 = placed[:, :count] / others, placed[:, count:] / count
            difference += sign * v10.mean(axis=1)
            if studentised:
                variance += v10.var(axis=1, ddof=1) / count + v01.var(axis=1, ddof=1) / others
        difference[np.abs(difference) <= _DUST] = 0.0
        if not studentised:
            return difference
        alive = variance > _DUST**2
        ends = np.copysign(np.where(difference == 0.0, 0.0, np.inf), difference)
        ratio: Floats = np.where(alive, difference / np.sqrt(np.where(alive, variance, 1.0)), ends)
        return ratio

    observed = float(ratios(pooled[0][None], pooled[1][None])[0])
    step = max(CHUNK // max(pooled[0].size + pooled[1].size, 1), 1)
    dealt = []
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        dealt.append(ratios(*(rng.permuted(np.tile(values, (size, 1)), axis=1) for values in pooled)))
    return observed, np.concatenate(dealt)


def _groups(observed: Observed) -> list[Codes]:
    """Give the patients that may replace each other: same stratum, same labels held, rare sets of labels pooled."""
    labels, clusters = observed.labels, observed.clusters
    holds = np.concatenate([labels == 1, labels == 0], axis=1)
    strata = np.zeros(labels.shape[0], dtype=np.intp) if observed.strata is None else observed.strata
    if clusters is not None:
        units = int(clusters.max(initial=-1)) + 1
        own = np.zeros((units, holds.shape[1]), dtype=bool)
        np.logical_or.at(own, clusters, holds)
        of_unit = np.zeros(units, dtype=np.intp)
        of_unit[clusters[::-1]] = strata[::-1]  # a patient in several strata is drawn with its first
        holds, strata = own, of_unit
    kinds, kind = np.unique(holds, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    several = int(kinds.any(axis=1).sum()) > 2
    groups: list[Codes] = []
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        own_kind = kind[members]
        if several:
            sizes = np.bincount(own_kind, minlength=len(kinds))
            own_kind = np.where(sizes[own_kind] < MINIMUM_GROUP, -1, own_kind)
        groups.extend(members[own_kind == value] for value in np.unique(own_kind))
    return groups


def _frames(observed: Observed, target: int) -> list[tuple[Codes, Codes]]:
    """Give the positive and the negative rows of each stratum that has both."""
    labels = observed.labels[:, target]
    strata = np.zeros(labels.size, dtype=np.intp) if observed.strata is None else observed.strata
    pairs = [
        (np.flatnonzero((strata == stratum) & (labels == 1)), np.flatnonzero((strata == stratum) & (labels == 0)))
        for stratum in np.unique(strata)
    ]
    return [(positive, negative) for positive, negative in pairs if positive.size and negative.size]


def draw_times(size: int, replicates: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Give how often each of `size` patients is drawn, (size, replicates); each column sums to `size`."""
    drawn = rng.integers(0, size, size=(size, replicates)) * replicates + np.arange(replicates)
    return np.bincount(drawn.reshape(-1), minlength=size * replicates).reshape(size, replicates)


def _weighted(observed: Observed, target: int, frames: list[tuple[Codes, Codes]], weights: Floats) -> Floats:
    """Give the AUROCs (replicates, arms) of rows with integer weights; NaN where a class has none left."""
    arms, replicates = observed.scores.shape[0], weights.shape[1]
    wins, pairs = np.zeros((arms, replicates)), np.zeros(replicates)
    for positive, negative in frames:
        of_positive = weights[positive]
        pairs += of_positive.sum(axis=0) * weights[negative].sum(axis=0)
        for arm in range(arms):
            scores = observed.scores[arm, :, target]
            order = negative[np.argsort(scores[negative], kind="stable")]
            below = np.zeros((negative.size + 1, replicates))
            np.cumsum(weights[order], axis=0, out=below[1:])
            left = np.searchsorted(scores[order], scores[positive], side="left")
            right = np.searchsorted(scores[order], scores[positive], side="right")
            beaten = below[left] if np.array_equal(left, right) else 0.5 * (below[left] + below[right])
            wins[arm] += np.einsum("ir,ir->r", of_positive, beaten)
    aurocs: Floats = np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0)
    return aurocs.T


def _midranks(scores: Floats) -> Floats:
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - 0.5 * (counts - 1))[inverse]
    return ranks
