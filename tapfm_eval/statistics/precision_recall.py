"""How pure are the patients ranked first: precision-recall curve and average precision, beside the prevalence."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.special import expit, logit, stdtrit

from tapfm_eval.statistics.border import Codes, Floats, check_choice, check_random
from tapfm_eval.statistics.proportions import normal_quantile, proportion, proportion_limits
from tapfm_eval.statistics.records import Estimate
from tapfm_eval.statistics.resampling import CHUNK, draw_times, percentile_limits
from tapfm_eval.statistics.single import Rows, known_rows

METHODS = ("auto", "bootstrap-logit", "bootstrap", "linear-logit", "logit", "binomial", "envelope")
SMALL_POSITIVES = 100  # positive patients below which `auto` is the envelope
MANY_POSITIVES = 1000  # positive patients from which `auto` needs no resampling
_DUST = 1e-12  # differences of average precisions below this are rounding


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecallCurve:
    """Precision and recall at every distinct score as threshold, descending: from the fewest called to everybody."""

    thresholds: Floats  # (points,) positive if score >= threshold
    precision: Floats  # (points,)
    recall: Floats  # (points,) NaN without positives
    prevalence: Estimate  # precision of calling everybody positive: the baseline


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike, *, level: float = 0.95) -> PrecisionRecallCurve:
    """Precision and recall at every distinct score, with the prevalence as baseline; one row a patient.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        scores: (n,) finite where the label is known; larger = more likely positive.
        level: confidence level of the prevalence.

    Raises:
        StatisticsError: for malformed arrays.
    """
    rows = known_rows(labels, scores, level=level)
    order = np.argsort(-rows.scores, kind="stable")
    ordered = rows.scores[order]
    last = _last_of_ties(ordered)
    tp = np.cumsum(rows.positive[order])[last].astype(np.float64)
    called = np.flatnonzero(last) + 1.0
    recall = tp / rows.positives if rows.positives else np.full(tp.size, math.nan)
    prevalence = proportion(rows.positives, rows.n, level=level)
    return PrecisionRecallCurve(ordered[last], tp / called, recall, prevalence)


def average_precision(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    level: float = 0.95,
    method: str = "auto",
    clusters: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    replicates: int = 2000,
) -> Estimate:
    """Average precision, the step-wise area under the precision-recall curve, with its interval.

    The sum over distinct scores of precision x gain in recall (scikit-learn's `average_precision_score`); no
    interpolation, which flatters. A guess scores the prevalence `positives / n`, so print that beside it
    (`precision_recall_curve` gives it with an interval) and never compare across cohorts of different prevalence. With
    few positives the estimate is biased upwards: with 5 of 400 positive and AUROC .70 its mean is .08 where the true
    value is .03.

    Methods:
        bootstrap-logit: logit AP +- t (df positives - 1) times the standard deviation of the logits of resampled APs;
            patients are drawn within class; resampled APs of 1 count as half a step below it.
        bootstrap: percentiles of the resampled APs, widened to the estimate where they miss it (resampled APs of few
            positives are biased upwards).
        linear-logit: as `bootstrap-logit` with the standard deviation that follows from each patient's influence
            (infinitesimal jackknife), which is the bootstrap's for many positives: no resampling, fast.
        logit: normal on the logit scale with variance 1 / (positives AP (1 - AP)) (Boyd 2013); none at AP = 1.
        binomial: Wilson limits of a share AP of `positives` trials; also at AP = 1.
        envelope: the smaller lower and the larger upper limit of `bootstrap-logit` and `binomial`.
        auto: `envelope`, flagged "small sample", below 100 positive patients; `bootstrap-logit` below 1,000; else
            `linear-logit`. With one positive or AP = 1 the bootstrap shows no variance, and `binomial` stands in,
            saying so.
    Measured coverage with 3 to 100 of 400 positive (docs/statistics.md): `auto` .93 to 1.00, conservative below 20
    positives; the percentile bootstrap down to .67, `bootstrap-logit` to .71, `binomial` to .85.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        scores: (n,) finite where the label is known; larger = more likely positive.
        level: confidence level.
        method: one of `METHODS`.
        clusters: (n,) patient of each row; each row is a patient by default. Patients, not rows, are resampled, and
            counted as positive if any of their rows is.
        rng: draws the resamples; None is a generator with seed 0, so that the same data give the same limits.
        replicates: number of resamples.

    Returns:
        Estimate; NaN with a reason without positives; 1 with NaN limits without negatives.

    Raises:
        StatisticsError: for malformed arrays, an unknown method, fewer than 2 replicates.

    Source: Boyd, Eng and Page 2013, doi:10.1007/978-3-642-40994-3_29.

    >>> average_precision([0, 1, 1], [0.1, 0.4, 0.8], method="binomial").value
    1.0
    """
    check_choice(method, METHODS, "method")
    generator = check_random(rng, replicates, method)
    rows = known_rows(labels, scores, clusters=clusters, level=level)
    if not rows.positives:
        absent = "no positives" if rows.n else "no row with a known label"
        return Estimate(math.nan, math.nan, math.nan, level, method, rows.n, 0, rows.patients, absent)
    steps = _steps(rows)
    value = float(_average_precisions(steps.positive_counts[None], steps.negative_counts[None])[0])
    name, lower, upper = method, math.nan, math.nan
    reason: str | None
    if not rows.negatives:
        reason = "limits: no negatives, so that every precision is 1"
    else:
        name, lower, upper, reason = _limits(rows, steps, value, method, level, generator, replicates)
    return Estimate(value, lower, upper, level, name, rows.n, rows.positives, rows.patients, reason)


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Rows by the distinct scores of positives, descending, which is where recall grows."""

    step: Codes  # (n,) the first step whose score the row reaches; `steps` below all positives
    positive_counts: Codes  # (steps,) positives at each
    negative_counts: Codes  # (steps,) negatives that reach it, but not the one before
    units: Codes  # (n,) patient of each row as 0..patients-1
    groups: tuple[Codes, ...]  # patients with positive rows only, negative rows only, both; none of them empty
    positive_patients: int


def _steps(rows: Rows) -> _Steps:
    distinct = np.unique(rows.scores[rows.positive])
    step = distinct.size - np.searchsorted(distinct, rows.scores, side="right")
    units = np.arange(rows.n) if rows.clusters is None else np.unique(rows.clusters, return_inverse=True)[1]
    kind = np.zeros(int(units.max()) + 1, dtype=np.intp)
    np.bitwise_or.at(kind, units, np.where(rows.positive, 1, 2))
    groups = (np.flatnonzero(kind == value) for value in (1, 2, 3))
    return _Steps(
        step=step,
        positive_counts=np.bincount(step[rows.positive], minlength=distinct.size),
        negative_counts=np.bincount(step[~rows.positive], minlength=distinct.size + 1)[:-1],
        units=units,
        groups=tuple(group for group in groups if group.size),
        positive_patients=int((kind != 2).sum()),
    )


def _limits(
    rows: Rows, steps: _Steps, value: float, method: str, level: float, rng: np.random.Generator, replicates: int
) -> tuple[str, float, float, str | None]:
    """Name of the interval, its limits, and why they are NaN."""
    m = steps.positive_patients
    if method == "logit":
        if value >= 1:
            return method, math.nan, math.nan, "limits: the logit scale has none at an average precision of 1"
        return method, *_logit_limits(value, 1 / math.sqrt(m * value * (1 - value)), normal_quantile(level)), None
    binomial = proportion_limits(value * m, m, level, "wilson")
    if value >= 1:
        binomial = (binomial[0], 1.0)
    if method == "binomial":
        return method, *binomial, None
    chosen = method
    if method == "auto":
        by_size = ((SMALL_POSITIVES, "envelope"), (MANY_POSITIVES, "bootstrap-logit"))
        chosen = next((rule for size, rule in by_size if m < size), "linear-logit")
    name = chosen if chosen == "linear-logit" else f"{chosen}, {replicates} replicates"
    if method == "auto":
        name = f"auto: {name}" + (" (small sample)" if chosen == "envelope" else "")
    draws = np.zeros(0) if chosen == "linear-logit" else _resampled(rows, steps, rng, replicates)
    varies = m > 1 and (not draws.size or float(np.ptp(draws)) > _DUST)
    if chosen == "bootstrap" and varies:
        lower, upper = percentile_limits(draws, level)
        return f"stratified percentile {name}", min(lower, value), max(upper, value), None
    if not varies or value >= 1:
        if method not in ("auto", "envelope"):
            why = "one positive patient" if m < 2 else "the resampled patients show no variance"
            return name, math.nan, math.nan, f"limits: {why}"
        return f"{name} [binomial stands in for bootstrap-logit]", *binomial, None
    if chosen == "linear-logit":
        spread = _linear_error(rows, steps, value) / (value * (1 - value))
    else:
        # the average precision next below 1 is 1 - 1/(m (m + 1)): one negative above the last of m positives
        spread = float(logit(np.minimum(draws, 1 - 0.5 / (m * (m + 1)))).std(ddof=1))
    lower, upper = _logit_limits(value, spread, float(stdtrit(m - 1, 1 - (1 - level) / 2)))
    if chosen == "envelope":
        lower, upper = min(binomial[0], lower), max(binomial[1], upper)
    return name, lower, upper, None


def _logit_limits(value: float, spread: float, quantile: float) -> tuple[float, float]:
    centre, half = float(logit(value)), quantile * spread
    return float(expit(centre - half)), float(expit(centre + half))


def _resampled(rows: Rows, steps: _Steps, rng: np.random.Generator, replicates: int) -> Floats:
    """Average precisions of resampled patients, drawn within those with positive rows, negative rows, and both."""
    draws = (
        _rows_drawn(rows, steps, rng, replicates)
        if rows.clusters is None
        else (_patients_drawn(rows, steps, rng, replicates))
    )
    return np.concatenate([_average_precisions(positives, negatives) for positives, negatives in draws])


def _rows_drawn(
    rows: Rows, steps: _Steps, rng: np.random.Generator, replicates: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Counts by step (samples, steps) where each row is a patient: only how many fall on each step is drawn."""
    below = rows.negatives - int(steps.negative_counts.sum())
    shares = np.append(steps.negative_counts, below) / rows.negatives
    of_positives = steps.positive_counts / rows.positives
    count = steps.positive_counts.size
    for size in _chunks(replicates, 2 * count + 1):
        positives = rng.multinomial(rows.positives, of_positives, size=size)
        negatives = rng.multinomial(rows.negatives, shares, size=size)
        yield positives, negatives[:, :count]


def _patients_drawn(
    rows: Rows, steps: _Steps, rng: np.random.Generator, replicates: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Counts by step (samples, steps) where patients bring several rows."""
    count, patients = steps.positive_counts.size, int(steps.units.max()) + 1
    places = (steps.step + np.where(rows.positive, 0, count + 1), steps.units)
    per_patient = coo_array((np.ones(rows.n), places), shape=(2 * count + 2, patients)).tocsr()
    for size in _chunks(replicates, max(2 * count + 2, patients)):
        weights = np.zeros((patients, size))
        for group in steps.groups:
            weights[group] = draw_times(group.size, size, rng)
        by_step = np.asarray(per_patient @ weights).T
        yield by_step[:, :count], by_step[:, count + 1 : -1]


def _chunks(replicates: int, width: int) -> Iterator[int]:
    """Numbers of replicates whose arrays of this width stay within bounds."""
    step = max(CHUNK // width, 1)
    for start in range(0, replicates, step):
        yield min(step, replicates - start)


def _average_precisions(positives: np.ndarray, negatives: np.ndarray) -> Floats:
    """Average precision of each row of counts by step, (samples, steps) -> (samples,)."""
    tp = np.cumsum(positives, axis=1, dtype=np.float64)
    called = tp + np.cumsum(negatives, axis=1)
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    result: Floats = (positives * precision).sum(axis=1) / tp[:, -1]
    return result


def _linear_error(rows: Rows, steps: _Steps, value: float) -> float:
    """Standard error of the average precision from the influence of each patient (infinitesimal jackknife).

    One more positive adds its own precision and raises that of all positives below it; one more negative lowers it.
    """
    tp = np.cumsum(steps.positive_counts, dtype=np.float64)
    called = tp + np.cumsum(steps.negative_counts)

    def below(gain: Floats) -> Floats:
        return np.append(np.cumsum((steps.positive_counts * gain)[::-1])[::-1], 0.0)

    of_positive = np.append(tp / called - value, 0.0) + below((called - tp) / called**2)
    of_negative = -below(tp / called**2)
    influence = np.where(rows.positive, of_positive[steps.step], of_negative[steps.step]) / rows.positives
    patients = np.bincount(steps.units, weights=influence)
    return math.sqrt(sum(float(((patients[g] - patients[g].mean()) ** 2).sum()) for g in steps.groups))


def _last_of_ties(ordered: Floats) -> np.ndarray:
    """Which places end a run of equal scores."""
    return np.append(ordered[1:] != ordered[:-1], True) if ordered.size else np.zeros(0, dtype=bool)
