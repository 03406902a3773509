"""How many tiles a GPU takes at a time: tried once for an arm, before it trains; a CPU takes a fixed number.

The number changes no result beyond rounding. A larger one is a little faster, and one that holds the whole bag saves
the second pass.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.errors import StudyError
from tapfm_eval.methods.adapt import DEVICE_SHARE, adaptation_step, usable_memory
from tapfm_eval.methods.losses import SlideLoss, TargetWeights
from tapfm_eval.methods.model import SlideModel
from tapfm_eval.methods.randomness import depth_keep
from tapfm_eval.methods.recipe import Recipe

USABLE = 0.9  # share of a GPU's free memory that an attempt may fill; the rest is for fragments and longer bags
MOST_AT_INFERENCE = 256  # more at a time makes no GPU faster
COPIES = 3  # of the trained parameters: two moments of AdamW, and what its step holds for a moment


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What a probe found."""

    tiles: int
    seconds: float  # that it took
    peak_mb: float  # of the largest attempt that fitted; 0 on a CPU


def largest_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` for which `fits` holds, to an eighth; 0 where not even 1 does.

    >>> largest_that_fits(lambda n: n <= 37, 300), largest_that_fits(lambda n: True, 75)
    (36, 75)
    """
    good, bad = 0, most + 1
    while good < most:
        tried = min(max(1, good * 2), most)
        if not fits(tried):
            bad = tried
            break
        good = tried
    while bad - good > max(1, good // 8):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def training_micro_batch(model: SlideModel, recipe: Recipe, most: int, tile_px: int, where: str) -> MicroBatch:
    """The largest micro-batch with which `model` can be trained on its device; leaves the model as it was.

    Attempts are real steps on grey tiles, beside memory as large as the optimizer will take.

    Args:
        model: A model whose backbone trains.
        recipe: How it is going to be trained.
        most: Tiles of the largest bag, or of this process's share of it: a micro-batch that holds all needs one pass.
        tile_px: Edge of a tile.
        where: Names the arm, for messages.

    Raises:
        StudyError: A single tile is too much for the GPU.
    """
    encoder = model.encoder
    assert encoder is not None
    targets = _targets(model)
    weights = TargetWeights((0.5,) * targets, (1.0,) * targets)
    loss_of = SlideLoss(torch.ones(targets, device=model.device), weights, recipe.label_smoothing)

    def attempt(count: int) -> None:
        bag = count if count >= most else min(2 * count, most)  # more than one micro-batch takes two passes
        held = _held(encoder, most, tile_px, model.device)
        adaptation_step(
            encoder, model.aggregator, loss_of, _tiles(bag, tile_px),
            keep=depth_keep(np.arange(bag), encoder.depth, recipe.drop_path, "probe"),
            micro_batch=count, lambda_attention=recipe.lambda_attention, device=model.device, autocast=model.autocast,
        )  # fmt: skip
        del held

    def clear() -> None:
        for _, module in model.modules():
            module.zero_grad(set_to_none=True)

    for _, module in model.modules():
        module.train()
    return _probe(attempt, clear, most, model.device, where)


def inference_micro_batch(model: SlideModel, tile_px: int, where: str) -> MicroBatch:
    """The largest micro-batch, up to `MOST_AT_INFERENCE`, that a model encodes on its device.

    Raises:
        StudyError: A single tile is too much for the GPU.
    """
    encoder = model.encoder
    assert encoder is not None

    def attempt(count: int) -> None:
        with torch.no_grad(), model.autocast():
            encoder(_tiles(count, tile_px).to(model.device))

    return _probe(attempt, lambda: None, MOST_AT_INFERENCE, model.device, where)


def _probe(
    attempt: Callable[[int], None], clear: Callable[[], None], most: int, device: torch.device, where: str
) -> MicroBatch:
    started, peaks = time.monotonic(), [0.0]

    def fits(count: int) -> bool:
        share, peak_mb = 0.0, 0.0
        try:
            budget = _free(device)
            attempt(count)
            share, peak_mb = _peak(device, budget)
        except torch.OutOfMemoryError:
            share = float("inf")
        # only now, with the error and the frames that it held gone, does the memory come back
        if share == float("inf"):
            gc.collect()
        clear()
        _give_back(device)
        if share <= USABLE:
            peaks.append(peak_mb)
        return share <= USABLE

    found = largest_that_fits(fits, most)
    if found == 0:
        raise StudyError(
            f"{where}: the memory of {device} does not hold a single tile of this backbone. "
            "Adapt less of it (`adapt: {last_blocks: N}` or `{lora: {rank: 8}}`), or use a larger GPU."
        )
    return MicroBatch(found, time.monotonic() - started, peaks[-1])


def _targets(model: SlideModel) -> int:
    with torch.no_grad():
        like = next(model.aggregator.parameters())
        assert model.encoder is not None
        z = torch.zeros(1, model.encoder.dim, dtype=like.dtype, device=like.device)
        return len(model.aggregator(z, z[:, 0]).logits)


def _tiles(count: int, edge: int) -> torch.Tensor:
    return torch.full((count, 3, edge, edge), 128, dtype=torch.uint8)


def _held(encoder: TileEncoder, most: int, tile_px: int, device: torch.device) -> list[torch.Tensor]:
    """Memory that a training holds beside a step: the optimizer's, and the output of frozen blocks where it stays."""
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    held = [torch.empty_like(parameter) for parameter in trained for _ in range(COPIES)]
    if device.type == "cuda" and encoder.first_trained_block > 0:
        network = encoder.network
        patches = (tile_px // int(network.patch_embed.patch_size[0])) ** 2
        kept = most * (patches + encoder.prefix_tokens) * int(network.embed_dim) * 4
        if kept < DEVICE_SHARE * usable_memory(device):
            held.append(torch.empty(kept, dtype=torch.uint8, device=device))
    return held


def _free(device: torch.device) -> float:
    """Bytes that this process may use: what is free, and what it holds in reserve already."""
    if device.type != "cuda":
        return float("inf")
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return float(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))


def _peak(device: torch.device, budget: float) -> tuple[float, float]:
    """The most that was held since `_free`: as a share of the budget, and in MB."""
    if device.type != "cuda":
        return 0.0, 0.0
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_reserved(device)
    return peak / budget, peak / 2**20


def _give_back(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
