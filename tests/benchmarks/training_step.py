"""One training step of TAPFM by bag size K: joint graph, one pass and two passes side by side, in one run.

    python tests/benchmarks/training_step.py [--tiles 16,32,64] [--micro-batch 8] [--tile-px 80] [--backbone NAME]
                                             [--adapt full|lora|last_blocks] [--device cuda] [--repetitions N]

The default network has ViT-S size (384 wide, 12 blocks, 6 heads) and random weights; `--backbone` takes a card at its
full size instead. On a CPU one thread computes and its own time is taken, so that other work on the machine counts
little; ways take turns, and medians are printed. The joint graph is this project's own forward pass with one graph over
the whole bag; a plain timm network, whose last block computes rows that nobody uses, would be slower. Memory is the
peak of one step above what was held before it, network and gradients among that: resident size in a process of its own
on a CPU, allocated memory on a GPU. The last row shows that two passes need no more for a bag four times as large.

Where there is a GPU and no option is given, tables of H-optimus-0's size follow, at K = 75, 300 and 1000 with the
micro-batch that a probe finds; a bag that does not fit says so.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
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
from tapfm_eval.methods.model import SlideModel
from tapfm_eval.methods.precision import autocast
from tapfm_eval.methods.probe import training_micro_batch
from tapfm_eval.methods.recipe import Recipe, paper_recipe
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.protocol.schema import Adapt, Arm, LastBlocks, Lora, LoraPlan

ADAPTATIONS: dict[str, Adapt] = {
    "full": "full", "lora": Lora(lora=LoraPlan(rank=8)), "last_blocks": LastBlocks(last_blocks=4),
}  # fmt: skip
GPU_TILES = (75, 300, 1000)


def vit_s(tile_px: int) -> BackboneCard:
    """A card of ViT-S size: `uni` made narrower."""
    card = stand_in(CARDS["uni"])
    changed = {"img_size": tile_px, "embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4.0}
    arguments = MappingProxyType(dict(card.timm_arguments) | changed)
    return replace(card, timm_arguments=arguments, dim=384, depth=12, heads=6, tile_px=tile_px)


def clock(device: torch.device) -> float:
    """Seconds: of the wall where a GPU works, of this process's one thread otherwise."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


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

    def probe(self, most: int) -> None:
        """Takes the largest micro-batch that the device holds."""
        model = SlideModel(self.encoder, self.aggregator, self.device)
        recipe: Recipe = paper_recipe(Arm(id="benchmark", backbone="uni", aggregator="tapfm", adapt="full"))
        found = training_micro_batch(model, recipe, most, self.card.tile_px, "benchmark")
        self.micro_batch = found.tiles
        print(f"probe: {found.tiles} tiles at a time, {found.peak_mb:.0f} MB, {found.seconds:.1f} s", flush=True)

    def tiles(self, count: int) -> Tensor:
        edge = self.card.tile_px
        return torch.randint(0, 256, (count, 3, edge, edge), dtype=torch.uint8)

    def joint(self, tiles: Tensor) -> None:
        """What one writes without this project: one graph over the whole bag."""
        with autocast(self.device):
            z, a = self.encoder(tiles.to(self.device))
        self.loss(self.aggregator(z, a).logits).backward()  # type: ignore[no-untyped-call]

    def passes(self, tiles: Tensor, micro_batch: int) -> None:
        adaptation_step(
            self.encoder, self.aggregator, self.loss, tiles, keep=None, micro_batch=micro_batch, lambda_attention=1.0,
            device=self.device, autocast=partial(autocast, self.device),
        )  # fmt: skip

    def ways(self, count: int) -> dict[str, Callable[[Tensor], None]]:
        """Two passes by half the bag at most: a micro-batch that holds it all would take one."""
        part = min(self.micro_batch, max(1, count // 2))
        return {
            "joint": self.joint,
            "one pass": lambda tiles: self.passes(tiles, len(tiles)),
            "two passes": lambda tiles: self.passes(tiles, part),
        }

    def seconds(self, way: Callable[[Tensor], None], tiles: Tensor) -> float:
        self.encoder.zero_grad(set_to_none=False)
        self.aggregator.zero_grad(set_to_none=False)
        start = clock(self.device)
        way(tiles)
        return clock(self.device) - start

    def peak_mb(self, way: Callable[[Tensor], None], tiles: Tensor) -> float | None:
        """Peak memory of one step above what was held before it; None where it does not fit."""
        if self.device.type == "cuda":
            try:
                self.seconds(way, tiles)
                before = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
                self.seconds(way, tiles)
                return (torch.cuda.max_memory_allocated() - before) / 2**20
            except torch.OutOfMemoryError:
                pass
            torch.cuda.empty_cache()
            return None
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


def table(
    card: BackboneCard, adapt: str, device: torch.device, counts: Sequence[int], micro_batch: int | None, times: int
) -> None:
    """Prints one table; without a micro-batch the device is probed."""
    step = Step(card, ADAPTATIONS[adapt], device, micro_batch or 1)
    size = sum(parameter.numel() for parameter in step.encoder.parameters()) / 1e6
    print(f"\n{size:.1f} M parameters, {card.tile_px} px tiles, adapt {adapt}, {device}")
    if micro_batch is None:
        step.probe(max(counts))
    print(f"micro-batch {step.micro_batch}, median of {times} interleaved repetitions")
    print(f"{'K':>5} {'way':12} {'seconds':>8} {'/ joint':>8} {'/ one':>6} {'peak MB':>8} {'/ joint':>8}")
    small = step.tiles(2)
    for way in step.ways(2).values():  # gradients held, buffers and kernels warm for all
        step.seconds(way, small)
    for count in counts:
        tiles = step.tiles(count)
        peaks = {name: step.peak_mb(way, tiles) for name, way in step.ways(count).items()}
        ways = {name: way for name, way in step.ways(count).items() if peaks[name] is not None}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(times):
            for name, way in ways.items():
                taken[name].append(step.seconds(way, tiles))
        medians = {name: statistics.median(values) for name, values in taken.items()}
        for name, peak in peaks.items():
            if peak is None:
                print(f"{count:5} {name:12} out of memory")
                continue
            ratios = [_ratio(medians[name], medians.get(other)) for other in ("joint", "one pass")]
            print(f"{count:5} {name:12} {medians[name]:8.3f} {ratios[0]:>8} {ratios[1]:>6} "
                  f"{peak:8.0f} {_ratio(peak, peaks['joint']):>8}", flush=True)  # fmt: skip
    if device.type == "cpu":
        peak = step.peak_mb(step.ways(4 * counts[-1])["two passes"], step.tiles(4 * counts[-1]))
        print(f"{4 * counts[-1]:5} {'two passes':12} {'':8} {'':8} {'':6} {peak:8.0f}")


def _ratio(value: float, other: float | None) -> str:
    return f"{value / other:.2f}" if other else "-"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", default="16,32,64", help="bag sizes K")
    parser.add_argument("--micro-batch", type=int, default=8, help="0: what a probe finds")
    parser.add_argument("--tile-px", type=int, default=80)
    parser.add_argument("--backbone", choices=list(CARDS), help="a card at full size, random weights")
    parser.add_argument("--adapt", choices=list(ADAPTATIONS), default="full")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    card = CARDS[options.backbone] if options.backbone else vit_s(options.tile_px)
    counts = [int(text) for text in options.tiles.split(",")]
    table(card, options.adapt, torch.device(options.device), counts, options.micro_batch or None, options.repetitions)
    if len(sys.argv) == 1 and torch.cuda.is_available():
        for adapt in ADAPTATIONS:
            table(CARDS["h-optimus-0"], adapt, torch.device("cuda"), GPU_TILES, None, options.repetitions)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
