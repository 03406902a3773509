"""A study in memory: slides that are arrays, patients whose label is planted in a share of their tiles."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapfm_eval.methods.recipe import Recipe
from tapfm_eval.methods.sources import Draw, FeatureBag, StudySlide, TileBag
from tapfm_eval.methods.unit import TrainingData
from tapfm_eval.slides.reader import TilePlan
from tapfm_eval.slides.tiles import TileGrid, TileSpec

DIM = 16
RECIPE = Recipe(
    epochs=6, lr_backbone=1e-3, lr_aggregator=1e-2, weight_decay=1e-4, restart_epochs=10, label_smoothing=0.1,
    lambda_attention=1.0, temperature=0.1, layer_norm=True, drop_path=0.0, augment=False, micro_batch=4,
    restart_growth=2, fused_attention=True, compile_blocks=False,
)  # fmt: skip


def study_slide(slide_id: str, patient_id: str, tiles: int) -> StudySlide:
    """A slide that has a grid and no file."""
    grid = TileGrid(
        slide_id=slide_id, fingerprint="f", width=100, height=100, mpp=0.5, mpp_source="slide", objective=20.0,
        spec=TileSpec(0.5, 48, 0.5), plan=TilePlan(0, 48, 48, 48), xy0=np.zeros((tiles, 2), np.int64),
        tissue=np.ones(tiles, np.float32), positions=tiles, thumbnail_tissue=1.0,
    )  # fmt: skip
    return StudySlide(slide_id, patient_id, "dev", Path(f"{slide_id}.svs"), None, grid)


@dataclass
class FeatureStore:
    """Gives embeddings from memory, and remembers which draws were asked for."""

    z: Mapping[str, Tensor]
    a: Mapping[str, Tensor]
    asked: list[Draw] = field(default_factory=list)

    def bags(self, draws: Iterable[Draw]) -> Iterator[FeatureBag]:
        for draw in draws:
            self.asked.append(draw)
            yield FeatureBag(draw, self.z[draw.slide_id][draw.indices], self.a[draw.slide_id][draw.indices])


@dataclass
class TileStore:
    """Gives tiles from memory."""

    tiles: Mapping[str, Tensor]

    def bags(self, draws: Iterable[Draw]) -> Iterator[TileBag]:
        for draw in draws:
            yield TileBag(draw, self.tiles[draw.slide_id][draw.indices])


def labels_of(patients: Sequence[str], targets: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Half of the patients positive for each target, a tenth unknown."""
    rng = np.random.default_rng(seed)
    table = np.array([rng.permutation(np.arange(len(patients)) % 2) for _ in range(targets)], dtype=float).T
    table[rng.random(table.shape) < 0.1] = np.nan
    return dict(zip(patients, table, strict=True))


def toy_data(train: int = 40, validation: int = 20, *, targets: int = 2, tiles: int = 6, seed: int = 0) -> TrainingData:
    """Patients P000 ...; every fifth has a second slide."""
    patients = [f"P{i:03d}" for i in range(train + validation)]
    slides = {p: [study_slide(f"{p}-{j}", p, tiles + i % 3) for j in range(2 if i % 5 == 0 else 1)]
              for i, p in enumerate(patients)}  # fmt: skip
    labels = labels_of(patients[:train], targets, seed) | labels_of(patients[train:], targets, seed + 1)
    names = tuple(f"T{j}" for j in range(targets))
    return TrainingData(
        targets=names, selecting=names,
        train=tuple(s for p in patients[:train] for s in slides[p]),
        validation=tuple(s for p in patients[train:] for s in slides[p]),
        labels=labels, tiles_per_slide=4, min_per_class=3, ties=("validation_loss", "earliest"),
    )  # fmt: skip


def feature_store(data: TrainingData, *, signal: float, seed: int = 0) -> FeatureStore:
    """Target j shifts dimension j of the tiles that the backbone attends to; the others are noise."""
    z, a = {}, {}
    for i, slide in enumerate((*data.train, *data.validation)):
        rng = np.random.default_rng([seed, i])
        count = len(slide.grid)
        features, relevant = rng.standard_normal((count, DIM)), np.arange(count) % 2 == 0
        for j, label in enumerate(np.nan_to_num(data.labels[slide.patient_id])):
            features[relevant, j] += signal * (2 * label - 1)
        z[slide.slide_id] = torch.from_numpy(features).float()
        a[slide.slide_id] = torch.from_numpy(1 / 196 + 1e-5 * relevant + 1e-7 * rng.random(count)).float()
    return FeatureStore(z, a)
