"""The slide-level loss: weighted binary cross-entropy over targets, and the score it implies."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tapfm_eval.errors import Problem, SplitError


@dataclass(frozen=True, slots=True)
class TargetWeights:
    """Weights of the loss, all from the training patients with a known label; one entry per target."""

    prevalence: tuple[float, ...]  # p, of label 1
    target: tuple[float, ...]  # proportional to 1/p, mean 1

    @property
    def offsets(self) -> NDArray[np.float64]:
        """What the weights add to the fitted logits (L,): log((1 - p) / p). Scores are written without it."""
        p = np.asarray(self.prevalence)
        return np.asarray(np.log1p(-p) - np.log(p), dtype=np.float64)


def target_weights(labels: NDArray[np.float64], targets: tuple[str, ...], where: str) -> TargetWeights:
    """Weights from training labels (n patients, L targets), 0, 1 or NaN where unknown.

    Raises:
        SplitError: A target has no positive or no negative among them, so it cannot be trained.
    """
    problems = []
    for j, target in enumerate(targets):
        known = labels[~np.isnan(labels[:, j]), j]
        positives, negatives = int((known == 1).sum()), int((known == 0).sum())
        if min(positives, negatives) == 0:
            problems.append(
                Problem(f"{where}, target {target}", "training patients of both classes",
                        f"{positives} positive, {negatives} negative", "Change the split, or remove the target.")
            )  # fmt: skip
    if problems:
        raise SplitError(problems)
    prevalence = np.nanmean(labels, axis=0)
    weight = 1 / prevalence
    return TargetWeights(tuple(map(float, prevalence)), tuple(map(float, weight / weight.mean())))


def slide_loss(logits: Tensor, labels: Tensor, weights: TargetWeights, smoothing: float) -> Tensor:
    """Weighted binary cross-entropy of one slide, summed over its known targets (a scalar).

    Positives weigh 1 - p and negatives p, so that both classes carry the same total weight in training. A missing
    label (NaN) contributes exactly zero loss and zero gradient.

    Args:
        logits: (L,).
        labels: (L,), 0, 1 or NaN.
        weights: From `target_weights`.
        smoothing: s; labels become y (1 - s) + s / 2.
    """
    known = ~torch.isnan(labels)
    if not bool(known.any()):
        return logits.sum() * 0
    p = torch.as_tensor(weights.prevalence, dtype=logits.dtype, device=logits.device)[known]
    scale = torch.as_tensor(weights.target, dtype=logits.dtype, device=logits.device)[known]
    y = labels[known].to(logits)  # also to its device
    soft = y * (1 - smoothing) + smoothing / 2
    loss = F.binary_cross_entropy_with_logits(logits[known], soft, reduction="none")
    return (loss * scale * torch.where(y > 0.5, 1 - p, p)).sum()


@dataclass(frozen=True, slots=True)
class SlideLoss:
    """The loss of one slide, ready for logits: `loss(logits)`; aggregators with terms of their own read its labels."""

    labels: Tensor  # (L,), 0, 1 or NaN where unknown
    weights: TargetWeights
    smoothing: float

    def __call__(self, logits: Tensor) -> Tensor:
        """`slide_loss` of logits (L,)."""
        return slide_loss(logits, self.labels, self.weights, self.smoothing)

    def importance(self, like: Tensor) -> Tensor:
        """What each target's part of the loss weighs (L,): target weight times class weight, 0 where unknown."""
        p = torch.as_tensor(self.weights.prevalence, dtype=like.dtype, device=like.device)
        scale = torch.as_tensor(self.weights.target, dtype=like.dtype, device=like.device)
        labels = self.labels.to(like.device)
        return torch.where(torch.isnan(labels), 0.0, scale * torch.where(labels > 0.5, 1 - p, p))
