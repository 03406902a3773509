"""Procedural tissue: where stroma, glands, nuclei and the planted effects lie, as amounts of stain in each pixel."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapfm_eval.rehearsal import texture
from tapfm_eval.rehearsal.planting import dose
from tapfm_eval.rehearsal.stain import STAINS, FloatArray

Stream = Callable[[str], np.random.Generator]
"""A random generator for each name."""

_GLAND_PITCH_PX = 150.0  # distance between gland centres; every tile of 224 px then holds two or three
_GLAND_RADIUS_PX = 55.0
_TILE_PX = 224
_GLASS_BEFORE_PX = _TILE_PX  # glass left of and above the tissue: one tile, so that tissue starts on the grid of tiles
_GLASS_AFTER_PX = 112  # glass right of and below it


@dataclass(frozen=True, slots=True)
class _Range:
    """What an effect's dose of 0 and of 1 stand for (linear in between), and what is seen where nothing is planted."""

    low: float
    high: float
    resting: float


_RANGES: dict[str, _Range] = {
    "stromal_eosin": _Range(0.0, 1.0, 0.5),  # stroma from loose and bluish to dense and pink
    "pigment": _Range(0.0, 20.0, 0.3),  # clumps of granules at each gap between glands
    "lumens": _Range(0.0, 0.42, 0.12),  # share of a gland's area
    "nuclear_darkness": _Range(0.30, 1.35, 0.75),  # optical density of a nucleus
    "mucin": _Range(0.0, 1.5, 0.0),  # pool area, relative to the largest
    "red_cells": _Range(0.0, 22.0, 1.0),  # erythrocytes at each gap
    "lymphocytes": _Range(0.0, 26.0, 2.0),  # lymphocytes at each gap
    "nuclear_size": _Range(4.6, 9.4, 6.8),  # radius in px of a gland's nucleus
    "nuclear_density": _Range(8.0, 24.0, 15.0),  # nuclei in a gland's wall
}


_STROMAL_EOSIN = (0.05, 0.80)  # optical densities of loose and of dense stroma: one stain gives way to the other, so
_STROMAL_HAEMATOXYLIN = (0.26, 0.00)  # that brightness, which other effects change, stays nearly the same


@dataclass(frozen=True, slots=True)
class Tissue:
    """One piece of tissue on glass at 0.5 um a pixel."""

    concentrations: FloatArray  # (5, h, w), order of `stain.STAINS`, optical density
    inside: NDArray[np.bool_]  # (h, w), the piece with its holes filled


@dataclass(slots=True)
class _Layers:
    """Canvases of (h, w) that are stamped one after another; all values run from 0 to about 1."""

    epithelium: FloatArray
    lumen: FloatArray
    nuclei: FloatArray
    lymphocytes: FloatArray
    pigment: FloatArray
    red_cells: FloatArray
    mucin: FloatArray


def appearance(effects: Mapping[str, float]) -> dict[str, float]:
    """The physical amount of every effect for these strengths; an effect not named rests at a common amount."""
    return {
        effect: span.low + (span.high - span.low) * dose(effects[effect]) if effect in effects else span.resting
        for effect, span in _RANGES.items()
    }


def grow_tissue(stream: Stream, effects: Mapping[str, float], tissue_tiles: int) -> Tissue:
    """Tissue whose layout comes from the slide's random streams and whose look comes from the effects' strengths.

    Each structure draws from a stream of its own, so that one effect never moves what belongs to another.

    Args:
        stream: a random generator for each name, the slide's own.
        effects: effect to strength; names from `planting.EFFECTS`.
        tissue_tiles: about the area of the piece, in tiles of 224 px; it is a rectangle of whole tiles.
    """
    amounts = appearance(effects)
    outline = _outline(stream("outline"), tissue_tiles)
    layers = _Layers(*(np.zeros(outline.shape, dtype=np.float32) for _ in range(7)))
    glands, gaps = _sites(stream("sites"), outline > 0.5)
    shapes, nuclei = stream("glands"), stream("nuclei")
    for y, x in glands:
        _place_gland(shapes, nuclei, layers, y, x, amounts)
    _place_stromal_nuclei(nuclei, layers, amounts)
    _fill_gaps(stream, layers, gaps, amounts)
    return Tissue(_stain(stream("texture"), layers, outline, amounts), outline > 0.5)


def _outline(rng: np.random.Generator, tissue_tiles: int) -> FloatArray:
    """1 within a rounded, wavy rectangle of whole tiles, 0 on glass, soft at the edge; (h, w).

    Its sides lie on the grid of tiles that starts at the slide's corner. Tiles at the edge are then nearly full, and
    the glass in them does not drown what is planted.
    """
    short = max(round(math.sqrt(tissue_tiles / 1.3)), 1)
    sides = [short, max(round(tissue_tiles / short), 1)]
    rows, columns = sides if rng.random() < 0.5 else sides[::-1]
    shape = (
        rows * _TILE_PX + _GLASS_BEFORE_PX + _GLASS_AFTER_PX,
        columns * _TILE_PX + _GLASS_BEFORE_PX + _GLASS_AFTER_PX,
    )
    half_y, half_x = rows * _TILE_PX / 2.0, columns * _TILE_PX / 2.0
    y = np.abs(np.arange(shape[0], dtype=np.float32) - np.float32(_GLASS_BEFORE_PX + half_y)) / np.float32(half_y)
    x = np.abs(np.arange(shape[1], dtype=np.float32) - np.float32(_GLASS_BEFORE_PX + half_x)) / np.float32(half_x)
    depth_px = (1.0 - ((y**6)[:, None] + (x**6)[None, :]) ** np.float32(1.0 / 6.0)) * np.float32(min(half_y, half_x))
    depth_px += 9.0 * texture.window(texture.noise(220.0), shape, rng)
    depth_px += 2.0 * texture.window(texture.noise(36.0), shape, rng)
    outline: FloatArray = np.clip(depth_px / np.float32(3.0) + np.float32(0.5), 0.0, 1.0)
    return outline


def _sites(rng: np.random.Generator, inside: NDArray[np.bool_]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Centres (y, x) of glands, on a jittered hexagonal grid, and of the gaps between three glands, near the tissue.

    The grid keeps tiles alike, so that the noise within a slide stays small beside the effects. Glands that reach
    into the tissue from outside are cut by its edge, as on a real section.
    """
    height, width = inside.shape
    pitch_y = _GLAND_PITCH_PX * math.sqrt(3.0) / 2.0
    start_y, start_x = rng.uniform(0.0, 1.0, 2) * (pitch_y, _GLAND_PITCH_PX)
    reach = int(_GLAND_RADIUS_PX)
    glands: list[tuple[int, int]] = []
    gaps: list[tuple[int, int]] = []
    for row in range(-1, int(height / pitch_y) + 2):
        for column in range(-1, int(width / _GLAND_PITCH_PX) + 2):
            y = start_y + row * pitch_y
            x = start_x + (column + 0.5 * (row % 2)) * _GLAND_PITCH_PX
            for sites, dy, dx in (
                (glands, 0.0, 0.0),
                (gaps, pitch_y / 3.0, _GLAND_PITCH_PX / 2.0),
                (gaps, 2.0 * pitch_y / 3.0, 0.0),
            ):
                jitter = rng.uniform(-14.0, 14.0, 2)
                at_y, at_x = round(y + dy + float(jitter[0])), round(x + dx + float(jitter[1]))
                if inside[
                    max(at_y - reach, 0) : max(at_y + reach, 0), max(at_x - reach, 0) : max(at_x + reach, 0)
                ].any():
                    sites.append((at_y, at_x))
    return glands, gaps


def _place_gland(
    rng: np.random.Generator,
    cells: np.random.Generator,
    layers: _Layers,
    y: int,
    x: int,
    amounts: Mapping[str, float],
) -> None:
    """A gland: wall of epithelium, lumen, and a ring of nuclei whose long axes point outwards."""
    half = int(_GLAND_RADIUS_PX * 1.5)
    radius = _GLAND_RADIUS_PX * rng.uniform(0.88, 1.12)
    stretch, turn = rng.uniform(1.0, 1.5), rng.uniform(0.0, math.pi)
    long, short = radius * math.sqrt(stretch), radius / math.sqrt(stretch)
    grid = np.arange(-half, half + 1, dtype=np.float32)
    along = grid[None, :] * math.cos(turn) + grid[:, None] * math.sin(turn)
    across = grid[:, None] * math.cos(turn) - grid[None, :] * math.sin(turn)
    row, column = (int(start) for start in rng.integers(texture.PERIOD_PX - grid.size, size=2))
    waves = texture.noise(36.0)[row : row + grid.size, column : column + grid.size]
    distance = (np.sqrt((along / long) ** 2 + (across / short) ** 2) + 0.05 * waves).astype(np.float32)
    texture.stamp(layers.epithelium, np.clip((1.0 - distance) * (radius / 2.5) + 0.5, 0.0, 1.0), y, x)
    lumen_radius = math.sqrt(amounts["lumens"])
    texture.stamp(layers.lumen, np.clip((lumen_radius - distance) * (radius / 2.0) + 0.5, 0.0, 1.0), y, x)

    count = amounts["nuclear_density"]
    whole = int(count + cells.random())  # a fractional count is met on average
    bearings = (np.arange(whole) + cells.uniform(-0.28, 0.28, whole)) * (2.0 * math.pi / whole) + cells.uniform(
        0, math.pi
    )
    reach = cells.uniform(0.70, 0.86, whole)
    radii = amounts["nuclear_size"] * cells.uniform(0.9, 1.1, whole)
    varieties = cells.integers(4, size=whole)
    for bearing, far, nucleus_radius, variety in zip(bearings, reach, radii, varieties, strict=True):
        u, v = far * long * math.cos(bearing), far * short * math.sin(bearing)
        dx, dy = u * math.cos(turn) - v * math.sin(turn), u * math.sin(turn) + v * math.cos(turn)
        angle = round(math.atan2(dy, dx) / math.pi * texture.ANGLES)
        sprite = texture.nucleus(float(nucleus_radius), 1.35, angle, int(variety))
        texture.stamp(layers.nuclei, sprite, y + round(dy), x + round(dx))


def _fill_gaps(stream: Stream, layers: _Layers, gaps: list[tuple[int, int]], amounts: Mapping[str, float]) -> None:
    """What lies between three glands: mucin, lymphocytes, red cells and pigment, each as much as its effect says."""
    pools = stream("mucin")
    half = 48
    grid = np.arange(-half, half + 1, dtype=np.float32)
    centre = np.sqrt(grid[:, None] ** 2 + grid[None, :] ** 2)
    pool_radius = 34.0 * math.sqrt(amounts["mucin"])
    for y, x in gaps:
        row, column = (int(start) for start in pools.integers(texture.PERIOD_PX - grid.size, size=2))
        waves = texture.noise(36.0)[row : row + grid.size, column : column + grid.size]
        texture.stamp(layers.mucin, np.clip((pool_radius - centre - 3.0 * waves) / 3.0, 0.0, 1.0), y, x)
    cells: tuple[tuple[str, FloatArray, float, Callable[[int], FloatArray]], ...] = (
        ("pigment", layers.pigment, 34.0, texture.granules),
        ("red_cells", layers.red_cells, 24.0, texture.erythrocyte),
        ("lymphocytes", layers.lymphocytes, 26.0, texture.lymphocyte),
    )
    for effect, canvas, spread_px, sprite in cells:
        rng = stream(effect)
        for y, x in gaps:
            count = int(amounts[effect] + rng.random())  # a fractional count is met on average
            offsets = np.rint(rng.normal(0.0, spread_px, (count, 2))).astype(int).tolist()
            varieties = rng.integers(64, size=count).tolist()
            for (dy, dx), variety in zip(offsets, varieties, strict=True):
                texture.stamp(canvas, sprite(variety), y + dy, x + dx)


def _place_stromal_nuclei(rng: np.random.Generator, layers: _Layers, amounts: Mapping[str, float]) -> None:
    """Spindle nuclei on a jittered grid in the stroma, along its strands."""
    height, width = layers.nuclei.shape
    pitch = 36.0 * math.sqrt(_RANGES["nuclear_density"].resting / amounts["nuclear_density"])
    radius = amounts["nuclear_size"] * 0.6
    y, x = np.meshgrid(np.arange(0.0, height, pitch), np.arange(0.0, width, pitch), indexing="ij")
    at_y = np.clip(y + rng.uniform(-0.35, 0.35, y.shape) * pitch, 0, height - 1).astype(int).ravel()
    at_x = np.clip(x + rng.uniform(-0.35, 0.35, x.shape) * pitch, 0, width - 1).astype(int).ravel()
    turns = rng.integers(-1, 2, at_y.size)
    varieties = rng.integers(4, size=at_y.size)
    free = layers.epithelium[at_y, at_x] < 0.2
    for row, column, angle, variety in zip(at_y[free], at_x[free], turns[free], varieties[free], strict=True):
        texture.stamp(layers.nuclei, texture.nucleus(radius, 3.2, int(angle), int(variety)), int(row), int(column))


def _stain(rng: np.random.Generator, layers: _Layers, outline: FloatArray, amounts: Mapping[str, float]) -> FloatArray:
    """Amounts of stain where the layers overlap: cells displace matrix, lumens are empty, glass is clear."""
    shape = outline.shape
    strands = texture.window(texture.fibres(), shape, rng)
    cytoplasm = texture.window(texture.noise(9.0), shape, rng)
    stroma = 1.0 - layers.epithelium
    body = outline * (1.0 - layers.lumen)
    layers.mucin *= stroma * (1.0 - layers.lymphocytes.clip(0.0, 1.0))
    layers.red_cells *= stroma
    layers.pigment *= body
    layers.mucin *= 1.0 - 0.9 * layers.pigment
    solid = body * (1.0 - 0.9 * layers.mucin)
    matrix = solid * (1.0 - 0.95 * layers.red_cells) * (1.0 - 0.9 * layers.pigment)
    covered = 1.0 - 0.35 * np.maximum(layers.nuclei, layers.lymphocytes).clip(0.0, 1.0)
    strands = np.clip(1.0 + 0.26 * strands, 0.25, 1.7)
    speckle = 1.0 + 0.10 * cytoplasm

    pink = amounts["stromal_eosin"]
    planes = np.empty((len(STAINS), *shape), dtype=np.float32)
    planes[0] = (0.25 * layers.epithelium * speckle + _between(_STROMAL_HAEMATOXYLIN, pink) * stroma) * matrix * covered
    planes[0] += amounts["nuclear_darkness"] * layers.nuclei * matrix + 1.25 * layers.lymphocytes * body * (
        1.0 - 0.9 * layers.pigment
    )
    planes[1] = _between(_STROMAL_EOSIN, pink) * stroma * strands + 0.22 * layers.epithelium * speckle
    planes[1] *= matrix * covered
    planes[2] = layers.pigment
    planes[3] = 0.65 * layers.mucin * body * speckle
    planes[4] = 0.60 * layers.red_cells * body
    return planes


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share
