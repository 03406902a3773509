"""The adaptation step of one slide: exact gradients of aggregator and backbone in bounded memory.

A bag meets the backbone only through its tile embeddings z and its attention a, so the two graphs of TAPFM
(arXiv 2506.05184) can be walked apart: the aggregator's graph starts at detached (z, a) and yields dL/dz and dL/da;
the backbone's graph is then run for a micro-batch of tiles at a time and driven by those. Gradients equal those of
ordinary joint back-propagation; peak memory depends on the micro-batch, not on the number of tiles.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.losses import SlideLoss


class TileSlices(Protocol):
    """Tiles that are handed out by slices: a uint8 tensor (K, 3, H, W), or anything that reads them on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step came to."""

    loss: float  # slide loss, before any update
    passes: int  # 1 when the bag fits one micro-batch, else 2


def aggregator_gradients(
    aggregator: Aggregator, loss_of: SlideLoss, z: Tensor, a: Tensor
) -> tuple[float, Tensor, Tensor]:
    """Runs the aggregator's graph on detached z (K, D) and a (K,): adds to its parameters' gradients.

    Returns:
        The loss, dL/dz (K, D) and dL/da (K,); zero where the aggregator does not use its input.
    """
    leaf_z, leaf_a = z.detach().requires_grad_(), a.detach().requires_grad_()
    loss = aggregator.loss(leaf_z, leaf_a, loss_of)
    loss.backward()  # type: ignore[no-untyped-call]
    g_z = leaf_z.grad if leaf_z.grad is not None else torch.zeros_like(z)
    g_a = leaf_a.grad if leaf_a.grad is not None else torch.zeros_like(a)
    return float(loss.detach()), g_z, g_a


def adaptation_step(
    encoder: TileEncoder,
    aggregator: Aggregator,
    loss_of: SlideLoss,
    tiles: TileSlices,
    *,
    keep: Tensor | None,
    micro_batch: int,
    lambda_attention: float,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> StepReport:
    """Adds the exact gradients of one slide to encoder and aggregator; the caller's optimizers then step.

    The backbone follows L = sum_i <z_i, g_z_i> + lambda sum_i a_i g_a_i with g detached, where g_a has passed through
    min-max and softmax. With lambda = 1 that is the joint gradient; with 0 the attention path is cut.

    Args:
        encoder: Gives (z, a) of a micro-batch.
        aggregator: Gives the slide's loss from all of them.
        loss_of: The slide's loss; the aggregator may add terms of its own.
        tiles: K tiles.
        keep: Stochastic depth (K, depth, 2) of the whole bag, so that both passes replay the same; None for none.
        micro_batch: Tiles per backbone pass. A bag that fits is run once, a larger one twice.
        lambda_attention: Weight of the attention term.
        device: Where the encoder lies.
        autocast: Makes the context in which the encoder runs.
    """
    count = len(tiles)

    def encode(start: int) -> tuple[Tensor, Tensor]:
        part = slice(start, min(start + micro_batch, count))
        kept = None if keep is None else keep[part].to(device)
        with autocast():
            encoded: tuple[Tensor, Tensor] = encoder(tiles[part].to(device), kept)
        return encoded

    def backward(z: Tensor, a: Tensor, g_z: Tensor, g_a: Tensor) -> None:
        driven = [(z, g_z)] if lambda_attention == 0 else [(z, g_z), (a, lambda_attention * g_a)]
        live = [(output, gradient) for output, gradient in driven if output.requires_grad]
        torch.autograd.backward([output for output, _ in live], [gradient for _, gradient in live])

    if count <= micro_batch:
        z, a = encode(0)
        loss, g_z, g_a = aggregator_gradients(aggregator, loss_of, z, a)
        backward(z, a, g_z, g_a)
        return StepReport(loss, passes=1)

    starts = range(0, count, micro_batch)
    with torch.no_grad():
        parts = [encode(start) for start in starts]
    loss, g_z, g_a = aggregator_gradients(
        aggregator, loss_of, torch.cat([z for z, _ in parts]), torch.cat([a for _, a in parts])
    )
    for start in starts:
        z, a = encode(start)
        part = slice(start, start + len(z))
        backward(z, a, g_z[part], g_a[part])
    return StepReport(loss, passes=2)
