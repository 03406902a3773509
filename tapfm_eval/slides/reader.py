"""A whole-slide image at a known scale: OpenSlide behind level-0 coordinates, micrometres per pixel or a refusal."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from tapfm_eval.errors import Problem, SlideError

MPP_PLAUSIBLE = (0.05, 20.0)  # µm per pixel; 72 dpi, the habit of ordinary TIFF writers, would be 353
MPP_TOLERANCE = 0.05  # slide against manifest, and a pyramid level against the protocol
MPP_ANISOTROPY = 0.02  # largest relative difference between x and y
_STRIP_BYTES = 64 * 2**20  # a thumbnail is read in strips no larger than this, whatever the slide's pyramid

# What OpenSlide and Pillow raise for damaged data; anything else is a fault of ours and is not dressed up as a slide's.
_READ_ERRORS = (openslide.OpenSlideError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """What is known of an opened slide; pixels of level 0 unless said otherwise."""

    slide_id: str
    path: Path
    width: int  # level 0
    height: int
    mpp: float  # micrometres per level-0 pixel, mean of x and y
    mpp_source: Literal["slide", "manifest"]
    objective: float | None  # nominal magnification; information only, a scale is never derived from it
    level_dimensions: tuple[tuple[int, int], ...]  # (width, height) of each level, level 0 first
    level_downsamples: tuple[float, ...]
    vendor: str | None  # OpenSlide's name of the format: aperio, generic-tiff, ...
    size_bytes: int
    quickhash: str | None  # OpenSlide's hash of the smallest level and the metadata; None where it has none

    @property
    def fingerprint(self) -> str:
        """Tells this slide's file from another in its place: the quick hash if there is one, else the size."""
        return self.quickhash if self.quickhash is not None else f"{self.size_bytes} bytes"


@dataclass(frozen=True, slots=True)
class TilePlan:
    """How one tile is cut out of a slide: read `size_level` pixels at `level`, resize to `tile_px`."""

    level: int  # pyramid level
    size_level: int  # edge in pixels of that level
    tile_px0: int  # edge in level-0 pixels
    tile_px: int  # edge in pixels of the tile that the model sees


class SlideReader:
    """An open slide. Locations are level-0 pixels from the top left; arrays are (height, width, 3) uint8 RGB.

    Made by `open_slide`. Transparent pixels (never scanned, or beyond the edge) come back white. Label and macro
    images are never read: they may show a patient's name. A handle belongs to the process that opened it.
    """

    def __init__(self, handle: openslide.OpenSlide, info: SlideInfo) -> None:
        self._handle = handle
        self._closed = False
        self.info = info

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Releases the file; safe to call twice."""
        if not self._closed:
            self._handle.close()
        self._closed = True

    def read_region(self, x0: int, y0: int, width: int, height: int, *, level: int = 0) -> NDArray[np.uint8]:
        """(height, width, 3) pixels of `level` whose top left is the level-0 pixel (x0, y0).

        Where that is between two pixels of the level (a pyramid of broken downsamples), OpenSlide interpolates.

        Args:
            x0: Left edge, level-0 pixels.
            y0: Top edge, level-0 pixels.
            width: Pixels of `level`.
            height: Pixels of `level`.
            level: Pyramid level, 0 the finest.

        Raises:
            SlideError: The file is damaged here.
        """
        return np.asarray(self._read(x0, y0, width, height, level))

    def read_tile(self, x0: int, y0: int, plan: TilePlan) -> NDArray[np.uint8]:
        """(tile_px, tile_px, 3): the tile whose top left is the level-0 pixel (x0, y0).

        Resizing is by area: whole-number factors (40x to 20x) average blocks, which is what a sensor with larger
        pixels and the pyramid's own levels do, and neither rings nor aliases; other factors use a Hamming window of
        the same width, since Pillow's box would give some output pixels more input than others.

        Raises:
            SlideError: The file is damaged here.
        """
        image = self._read(x0, y0, plan.size_level, plan.size_level, plan.level)
        if plan.size_level == plan.tile_px:
            return np.asarray(image)
        if plan.size_level % plan.tile_px == 0:
            return np.asarray(image.reduce(plan.size_level // plan.tile_px))
        return np.asarray(image.resize((plan.tile_px, plan.tile_px), Image.Resampling.HAMMING))

    def thumbnail(self, max_px: int) -> NDArray[np.uint8]:
        """The whole slide, its longer edge at most `max_px` pixels, never enlarged, area-averaged.

        Memory is bounded: a slide without a pyramid is read strip by strip.

        Raises:
            SlideError: The file is damaged.
        """
        info = self.info
        shrink = max(1.0, max(info.width, info.height) / max_px)
        out_w, out_h = max(1, round(info.width / shrink)), max(1, round(info.height / shrink))
        level = max(i for i, downsample in enumerate(info.level_downsamples) if i == 0 or downsample <= shrink)
        level_w, level_h = info.level_dimensions[level]
        per_row = level_h / out_h  # rows of the level behind one row of the thumbnail
        step = max(1, int(_STRIP_BYTES / (4 * level_w * per_row)))
        thumbnail = np.empty((out_h, out_w, 3), np.uint8)
        for row in range(0, out_h, step):
            stop = min(row + step, out_h)
            top, bottom = row * per_row, min(stop * per_row, level_h)
            first, last = math.floor(top), min(math.ceil(bottom), level_h)
            strip = self._read(0, round(first * info.height / level_h), level_w, last - first, level)
            box = (0.0, top - first, float(level_w), bottom - first)
            thumbnail[row:stop] = np.asarray(strip.resize((out_w, stop - row), Image.Resampling.BOX, box=box))
        return thumbnail

    def _read(self, x0: int, y0: int, width: int, height: int, level: int) -> Image.Image:
        try:
            image = self._handle.read_region((x0, y0), level, (width, height))
        except _READ_ERRORS as error:
            raise SlideError(
                Problem(
                    where=f"slide {self.info.slide_id} ({self.info.path}), level {level} at ({x0}, {y0})",
                    expected="readable pixels",
                    got=_shorten(error),
                    remedy="The file is damaged or cut short: copy or download it again and check its size and md5.",
                )
            ) from error
        if image.getchannel("A").getextrema() == (255, 255):
            return image.convert("RGB")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white


@contextmanager
def open_slide(path: Path, *, slide_id: str, manifest_mpp: float | None) -> Iterator[SlideReader]:
    """A reader that is closed at the end of the block; see `open_reader`."""
    reader = open_reader(path, slide_id=slide_id, manifest_mpp=manifest_mpp)
    try:
        yield reader
    finally:
        reader.close()


def open_reader(path: Path, *, slide_id: str, manifest_mpp: float | None) -> SlideReader:
    """A reader of the slide at `path`, which the caller closes.

    The scale is what the slide states (aperio.MPP, openslide.mpp-x/y, TIFF resolution as OpenSlide reports it), else
    the manifest's; it is never guessed from the objective. A stated scale outside 0.05-20 µm/px is a TIFF writer's
    default, not a microscope's, and counts as absent.

    Args:
        path: Any format that OpenSlide reads.
        slide_id: Name used in messages.
        manifest_mpp: µm per level-0 pixel from the manifest's `mpp` column; None where the cell is empty.

    Raises:
        SlideError: The file is missing, no slide, damaged, or of unknown or contradictory scale.
    """
    where = f"slide {slide_id} ({path})"
    handle = _open_handle(path, where)
    try:
        width, height = handle.dimensions
        properties = handle.properties
        mpp, source = _scale(properties, manifest_mpp, where)
        info = SlideInfo(
            slide_id=slide_id,
            path=path,
            width=width,
            height=height,
            mpp=mpp,
            mpp_source=source,
            objective=_number(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)),
            level_dimensions=tuple((int(w), int(h)) for w, h in handle.level_dimensions),
            level_downsamples=tuple(float(downsample) for downsample in handle.level_downsamples),
            vendor=properties.get(openslide.PROPERTY_NAME_VENDOR),
            size_bytes=path.stat().st_size,
            quickhash=properties.get(openslide.PROPERTY_NAME_QUICKHASH1),
        )
    except BaseException:
        handle.close()
        raise
    return SlideReader(handle, info)


def _open_handle(path: Path, where: str) -> openslide.OpenSlide:
    expected = "a whole-slide image that OpenSlide reads (.svs, .ndpi, .mrxs, .scn, .tiff, ...)"
    try:
        if not path.exists():
            raise SlideError(
                Problem(where, expected, "no such file", "Check the manifest's path column and the --slides folder.")
            )
        if path.is_dir():
            raise SlideError(Problem(where, expected, "a folder", "Name the slide file itself."))
        if path.stat().st_size == 0:
            raise SlideError(Problem(where, expected, "an empty file", "Copy or download the slide again."))
        if openslide.OpenSlide.detect_format(path) is None:
            remedy = "If its name is right, the file is damaged, cut short, or no slide: copy or download it again."
            raise SlideError(Problem(where, expected, "something that is no slide", remedy))
        return openslide.OpenSlide(path)
    except _READ_ERRORS as error:
        remedy = "The file is damaged, cut short, or not readable by you: check its rights, size and md5."
        raise SlideError(Problem(where, expected, _shorten(error), remedy)) from error


def _scale(
    properties: Mapping[str, str], manifest_mpp: float | None, where: str
) -> tuple[float, Literal["slide", "manifest"]]:
    low, high = MPP_PLAUSIBLE
    range_text = f"a number of µm per pixel from {low:g} to {high:g}"
    if manifest_mpp is not None and not low <= manifest_mpp <= high:
        raise SlideError(
            Problem(
                f"{where}, manifest mpp", range_text, f"{manifest_mpp:g}", "Correct the mpp column of the manifest."
            )
        )
    names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    stated = [value for name in names if (value := _number(properties.get(name))) is not None]
    plausible = [value for value in stated if low <= value <= high]
    if not plausible or len(plausible) < len(stated):
        if manifest_mpp is not None:
            return manifest_mpp, "manifest"
        got = f"mpp {' x '.join(f'{value:g}' for value in stated)}" if stated else "none"
        remedy = "Give this slide's µm per pixel in the mpp column of the manifest (0.25 is usual at 40x, 0.5 at 20x)."
        raise SlideError(Problem(f"{where}, scale", f"{range_text}, stated by the slide or the manifest", got, remedy))
    mpp = sum(plausible) / len(plausible)
    if max(plausible) / min(plausible) > 1 + MPP_ANISOTROPY:
        got = " x ".join(f"{value:g}" for value in plausible)
        remedy = "The slide's pixels are not square: leave it out, or have it exported again."
        raise SlideError(Problem(f"{where}, scale", f"mpp in x and y within {MPP_ANISOTROPY:.0%}", got, remedy))
    if manifest_mpp is not None and not 1 / (1 + MPP_TOLERANCE) <= manifest_mpp / mpp <= 1 + MPP_TOLERANCE:
        expected = f"slide and manifest to agree on mpp within {MPP_TOLERANCE:.0%}"
        remedy = "Find out which is right; correct the manifest's mpp, or empty the cell to use the slide's."
        raise SlideError(Problem(f"{where}, scale", expected, f"slide {mpp:g}, manifest {manifest_mpp:g}", remedy))
    return mpp, "slide"


def _number(text: Any) -> float | None:
    try:
        value = float(str(text).replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _shorten(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
