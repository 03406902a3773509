"""The micro-batch that an arm runs with: what the protocol states, what a GPU was found to hold, or a CPU's number.

A GPU is probed once for each arm; the journal keeps what was found, so that a resumed run takes it from there.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from tapfm_eval.methods.model import SlideModel
from tapfm_eval.methods.probe import MicroBatch, inference_micro_batch, training_micro_batch
from tapfm_eval.methods.recipe import Recipe, states_micro_batch
from tapfm_eval.protocol.schema import Arm
from tapfm_eval.rundir import RunFolder

if TYPE_CHECKING:
    from tapfm_eval.stages.units import StudyData

FOUND = "micro-batch found"


def settled_for_training(data: "StudyData", arm: Arm, model: SlideModel, recipe: Recipe) -> Recipe:
    """The recipe with the micro-batch that the arm trains and predicts with on this device.

    Raises:
        StudyError: The GPU does not hold a single tile.
    """
    if model.encoder is None or not _is_probed(data, arm):
        return recipe
    counts = [len(slide.grid) for slide in data.of(data.protocol.development)]
    most = min(arm.tiles_per_slide or max(counts), max(counts))
    what = f"training {arm.id}"
    if data.ranks is not None:  # each takes its share of a bag: more than that would be tried in vain
        most = -(-most // data.ranks.world)
        what += f" over {data.ranks.world} processes"
    return _settled(
        data, what, recipe,
        lambda: training_micro_batch(model, recipe, most, data.protocol.tiles.tile_px, f"arm {arm.id}"),
    )  # fmt: skip


def settled_for_embedding(data: "StudyData", arm: Arm, model: SlideModel, recipe: Recipe) -> Recipe:
    """The recipe with the micro-batch that a frozen arm's backbone embeds with on this device.

    Raises:
        StudyError: The GPU does not hold a single tile.
    """
    if not _is_probed(data, arm):
        return recipe
    what, tile_px = f"embedding with {arm.backbone}", data.protocol.tiles.tile_px
    return _settled(data, what, recipe, lambda: inference_micro_batch(model, tile_px, what))


def _is_probed(data: "StudyData", arm: Arm) -> bool:
    return has_own_memory(data.device) and not states_micro_batch(data.protocol, arm)


def has_own_memory(device: torch.device) -> bool:
    """Whether a device may run out of memory without harm to the machine."""
    return device.type == "cuda"


def _settled(data: "StudyData", what: str, recipe: Recipe, probe: Callable[[], MicroBatch]) -> Recipe:
    device = _name(data.device)
    tiles = _kept(data.folder, what, device)
    if tiles is None:
        found = probe()
        data.folder.journal(
            FOUND, what=what, device=device, tiles=found.tiles, seconds=round(found.seconds, 1),
            peak_mb=round(found.peak_mb),
        )  # fmt: skip
        # processes that probed at the same time take the first one's number, as their chunks of a slide must agree
        tiles = _kept(data.folder, what, device) or found.tiles
    return replace(recipe, micro_batch=tiles)


def _kept(folder: RunFolder, what: str, device: str) -> int | None:
    """What the journal says of this device; the first word counts, so that all folds of an arm agree."""
    for event in folder.events():
        tiles, about = event.get("tiles"), (event.get("what"), event.get("device"))
        if event["event"] == FOUND and about == (what, device) and isinstance(tiles, int) and tiles >= 1:
            return tiles
    return None


def _name(device: torch.device) -> str:
    """The kind of GPU, with its memory: another kind is probed anew."""
    if device.type != "cuda":
        return str(device)
    facts = torch.cuda.get_device_properties(device)
    return f"{facts.name}, {facts.total_memory / 2**30:.0f} GB"
