"""Reusable pieces of tissue: periodic noise textures and a bank of cell sprites, built once in a process."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from tapfm_eval.randomness import wide_generator

FloatArray = NDArray[np.float32]

PERIOD_PX = 1024
"""Side of every texture; textures continue periodically."""

ANGLES = 12
"""Orientations that a sprite is kept in; they cover half a turn."""

_RADIUS_STEP_PX = 0.25


@lru_cache(maxsize=8)
def noise(wavelength_px: float) -> FloatArray:
    """Smooth isotropic noise of mean 0 and standard deviation 1, periodic; (1024, 1024)."""
    return _filtered(wavelength_px, wavelength_px)


@lru_cache(maxsize=1)
def fibres() -> FloatArray:
    """Wavy collagen-like strands running along x, mean 0 and standard deviation 1, periodic; (1024, 1024)."""
    strands = _filtered(11.0, 150.0)
    warp = noise(130.0) * 12.0
    rows, columns = np.indices(strands.shape, dtype=np.float32)
    return _standardised(map_coordinates(strands, (rows + warp, columns), order=1, mode="grid-wrap"))


def window(texture: FloatArray, shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """A copy of the texture at a random offset, continued periodically to any shape."""
    rows, columns = ((int(rng.integers(PERIOD_PX)) + np.arange(size, dtype=np.intp)) % PERIOD_PX for size in shape)
    return texture[rows].take(columns, axis=1)


def nucleus(radius_px: float, aspect: float, angle: int, variety: int) -> FloatArray:
    """A nucleus seen in haematoxylin: 0 outside, about 1 inside, with chromatin, a rim and a nucleolus.

    Args:
        radius_px: geometric mean of the half axes; rounded to a quarter of a pixel.
        aspect: long over short axis.
        angle: direction of the long axis, in twelfths of half a turn from x towards y.
        variety: 0 to 3, the chromatin pattern.
    """
    return _nucleus(round(radius_px / _RADIUS_STEP_PX), aspect, angle % ANGLES, variety)


@lru_cache(maxsize=8192)
def _nucleus(radius_steps: int, aspect: float, angle: int, variety: int) -> FloatArray:
    radius = radius_steps * _RADIUS_STEP_PX
    distance, half = _ellipse(radius, aspect, angle)
    size = 2 * half + 1
    rng = wide_generator("nucleus", radius_steps, str(aspect), angle, variety)
    row, column = (int(start) for start in rng.integers(PERIOD_PX - size, size=2))
    chromatin = noise(5.0)[row : row + size, column : column + size]
    inside = np.clip((1.0 - distance) * radius + 0.5, 0.0, 1.0)
    rim = np.exp(-(((distance - 0.85) / 0.18) ** 2))
    shade = 0.82 + 0.12 * chromatin + 0.22 * rim
    if radius >= 4.0:
        grid = np.arange(-half, half + 1, dtype=np.float32)
        y0, x0 = rng.uniform(-0.3, 0.3, 2) * radius
        shade += 0.4 * np.exp(-((grid[:, None] - y0) ** 2 + (grid[None, :] - x0) ** 2) / 2.5)
    return np.ascontiguousarray(inside * np.clip(shade, 0.35, 1.4), dtype=np.float32)


def lymphocyte(variety: int) -> FloatArray:
    """A small, round, dense nucleus; values as of `nucleus`, at 0.5 um a pixel; 64 varieties."""
    return nucleus(4.5, 1.1, variety, variety % 4)


@lru_cache(maxsize=64)
def erythrocyte(variety: int) -> FloatArray:
    """A red cell: a disc of about 7 um, paler in the middle; values 0 to 1 at 0.5 um a pixel."""
    distance, _ = _ellipse(6.5, 1.0 + 0.08 * (variety % 4), variety)
    return np.ascontiguousarray(
        np.clip((1.0 - distance) * 6.5 + 0.5, 0.0, 1.0) * (0.75 + 0.25 * distance**2), dtype=np.float32
    )


@lru_cache(maxsize=64)
def granules(variety: int) -> FloatArray:
    """A clump of pigment granules some 10 um across; values 0 to 1 at 0.5 um a pixel."""
    half = 14
    rng = wide_generator("granules", variety)
    grid = np.arange(-half, half + 1, dtype=np.float32)
    clump = np.zeros((grid.size, grid.size))
    for y0, x0, radius in zip(rng.normal(0, 4.5, 18), rng.normal(0, 4.5, 18), rng.uniform(1.2, 2.8, 18), strict=True):
        distance = np.hypot(grid[:, None] - y0, grid[None, :] - x0)
        np.maximum(clump, np.clip(radius - distance + 0.5, 0.0, 1.0) * rng.uniform(0.7, 1.0), out=clump)
    return clump.astype(np.float32)


def stamp(canvas: FloatArray, sprite: FloatArray, y: int, x: int) -> None:
    """Lay a sprite over a canvas, centred on (y, x); the darker value wins, so the order of stamping never matters."""
    height, width = sprite.shape
    top, left = y - height // 2, x - width // 2
    bottom, right = top + height, left + width
    if top >= 0 and left >= 0 and bottom <= canvas.shape[0] and right <= canvas.shape[1]:
        region = canvas[top:bottom, left:right]
        np.maximum(region, sprite, out=region)
        return
    rows = slice(max(top, 0), max(min(bottom, canvas.shape[0]), 0))
    columns = slice(max(left, 0), max(min(right, canvas.shape[1]), 0))
    region = canvas[rows, columns]
    if region.size:
        part = sprite[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        np.maximum(region, part, out=region)


def _ellipse(radius: float, aspect: float, angle: int) -> tuple[NDArray[np.float64], int]:
    long, short = radius * math.sqrt(aspect), radius / math.sqrt(aspect)
    half = math.ceil(long) + 1
    turn = math.pi * angle / ANGLES
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    return np.hypot(along / long, across / short), half


def _filtered(wavelength_y_px: float, wavelength_x_px: float) -> FloatArray:
    """White noise through a Gaussian low-pass whose half-height lies at the wavelengths."""
    white = wide_generator("noise", str(wavelength_y_px), str(wavelength_x_px)).standard_normal((PERIOD_PX, PERIOD_PX))
    fy = np.fft.fftfreq(PERIOD_PX)[:, None] * wavelength_y_px
    fx = np.fft.rfftfreq(PERIOD_PX)[None, :] * wavelength_x_px
    spectrum = np.fft.rfft2(white) * np.exp(-math.log(2.0) * (fy**2 + fx**2))
    return _standardised(np.fft.irfft2(spectrum, s=white.shape))


def _standardised(texture: NDArray[np.floating]) -> FloatArray:
    standard: FloatArray = ((texture - texture.mean()) / texture.std()).astype(np.float32)
    standard.setflags(write=False)
    return standard
