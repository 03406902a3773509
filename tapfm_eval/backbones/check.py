"""Does a backbone load on this machine, and bringing its weights to a folder for machines without a network."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.backbones.load import cached_weights, count_parameters, hub_weights, load_backbone
from tapfm_eval.errors import BackboneError, Problem


@dataclass(frozen=True, slots=True)
class BackboneCheck:
    """What is known of one backbone on this machine."""

    name: str
    parameters: int  # of the network that timm builds
    builds: bool  # as many as its card states
    weights: str | None  # the file that was loaded, None where there is none
    loads: bool  # every tensor of that file fits
    problem: str | None  # what stands in the way


def check_backbone(card: BackboneCard, *, weights: Path | None, ask_hub: bool) -> BackboneCheck:
    """Builds a card's network and loads its weights, if they are at hand.

    Args:
        card: What to check.
        weights: A local checkpoint; None looks into the hub's local cache.
        ask_hub: Download what is in neither; without a network this fails within seconds.
    """
    parameters = count_parameters(card)
    builds = parameters == card.parameters
    if not builds:
        return BackboneCheck(card.name, parameters, builds, None, loads=False,
                             problem=f"the card states {card.parameters:,} parameters")  # fmt: skip
    path = weights if weights is not None else cached_weights(card)
    try:
        if path is None and ask_hub:
            path = hub_weights(card)
        if path is None:
            return BackboneCheck(card.name, parameters, builds, None, loads=False, problem=None)
        load_backbone(card, weights=path, seed=0)
    except BackboneError as error:
        said = None if path is None else str(path)
        return BackboneCheck(card.name, parameters, builds, said, loads=False, problem=str(error))
    return BackboneCheck(card.name, parameters, builds, str(path), loads=True, problem=None)


def fetch_weights(card: BackboneCard, folder: Path) -> Path:
    """Brings a backbone's weights into a folder, whole or not at all, once they have been seen to fit its network.

    Raises:
        BackboneError: They cannot be had, do not fit, or cannot be written.
    """
    path = hub_weights(card)
    load_backbone(card, weights=path, seed=0)
    target = folder / f"{card.name}{path.suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{target.name}.", suffix=".tmp")
        os.close(handle)
        try:
            shutil.copyfile(path, temporary)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(target)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise BackboneError(
            Problem(f"--to {folder}", "a folder that can be written", error.strerror or str(error), "Free space there.")
        ) from None
    return target
