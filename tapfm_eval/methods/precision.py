"""The numbers a backbone computes in: bf16 on a GPU that has it, fp16 with loss scaling on one that has not."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

FIRST_SCALE = 2.0**16
GROWTH_INTERVAL = 2000  # steps without an overflow after which the scale doubles
LEAST_SCALE = 1.0  # gradients that overflow below it are no matter of scale


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type of matrix products in a backbone on this device; None is full precision. Weights stay float32."""
    if device.type != "cuda":
        return None
    # without the argument, torch counts GPUs that only emulate bf16, slowly
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """A fresh context in which a backbone runs on this device."""
    dtype = autocast_dtype(device)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


class LossScaler:
    """Keeps fp16 gradients away from zero: what drives the backbone is multiplied, its gradients are divided again.

    The semantics of torch's GradScaler for one optimizer: a step whose gradients overflowed is skipped and halves the
    scale; after `GROWTH_INTERVAL` good ones it doubles. A two-pass step has no loss to scale, so the surrogate's
    gradients g_z and g_a are. Gradients left out of a step are None, which optimizers pass over.
    """

    def __init__(self) -> None:
        self.scale = FIRST_SCALE
        self.good_steps = 0

    @property
    def exhausted(self) -> bool:
        """Whether gradients overflow however little they are scaled: they are not numbers, and no step will be."""
        return self.scale < LEAST_SCALE

    def unscale(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Divides gradients by the scale, in place, and adapts it; False if they overflowed and are gone now."""
        graded = [parameter for parameter in parameters if parameter.grad is not None]
        finite = all(bool(torch.isfinite(parameter.grad).all()) for parameter in graded if parameter.grad is not None)
        for parameter in graded:
            if finite and parameter.grad is not None:
                parameter.grad /= self.scale
            else:
                parameter.grad = None
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self.good_steps == GROWTH_INTERVAL:
            self.scale, self.good_steps = self.scale * 2, 0
        return finite

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load(self, state: dict[str, float]) -> None:
        """Puts a kept state back."""
        self.scale, self.good_steps = float(state["scale"]), int(state["good_steps"])
