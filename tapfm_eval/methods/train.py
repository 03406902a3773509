"""The one training loop: every arm, adapted or frozen, walks through here."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from tapfm_eval.cohort.patients import expit, logit, mean_logit
from tapfm_eval.errors import RunError, SlideError, StudyError, TapfmEvalError
from tapfm_eval.methods.adapt import adaptation_step, aggregator_gradients
from tapfm_eval.methods.checkpoint import Checkpoints
from tapfm_eval.methods.losses import SlideLoss, TargetWeights, slide_loss, target_weights
from tapfm_eval.methods.memory import PeakMemory
from tapfm_eval.methods.model import SlideModel, inference_draws, memory_ran_out, slide_logits, told_of_memory
from tapfm_eval.methods.randomness import depth_keep
from tapfm_eval.methods.ranks import Ranks
from tapfm_eval.methods.recipe import Recipe
from tapfm_eval.methods.sharded import sharded_step
from tapfm_eval.methods.sources import Bag, BagSource, Draw, TileBag
from tapfm_eval.methods.state import Chosen, Epoch, TrainingState, is_finite, restored_state, saved_state
from tapfm_eval.methods.steady import SteadyBags
from tapfm_eval.methods.unit import TrainingData, Unit, draws_from, epoch_draws, selection_targets
from tapfm_eval.progress import skip

_REMEDY = "Lower the learning rate under `training:` and raise the protocol's version."


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
    seconds: float  # in all sessions
    peak_memory_mb: float  # of this unit alone; 0 where it cannot be known
    memory_of: str  # GPU, or process
    sessions: tuple[Mapping[str, str], ...]  # where and with what it was trained


def cosine_factor(epoch: int, restart_epochs: int, growth: int) -> float:
    """Share of the peak learning rate in `epoch` (from 0): cosine periods, each `growth` times as long as the last.

    >>> [round(cosine_factor(e, 10, 2), 3) for e in (0, 5, 10, 20)]
    [1.0, 0.5, 1.0, 0.5]
    """
    length, start = restart_epochs, 0
    while epoch >= start + length:
        start, length = start + length, length * growth
    return 0.5 * (1 + math.cos(math.pi * (epoch - start) / length))


def train_unit(
    unit: Unit,
    model: SlideModel,
    recipe: Recipe,
    data: TrainingData,
    source: BagSource,
    inference: BagSource,
    advance: Callable[[int], None],
    checkpoints: Checkpoints | None = None,
    session: Mapping[str, str] | None = None,
) -> Trained:
    """Trains one unit and selects its epoch on the validation patients; goes on from its newest checkpoint.

    Args:
        unit: Names the unit; its seed and fold key all randomness.
        model: Fresh model, changed in place.
        recipe: Every number of the training.
        data: Patients, slides and labels of the fold.
        source: Bags for training, augmented where the recipe says so.
        inference: Bags for validation, never augmented.
        advance: Told 1 for every slide trained on or validated; may raise to stop, and a checkpoint is written.
        checkpoints: Where the training is kept; None keeps nothing.
        session: What is to be remembered of the machine that trains.

    Raises:
        SplitError: A target cannot be trained, or no target can carry the selection.
        StudyError: The loss, a weight or a validation logit stopped being a number; the last good state is kept.
    """
    train_labels = np.array([data.labels[p] for p in sorted({s.patient_id for s in data.train})])
    weights = target_weights(train_labels.reshape(-1, len(data.targets)), data.targets, f"fold {unit.fold}")
    metric_targets = selection_targets(data, unit)
    memory = PeakMemory(model.device)
    optimizers = _optimizers(model, recipe)
    state = TrainingState()
    if checkpoints is not None:
        plain = [optimizer for optimizer, _ in optimizers]
        state = checkpoints.newest(lambda saved: restored_state(saved, model, plain, data.steps)) or state
    state.sessions.append({"from": str(state), **(session or {})})
    started, before = time.monotonic(), state.seconds

    def keep(now: bool = False) -> None:
        state.seconds = before + time.monotonic() - started
        state.peak_memory_mb = max(state.peak_memory_mb, memory.megabytes())
        if checkpoints is not None and (checkpoints.due() or now):
            if not is_finite(model):
                raise StudyError(f"{unit}: a weight is not a number in epoch {state.epoch}. {_REMEDY}")
            checkpoints.write(saved_state(state, model, [optimizer for optimizer, _ in optimizers]))

    trained = (state.epoch - 1) * data.steps + len(state.losses)
    left = [slide for slide in data.validation if slide.slide_id not in state.validated]
    whole = range(state.epoch + 1, recipe.epochs + 1)  # epochs that are validated from their first slide on
    skip(advance, trained + (state.epoch - 1) * len(data.validation) + len(state.validated))

    def checked(start: int) -> Iterator[Draw]:
        later = (draw for _ in whole for draw in inference_draws(data.validation, recipe, model.ranks))
        return islice(chain(inference_draws(left, recipe, model.ranks), later), start, None)

    def alone() -> None:
        advance(1)
        keep()

    def after_slide() -> None:
        alone() if model.ranks is None else model.ranks.in_step(alone)

    # processes that share bags stop together, after a slide
    again = advance if model.ranks is None else lambda _: None

    # one stream each for all epochs: worker processes start once and read ahead across the end of an epoch
    with (
        SteadyBags(source, lambda start: draws_from(data, unit, recipe.epochs, trained + start), again) as training,
        SteadyBags(inference, checked, again) as checking,
    ):
        try:
            while state.epoch <= recipe.epochs:
                factor = cosine_factor(state.epoch - 1, recipe.restart_epochs, recipe.restart_growth)
                for optimizer, peak in optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = peak * factor
                _train_epoch(unit, model, recipe, data, state, training, weights, optimizers, after_slide)
                _validate_epoch(unit, model, recipe, data, state, checking, after_slide)
                _close_epoch(model, recipe, data, state, weights, optimizers, metric_targets)
        except TapfmEvalError as error:
            if not isinstance(error, RunError) and is_finite(model):
                keep(now=True)
            raise
    assert state.best is not None
    return Trained(
        unit, weights, state.best.weights, tuple(state.history), state.best.epoch, metric_targets, state.best.scores,
        before + time.monotonic() - started, max(state.peak_memory_mb, memory.megabytes()),
        memory.of, tuple(state.sessions),
    )  # fmt: skip


def train_briefly(
    unit: Unit,
    model: SlideModel,
    recipe: Recipe,
    data: TrainingData,
    weights: TargetWeights,
    source: BagSource,
    advance: Callable[[int], None],
) -> list[float]:
    """Trains for `recipe.epochs` and selects nothing: a probe of what training does to a model.

    Args:
        unit: Keys all randomness.
        model: Fresh model, changed in place.
        recipe: Every number of the training.
        data: Patients, slides and labels; validation patients are not looked at.
        weights: Of all training patients, of whom `data` may hold a few.
        source: Bags.
        advance: Told 1 for every slide.

    Returns:
        Mean loss of each epoch.
    """
    optimizers, losses = _optimizers(model, recipe), []
    with SteadyBags(source, lambda start: draws_from(data, unit, recipe.epochs, start), advance) as bags:
        for epoch in range(1, recipe.epochs + 1):
            state = TrainingState(epoch=epoch)
            _train_epoch(unit, model, recipe, data, state, bags, weights, optimizers, partial(advance, 1))
            losses.append(float(np.mean(state.losses)))
    return losses


def _train_epoch(
    unit: Unit,
    model: SlideModel,
    recipe: Recipe,
    data: TrainingData,
    state: TrainingState,
    bags: SteadyBags,
    weights: TargetWeights,
    optimizers: Sequence[tuple[torch.optim.Optimizer, float]],
    after_slide: Callable[[], None],
) -> None:
    """The slides of the epoch that are still to be trained on."""
    for _, module in model.modules():
        module.train()
    # drawn again, not kept: all epochs of a large study fill the memory
    for slide, _ in epoch_draws(data, unit, state.epoch)[len(state.losses) :]:
        labels = torch.as_tensor(data.labels[slide.patient_id], device=model.device)
        loss_of = SlideLoss(labels, weights, recipe.label_smoothing)
        try:
            loss = bags.steadily(partial(_gradients, unit, model, recipe, bags, loss_of, optimizers))
        except torch.OutOfMemoryError:
            where = f"in epoch {state.epoch} at slide {slide.slide_id}"
            raise memory_ran_out(model, str(unit), where, recipe) from None
        if not math.isfinite(loss):
            raise StudyError(f"{unit}: the loss is {loss} in epoch {state.epoch} at slide {slide.slide_id}. {_REMEDY}")
        if not _finite_gradients(model):
            raise StudyError(
                f"{unit}: a gradient is not a number in epoch {state.epoch} at slide {slide.slide_id}, although the "
                f"loss is {loss:.3g}. {_REMEDY}"
            )
        if model.scaler is not None and model.scaler.exhausted:
            raise StudyError(
                f"{unit}: the backbone's fp16 gradients are not numbers in epoch {state.epoch} at slide "
                f"{slide.slide_id}, whatever they are scaled by. {_REMEDY} A GPU with bf16 has no such limit."
            )
        for optimizer, _ in optimizers:
            optimizer.step()
        state.losses.append(loss)
        after_slide()


def _finite_gradients(model: SlideModel) -> bool:
    """Whether the optimizers may step: one step by a NaN would leave no good weights to keep."""
    largest = [
        torch.linalg.vector_norm(parameter.grad, ord=float("inf"))
        for _, module in model.modules()
        for parameter in module.parameters()
        if parameter.grad is not None
    ]
    return not largest or bool(torch.stack(largest).isfinite().all())  # one word from the device


def _gradients(
    unit: Unit,
    model: SlideModel,
    recipe: Recipe,
    bags: Iterator[Bag],
    loss_of: SlideLoss,
    optimizers: Sequence[tuple[torch.optim.Optimizer, float]],
) -> float:
    """The loss of the next bag; its gradients are left in the parameters, for the optimizers to step."""
    bag = next(bags) if model.ranks is None else _next_together(bags, model.ranks)
    for optimizer, _ in optimizers:
        optimizer.zero_grad(set_to_none=True)
    if isinstance(bag, TileBag):
        assert model.encoder is not None
        keys = (unit.seed, unit.fold, bag.draw.epoch, bag.draw.slide_id)
        keep = depth_keep(bag.draw.indices, model.encoder.depth, recipe.drop_path, *keys)
        if model.ranks is not None:
            mine = model.ranks.share(len(bag.draw.indices))
            return sharded_step(
                model.encoder, model.aggregator, loss_of, bag.tiles, keep=None if keep is None else keep[mine],
                micro_batch=recipe.micro_batch, lambda_attention=recipe.lambda_attention, device=model.device,
                autocast=model.autocast, ranks=model.ranks, scaler=model.scaler, slide_id=bag.draw.slide_id,
            ).loss  # fmt: skip
        return adaptation_step(
            model.encoder, model.aggregator, loss_of, bag.tiles, keep=keep,
            micro_batch=recipe.micro_batch, lambda_attention=recipe.lambda_attention,
            device=model.device, autocast=model.autocast, scaler=model.scaler,
        ).loss  # fmt: skip
    return aggregator_gradients(model.aggregator, loss_of, bag.z.to(model.device), bag.a.to(model.device))[0]


def _next_together(bags: Iterator[Bag], ranks: Ranks) -> Bag:
    """The next bag, once every process has its share of it."""
    bag, failure = None, None
    try:
        bag = next(bags)
    except SlideError as error:
        failure = error
    ranks.agree(failure, None if bag is None else bag.draw.slide_id)
    assert bag is not None
    return bag


def _validate_epoch(
    unit: Unit,
    model: SlideModel,
    recipe: Recipe,
    data: TrainingData,
    state: TrainingState,
    bags: SteadyBags,
    after_slide: Callable[[], None],
) -> None:
    """Raw logits of the slides of the epoch that are still to be validated."""
    for slide in data.validation:
        if slide.slide_id not in state.validated:
            with told_of_memory(model, str(unit), f"at validation slide {slide.slide_id}", recipe):
                found = bags.steadily(partial(slide_logits, model, bags, (slide,), recipe, lambda _: None))
            logits = found[slide.slide_id]
            if not np.isfinite(logits).all():
                where = f"validation slide {slide.slide_id} are not numbers after epoch {state.epoch}"
                raise StudyError(f"{unit}: the logits of {where}. {_REMEDY}")
            state.validated[slide.slide_id] = logits
            after_slide()


def _close_epoch(
    model: SlideModel,
    recipe: Recipe,
    data: TrainingData,
    state: TrainingState,
    weights: TargetWeights,
    optimizers: Sequence[tuple[torch.optim.Optimizer, float]],
    metric_targets: tuple[str, ...],
) -> None:
    """Puts the epoch into the history, keeps it if it is the best so far, and opens the next."""
    scores = {slide_id: expit(logits - weights.offsets) for slide_id, logits in state.validated.items()}
    auroc, loss = validate(data, scores, weights, recipe, metric_targets)
    rates = [optimizer.param_groups[0]["lr"] for optimizer, _ in optimizers]
    rate_backbone = rates[1] if len(rates) > 1 else 0.0
    epoch = Epoch(state.epoch, float(np.mean(state.losses)), loss, auroc, rate_backbone, rates[0])
    tie_breakers = {"validation_loss": loss, "earliest": float(epoch.epoch)}
    rank = (-auroc, *(tie_breakers[tie] for tie in data.ties), float(epoch.epoch))
    if state.best is None or rank < state.best.rank:
        state.best = Chosen(rank, epoch.epoch, model.state(), scores)
    state.history.append(epoch)
    state.epoch, state.losses, state.validated = epoch.epoch + 1, [], {}


def validate(
    data: TrainingData,
    scores: Mapping[str, NDArray[np.float64]],
    weights: TargetWeights,
    recipe: Recipe,
    metric_targets: tuple[str, ...],
) -> tuple[float, float]:
    """Macro AUROC over `metric_targets` and mean loss, both over validation patients."""
    by_patient: dict[str, list[str]] = {}
    # in an order of its own: sums in another one differ in their last digit, which may decide between epochs
    for slide in sorted(data.validation, key=lambda slide: (slide.patient_id, slide.slide_id)):
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


def selection_json(trained: Trained, key: str = "", weights_sha256: str = "") -> str:
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
            "memory_of": trained.memory_of,
            "training_sha256": key,
            "weights_sha256": weights_sha256,
            "sessions": trained.sessions,
        },
        indent=2,
    )
