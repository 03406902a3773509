"""What a study keeps on disk, and what it reads: files and bytes, from the formats as they are written."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.planning.costs import ArmCost, EmbeddingCost, slide_count
from tapfm_eval.planning.published import inference_parts
from tapfm_eval.stages.graph import Graph

BYTES_GRID = 2 * 8 + 4  # a tile: x and y, its share of tissue
BYTES_FEATURES = 2 * 8 + 4  # a tile, beside its embedding: x and y, attention
BYTES_ATTENTION = 2 * 8 + 2 * 4  # a tile: x and y, attention and weight
BYTES_WEIGHT = 4
BYTES_CHECKPOINT = 2 * 3 * 4 + 2 * 4  # a trained parameter: two checkpoints with AdamW's moments, and two best epochs
BYTES_SMALL = 300  # a lock or a log
SLIDE_GB = 0.78  # mean of the 531 diagnostic slides of TCGA-LUAD in its manifest
CORE_TILES_PER_SECOND = 190  # read and decoded by one core; docs/benchmarks.md


@dataclass(frozen=True, slots=True)
class Stored:
    """One kind of file that a study needs or keeps."""

    what: str
    files: int
    gigabytes: float  # of 1e9 bytes
    until: str  # how long they are needed


@dataclass(frozen=True, slots=True)
class Reading:
    """What one kind of work reads, and how fast, so that its GPU never waits."""

    what: str  # an arm, or a backbone on a cohort
    tiles: float  # read from slides, in all
    tiles_per_second: float  # for each GPU that is at it; NaN where its hours are not planned
    terabytes: float  # read from storage in all, of slides or of embeddings
    megabytes_per_second: float  # from storage, for each GPU
    cores: float  # that read and decode, for each GPU


def tiles_of_a_slide() -> float:
    """Tiles of a slide that are assumed: what the paper's minutes of inference imply."""
    return inference_parts().tiles


def slide_gigabytes(cohort: Cohort) -> float:
    """Size of a slide's file: the mean that the manifest states, else that of TCGA-LUAD."""
    table = cohort.manifest.table
    stated = pd.to_numeric(table["size"], errors="coerce") if "size" in table else pd.Series(dtype=float)
    stated = stated[(stated > 0) & (stated < 1e13)]
    return SLIDE_GB if stated.empty else float(stated.mean()) / 1e9


def stored(
    graph: Graph, cohorts: Mapping[str, Cohort], cards: Mapping[str, BackboneCard], arms: Sequence[ArmCost],
    embeddings: Sequence[EmbeddingCost],
) -> tuple[Stored, ...]:  # fmt: skip
    """What is to be kept: the slides, then everything in the run folder."""
    tiles = tiles_of_a_slide()
    slides = sum(map(slide_count, cohorts.values()))
    found = [
        Stored("slides", slides, sum(slide_count(c) * slide_gigabytes(c) for c in cohorts.values()), "the end"),
        Stored("tile grids", slides, slides * tiles * BYTES_GRID / 1e9, "the end"),
    ]
    for name in dict.fromkeys(embedding.backbone for embedding in embeddings):
        size = tiles * embedding_bytes(cards[name]) / 1e9
        found.append(Stored(f"embeddings of {name}", slides, slides * size, "the end; may lie elsewhere"))
    predicted = sum(unit.predicted_slides for arm in arms for unit in arm.units)
    results = sum(len(unit.outputs) for unit in graph if unit.stage in ("train", "predict"))
    weights = sum(len(arm.units) * arm.trained_parameters for arm in arms) * BYTES_WEIGHT / 1e9
    found += [
        Stored("attention to predicted tiles", predicted, predicted * tiles * BYTES_ATTENTION / 1e9, "the end"),
        Stored("weights, histories, predictions", results, weights, "the end"),
        Stored("locks, and logs under Ray", 2 * len(graph), 2 * len(graph) * BYTES_SMALL / 1e9, "the end"),
    ]
    checkpoints = [
        Stored(f"checkpoints of a unit of {arm.arm}", 6, arm.trained_parameters * BYTES_CHECKPOINT / 1e9,
               "its training ends")
        for arm in arms if arm.trained_parameters
    ]  # fmt: skip
    largest = max(checkpoints, key=lambda one: one.gigabytes, default=None)
    return (*found, *([] if largest is None else [largest]))


def readings(
    cohorts: Mapping[str, Cohort], cards: Mapping[str, BackboneCard], arms: Sequence[ArmCost],
    embeddings: Sequence[EmbeddingCost],
) -> tuple[Reading, ...]:  # fmt: skip
    """What embeddings and arms read."""
    return (*_embedding_readings(cohorts, embeddings), *_arm_readings(cohorts, cards, arms))


def embedding_bytes(card: BackboneCard) -> int:
    """Of one tile in a store."""
    return 4 * card.dim + BYTES_FEATURES


def _embedding_readings(cohorts: Mapping[str, Cohort], embeddings: Sequence[EmbeddingCost]) -> Iterator[Reading]:
    for embedding in embeddings:
        tiles = embedding.slides * tiles_of_a_slide()
        terabytes = embedding.slides * slide_gigabytes(cohorts[embedding.cohort]) / 1e3
        yield _reading(f"{embedding.backbone} on {embedding.cohort}", tiles, terabytes, embedding.hours)


def _arm_readings(
    cohorts: Mapping[str, Cohort], cards: Mapping[str, BackboneCard], arms: Sequence[ArmCost]
) -> Iterator[Reading]:
    sizes = [(slide_count(cohort), slide_gigabytes(cohort)) for cohort in cohorts.values()]
    mean = sum(count * size for count, size in sizes) / max(1, sum(count for count, _ in sizes))
    for arm in arms:
        whole = sum(unit.whole_slides for unit in arm.units) * tiles_of_a_slide()
        if arm.adapt == "frozen":
            terabytes = whole * embedding_bytes(cards[arm.backbone]) / 1e12
            hours = arm.hours
            rate = terabytes * 1e6 / (3600 * hours) if hours else math.nan
            yield Reading(arm.arm, 0.0, 0.0 if hours else math.nan, terabytes, rate, 0.0 if hours else math.nan)
            continue
        tiles = whole + sum(unit.drawn_tiles for unit in arm.units)
        yield _reading(arm.arm, tiles, tiles * mean / tiles_of_a_slide() / 1e3, arm.hours)


def _reading(what: str, tiles: float, terabytes: float, hours: float) -> Reading:
    if not hours:
        return Reading(what, tiles, math.nan, terabytes, math.nan, math.nan)
    rate = tiles / (3600 * hours)
    return Reading(what, tiles, rate, terabytes, terabytes * 1e6 / (3600 * hours), rate / CORE_TILES_PER_SECOND)
