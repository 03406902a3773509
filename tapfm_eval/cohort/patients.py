"""From slides to patients: how the scores of a patient's slides become one score."""

import numpy as np
from numpy.typing import NDArray

CLIP = 1e-6


def logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log odds of scores in [0, 1], clipped at 1e-6 so that they stay finite.

    >>> round(float(logit(np.array([0.75]))[0]), 6)
    1.098612
    """
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def expit(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of log odds; the inverse of `logit` inside the clip."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), dtype=np.float64)


def mean_logit(scores: NDArray[np.float64]) -> float:
    """One score in [0, 1] for scores (n,) of the same patient: the mean of their clipped logits, as a probability.

    >>> round(mean_logit(np.array([0.2, 0.8])), 6)
    0.5
    """
    return float(expit(logit(np.asarray(scores, dtype=np.float64)).mean()))
