"""Any aggregator on plain arrays: train it on bags of instances and score others, without slides or a protocol.

    fitted = fit_bags("abmil", bags, labels, seed=1)   # bags: arrays (K, D); labels: (n,) or (n, L), NaN if unknown
    fitted.scores(other_bags)                          # (m, L), probabilities at the training prevalence

The loss, its weights, the optimizer and the aggregators are those of a study's frozen arms.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

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

Numbers = NDArray[Any]  # whole or floating-point numbers, or booleans


@dataclass(frozen=True, slots=True)
class FittedBags:
    """An aggregator trained on bags, with the scaling it was trained under."""

    name: str
    aggregator: Aggregator
    weights: TargetWeights
    shift: NDArray[np.float64]  # (D,), subtracted from every instance
    scale: NDArray[np.float64]  # (D,), then divided by
    losses: tuple[float, ...]  # mean training loss of each epoch

    def scores(self, bags: Iterable[ArrayLike], attention: Iterable[ArrayLike] | None = None) -> NDArray[np.float64]:
        """Scores (n, L) of bags: probabilities at the training prevalence.

        Args:
            bags: n arrays or tensors (K, D), of any K >= 1.
            attention: n arrays (K,), raw backbone attention for `tapfm`; None is uniform.

        Raises:
            InputError: An array is malformed.
        """
        logits = [output.logits.double().numpy() for output in self._read(bags, attention)]
        return expit(np.reshape(logits, (-1, len(self.weights.prevalence))) - self.weights.offsets)

    def instance_weights(
        self, bags: Iterable[ArrayLike], attention: Iterable[ArrayLike] | None = None
    ) -> list[NDArray[np.float64]]:
        """The share (K,) of each instance in its bag; sums to 1."""
        return [output.weights.double().numpy() for output in self._read(bags, attention)]

    def _read(self, bags: Iterable[ArrayLike], attention: Iterable[ArrayLike] | None) -> list[SlideOutput]:
        problems: list[Problem] = []
        read = _read_bags(bags, attention, len(self.shift), problems)
        if problems:
            raise InputError(problems)
        with torch.no_grad():
            return [self.aggregator(*_tensors(*bag, self.shift, self.scale)) for bag in read]


def fit_bags(
    aggregator: str,
    bags: Iterable[ArrayLike],
    labels: ArrayLike,
    *,
    seed: int,
    attention: Iterable[ArrayLike] | None = None,
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
        bags: n arrays or tensors (K, D); K may differ and is at least 1.
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
    problems = [] if aggregator in AGGREGATORS else [
        Problem("aggregator", f"one of {', '.join(AGGREGATORS)}", repr(aggregator), "Correct the name.")
    ]  # fmt: skip
    problems += _setting_problems(seed, epochs, learning_rate, weight_decay, label_smoothing, temperature)
    read = _read_bags(bags, attention, None, problems)
    known = _read_labels(labels, len(read), problems)
    if problems:
        raise InputError(problems)
    targets = tuple(f"column {j}" for j in range(known.shape[1]))
    weights = target_weights(known, targets, "labels")
    dim = read[0][0].shape[1]
    shift, scale = _scaling([bag for bag, _ in read]) if standardise else (np.zeros(dim), np.ones(dim))
    recipe = Recipe(
        epochs=epochs, lr_backbone=learning_rate, lr_aggregator=learning_rate, weight_decay=weight_decay,
        restart_epochs=epochs, restart_growth=1, label_smoothing=label_smoothing, lambda_attention=0.0,
        temperature=temperature, layer_norm=layer_norm, drop_path=0.0, augment=False, micro_batch=1,
        fused_attention=True, compile_blocks=False,
    )  # fmt: skip
    model = build_aggregator(aggregator, dim, known.shape[1], recipe, "bags", seed).train()
    losses = _train(model, [_tensors(*bag, shift, scale) for bag in read], known, weights, recipe, seed)
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


def _scaling(bags: list[Numbers]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (D,) over all instances, bag by bag: a second copy of large bags fills the memory.

    An entry that never varies has its value as mean and 1 as deviation; the deviation itself would be rounding dust.
    """
    count = sum(len(bag) for bag in bags)
    least = np.min([bag.min(0) for bag in bags], axis=0).astype(np.float64)
    most = np.max([bag.max(0) for bag in bags], axis=0).astype(np.float64)
    mean = np.sum([bag.sum(0, dtype=np.float64) for bag in bags], axis=0) / count
    squares = np.sum([np.square(bag - mean).sum(0) for bag in bags], axis=0)
    varies = most > least
    return np.where(varies, mean, least), np.where(varies, np.sqrt(squares / count), 1.0)


def _tensors(
    bag: Numbers, attention: Numbers, shift: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[torch.Tensor, torch.Tensor]:
    scaled = (bag - shift) / scale
    return torch.from_numpy(scaled.astype(np.float32)), torch.from_numpy(attention.astype(np.float32))


def _numbers(given: object) -> Numbers | None:
    """Real numbers as an array, a tensor of any kind among them; None where it is something else."""
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu().numpy() if given.dtype != torch.bfloat16 else given.detach().float().cpu().numpy()
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):  # rows of different lengths
        return None
    return array if array.dtype.kind in "biuf" else None


def _read_bags(
    bags: Iterable[ArrayLike], attention: Iterable[ArrayLike] | None, dim: int | None, problems: list[Problem]
) -> list[tuple[Numbers, Numbers]]:
    """The bags (K, D), each with the attention (K,) of its instances; faults are added to `problems`."""
    arrays, scalars = [], None if attention is None else list(attention)
    for i, given in enumerate(bags):
        bag = _numbers(given)
        if bag is not None and bag.ndim == 2 and dim is None:
            dim = bag.shape[1]
        if bag is None or bag.ndim != 2 or len(bag) == 0 or bag.shape[1] == 0 or bag.shape[1] != dim:
            got = f"shape {bag.shape}" if bag is not None else _kind(given)
            problems.append(Problem(f"bag {i}", f"an array (K, {'D' if dim is None else dim}) with K >= 1", got,
                                    "Give instances as rows of numbers."))  # fmt: skip
        elif wrong := _beyond(bag):
            problems.append(Problem(f"bag {i}", "finite numbers (float32)", f"{wrong} that are not",
                                    "Remove the instances that hold them."))  # fmt: skip
        arrays.append(np.zeros((0, 0)) if bag is None else bag)
    if scalars is None:
        return [(bag, np.ones(len(bag))) for bag in arrays if bag.ndim]
    if len(scalars) != len(arrays):
        problems.append(Problem("attention", f"one array for each of {len(arrays)} bags", f"{len(scalars)}",
                                "Give one per bag, or none."))  # fmt: skip
    read = []
    for i, (bag, given) in enumerate(zip(arrays, scalars, strict=False)):
        row = _numbers(given)
        if row is None or row.shape != bag.shape[:1]:
            got = f"shape {row.shape}" if row is not None else _kind(given)
            problems.append(Problem(f"attention, bag {i}", f"an array {bag.shape[:1]}", got, "Give one per instance."))
        elif wrong := _beyond(row):
            problems.append(Problem(f"attention, bag {i}", "finite numbers (float32)", f"{wrong} that are not",
                                    "Remove the instances that hold them."))  # fmt: skip
        else:
            read.append((bag, row))
    return read


def _beyond(array: Numbers) -> int:
    """How many entries are not finite as float32, in which the aggregators calculate."""
    return int((~(np.abs(array.astype(np.float64)) <= np.finfo(np.float32).max)).sum())


def _kind(given: object) -> str:
    return f"a {type(given).__name__} that is no array of real numbers"


def _read_labels(labels: ArrayLike, bags: int, problems: list[Problem]) -> NDArray[np.float64]:
    """The labels (n, L); what is wrong with them is added to `problems`."""
    array = _numbers(labels)
    if array is None:
        problems.append(Problem("labels", f"an array ({bags},) or ({bags}, L) of 0, 1 or NaN", _kind(labels),
                                "Map the labels to 0 or 1."))  # fmt: skip
        return np.zeros((bags, 1))
    known = array[:, None] if array.ndim == 1 else array
    if known.ndim != 2 or len(known) != bags or known.shape[1] == 0 or bags == 0:
        problems.append(Problem("labels", f"an array ({bags},) or ({bags}, L) for at least one bag",
                                f"shape {array.shape}", "Give one row per bag."))  # fmt: skip
        return np.zeros((bags, 1))
    known = known.astype(np.float64)
    problems += [
        Problem(f"labels, bag {i}, column {j}", "0, 1 or NaN", f"{known[i, j]:g}", "Map the label to 0 or 1.")
        for i, j in np.argwhere(~np.isnan(known) & (known != 0) & (known != 1))
    ]
    return known


def _setting_problems(
    seed: Any, epochs: Any, learning_rate: Any, weight_decay: Any, label_smoothing: Any, temperature: Any
) -> list[Problem]:
    """Settings under which nothing would be trained, or nothing that the name says."""
    whole = [("seed", seed, 0), ("epochs", epochs, 1)]
    ranges: list[tuple[str, Any, str, Callable[[Any], bool]]] = [
        ("learning_rate", learning_rate, "a number above 0", lambda value: value > 0),
        ("weight_decay", weight_decay, "a number of at least 0", lambda value: value >= 0),
        ("label_smoothing", label_smoothing, "a number of at least 0 and below 1", lambda value: 0 <= value < 1),
        ("temperature", temperature, "a number above 0", lambda value: value > 0),
    ]
    return [
        Problem(name, f"a whole number of at least {least}", repr(value), "Correct it.")
        for name, value, least in whole
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least
    ] + [
        Problem(name, expected, repr(value), "Correct it.")
        for name, value, expected, holds in ranges
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or not holds(value)
    ]
