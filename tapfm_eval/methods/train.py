"""The one training loop: every arm, adapted or frozen, walks through here."""

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from tapfm_eval.cohort.patients import expit, logit, mean_logit
from tapfm_eval.errors import Problem, SplitError, StudyError
from tapfm_eval.methods.adapt import adaptation_step, aggregator_gradients
from tapfm_eval.methods.losses import SlideLoss, TargetWeights, slide_loss, target_weights
from tapfm_eval.methods.model import SlideModel, inference_draws, slide_logits
from tapfm_eval.methods.randomness import depth_keep, draw_tiles, generator
from tapfm_eval.methods.recipe import Recipe
from tapfm_eval.methods.sources import Bag, BagSource, Draw, StudySlide, TileBag

_REMEDY = "Lower the learning rate under `training:` and raise the protocol's version."

Labels = Mapping[str, NDArray[np.float64]]  # patient_id -> (L,), 0, 1 or NaN


@dataclass(frozen=True, slots=True)
class Unit:
    """What is trained: one arm with one seed on one fold."""

    arm: str
    seed: int
    fold: int

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}, fold {self.fold}"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The patients of one fold, slides and labels."""

    targets: tuple[str, ...]
    selecting: tuple[str, ...]  # the targets that may take part in the selection
    train: tuple[StudySlide, ...]
    validation: tuple[StudySlide, ...]
    labels: Labels
    tiles_per_slide: int | None
    min_per_class: int
    ties: tuple[str, ...]  # what decides between epochs of equal metric, in order


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of a unit's history."""

    epoch: int  # counted from 1
    train_loss: float  # mean over the slides seen
    validation_loss: float  # mean over patients
    validation_auroc: float  # macro, over `metric_targets`
    lr_backbone: float
    lr_aggregator: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished unit: the chosen epoch's weights and how it got there."""

    unit: Unit
    weights: TargetWeights
    state: dict[str, Tensor]
    history: tuple[Epoch, ...]
    selected_epoch: int
    metric_targets: tuple[str, ...]
    validation_scores: Mapping[str, NDArray[np.float64]]  # slide_id -> (L,), at the selected epoch
    seconds: float
    peak_memory_mb: float


def cosine_factor(epoch: int, restart_epochs: int) -> float:
    """Share of the peak learning rate in `epoch` (from 0): cosine periods, each twice as long as the one before.

    >>> [round(cosine_factor(e, 10), 3) for e in (0, 5, 10, 20)]
    [1.0, 0.5, 1.0, 0.5]
    """
    length, start = restart_epochs, 0
    while epoch >= start + length:
        start, length = start + length, length * 2
    return 0.5 * (1 + math.cos(math.pi * (epoch - start) / length))


def epoch_draws(data: TrainingData, unit: Unit, epoch: int) -> list[tuple[StudySlide, Draw]]:
    """The bags of one epoch (from 1): patients shuffled, one slide each, its tiles drawn anew.

    A slide is drawn per (seed, epoch, patient), tiles per (seed, epoch, slide), so that neither depends on order.
    """
    by_patient: dict[str, list[StudySlide]] = {}
    for slide in sorted(data.train, key=lambda s: (s.patient_id, s.slide_id)):
        by_patient.setdefault(slide.patient_id, []).append(slide)
    patients = list(by_patient)
    order = generator("patients", unit.seed, unit.fold, epoch).permutation(len(patients))
    draws = []
    for i in order:
        slides = by_patient[patients[i]]
        slide = slides[int(generator("slide", unit.seed, epoch, patients[i]).integers(len(slides)))]
        indices = draw_tiles(len(slide.grid.xy0), data.tiles_per_slide, unit.seed, epoch, slide.slide_id)
        draws.append((slide, Draw(slide.slide_id, indices, epoch)))
    return draws


def train_unit(
    unit: Unit,
    model: SlideModel,
    recipe: Recipe,
    data: TrainingData,
    source: BagSource,
    inference: BagSource,
    advance: Callable[[int], None],
) -> Trained:
    """Trains one unit and selects its epoch on the validation patients.

    Args:
        unit: Names the unit; its seed and fold key all randomness.
        model: Fresh model, changed in place.
        recipe: Every number of the training.
        data: Patients, slides and labels of the fold.
        source: Bags for training, augmented where the recipe says so.
        inference: Bags for validation, never augmented.
        advance: Told 1 for every slide trained on or validated.

    Raises:
        SplitError: A target cannot be trained, or no target can carry the selection.
        StudyError: The loss or a validation logit stopped being a number.
    """
    started = time.monotonic()
    train_labels = np.array([data.labels[p] for p in sorted({s.patient_id for s in data.train})])
    weights = target_weights(train_labels.reshape(-1, len(data.targets)), data.targets, f"fold {unit.fold}")
    metric_targets = selection_targets(data, unit)
    optimizers = _optimizers(model, recipe)
    history: list[Epoch] = []
    epochs = range(1, recipe.epochs + 1)
    # one stream each for all epochs: worker processes start once and read ahead across the end of an epoch
    training = source.bags(draw for epoch in epochs for _, draw in epoch_draws(data, unit, epoch))
    checking = inference.bags(draw for _ in epochs for draw in inference_draws(data.validation, recipe))
    best: tuple[tuple[float, ...], int, dict[str, Tensor], dict[str, NDArray[np.float64]]] | None = None
    for epoch in epochs:
        draws = epoch_draws(data, unit, epoch)  # drawn again, not kept: all epochs of a large study fill the memory
        factor = cosine_factor(epoch - 1, recipe.restart_epochs)
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        losses = _train_epoch(unit, model, recipe, data, draws, training, weights, optimizers, epoch, advance)
        raw = slide_logits(model, checking, data.validation, recipe, advance)
        broken = sorted(slide_id for slide_id, logits in raw.items() if not np.isfinite(logits).all())
        if broken:
            raise StudyError(
                f"{unit}: the logits of validation slide {broken[0]} are not numbers after epoch {epoch}. {_REMEDY}"
            )
        scores = {slide_id: expit(logits - weights.offsets) for slide_id, logits in raw.items()}
        auroc, loss = validate(data, scores, weights, recipe, metric_targets)
        rates = [optimizer.param_groups[0]["lr"] for optimizer, _ in optimizers]
        history.append(Epoch(epoch, float(np.mean(losses)), loss, auroc, rates[1] if len(rates) > 1 else 0.0, rates[0]))
        tie_breakers = {"validation_loss": loss, "earliest": float(epoch)}
        rank = (-auroc, *(tie_breakers[tie] for tie in data.ties), float(epoch))
        if best is None or rank < best[0]:
            best = (rank, epoch, model.state(), scores)
    assert best is not None
    return Trained(
        unit, weights, best[2], tuple(history), best[1], metric_targets, best[3],
        time.monotonic() - started, _peak_memory_mb(model.device),
    )  # fmt: skip


def _train_epoch(
    unit: Unit,
    model: SlideModel,
    recipe: Recipe,
    data: TrainingData,
    draws: Sequence[tuple[StudySlide, Draw]],
    bags: Iterator[Bag],
    weights: TargetWeights,
    optimizers: Sequence[tuple[torch.optim.Optimizer, float]],
    epoch: int,
    advance: Callable[[int], None],
) -> list[float]:
    for _, module in model.modules():
        module.train()
    losses = []
    for slide, draw in draws:
        bag = next(bags)
        labels = torch.as_tensor(data.labels[slide.patient_id], device=model.device)
        loss_of = SlideLoss(labels, weights, recipe.label_smoothing)
        for optimizer, _ in optimizers:
            optimizer.zero_grad(set_to_none=True)
        if isinstance(bag, TileBag):
            assert model.encoder is not None
            keep = depth_keep(
                draw.indices, model.encoder.depth, recipe.drop_path, unit.seed, unit.fold, epoch, slide.slide_id
            )
            loss = adaptation_step(
                model.encoder, model.aggregator, loss_of, bag.tiles,
                keep=keep, micro_batch=recipe.micro_batch, lambda_attention=recipe.lambda_attention,
                device=model.device, autocast=model.autocast,
            ).loss  # fmt: skip
        else:
            loss, _, _ = aggregator_gradients(model.aggregator, loss_of, bag.z.to(model.device), bag.a.to(model.device))
        if not math.isfinite(loss):
            raise StudyError(f"{unit}: the loss is {loss} in epoch {epoch} at slide {slide.slide_id}. {_REMEDY}")
        for optimizer, _ in optimizers:
            optimizer.step()
        losses.append(loss)
        advance(1)
    return losses


def selection_targets(data: TrainingData, unit: Unit) -> tuple[str, ...]:
    """The targets with enough validation patients of each class to take part in the selection.

    Raises:
        SplitError: There is none.
    """
    labels = np.array([data.labels[p] for p in sorted({s.patient_id for s in data.validation})])
    labels = labels.reshape(-1, len(data.targets))
    enough = [
        target
        for j, target in enumerate(data.targets)
        if target in data.selecting and min((labels[:, j] == 1).sum(), (labels[:, j] == 0).sum()) >= data.min_per_class
    ]
    if not enough:
        raise SplitError(
            Problem(f"fold {unit.fold}, validation", f"a target with {data.min_per_class} patients of each class",
                    "none", "Use another split, or lower selection.min_per_class.")
        )  # fmt: skip
    return tuple(enough)


def validate(
    data: TrainingData,
    scores: Mapping[str, NDArray[np.float64]],
    weights: TargetWeights,
    recipe: Recipe,
    metric_targets: tuple[str, ...],
) -> tuple[float, float]:
    """Macro AUROC over `metric_targets` and mean loss, both over validation patients."""
    by_patient: dict[str, list[str]] = {}
    for slide in data.validation:
        by_patient.setdefault(slide.patient_id, []).append(slide.slide_id)
    labels = np.array([data.labels[patient] for patient in by_patient])
    combined = np.array(
        [[mean_logit(np.array([scores[s][j] for s in ids])) for j in range(len(data.targets))]
         for ids in by_patient.values()]
    )  # fmt: skip
    aurocs = []
    for target in metric_targets:
        j = data.targets.index(target)
        known = ~np.isnan(labels[:, j])
        aurocs.append(roc_auc_score(labels[known, j], combined[known, j]))
    losses = [
        float(slide_loss(torch.from_numpy(logit(row) + weights.offsets), torch.from_numpy(label), weights,
                         recipe.label_smoothing))
        for row, label in zip(combined, labels, strict=True)
    ]  # fmt: skip
    return float(np.mean(aurocs)), float(np.mean(losses))


def _optimizers(model: SlideModel, recipe: Recipe) -> list[tuple[torch.optim.Optimizer, float]]:
    """AdamW for the aggregator, and its own for what trains of the backbone; no decay on biases and norms."""
    rates = {"aggregator": recipe.lr_aggregator, "backbone": recipe.lr_backbone}
    made: list[tuple[torch.optim.Optimizer, float]] = []
    for part, module in sorted(model.modules(), key=lambda item: item[0]):
        trained = [p for p in module.parameters() if p.requires_grad]
        if trained:
            made.append((adamw(trained, lr=rates[part], weight_decay=recipe.weight_decay), rates[part]))
    return made


def adamw(parameters: Sequence[nn.Parameter], *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices, and neither biases nor norms."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: getrusage would start from the parent's size
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024
    scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def selection_json(trained: Trained) -> str:
    """What was selected and why, as JSON text."""
    chosen = trained.history[trained.selected_epoch - 1]
    return json.dumps(
        {
            "format": "tapfm-eval/selection/1",
            **asdict(trained.unit),
            "selected_epoch": trained.selected_epoch,
            "epochs": len(trained.history),
            "validation_auroc": chosen.validation_auroc,
            "metric_targets": trained.metric_targets,
            "prevalence": trained.weights.prevalence,
            "target_weights": trained.weights.target,
            "seconds": trained.seconds,
            "peak_memory_mb": trained.peak_memory_mb,
        },
        indent=2,
    )
