"""What a report shows of slides: drawn while the slides are at hand, kept as small pictures in the run folder.

Made from the slide's own pyramid; label and macro images are never read. No torch here.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tapfm_eval.errors import RunError, SlideError
from tapfm_eval.methods.attention_store import TileAttention, attention_path, read_attention
from tapfm_eval.report.palette import FRAME, WEIGHT_OPACITY, weight_colour
from tapfm_eval.report.pictures import FOLDER, LIST, CasePictures, Picture, picture, picture_files, pictures_json
from tapfm_eval.results import CaseResult
from tapfm_eval.rundir import RunFolder, write_bytes, write_text
from tapfm_eval.slides.reader import SlideReader, open_slide
from tapfm_eval.slides.tiles import TileGrid

SHOWN_TILES = 4  # strongest, and as many weakest
THUMBNAIL_PX, TILE_PX = 420, 112
QUALITY = 85  # of JPEG
_FRAME_PX = 7  # least edge of the frame round a strong tile


class _CannotDrawError(Exception):
    """Why there can be no picture, in a few words for the report."""


class Slide(Interface):
    """A slide of the study: where it lies and its tiles."""

    @property
    def slide_id(self) -> str: ...

    @property
    def cohort(self) -> str: ...

    @property
    def path(self) -> Path: ...

    @property
    def manifest_mpp(self) -> float | None: ...

    @property
    def grid(self) -> TileGrid: ...


def draw_cases(
    cases: Sequence[CaseResult], slides: Sequence[Slide], folder: RunFolder, advance: Callable[[int], None]
) -> tuple[CasePictures, ...]:
    """Draws the slides of these cases with what their tiles weighed, and writes the pictures into the run folder.

    A slide that cannot be drawn any more, or that came as features, keeps its line with the reason: no study stops
    here. The same slides and weights give the same bytes.
    """
    by_name = {(slide.cohort, slide.slide_id): slide for slide in slides}
    drawn = []
    for case in cases:
        drawn.append(_draw(case, by_name.get((case.cohort, case.slide_id)), folder))
        advance(1)
    place = folder.root / FOLDER
    for pictures in drawn:
        for name, shown in picture_files(pictures).items():
            write_bytes(place / name, shown.data)
    kept = {name for pictures in drawn for name in picture_files(pictures)}
    for old in place.glob("*.jpg"):
        if old.name not in kept:
            old.unlink()
    write_text(place / LIST, pictures_json(drawn))
    return tuple(drawn)


def _draw(case: CaseResult, slide: Slide | None, folder: RunFolder) -> CasePictures:
    if slide is None:
        return _without(case, "the slide is not at hand")
    if slide.path.suffix in (".h5", ".pt"):
        return _without(case, "the study was given features of it, not the slide")
    try:
        weights, models = mean_weights(case, slide.grid, folder)
        if float(weights.max() - weights.min()) < 1e-9:
            return _without(case, "all tiles weigh the same", models, len(weights))
        with open_slide(slide.path, slide_id=slide.slide_id, manifest_mpp=slide.manifest_mpp) as reader:
            return _drawn(case, reader, slide.grid, weights, models)
    except SlideError:
        return _without(case, "the slide cannot be read")
    except RunError:
        return _without(case, "the weights of its tiles are damaged")
    except _CannotDrawError as error:
        return _without(case, str(error))


def _without(case: CaseResult, reason: str, models: int = 0, tiles: int = 0) -> CasePictures:
    return CasePictures(
        case.target, case.call, case.cohort, case.patient_id, case.slide_id, models, tiles, 0, 0.0, (0.0, 0.0), None,
        None, (), (), reason,
    )  # fmt: skip


def mean_weights(case: CaseResult, grid: TileGrid, folder: RunFolder) -> tuple[NDArray[np.float64], int]:
    """The share of each tile (N,) in the order of the grid, averaged over the models that predicted the slide.

    Raises:
        RunError: A file of weights is damaged.
        _CannotDrawError: No model kept its weights, or their tiles are not those of the grid.
    """
    found: list[TileAttention] = []
    for unit in sorted((folder.root / "arms" / case.arm).glob("seed-*/fold-*")):
        path = attention_path(unit, case.cohort, case.slide_id)
        if path.is_file():
            found.append(read_attention(path))
    if not found:
        raise _CannotDrawError("no model kept the weights of its tiles")
    if any(not np.array_equal(kept.coords, grid.xy0) for kept in found):
        raise _CannotDrawError("the weights are of other tiles than the slide's")
    return np.mean([kept.weights.astype(np.float64) for kept in found], axis=0), len(found)


def tiles_of_half(weights: NDArray[np.float64]) -> int:
    """The fewest tiles that together hold half of the weight.

    >>> tiles_of_half(np.array([0.1, 0.6, 0.1, 0.2]))
    1
    """
    ranked = np.sort(weights)[::-1]
    return int(np.searchsorted(np.cumsum(ranked), ranked.sum() / 2 * (1 - 1e-12)) + 1)


def ranked_tiles(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Tiles by ascending weight; equal ones in the order of the grid."""
    return np.argsort(weights, kind="stable")


def _drawn(
    case: CaseResult, reader: SlideReader, grid: TileGrid, weights: NDArray[np.float64], models: int
) -> CasePictures:
    order = ranked_tiles(weights)
    count = min(SHOWN_TILES, len(order) // 2)
    strongest, weakest = order[::-1][:count], order[:count]
    thumbnail = reader.thumbnail(THUMBNAIL_PX)
    return CasePictures(
        case.target, case.call, case.cohort, case.patient_id, case.slide_id, models, len(weights),
        tiles_of_half(weights), round(grid.tile_mpp * grid.plan.tile_px, 1),
        (round(grid.width * grid.mpp / 1000, 1), round(grid.height * grid.mpp / 1000, 1)),
        _jpeg(Image.fromarray(thumbnail)), _jpeg(_overlay(thumbnail, grid, order, strongest)),
        tuple(_tile(reader, grid, i) for i in strongest), tuple(_tile(reader, grid, i) for i in weakest),
    )  # fmt: skip


def _overlay(
    thumbnail: NDArray[np.uint8], grid: TileGrid, order: NDArray[np.int64], strongest: NDArray[np.int64]
) -> Image.Image:
    """The tissue in pale grey under the colours of its tiles' ranks, the strongest framed."""
    grey = np.asarray(Image.fromarray(thumbnail).convert("L"), dtype=np.float64)
    tissue = Image.fromarray((0.6 * grey + 0.4 * 255).astype(np.uint8)).convert("RGB")
    colours = tissue.copy()
    paint = ImageDraw.Draw(colours)
    scale = tissue.width / grid.width
    size = grid.plan.tile_px0 * scale
    for rank, i in enumerate(order):
        x, y = (float(value) * scale for value in grid.xy0[i])
        paint.rectangle(_box(x, y, size), fill=weight_colour(rank / max(1, len(order) - 1)))
    image = Image.blend(tissue, colours, WEIGHT_OPACITY)
    draw = ImageDraw.Draw(image)
    for i in strongest:
        x, y = (float(value) * scale for value in grid.xy0[i])
        grown = max(0.0, _FRAME_PX - size) / 2
        draw.rectangle(_box(x - grown, y - grown, max(size, _FRAME_PX)), outline=FRAME, width=2)
    return image


def _box(x: float, y: float, size: float) -> tuple[int, int, int, int]:
    """Pixels that a square covers, at least one, both ends included as Pillow counts them."""
    left, top = round(x), round(y)
    return left, top, max(left, round(x + size) - 1), max(top, round(y + size) - 1)


def _tile(reader: SlideReader, grid: TileGrid, index: int) -> Picture:
    x0, y0 = (int(value) for value in grid.xy0[index])
    image = Image.fromarray(reader.read_tile(x0, y0, grid.plan))
    return _jpeg(image.resize((TILE_PX, TILE_PX), Image.Resampling.BOX))


def _jpeg(image: Image.Image) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return picture(buffer.getvalue())
