"""What each rank of test_sharded_step.py runs under torchrun: its share of a bag against one joint graph over it all.

Exits with 1 and says where on the first gradient that differs.
"""

import copy
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tapfm_eval.backbones.cards import CARDS, stand_in
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.load import build_backbone
from tapfm_eval.methods.abmil import Abmil
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.clam import Clam
from tapfm_eval.methods.losses import SlideLoss, TargetWeights
from tapfm_eval.methods.randomness import depth_keep
from tapfm_eval.methods.ranks import Ranks
from tapfm_eval.methods.sharded import sharded_step
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.methods.transmil import TransMil
from tapfm_eval.protocol.schema import LastBlocks, Lora, LoraPlan

TOLERANCE = 1e-10
WEIGHTS = TargetWeights(prevalence=(0.2, 0.6), target=(1.2, 0.8))
AGGREGATORS: Mapping[str, Callable[[], Aggregator]] = {
    "tapfm": lambda: Tapfm(16, 2, temperature=0.1, layer_norm=True),
    "abmil": lambda: Abmil(16, 2),
    "clam-sb": lambda: Clam(16, 2, multi_branch=False),
    "transmil": lambda: TransMil(16, 2),
}
ADAPTATIONS = {"full": "full", "last_blocks": LastBlocks(last_blocks=1), "lora": Lora(lora=LoraPlan(rank=2))}
LABELS = {"known": [1.0, 0.0], "one missing": [float("nan"), 1.0]}


def encoder_of(adapt: str) -> TileEncoder:
    """A tiny float64 encoder, the same on every rank."""
    card = stand_in(CARDS["uni"])
    edge = 3 * card.patch_px
    arguments = dict(card.timm_arguments) | {"img_size": edge, "embed_dim": 16, "num_heads": 2, "depth": 3}
    card = replace(card, timm_arguments=MappingProxyType(arguments), dim=16, depth=3, heads=2, tile_px=edge)
    torch.manual_seed(5)
    network = build_backbone(card)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    encoder = TileEncoder(network, card).double()
    adapt_encoder(encoder, ADAPTATIONS[adapt], "arm", 1)
    for name, parameter in encoder.named_parameters():
        if name.endswith(".up"):  # adapters start at zero, where half of their gradient is zero too
            nn.init.normal_(parameter, std=0.2)
    return encoder


def joint(
    encoder: TileEncoder, aggregator: Aggregator, loss_of: SlideLoss, tiles: Tensor, keep: Tensor, lam: float
) -> None:
    """One graph over the whole bag, the aggregator's own loss included."""
    z, a = encoder(tiles, keep)
    seen = a.detach() + lam * (a - a.detach())
    aggregator.loss(z, seen, loss_of).backward()


def check(
    case: str, count: int, aggregator_name: str, adapt: str, labels: list[float], lam: float, micro_batch: int = 2
) -> None:
    encoder, other = encoder_of(adapt), encoder_of(adapt)
    torch.manual_seed(11)
    aggregator = AGGREGATORS[aggregator_name]().double()
    other_aggregator = copy.deepcopy(aggregator)
    tiles = torch.randint(0, 256, (count, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    keep = depth_keep(np.arange(count), 3, 0.4, "sharded").double()
    loss_of = SlideLoss(torch.tensor(labels, dtype=torch.float64), WEIGHTS, 0.1)
    everybody = dist.group.WORLD
    assert everybody is not None
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), everybody, everybody, everybody, torch.device("cpu"))
    mine = ranks.share(count)
    for _ in range(2):  # twice: what a caller has accumulated stays and is not summed again
        report = sharded_step(
            encoder, aggregator, loss_of, tiles[mine], keep=keep[mine], micro_batch=micro_batch, lambda_attention=lam,
            device=torch.device("cpu"), autocast=nullcontext, ranks=ranks,
        )  # fmt: skip
        if report.passes != (1 if len(tiles[mine]) <= micro_batch else 2):
            sys.exit(f"{case}: {report.passes} passes over {len(tiles[mine])} tiles, {micro_batch} at a time")
        joint(other, other_aggregator, loss_of, tiles, keep, lam)
    largest = 0.0
    pairs = [
        *zip(encoder.named_parameters(), other.named_parameters(), strict=True),
        *zip(aggregator.named_parameters(), other_aggregator.named_parameters(), strict=True),
    ]
    for (name, ours), (_, theirs) in pairs:
        if not ours.requires_grad:
            continue
        got = torch.zeros_like(ours) if ours.grad is None else ours.grad
        expected = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        difference = float((got - expected).abs().max())
        largest = max(largest, float(expected.abs().max()))
        if not difference < TOLERANCE:
            sys.exit(f"rank {dist.get_rank()}, {case}: {name} differs by {difference}")
    if largest < 1e-6:
        sys.exit(f"{case}: gradients so small prove nothing")


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    cases = 0
    for aggregator in AGGREGATORS:
        for adapt in ADAPTATIONS:
            for told, labels in LABELS.items():
                check(f"{aggregator}, {adapt}, {told}", 7, aggregator, adapt, labels, 1.0)
                cases += 1
    check("fewer tiles than ranks", 1, "abmil", "full", LABELS["known"], 1.0)
    check("attention cut", 5, "tapfm", "lora", LABELS["known"], 0.0)
    check("every share in one pass", 7, "tapfm", "full", LABELS["known"], 1.0, micro_batch=7)
    uneven = -(-7 // dist.get_world_size()) - 1  # one tile less than the first share
    check("the first share in two passes, the last in one", 7, "tapfm", "last_blocks", LABELS["known"], 1.0, uneven)
    if dist.get_rank() == 0:
        print(f"{cases + 4} cases equal")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
