"""The adaptation step of one slide whose tiles are shared out over several processes: exact, at any world size.

A bag meets the backbone only through its tile embeddings z and its attention a. So every rank encodes its own share of
the tiles without a graph, all ranks gather (z, a) of the whole bag, each repeats the same aggregator step on them, and
each drives its own share of the backbone's graph with its rows of dL/dz and dL/da. The backbone's gradient is the sum
over the ranks. What crosses the network for one slide is K x (D + 1) numbers and one copy of the trained gradients.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.methods.adapt import StepReport, TwoPasses, aggregator_gradients, drive
from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.losses import SlideLoss
from tapfm_eval.methods.spool import TileSlices


def share_of(count: int, rank: int, world: int) -> slice:
    """The tiles of one rank: contiguous, so that the gathered bag keeps its order; shares differ by one at most.

    >>> [share_of(7, rank, 3) for rank in range(3)]
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    small, larger = divmod(count, world)
    start = rank * small + min(rank, larger)
    return slice(start, start + small + (rank < larger))


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
    group: dist.ProcessGroup | None = None,
) -> StepReport:
    """Adds the exact gradients of one slide to encoder and aggregator, the same on every rank.

    Called by all ranks of the group together, each with its own `tiles`; ranks must hold equal parameters. A rank may
    hold no tile at all, as long as one of them does.

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
        group: The ranks; None for all.
    """
    bag = TwoPasses(encoder, tiles, keep, micro_batch, device, autocast)
    if len(tiles):
        z, a = bag.without_graph()
    else:
        dtype = next(aggregator.parameters()).dtype
        z, a = torch.empty(0, encoder.dim, dtype=dtype, device=device), torch.empty(0, dtype=dtype, device=device)
    whole_z, counts = _gathered(z, group)
    whole_a, _ = _gathered(a, group)

    loss, g_z, g_a = aggregator_gradients(aggregator, loss_of, whole_z, whole_a)
    # every rank has computed the same; one of them is taken, so that no rounding can drive replicas apart
    for tensor in (g_z, g_a, *(p.grad for p in aggregator.parameters() if p.grad is not None)):
        dist.broadcast(tensor, src=dist.get_global_rank(group, 0) if group else 0, group=group)

    first = sum(counts[: dist.get_rank(group)])
    before = {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}
    for parameter in _trained(encoder):
        parameter.grad = None  # what the caller had accumulated is the same on every rank and must not be summed
    for part, z, a in bag.with_graph():
        mine = slice(first + part.start, first + part.stop)
        drive(z, a, g_z[mine], g_a[mine], lambda_attention)
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            summed = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            dist.all_reduce(summed, group=group)
            earlier = before[name]
            parameter.grad = summed if earlier is None else earlier + summed
    return StepReport(loss, passes=2)


def _trained(module: nn.Module) -> Iterable[nn.Parameter]:
    return (parameter for parameter in module.parameters() if parameter.requires_grad)


def _gathered(mine: Tensor, group: dist.ProcessGroup | None) -> tuple[Tensor, list[int]]:
    """All ranks' rows in the order of ranks, and how many each had; shares may be uneven."""
    world = dist.get_world_size(group)
    count = torch.tensor([len(mine)], device=mine.device)
    counts = [torch.empty_like(count) for _ in range(world)]
    dist.all_gather(counts, count, group=group)
    rows = [int(c) for c in counts]
    padded = mine.new_zeros((max(rows), *mine.shape[1:]))
    padded[: len(mine)] = mine
    shares = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(shares, padded, group=group)
    return torch.cat([share[:n] for share, n in zip(shares, rows, strict=True)]), rows
