"""Simulated scores whose AUROC is known, and the limits of every interval for whole arrays of simulations.

The limits come from the functions that the public ones call; tests/statistics/test_coverage_benchmark.py checks on a
sample that both give the same numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tapfm_eval.statistics.intervals import (
    envelope_limits,
    is_small,
    logit_limits,
    logit_t_limits,
    newcombe5_limits,
    score_terms,
    wald_limits,
)
from tapfm_eval.statistics.placements import placement_counts

Floats = NDArray[np.float64]
LEVEL = 0.95
METHODS = ("delong", "delong-logit", "logit-t", "newcombe5", "envelope", "auto")
POSITIVES = (3, 5, 10, 20, 50)
PATIENTS = 400
AUROCS = (0.70, 0.85, 0.95)
SHAPES = ("equal spread", "half spread", "double spread", "look-alikes")
FLOOR = 0.93


@dataclass(frozen=True, slots=True)
class Simulated:
    """AUROCs and their parts for many simulated samples: one entry a simulation."""

    auroc: Floats
    positive_part: Floats
    negative_part: Floats
    df: Floats


def draw(
    auc: float, shape: str, positives: int, size: int, rng: np.random.Generator, patients: int = PATIENTS
) -> Floats:
    """Give scores (size, patients), the positives first; negatives are standard normal, the true AUROC is `auc`."""
    scores = rng.standard_normal((size, patients))
    own = scores[:, :positives]
    if shape == "look-alikes":  # a share of 1 - auc of the positives looks like negatives
        share = 1.0 - auc
        shift = np.sqrt(2.0) * ndtri((auc - share / 2.0) / (1.0 - share))
        own += shift * (rng.random(own.shape) >= share)
    else:
        sd = {"equal spread": 1.0, "half spread": 0.5, "double spread": 2.0}[shape]
        own *= sd
        own += np.sqrt(1.0 + sd**2) * ndtri(auc)
    return scores


def simulate(scores: Floats, positives: int) -> Simulated:
    """Give DeLong's parts of every row of scores."""
    m, n = positives, scores.shape[1] - positives
    placed = placement_counts(scores, np.arange(m + n) < m)
    v10, v01 = placed[:, :m] / n, placed[:, m:] / m
    a, b = v10.var(axis=1, ddof=1) / m, v01.var(axis=1, ddof=1) / n
    spread = a**2 / (m - 1) + b**2 / (n - 1)
    df = np.divide((a + b) ** 2, spread, out=np.full_like(a, np.nan), where=spread > 0)
    return Simulated(v10.mean(axis=1), a, b, df)


def limits(drawn: Simulated, positives: int, negatives: int, method: str) -> tuple[Floats, Floats]:
    """Give the limits of every simulation by one method."""
    terms = score_terms(positives, negatives)
    variance = drawn.positive_part + drawn.negative_part
    variance = np.where(variance > 1e-20, variance, 0.0)  # dust of shares such as 1/3
    if method == "delong":
        return wald_limits(drawn.auroc, variance, LEVEL)
    if method == "delong-logit":
        return logit_limits(drawn.auroc, variance, LEVEL)
    if method == "newcombe5":
        return newcombe5_limits(drawn.auroc, *terms, LEVEL)
    by_t = logit_t_limits(drawn.auroc, variance, drawn.df, *terms, LEVEL)
    if method == "logit-t":
        return by_t
    wide = envelope_limits(drawn.auroc, variance, drawn.df, *terms, LEVEL)
    if method == "envelope":
        return wide
    small = is_small(drawn.auroc, positives, negatives)
    return np.where(small, wide[0], by_t[0]), np.where(small, wide[1], by_t[1])


def blocks(simulations: int, step: int = 2000) -> Iterator[int]:
    """Give block sizes that sum to `simulations`."""
    for start in range(0, simulations, step):
        yield min(step, simulations - start)
