"""Any aggregator on plain arrays: train it on bags of instances and score others, without slides or a protocol.

    fitted = fit_bags("abmil", bags, labels, seed=1)   # bags: arrays (K, D); labels: (n,) or (n, L), NaN if unknown
    fitted.scores(other_bags)                          # (m, L), probabilities at the training prevalence

The loss, its weights, the optimizer and the aggregators are those of a study's frozen arms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tapfm_eval.cohort.patients import expit
from tapfm_eval.errors import InputError, Problem, StudyError
from tapfm_eval.methods.adapt import aggregator_gradients
from tapfm_eval.methods.aggregator import Aggregator, SlideOutput
from tapfm_eval.methods.losses import SlideLoss, TargetWeights, target_weights
from tapfm_eval.methods.model import build_aggregator
from tapfm_eval.methods.recipe import Recipe
from tapfm_eval.methods.train import adamw, cosine_factor
from tapfm_eval.protocol.schema import AGGREGATORS
from tapfm_eval.randomness import generator

Instances = NDArray[np.floating]  # (K, D)
Attention = NDArray[np.floating]  # (K,)


@dataclass(frozen=True, slots=True)
class FittedBags:
    """An aggregator trained on bags, with the scaling it was trained under."""

    name: str
    aggregator: Aggregator
    weights: TargetWeights
    shift: NDArray[np.float64]  # (D,), subtracted from every instance
    scale: NDArray[np.float64]  # (D,), then divided by
    losses: tuple[float, ...]  # mean training loss of each epoch

    def scores(self, bags: Sequence[Instances], attention: Sequence[Attention] | None = None) -> NDArray[np.float64]:
        """Scores (n, L) of bags: probabilities at the training prevalence.

        Args:
            bags: n arrays (K, D), of any K >= 1.
            attention: n arrays (K,), raw backbone attention for `tapfm`; None is uniform.

        Raises:
            InputError: An array is malformed.
        """
        logits = [output.logits.double().numpy() for output in self._read(bags, attention)]
        return expit(np.reshape(logits, (-1, len(self.weights.prevalence))) - self.weights.offsets)

    def instance_weights(
        self, bags: Sequence[Instances], attention: Sequence[Attention] | None = None
    ) -> list[NDArray[np.float64]]:
        """The share (K,) of each instance in its bag; sums to 1."""
        return [output.weights.double().numpy() for output in self._read(bags, attention)]

    def _read(self, bags: Sequence[Instances], attention: Sequence[Attention] | None) -> list[SlideOutput]:
        problems = _bag_problems(bags, attention, len(self.shift))
        if problems:
            raise InputError(problems)
        with torch.no_grad():
            return [self.aggregator(*pair) for pair in _tensors(bags, attention, self.shift, self.scale)]


def fit_bags(
    aggregator: str,
    bags: Sequence[Instances],
    labels: ArrayLike,
    *,
    seed: int,
    attention: Sequence[Attention] | None = None,
    epochs: int = 40,
    learning_rate: float = 5e-4,
    weight_decay: float = 1e-4,
    label_smoothing: float = 0.0,
    temperature: float = 0.1,
    layer_norm: bool = True,
    standardise: bool = True,
) -> FittedBags:
    """An aggregator trained on bags with bag labels; one bag a step, in an order drawn anew for each epoch.

    Args:
        aggregator: As protocols spell it: tapfm, abmil, clam-sb, clam-mb, dsmil, varmil, transmil or mean.
        bags: n arrays (K, D); K may differ and is at least 1.
        labels: (n,) or (n, L): 0, 1, or NaN where unknown, which contributes nothing; a bag without any known label
            is not stepped on.
        seed: Keys initial weights and order; the same call gives the same result on the same machine.
        attention: n arrays (K,), raw backbone attention for `tapfm`; None is uniform, which makes it mean pooling.
        epochs: Passes over the bags, under one cosine period.
        learning_rate: Its peak.
        weight_decay: Of AdamW, on matrices.
        label_smoothing: s; labels become y (1 - s) + s / 2.
        temperature: Of `tapfm`.
        layer_norm: Of `tapfm`.
        standardise: Scales each entry of an instance to mean 0 and variance 1 over all training instances; switch it
            off for embeddings that are on a scale of their own.

    Raises:
        InputError: An argument is malformed; lists every problem.
        SplitError: A target has no positive or no negative bag.
        StudyError: The loss stopped being a number.
    """
    known = np.asarray(labels, dtype=np.float64)
    known = known[:, None] if known.ndim == 1 else known
    problems = [] if aggregator in AGGREGATORS else [
        Problem("aggregator", f"one of {', '.join(AGGREGATORS)}", repr(aggregator), "Correct the name.")
    ]  # fmt: skip
    problems += _label_problems(known, np.shape(labels), len(bags)) + _bag_problems(bags, attention, None)
    if problems:
        raise InputError(problems)
    targets = tuple(f"column {j}" for j in range(known.shape[1]))
    weights = target_weights(known, targets, "labels")
    stacked = np.concatenate([np.asarray(bag, dtype=np.float64) for bag in bags])
    dim = stacked.shape[1]
    shift, scale = np.zeros(dim), np.ones(dim)
    if standardise:
        shift, spread = stacked.mean(0), stacked.std(0)
        scale = np.where(spread > 0, spread, 1.0)
    recipe = Recipe(
        epochs=epochs, lr_backbone=learning_rate, lr_aggregator=learning_rate, weight_decay=weight_decay,
        restart_epochs=epochs, restart_growth=1, label_smoothing=label_smoothing, lambda_attention=0.0,
        temperature=temperature, layer_norm=layer_norm, drop_path=0.0, augment=False, micro_batch=1,
        fused_attention=True, compile_blocks=False,
    )  # fmt: skip
    model = build_aggregator(aggregator, dim, known.shape[1], recipe, "bags", seed).train()
    losses = _train(model, _tensors(bags, attention, shift, scale), known, weights, recipe, seed)
    return FittedBags(aggregator, model.eval(), weights, shift, scale, losses)


def _train(
    model: Aggregator,
    tensors: list[tuple[torch.Tensor, torch.Tensor]],
    labels: NDArray[np.float64],
    weights: TargetWeights,
    recipe: Recipe,
    seed: int,
) -> tuple[float, ...]:
    optimizer = adamw(list(model.parameters()), lr=recipe.lr_aggregator, weight_decay=recipe.weight_decay)
    labelled = np.flatnonzero(~np.isnan(labels).all(axis=1))
    per_bag = [SlideLoss(torch.from_numpy(row.copy()), weights, recipe.label_smoothing) for row in labels]
    means = []
    for epoch in range(recipe.epochs):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_aggregator * cosine_factor(epoch, recipe.restart_epochs, recipe.restart_growth)
        losses = []
        for i in generator("bags", seed, epoch).permutation(labelled):
            optimizer.zero_grad(set_to_none=True)
            loss, _, _ = aggregator_gradients(model, per_bag[i], *tensors[i])
            if not math.isfinite(loss):
                raise StudyError(f"The loss is {loss} in epoch {epoch + 1} at bag {i}. Lower the learning rate.")
            optimizer.step()
            losses.append(loss)
        means.append(float(np.mean(losses)))
    return tuple(means)


def _tensors(
    bags: Sequence[Instances],
    attention: Sequence[Attention] | None,
    shift: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    scalars = attention if attention is not None else [np.ones(len(bag)) for bag in bags]
    return [
        (
            torch.from_numpy(((np.asarray(bag, dtype=np.float64) - shift) / scale).astype(np.float32)),
            torch.from_numpy(np.array(row, dtype=np.float32)),
        )
        for bag, row in zip(bags, scalars, strict=True)
    ]


def _label_problems(labels: NDArray[np.float64], shape: tuple[int, ...], bags: int) -> list[Problem]:
    if labels.ndim != 2 or len(labels) != bags or labels.shape[1] == 0 or bags == 0:
        return [Problem("labels", f"an array ({bags},) or ({bags}, L) for at least one bag", f"shape {shape}",
                        "Give one row per bag.")]  # fmt: skip
    wrong = np.argwhere(~np.isnan(labels) & (labels != 0) & (labels != 1))
    return [
        Problem(f"labels, bag {i}, column {j}", "0, 1 or NaN", f"{labels[i, j]:g}", "Map the label to 0 or 1.")
        for i, j in wrong
    ]


def _bag_problems(bags: Sequence[Instances], attention: Sequence[Attention] | None, dim: int | None) -> list[Problem]:
    problems = []
    for i, bag in enumerate(bags):
        shape = np.shape(bag)
        if len(shape) == 2 and dim is None:
            dim = shape[1]
        if len(shape) != 2 or shape[0] == 0 or shape[1] == 0 or shape[1] != dim:
            width = "D" if dim is None else dim
            problems.append(Problem(f"bag {i}", f"an array (K, {width}) with K >= 1", f"shape {shape}",
                                    "Give instances as rows."))  # fmt: skip
        elif not np.isfinite(bag).all():
            problems.append(Problem(f"bag {i}", "finite numbers", f"{int((~np.isfinite(bag)).sum())} that are not",
                                    "Remove the instances that hold them."))  # fmt: skip
    if attention is not None:
        if len(attention) != len(bags):
            problems.append(Problem("attention", f"one array for each of {len(bags)} bags", f"{len(attention)}",
                                    "Give one per bag, or none."))  # fmt: skip
        for i, (bag, row) in enumerate(zip(bags, attention, strict=False)):
            if np.shape(row) != np.shape(bag)[:1] or not np.isfinite(row).all():
                problems.append(Problem(f"attention, bag {i}", f"finite numbers {np.shape(bag)[:1]}",
                                        f"shape {np.shape(row)}", "Give one per instance."))  # fmt: skip
    return problems
