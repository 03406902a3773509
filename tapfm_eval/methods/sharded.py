"""The adaptation step of one slide whose tiles are shared out over several processes: exact, at any world size.

A bag meets the backbone only through its tile embeddings z and its attention a. So every rank encodes its own share of
the tiles, all ranks gather (z, a) of the whole bag, each repeats the same aggregator step on them, and each drives its
own share of the backbone's graph with its rows of dL/dz and dL/da. The backbone's gradient is the sum over the ranks. A
share that fits a micro-batch is encoded once, whatever the others need. What crosses the network for one slide is
K x (D + 1) numbers and one copy of the trained gradients.
"""

import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.errors import SlideError
from tapfm_eval.methods.adapt import StepReport, aggregator_gradients, drive, passes_over
from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.checkpoint import Best, Checkpoints, Saved
from tapfm_eval.methods.losses import SlideLoss
from tapfm_eval.methods.precision import LossScaler
from tapfm_eval.methods.ranks import Ranks
from tapfm_eval.methods.sources import Bag, BagSource, Draw, TileBag
from tapfm_eval.methods.spool import TileSlices

State = TypeVar("State")
_NO_TILES = torch.empty((0, 3, 1, 1), dtype=torch.uint8)


def sharded_step(
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
    ranks: Ranks,
    scaler: LossScaler | None = None,
    slide_id: str | None = None,
) -> StepReport:
    """Adds the exact gradients of one slide to encoder and aggregator, the same on every rank.

    Called by all ranks together, each with its own `tiles`; ranks must hold equal parameters. A rank may hold no tile
    at all, as long as one of them does.

    Args:
        encoder: Gives (z, a) of a micro-batch.
        aggregator: Gives the slide's loss from all of them.
        loss_of: The slide's loss.
        tiles: This rank's tiles; the bag is the shares in the order of ranks.
        keep: Stochastic depth of this rank's tiles (k, depth, 2); None for none.
        micro_batch: Tiles per backbone pass.
        lambda_attention: Weight of the attention term.
        device: Where the encoder lies.
        autocast: Makes the context in which the encoder runs.
        ranks: Who shares the bag.
        scaler: For fp16; the encoder's gradients must then be empty before, and are unscaled after.
        slide_id: For the message where another rank cannot read its tiles.

    Raises:
        TapfmEvalError: A rank cannot read its tiles, or fails otherwise: all raise.
    """
    bag = passes_over(encoder, tiles, keep, micro_batch, device, autocast)
    dtype = next(aggregator.parameters()).dtype
    z, a = torch.empty(0, encoder.dim, dtype=dtype, device=device), torch.empty(0, dtype=dtype, device=device)
    failure = None
    try:
        if len(tiles):
            z, a = bag.encoded()
    except SlideError as error:
        failure = error
    ranks.agree(failure, slide_id)
    whole_z, first = ranks.gather(z)
    whole_a, _ = ranks.gather(a)

    loss, g_z, g_a = aggregator_gradients(aggregator, loss_of, whole_z, whole_a)
    ranks.agree()  # nobody is left waiting for one whose memory ran out meanwhile
    # every rank has computed the same; one of them is taken, so that no rounding can drive replicas apart
    agreed = torch.tensor([loss], dtype=torch.float64)
    ranks.on_cpu_from_leader(agreed)
    for tensor in (g_z, g_a, *(p.grad for p in aggregator.parameters() if p.grad is not None)):
        ranks.from_leader(tensor)

    before = {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}
    for parameter in _trained(encoder):
        parameter.grad = None  # what the caller had accumulated is the same on every rank and must not be summed
    for part, z, a in bag.with_graph():
        mine = slice(first + part.start, first + part.stop)
        drive(z, a, g_z[mine], g_a[mine], lambda_attention, 1.0 if scaler is None else scaler.scale)
    ranks.agree()
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            summed = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            ranks.sum(summed)
            earlier = before[name]
            parameter.grad = summed if earlier is None else earlier + summed
    skipped = scaler is not None and not scaler.unscale(encoder.parameters())
    return StepReport(float(agreed), passes=bag.passes, skipped=skipped)


def _trained(module: nn.Module) -> Iterable[nn.Parameter]:
    return (parameter for parameter in module.parameters() if parameter.requires_grad)


@dataclass(frozen=True, slots=True)
class SharedBags:
    """Bags of which this process reads its own share; each still says the whole draw."""

    source: BagSource
    ranks: Ranks

    def bags(self, draws: Iterable[Draw]) -> Iterator[Bag]:
        """One bag per draw with this process's tiles of it, which may be none."""
        under_way: deque[tuple[Draw, int]] = deque()

        def shares() -> Iterator[Draw]:
            for draw in draws:
                own = draw.indices[self.ranks.share(len(draw.indices))]
                under_way.append((draw, len(own)))
                if len(own):
                    yield replace(draw, indices=own)

        read = self.source.bags(shares())
        ahead: Bag | None = None  # asking for a bag is what takes draws, some of which may have no tile for us
        try:
            while True:
                if not under_way:
                    ahead = next(read, None)
                    if not under_way:
                        return
                draw, own = under_way.popleft()
                if own == 0:
                    yield TileBag(draw, _NO_TILES)
                    continue
                bag = next(read) if ahead is None else ahead
                ahead = None
                assert isinstance(bag, TileBag)
                yield TileBag(draw, bag.tiles)
        finally:
            if isinstance(read, Generator):
                read.close()


class SharedCheckpoints(Checkpoints):
    """Checkpoints that the leader writes and reads; followers receive what it read."""

    def __init__(self, ranks: Ranks, checkpoints: Checkpoints) -> None:
        """Wraps the checkpoints of a training that several processes share."""
        self._ranks, self._whole = ranks, checkpoints

    def due(self) -> bool:
        """Whether the leader is to write; a follower never is."""
        return self._ranks.leads and self._whole.due()

    def write(self, saved: Saved) -> None:
        """Writes in the leader."""
        if self._ranks.leads:
            self._whole.write(saved)

    def newest(self, restore: Callable[[Saved], State]) -> State | None:
        """The newest good checkpoint, restored in every process."""
        found: list[Saved] = []
        state: State | None = None

        def remember(saved: Saved) -> State:
            restored = restore(saved)
            found[:] = [saved]
            return restored

        if self._ranks.leads:
            state = self._whole.newest(remember)
        saved = _passed_on(self._ranks, found[0] if found else None)
        return state if self._ranks.leads or saved is None else restore(saved)

    def clear(self) -> None:
        """Removes them, in the leader."""
        if self._ranks.leads:
            self._whole.clear()


def _passed_on(ranks: Ranks, saved: Saved | None) -> Saved | None:
    """The leader's checkpoint in all processes, without anybody reading what another may be removing."""
    best = None if saved is None else saved.best
    parts = {} if saved is None else {"": saved.tensors, "best": {} if best is None else best.tensors}
    told = ranks.pass_on(
        None if saved is None else {
            "facts": json.loads(json.dumps(saved.facts)),
            "best": None if best is None else best.epoch,
            "tensors": [
                [part, name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
                for part, tensors in parts.items() for name, tensor in tensors.items()
            ],
        }
    )  # fmt: skip
    if told is None:
        return None
    received: dict[str, dict[str, Tensor]] = {"": {}, "best": {}}
    for part, name, shape, dtype in told["tensors"]:
        tensor = parts[part][name].contiguous() if ranks.leads else torch.empty(shape, dtype=getattr(torch, dtype))
        ranks.on_cpu_from_leader(tensor)
        received[part][name] = tensor
    found = None if told["best"] is None else Best(told["best"], received["best"])
    return Saved(received[""], found, told["facts"])
