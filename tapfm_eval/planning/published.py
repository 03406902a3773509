"""Hours and memory as the paper gives them (arXiv 2506.05184), taken apart into what one tile costs.

The paper trained on one H100 with 80 GB, one pass a bag, as many tiles as that card held; which fixes what a tile of
each backbone costs in time, and at most in memory. Its minutes of inference a slide are one constant for reading the
slide and one number of tiles times the forward pass, to a few seconds for all three backbones (`inference_parts`); the
constant is left out, because readers work beside the GPU. Other backbones are scaled from the nearest of the three by
parameters times tokens.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import linear_regression
from types import MappingProxyType

from tapfm_eval.backbones.cards import CARDS, BackboneCard

SOURCE = "the paper's figures (arXiv 2506.05184: one H100 80 GB)"
CARD_GB = 80.0
PAPER_EPOCHS = 20
TRAINED_SHARE = 0.8  # of 2,030 and 8,820 patients, one slide each
PATIENTS = {"BLCA": 2_030, "LUAD": 8_820}
FORWARD = 1 / 3  # of the work of a training step; the backward pass is twice a forward one
BYTES_FULL = 16  # a trained parameter: weight, gradient and AdamW's two moments in float32
BYTES_FROZEN = 4


@dataclass(frozen=True, slots=True)
class PublishedCost:
    """What the paper states of one backbone."""

    tiles: int  # a slide and epoch; filled the card
    hours: Mapping[str, float]  # training, by cohort
    inference_minutes: float  # a slide, all its tiles


PUBLISHED: Mapping[str, PublishedCost] = MappingProxyType({
    "uni": PublishedCost(300, {"BLCA": 12, "LUAD": 52}, 4.85),
    "gigapath": PublishedCost(100, {"BLCA": 21, "LUAD": 98}, 6.38),
    "h-optimus-0": PublishedCost(75, {"BLCA": 24, "LUAD": 102}, 7.15),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class BackboneCost:
    """What one tile, and one slide, of a backbone costs."""

    seconds_per_tile: float  # of full adaptation in one pass
    seconds_per_slide: float  # inference, all tiles, on the GPU alone
    gb_per_tile: float  # activations that the backward pass needs, at most
    source: str


def backbone_cost(card: BackboneCard) -> BackboneCost:
    """The cost of a backbone: the paper's, or scaled from the nearest backbone that the paper used.

    >>> round(1000 * backbone_cost(CARDS["h-optimus-0"]).seconds_per_tile, 1)
    34.8
    """
    name = card.name if card.name in PUBLISHED else min(PUBLISHED, key=lambda known: _distance(card, CARDS[known]))
    stated, reference = PUBLISHED[name], CARDS[name]
    scale = _work(card) / _work(reference)
    seconds = _seconds_per_tile(stated)
    memory = (CARD_GB - reference.parameters * BYTES_FULL / 1e9) / stated.tiles
    activations = _activations(card) / _activations(reference)
    said = SOURCE if name == card.name else f"{SOURCE}, scaled from {name}"
    inference = inference_parts().tiles * FORWARD * seconds
    return BackboneCost(seconds * scale, inference * scale, memory * activations, said)


@dataclass(frozen=True, slots=True)
class InferenceParts:
    """What the paper's minutes a slide are made of."""

    tiles: float  # of a slide
    reading_seconds: float  # of a slide, whatever the backbone


def inference_parts() -> InferenceParts:
    """Tiles and reading time of a slide, by least squares over the three backbones.

    >>> parts = inference_parts()
    >>> round(parts.tiles, -2), round(parts.reading_seconds)
    (13600.0, 271)
    """
    forward = [FORWARD * _seconds_per_tile(stated) for stated in PUBLISHED.values()]
    seconds = [60 * stated.inference_minutes for stated in PUBLISHED.values()]
    fit = linear_regression(forward, seconds)
    return InferenceParts(fit.slope, fit.intercept)


def _seconds_per_tile(stated: PublishedCost) -> float:
    """Of a training step."""
    slide_epochs = sum(TRAINED_SHARE * PATIENTS[cohort] for cohort in stated.hours) * PAPER_EPOCHS
    return 3600 * sum(stated.hours.values()) / (slide_epochs * stated.tiles)


def tokens(card: BackboneCard) -> int:
    """Tokens of one tile: patches, CLS and registers."""
    return (card.tile_px // card.patch_px) ** 2 + card.prefix_tokens


def _work(card: BackboneCard) -> float:
    return float(card.parameters) * tokens(card)


def _activations(card: BackboneCard) -> float:
    return float(card.depth) * card.width * tokens(card)


def _distance(card: BackboneCard, other: BackboneCard) -> float:
    return abs(math.log(_work(card) / _work(other)))
