"""One training step of TAPFM by bag size K: joint graph, one pass and two passes side by side, in one run.

    python tests/benchmarks/training_step.py [--tiles 16,32] [--micro-batch 8] [--tile-px 80] [--backbone NAME]
                                             [--adapt full|lora|last_blocks] [--device cuda] [--repetitions N]

The default network has ViT-S size (384 wide, 12 blocks, 6 heads) and random weights; `--backbone` takes a card at its
full size instead. Ways take turns, so that a busy machine hurts all of them alike; medians are printed. Memory is the
peak of one step above what was held before it, network and gradients among that: resident size in a process of its own
on a CPU, allocated memory on a GPU. The last row shows that two passes need no more for a bag four times as large.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection
from types import MappingProxyType

import torch
from torch import Tensor

from tapfm_eval.backbones.cards import CARDS, BackboneCard, stand_in
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.load import build_backbone
from tapfm_eval.methods.adapt import adaptation_step
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.losses import SlideLoss, TargetWeights
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.protocol.schema import Adapt, LastBlocks, Lora, LoraPlan

ADAPTATIONS: dict[str, Adapt] = {
    "full": "full", "lora": Lora(lora=LoraPlan(rank=8)), "last_blocks": LastBlocks(last_blocks=4),
}  # fmt: skip


def vit_s(tile_px: int) -> BackboneCard:
    """A card of ViT-S size: `uni` made narrower."""
    card = stand_in(CARDS["uni"])
    changed = {"img_size": tile_px, "embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4.0}
    arguments = MappingProxyType(dict(card.timm_arguments) | changed)
    return replace(card, timm_arguments=arguments, dim=384, depth=12, heads=6, tile_px=tile_px)


class Step:
    """An encoder, an aggregator and the three ways of getting their gradients for one slide."""

    def __init__(self, card: BackboneCard, adapt: Adapt, device: torch.device, micro_batch: int) -> None:
        torch.manual_seed(0)
        self.device, self.micro_batch, self.card = device, micro_batch, card
        with torch.device(device):
            network = build_backbone(card)
        self.encoder = TileEncoder(network, card).to(device)
        adapt_encoder(self.encoder, adapt, "benchmark", 0)
        self.encoder.to(device)
        self.aggregator = Tapfm(card.dim, 4, temperature=0.1, layer_norm=True).to(device)
        labels = torch.tensor([1.0, 0.0, 1.0, 0.0], device=device)
        self.loss = SlideLoss(labels, TargetWeights((0.2, 0.3, 0.4, 0.5), (1.0, 1.0, 1.0, 1.0)), 0.1)

    def autocast(self) -> "torch.autocast | nullcontext[None]":
        bf16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.autocast("cuda", dtype=torch.bfloat16) if bf16 else nullcontext()

    def tiles(self, count: int) -> Tensor:
        edge = self.card.tile_px
        return torch.randint(0, 256, (count, 3, edge, edge), dtype=torch.uint8)

    def joint(self, tiles: Tensor) -> None:
        """What one writes without this project: one graph over the whole bag."""
        with self.autocast():
            z, a = self.encoder(tiles.to(self.device))
        self.loss(self.aggregator(z, a).logits).backward()  # type: ignore[no-untyped-call]

    def passes(self, tiles: Tensor, micro_batch: int) -> None:
        adaptation_step(
            self.encoder, self.aggregator, self.loss, tiles, keep=None, micro_batch=micro_batch, lambda_attention=1.0,
            device=self.device, autocast=self.autocast,
        )  # fmt: skip

    def ways(self) -> dict[str, Callable[[Tensor], None]]:
        return {
            "joint": self.joint,
            "one pass": lambda tiles: self.passes(tiles, len(tiles)),
            "two passes": lambda tiles: self.passes(tiles, self.micro_batch),
        }

    def seconds(self, way: Callable[[Tensor], None], tiles: Tensor) -> float:
        self.encoder.zero_grad(set_to_none=False)
        self.aggregator.zero_grad(set_to_none=False)
        start = time.perf_counter()
        way(tiles)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def peak_mb(self, way: Callable[[Tensor], None], tiles: Tensor) -> float:
        """Peak memory of one step above what was held before it."""
        if self.device.type == "cuda":
            self.seconds(way, tiles)
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self.seconds(way, tiles)
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        context = multiprocessing.get_context("fork")  # the copy starts with what is held now, and its own peak
        here, there = context.Pipe()
        child = context.Process(target=self._measure, args=(there, way, tiles))
        child.start()
        there.close()
        grown = float(here.recv())
        child.join()
        return grown

    def _measure(self, connection: Connection, way: Callable[[Tensor], None], tiles: Tensor) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.seconds(way, tiles)
        connection.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", default="16,32", help="bag sizes K")
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--tile-px", type=int, default=80)
    parser.add_argument("--backbone", choices=list(CARDS), help="a card at full size, random weights")
    parser.add_argument("--adapt", choices=list(ADAPTATIONS), default="full")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    card = CARDS[options.backbone] if options.backbone else vit_s(options.tile_px)
    step = Step(card, ADAPTATIONS[options.adapt], torch.device(options.device), options.micro_batch)
    size = sum(parameter.numel() for parameter in step.encoder.parameters()) / 1e6
    print(f"{size:.1f} M parameters, {card.tile_px} px tiles, adapt {options.adapt}, {options.device}")
    print(f"micro-batch {options.micro_batch}, median of {options.repetitions} interleaved repetitions")
    print(f"{'K':>5} {'way':12} {'seconds':>8} {'ratio':>6} {'peak MB':>8} {'ratio':>6}")
    counts = [int(text) for text in options.tiles.split(",")]
    for way in step.ways().values():  # gradients held, buffers and kernels warm for all
        step.seconds(way, step.tiles(counts[0]))
    for count in counts:
        tiles, ways = step.tiles(count), step.ways()
        peaks = {name: step.peak_mb(way, tiles) for name, way in ways.items()}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.repetitions):
            for name, way in ways.items():
                times[name].append(step.seconds(way, tiles))
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name in ways:
            print(f"{count:5} {name:12} {medians[name]:8.3f} {medians[name] / medians['joint']:6.2f} "
                  f"{peaks[name]:8.0f} {peaks[name] / max(peaks['joint'], 1e-9):6.2f}", flush=True)  # fmt: skip
    peak = step.peak_mb(step.ways()["two passes"], step.tiles(4 * counts[-1]))
    print(f"{4 * counts[-1]:5} {'two passes':12} {'':8} {'':6} {peak:8.0f}")


if __name__ == "__main__":
    main()
