"""Influence values: how each patient moves each AUROC, its positive and its negative rows apart.

Everything here that has a variance (one AUROC, a paired difference, a macro average, a contrast of arms x targets, rows
clustered in patients, folds as strata) is a sum of these values over patients.
"""

from dataclasses import dataclass

import numpy as np

from tapfm_eval.statistics.border import Codes, Floats, Observed
from tapfm_eval.statistics.placements import placement_counts


@dataclass(frozen=True, slots=True, eq=False)
class TargetInfluence:
    """The AUROCs of all arms on one target with the patients' influence on them.

    A stratum k with m_k positives and n_k negatives has weight m_k n_k / P, where P sums m_k n_k over strata; those
    without both classes have none. One stratum is the plain AUROC.
    """

    aurocs: Floats  # (arms,), NaN without both classes in any stratum
    positive: Floats  # (arms, patients), scaled so that the squares sum to DeLong's S10/m (Obuchowski's if clustered)
    negative: Floats  # (arms, patients), likewise S01/n
    cross: float  # factor on positive x negative products within patients: Obuchowski's I/(I-1) in this scaling
    positive_exposure: Floats  # (patients,), weight of the patient's positive rows in the AUROC
    negative_exposure: Floats  # (patients,)
    positive_df: int  # positive patients less strata: m - 1 for plain rows
    negative_df: int
    positives: int  # rows of strata with both classes, all known rows if no stratum has both
    negatives: int
    positive_patients: int  # patients with such a row; a patient with both labels counts in both
    negative_patients: int
    patients: int
    pair_term: float  # sum of weight^2 / (m_k n_k), in patients: for Hanley and McNeil's variance
    placement_term: float  # sum of weight^2 ((m_k + n_k)/2 - 1) / (m_k n_k), in patients
    strata: int  # strata with both classes
    strata_left_out: int  # strata without


@dataclass(frozen=True, slots=True, eq=False)
class _Stratum:
    rows: Codes
    positive: Codes  # positions among all rows
    negative: Codes
    positive_patients: int
    negative_patients: int
    patients: int


def target_influence(observed: Observed, target: int) -> TargetInfluence:
    """Give the AUROCs of every arm on one target and the patients' influence on them.

    Columns are the patients of `observed`, in the order of its codes, or its rows if there are no clusters; those
    without a known label have zero influence. A part whose sample variance needs a second patient is NaN.
    """
    labels = observed.labels[:, target]
    scores = observed.scores[:, :, target]
    clusters = observed.clusters
    columns = labels.size if clusters is None else int(clusters.max(initial=-1)) + 1
    every = [_stratum(rows, labels, clusters) for rows in _strata_rows(labels, observed.strata)]
    used = [stratum for stratum in every if stratum.positive.size and stratum.negative.size]
    pairs = float(sum(stratum.positive.size * stratum.negative.size for stratum in used))
    arms = scores.shape[0]
    wins = np.zeros(arms)
    positive, negative = np.zeros((arms, labels.size)), np.zeros((arms, labels.size))
    positive_exposure, negative_exposure = np.zeros(labels.size), np.zeros(labels.size)
    for stratum in used:
        m, n = stratum.positive.size, stratum.negative.size
        whole = stratum.rows.size == labels.size
        rows = slice(None) if whole else stratum.rows
        is_positive = labels[rows] == 1
        placed = placement_counts(np.ascontiguousarray(scores[:, rows]), is_positive)
        total = placed @ is_positive.astype(np.float64)
        wins += total
        # counts first, division last: equal placements leave exact zeros
        own_class = np.where(is_positive, float(m), float(n))
        values = (own_class * placed - total[:, None]) / (own_class * pairs)
        positive[:, rows], negative[:, rows] = values * is_positive, values * ~is_positive
        positive_exposure[stratum.positive] = n / pairs
        negative_exposure[stratum.negative] = m / pairs
    if clusters is not None:
        order = np.argsort(clusters, kind="stable")
        starts = np.searchsorted(clusters[order], np.arange(columns))
        positive, negative = _sums(positive, order, starts), _sums(negative, order, starts)
        positive_exposure = _sums(positive_exposure, order, starts)
        negative_exposure = _sums(negative_exposure, order, starts)
    of_positives = _inflation([(s.negative.size**2 * s.positive.size, s.positive_patients) for s in used])
    of_negatives = _inflation([(s.positive.size**2 * s.negative.size, s.negative_patients) for s in used])
    of_products = _inflation([(s.positive.size * s.negative.size * s.patients, s.patients) for s in used])
    counted = used or every
    positive_patients = sum(stratum.positive_patients for stratum in counted)
    negative_patients = sum(stratum.negative_patients for stratum in counted)
    weights = [(s.positive.size * s.negative.size / pairs, s.positive_patients, s.negative_patients) for s in used]
    return TargetInfluence(
        aurocs=wins / pairs if used else np.full(arms, np.nan),
        positive=positive * np.sqrt(of_positives),
        negative=negative * np.sqrt(of_negatives),
        cross=float(of_products / np.sqrt(of_positives * of_negatives)),
        positive_exposure=positive_exposure,
        negative_exposure=negative_exposure,
        positive_df=positive_patients - len(used),
        negative_df=negative_patients - len(used),
        positives=sum(stratum.positive.size for stratum in counted),
        negatives=sum(stratum.negative.size for stratum in counted),
        positive_patients=positive_patients,
        negative_patients=negative_patients,
        patients=sum(stratum.patients for stratum in counted),
        pair_term=sum(w * w / (m * n) for w, m, n in weights),
        placement_term=sum(w * w * ((m + n) / 2 - 1) / (m * n) for w, m, n in weights),
        strata=len(used),
        strata_left_out=len(every) - len(used),
    )


def _strata_rows(labels: Floats, strata: Codes | None) -> list[Codes]:
    """Give the rows with a known label, stratum by stratum."""
    known = np.flatnonzero(~np.isnan(labels))
    if strata is None:
        return [known]
    order = known[np.argsort(strata[known], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(strata[order])) + 1) if order.size else [order]


def _stratum(rows: Codes, labels: Floats, clusters: Codes | None) -> _Stratum:
    is_positive = labels[rows] == 1
    positive, negative = rows[is_positive], rows[~is_positive]
    if clusters is None:
        return _Stratum(rows, positive, negative, positive.size, negative.size, rows.size)
    counts = [int(np.unique(clusters[members]).size) for members in (positive, negative, rows)]
    return _Stratum(rows, positive, negative, *counts)


def _inflation(strata: list[tuple[int, int]]) -> float:
    """Give the factor from mean squares to sample variances, pooled over strata of (weight, patients).

    Unbiased when placements vary alike in all strata; I/(I-1) for one stratum of I patients. NaN if every stratum
    holds a single patient.
    """
    spread = sum(weight * (1.0 - 1.0 / patients) for weight, patients in strata)
    return sum(weight for weight, _ in strata) / spread if spread > 0 else np.nan


def _sums(values: Floats, order: Codes, starts: Codes) -> Floats:
    """Add up the last axis within patients."""
    if not starts.size:
        return values
    summed: Floats = np.add.reduceat(values[..., order], starts, axis=-1)
    return summed
