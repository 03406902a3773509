"""Tiles a second at inference: features and attention from one forward pass, beside two passes for them.

    python tests/benchmarks/inference.py [--tiles N] [--batch N] [--tile-px 112] [--backbone NAME] [--device cuda]
                                         [--repetitions N]

One forward is the encoder of this project. Two is what one writes with timm: a pass for the embedding, and another with
a hook on the last block's attention, whose N x N matrix is computed for the CLS row. Both give the same numbers, which
is checked. Times are those of `training_step.py`; ways take turns, and medians are printed. Where there is a GPU and no
option is given, a table of H-optimus-0's size follows, in the precision of a run there.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from training_step import clock, vit_s

from tapfm_eval.backbones.cards import CARDS, BackboneCard
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.load import build_backbone
from tapfm_eval.methods.precision import autocast


class TwoForwards(nn.Module):
    """Embedding and CLS attention as two passes of a timm network."""

    def __init__(self, encoder: TileEncoder) -> None:
        super().__init__()
        self.network: VisionTransformer = encoder.network
        self.mean, self.std = encoder.get_buffer("mean"), encoder.get_buffer("std")
        self.prefix = encoder.prefix_tokens

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        x = (tiles.float() - self.mean) / self.std
        z = self.network(x)  # (B, D)
        seen: list[Tensor] = []
        attention = cast(Any, self.network.blocks[-1]).attn
        hook = attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        self.network.forward_features(x)
        hook.remove()
        q, k, _ = attention.qkv(seen[0]).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        whole = (q.float() * attention.scale @ k.float().transpose(2, 3)).softmax(-1)  # (B, h, N, N)
        return z.float(), whole[:, :, 0, self.prefix :].mean(dim=(1, 2))


def rate(way: Callable[[Tensor], tuple[Tensor, Tensor]], tiles: Tensor, batch: int, device: torch.device) -> float:
    """Tiles a second."""
    start = clock(device)
    with torch.no_grad(), autocast(device):
        for part in tiles.split(batch):
            way(part.to(device))
    return len(tiles) / (clock(device) - start)


def table(card: BackboneCard, device: torch.device, count: int, batch: int, times: int) -> None:
    """Prints one table."""
    torch.manual_seed(0)
    with torch.device(device):
        network = build_backbone(card)
    one = TileEncoder(network.eval(), card).requires_grad_(False).to(device)
    two = TwoForwards(one)
    tiles = torch.randint(0, 256, (count, 3, card.tile_px, card.tile_px), dtype=torch.uint8)
    ways: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {"two forwards": two, "one forward": one}
    with torch.no_grad(), autocast(device):  # warm, and the same numbers
        (z, a), (other_z, other_a) = one(tiles[:2].to(device)), two(tiles[:2].to(device))
    tolerance = 1e-3 if device.type == "cpu" else 0.1
    assert torch.allclose(z, other_z, atol=tolerance), float((z - other_z).abs().max())
    assert torch.allclose(a, other_a, rtol=1e-2)
    size = sum(parameter.numel() for parameter in one.parameters()) / 1e6
    print(f"\n{size:.1f} M parameters, {card.tile_px} px, {count} tiles by {batch}, {device}, median of {times}")
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times):
        for name, way in ways.items():
            rates[name].append(rate(way, tiles, batch, device))
    slow = statistics.median(rates["two forwards"])
    print(f"{'way':14} {'tiles/s':>8} {'ratio':>6}")
    for name, values in rates.items():
        print(f"{name:14} {statistics.median(values):8.1f} {statistics.median(values) / slow:6.2f}", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tile-px", type=int, default=112)
    parser.add_argument("--backbone", choices=list(CARDS), help="a card at full size, random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    card = CARDS[options.backbone] if options.backbone else vit_s(options.tile_px)
    table(card, torch.device(options.device), options.tiles, options.batch, options.repetitions)
    if len(sys.argv) == 1 and torch.cuda.is_available():
        table(CARDS["h-optimus-0"], torch.device("cuda"), 2048, 128, options.repetitions)


if __name__ == "__main__":
    main()
