"""How far a training has come, and how that goes into a checkpoint and comes back to the bit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapfm_eval.methods.checkpoint import Best, Saved
from tapfm_eval.methods.model import SlideModel

Scores = dict[str, NDArray[np.float64]]  # slide_id -> (L,)
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of a parameter


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
class Chosen:
    """The best epoch so far."""

    rank: tuple[float, ...]  # smaller is better
    epoch: int
    weights: dict[str, Tensor]
    scores: Scores  # of the validation slides


@dataclass(slots=True)
class TrainingState:
    """Where a training stands between two slides; all of its randomness is keyed, so there is no more to it."""

    epoch: int = 1  # under way, counted from 1
    losses: list[float] = field(default_factory=list)  # of the slides of this epoch trained on so far
    validated: Scores = field(default_factory=dict)  # raw logits of the slides of this epoch validated so far
    history: list[Epoch] = field(default_factory=list)
    best: Chosen | None = None
    seconds: float = 0.0  # of training, in all sessions
    peak_memory_mb: float = 0.0  # the largest of all sessions
    sessions: list[dict[str, str]] = field(default_factory=list)  # where and with what it was trained, in order

    def __str__(self) -> str:
        return f"epoch {self.epoch}, {len(self.losses)} slides trained on and {len(self.validated)} validated"


def named_parameters(model: SlideModel) -> dict[str, torch.nn.Parameter]:
    """The parameters that train, by the names they are saved under."""
    named = ((part, *item) for part, module in model.modules() for item in module.named_parameters())
    return {f"{part}.{name}": parameter for part, name, parameter in named if parameter.requires_grad}


def is_finite(model: SlideModel) -> bool:
    """Whether every weight that trains is a number."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in named_parameters(model).values())


def saved_state(state: TrainingState, model: SlideModel, optimizers: Sequence[torch.optim.Optimizer]) -> Saved:
    """Everything that a training needs to go on."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in named_parameters(model).items()}
    tensors = {f"weights.{name}": tensor for name, tensor in model.state().items()}
    for optimizer in optimizers:
        for parameter, moments in optimizer.state.items():
            for kind in MOMENTS:
                tensors[f"{kind}.{names[parameter]}"] = moments[kind].detach().to("cpu", copy=True).contiguous()
    best = state.best
    facts = {
        "epoch": state.epoch,
        "losses": state.losses,
        "validated": _listed(state.validated),
        "history": [asdict(epoch) for epoch in state.history],
        "best": None if best is None else {"rank": best.rank, "epoch": best.epoch, "scores": _listed(best.scores)},
        "seconds": state.seconds,
        "peak_memory_mb": state.peak_memory_mb,
        "sessions": state.sessions,
        "scaler": None if model.scaler is None else model.scaler.state(),
    }
    return Saved(tensors, None if best is None else Best(best.epoch, best.weights), facts)


def restored_state(
    saved: Saved, model: SlideModel, optimizers: Sequence[torch.optim.Optimizer], steps: int
) -> TrainingState:
    """Puts a saved training back into model and optimizers, or leaves both as they are and says why not.

    Raises:
        ValueError: The checkpoint does not fit this model; KeyError and TypeError: it is no checkpoint of ours.
    """
    parameters = named_parameters(model)
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    expected = {f"weights.{name}": shape for name, shape in shapes.items()}
    for kind in MOMENTS:
        present = (name for name in shapes if f"{kind}.{name}" in saved.tensors)
        expected |= {f"{kind}.{name}": () if kind == "step" else shapes[name] for name in present}
    if {name: tuple(tensor.shape) for name, tensor in saved.tensors.items()} != expected:
        raise ValueError("its tensors are not those of this model")
    state = _state(saved, len(parameters), steps)
    scaler = saved.facts["scaler"]
    if model.scaler is not None and scaler is not None:  # one comes without the other where the GPU is another
        model.scaler.load({name: float(number) for name, number in scaler.items()})
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved.tensors[f"weights.{name}"])
    names = {parameter: name for name, parameter in parameters.items()}
    for optimizer in optimizers:
        optimizer.state.clear()
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            found = {kind: saved.tensors.get(f"{kind}.{names[parameter]}") for kind in MOMENTS}
            if found["step"] is not None:
                # AdamW counts its steps on the CPU; the moments lie beside their parameter
                optimizer.state[parameter] = {
                    kind: tensor if kind == "step" else tensor.to(parameter.device, parameter.dtype)
                    for kind, tensor in found.items()
                    if tensor is not None
                }
    return state


def _state(saved: Saved, parameters: int, steps: int) -> TrainingState:
    facts: Mapping[str, Any] = saved.facts
    moments = [sum(name.startswith(f"{kind}.") for name in saved.tensors) for kind in MOMENTS]
    if len(set(moments)) != 1 or parameters == 0:
        raise ValueError("moments of some parameters are missing")
    history = [_epoch(row) for row in facts["history"]]
    losses = [float(loss) for loss in facts["losses"]]
    if facts["epoch"] != len(history) + 1 or len(losses) > steps or not all(map(math.isfinite, losses)):
        raise ValueError("its position is not one of this training")
    best = None
    if facts["best"] is not None:
        if saved.best is None:
            raise ValueError("the weights of its best epoch are missing")
        rank = tuple(float(number) for number in facts["best"]["rank"])
        best = Chosen(rank, saved.best.epoch, dict(saved.best.tensors), _arrays(facts["best"]["scores"]))
    return TrainingState(
        len(history) + 1, losses, _arrays(facts["validated"]), history, best, float(facts["seconds"]),
        float(facts["peak_memory_mb"]), [{str(k): str(v) for k, v in row.items()} for row in facts["sessions"]],
    )  # fmt: skip


def _epoch(row: Mapping[str, Any]) -> Epoch:
    return Epoch(epoch=int(row["epoch"]), **{name: float(v) for name, v in row.items() if name != "epoch"})


def _listed(scores: Scores) -> dict[str, list[float]]:
    return {slide_id: [float(value) for value in row] for slide_id, row in scores.items()}


def _arrays(lists: Mapping[str, Sequence[float]]) -> Scores:
    return {str(slide_id): np.array(row, dtype=np.float64) for slide_id, row in lists.items()}
