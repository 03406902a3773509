"""The adaptation step of one slide: exact gradients of aggregator and backbone in bounded memory.

A bag meets the backbone only through its tile embeddings z and its attention a, so the two graphs of TAPFM
(arXiv 2506.05184) can be walked apart: the aggregator's graph starts at detached (z, a) and yields dL/dz and dL/da;
the backbone's graph is then run for a micro-batch of tiles at a time and driven by those. Gradients equal those of
ordinary joint back-propagation; peak memory depends on the micro-batch, not on the number of tiles.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.losses import SlideLoss
from tapfm_eval.methods.precision import LossScaler
from tapfm_eval.methods.spool import Spool, TileSlices

DEVICE_SHARE = 0.25  # of a GPU's free memory that the output of frozen blocks may take


def usable_memory(device: torch.device) -> float:
    """Bytes of a GPU that new tensors may take: what the driver has free, and what torch holds in reserve unused.

    After the first step nearly all free memory is torch's reserve, which the driver counts as taken.
    """
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(torch.cuda.mem_get_info(device)[0] + unused)


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step came to."""

    loss: float  # slide loss, before any update
    passes: int  # 1 when this process's tiles fit one micro-batch, else 2
    skipped: bool = False  # fp16 gradients overflowed: the backbone has none this time


class OnePass:
    """A bag that fits one micro-batch: run through an encoder once, its graph held until it is driven."""

    passes = 1

    def __init__(
        self, encoder: TileEncoder, tiles: TileSlices, keep: Tensor | None, device: torch.device,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:  # fmt: skip
        self.encoder, self.tiles, self.keep, self.device, self.autocast = encoder, tiles, keep, device, autocast
        self._live: tuple[Tensor, Tensor] | None = None

    def encoded(self) -> tuple[Tensor, Tensor]:
        """Embeddings z (K, D) and attention a (K,) of the whole bag, detached; K is at least 1."""
        tiles = self.tiles[:].to(self.device, non_blocking=True)
        with self.autocast():
            self._live = z, a = self.encoder(tiles, None if self.keep is None else self.keep.to(self.device))
        return z.detach(), a.detach()

    def with_graph(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The bag's place in itself, z and a with their graph; nothing where it has not been encoded."""
        if self._live is not None:
            (z, a), self._live = self._live, None
            yield slice(0, len(z)), z, a


class TwoPasses:
    """A bag run through an encoder twice by micro-batches, first without a graph and then with one.

    Blocks that are frozen run once: their output is kept between the passes, on the GPU while that is a small part of
    its memory and otherwise on the host (`Spool`).
    """

    passes = 2

    def __init__(
        self, encoder: TileEncoder, tiles: TileSlices, keep: Tensor | None, micro_batch: int, device: torch.device,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:  # fmt: skip
        self.encoder, self.tiles, self.keep = encoder, tiles, keep
        self.device, self.autocast = device, autocast
        count = len(tiles)
        self.parts = [slice(start, min(start + micro_batch, count)) for start in range(0, count, micro_batch)]
        self._frozen: list[Tensor] | None = None  # by micro-batch, on the device
        self._spool: Spool | None = None

    def encoded(self) -> tuple[Tensor, Tensor]:
        """Embeddings z (K, D) and attention a (K,) of the whole bag, without a graph; K is at least 1."""
        keeps = self.encoder.first_trained_block > 0 and len(self.parts) > 1
        found = []
        with torch.no_grad():
            for part in self.parts:
                x = self._prefix(part)
                if keeps:
                    self._store(x)
                with self.autocast():
                    found.append(self.encoder.rest(x, self._kept(part)))
        return torch.cat([z for z, _ in found]), torch.cat([a for _, a in found])

    def with_graph(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Each micro-batch again, with a graph: its place in the bag, z and a."""
        for i, part in enumerate(self.parts):
            if self._frozen is not None:
                x = self._frozen[i]
                self._frozen[i] = x.new_empty(0)  # its memory is free as soon as its graph is
            else:
                x = self._prefix(part) if self._spool is None else self._spool[part].to(self.device)
            with self.autocast():
                z, a = self.encoder.rest(x, self._kept(part))
            yield part, z, a
        if self._spool is not None:
            self._spool.close()

    def _prefix(self, part: slice) -> Tensor:
        tiles = self.tiles[part].to(self.device, non_blocking=True)
        with self.autocast():
            return self.encoder.prefix(tiles, self._kept(part))

    def _kept(self, part: slice) -> Tensor | None:
        return None if self.keep is None else self.keep[part].to(self.device)

    def _store(self, x: Tensor) -> None:
        rows = self.parts[-1].stop
        if self._frozen is None and self._spool is None:
            needed = rows * x[0].numel() * x.element_size()
            if self.device.type == "cuda" and needed < DEVICE_SHARE * usable_memory(self.device):
                self._frozen = []
            else:
                self._spool = Spool(rows)
        if self._frozen is not None:
            self._frozen.append(x)
        elif self._spool is not None:
            self._spool.append(x.cpu())


def passes_over(
    encoder: TileEncoder, tiles: TileSlices, keep: Tensor | None, micro_batch: int, device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> OnePass | TwoPasses:  # fmt: skip
    """How a bag goes through an encoder: once if it fits the micro-batch, else twice."""
    if len(tiles) <= micro_batch:
        return OnePass(encoder, tiles, keep, device, autocast)
    return TwoPasses(encoder, tiles, keep, micro_batch, device, autocast)


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


def drive(z: Tensor, a: Tensor, g_z: Tensor, g_a: Tensor, lambda_attention: float, scale: float = 1.0) -> None:
    """Back-propagates <z, g_z> + lambda <a, g_a> through the backbone; gradients are multiplied by `scale`."""
    driven = [(z, g_z * scale)] if lambda_attention == 0 else [(z, g_z * scale), (a, lambda_attention * scale * g_a)]
    live = [(output, gradient) for output, gradient in driven if output.requires_grad]
    torch.autograd.backward([output for output, _ in live], [gradient for _, gradient in live])


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
    scaler: LossScaler | None = None,
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
        scaler: For fp16; the encoder's gradients must then be empty before, and are unscaled after.
    """
    scale = 1.0 if scaler is None else scaler.scale
    bag = passes_over(encoder, tiles, keep, micro_batch, device, autocast)
    loss, g_z, g_a = aggregator_gradients(aggregator, loss_of, *bag.encoded())
    for part, z, a in bag.with_graph():
        drive(z, a, g_z[part], g_a[part], lambda_attention, scale)
    skipped = scaler is not None and not scaler.unscale(encoder.parameters())
    return StepReport(loss, bag.passes, skipped)
