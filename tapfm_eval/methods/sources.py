"""Where bags come from: tiles read from slides for adapted backbones, stored embeddings for frozen ones."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.backbones.features import SlideFeatures, features_path, read_features
from tapfm_eval.errors import Problem, UnreadableSlideError
from tapfm_eval.methods.augment import augment_tiles
from tapfm_eval.methods.spool import HELD_BYTES, HELD_BYTES_BESIDE_GPU, ArrivingTiles, TileSlices
from tapfm_eval.slides.bags import ReadFailure, TileBatch, TileRequest, request_tiles, stream
from tapfm_eval.slides.tiles import TileGrid

READ_CHUNK = 16  # tiles a worker reads at a time


@dataclass(frozen=True, slots=True)
class StudySlide:
    """A slide that can be read: where it lies and which of its tiles count."""

    slide_id: str
    patient_id: str
    cohort: str
    path: Path
    manifest_mpp: float | None
    grid: TileGrid


@dataclass(frozen=True, slots=True)
class Draw:
    """Which tiles of which slide make a bag, in which epoch; epoch 0 is inference."""

    slide_id: str
    indices: NDArray[np.int64]  # (K,), sorted, into the slide's tile grid
    epoch: int


@dataclass(frozen=True, slots=True)
class TileBag:
    """A bag for an encoder."""

    draw: Draw
    tiles: TileSlices  # (K, 3, H, W) uint8 by slices; good until the next bag is asked for


@dataclass(frozen=True, slots=True)
class FeatureBag:
    """A bag as a frozen encoder has described it."""

    draw: Draw
    z: Tensor  # (K, D) embeddings
    a: Tensor  # (K,) raw attention


Bag = TileBag | FeatureBag


class BagSource(Protocol):
    """Gives bags in the order of the draws asked for."""

    def bags(self, draws: Iterable[Draw]) -> Iterator[Bag]:
        """One bag per draw. Draws may be a generator over many epochs: it is read a few bags ahead, no further."""
        ...


def all_tiles(slide: StudySlide, chunk: int) -> list[Draw]:
    """Draws that cover every tile of a slide once, at most `chunk` at a time."""
    count = len(slide.grid.xy0)
    return [Draw(slide.slide_id, np.arange(i, min(i + chunk, count)), 0) for i in range(0, count, chunk)]


def _tiles_of(item: TileBatch | ReadFailure) -> Tensor:
    if isinstance(item, ReadFailure):
        raise UnreadableSlideError(
            item.request.slide_id,
            Problem(str(item.request.path), "tiles that can still be read", item.message,
                    "Check the slide and its storage; the same command resumes."),
        )  # fmt: skip
    return item.tiles


def _augment(tiles: Tensor, request: TileRequest, seed: int) -> Tensor:
    return augment_tiles(tiles, request.indices, seed, int(str(request.key)), request.slide_id)


def held_bytes_for(device: torch.device) -> int:
    """How much of a bag stays in the host's memory, before the rest goes to a file, when it is for this device."""
    return HELD_BYTES if device.type == "cpu" else HELD_BYTES_BESIDE_GPU


@dataclass(frozen=True, slots=True)
class TileSource:
    """Reads tiles from slides with worker processes."""

    slides: Mapping[str, StudySlide]  # by slide_id
    workers: int
    augment_seed: int | None  # None: tiles as they are
    held_bytes: int = HELD_BYTES  # a bag of more is kept in a temporary file between the passes

    def bags(self, draws: Iterable[Draw]) -> Iterator[TileBag]:
        """One bag of uint8 tiles per draw, each good until the next is asked for.

        Workers read `READ_CHUNK` tiles at a time, so that several work on one bag and none ever holds a whole one.

        Raises:
            UnreadableSlideError: A slide that was readable when its tiles were laid no longer is.
        """
        under_way: deque[Draw] = deque()

        def requests() -> Iterator[TileRequest]:
            for draw in draws:
                slide = self.slides[draw.slide_id]
                under_way.append(draw)
                assert len(draw.indices), "a slide without tiles has failed before"
                for start in range(0, len(draw.indices), READ_CHUNK):
                    yield request_tiles(
                        slide.grid, slide.path, draw.indices[start : start + READ_CHUNK],
                        manifest_mpp=slide.manifest_mpp, key=draw.epoch,
                    )  # fmt: skip

        transform = None if self.augment_seed is None else partial(_augment, seed=self.augment_seed)
        arriving = map(_tiles_of, stream(requests(), workers=self.workers, transform=transform))
        # the first chunk is asked for before its draw is known: reading it is what takes the draw
        for first in arriving:
            draw = under_way.popleft()
            tiles = ArrivingTiles(len(draw.indices), chain([first], arriving), self.held_bytes)
            try:
                yield TileBag(draw, tiles)
            finally:
                tiles.close()
            tiles.finish()


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Reads what a frozen backbone said of the tiles."""

    roots: Mapping[str, Path]  # slide_id -> folder of the store that holds it
    card: BackboneCard

    def bags(self, draws: Iterable[Draw]) -> Iterator[FeatureBag]:
        """One bag of embeddings and attention per draw."""
        last: tuple[str, SlideFeatures] | None = None  # chunks of a slide follow each other
        for draw in draws:
            if last is None or last[0] != draw.slide_id:
                path = features_path(self.roots[draw.slide_id], draw.slide_id)
                last = (draw.slide_id, read_features(path, self.card))
            stored = last[1]
            z, a = stored.features[draw.indices], stored.attention[draw.indices]
            yield FeatureBag(draw, torch.from_numpy(z), torch.from_numpy(a))
