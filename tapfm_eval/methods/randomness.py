"""What training draws: tiles, stochastic depth, initial weights; each keyed by the protocol seed and the item's id."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapfm_eval.randomness import generator, key

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw_tiles(available: int, wanted: int | None, *parts: int | str) -> NDArray[np.int64]:
    """Sorted indices of tiles drawn without replacement; all of them if fewer are available than wanted."""
    if wanted is None or wanted >= available:
        return np.arange(available, dtype=np.int64)
    return np.sort(generator("tiles", *parts).choice(available, size=wanted, replace=False)).astype(np.int64)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195), elementwise."""
    z = state + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def keyed_uniform(tiles: NDArray[np.int64], columns: int, *parts: int | str) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one row per tile index (K, columns); a row depends on its tile and `parts` alone."""
    with np.errstate(over="ignore"):
        rows = _mix(_mix(np.uint64(key(*parts)) + np.zeros(1, np.uint64)) ^ tiles.astype(np.uint64))
        grid = _mix(rows[:, None] + _mix(np.arange(columns, dtype=np.uint64))[None, :])
    return np.asarray((grid >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def depth_keep(tiles: NDArray[np.int64], depth: int, rate: float, *parts: int | str) -> Tensor | None:
    """Multipliers (K, depth, 2) for stochastic depth; None at rate 0.

    The drop probability grows linearly from 0 at the first block to `rate` at the last, as in timm. A branch that is
    kept is divided by its probability of being kept.
    """
    if rate == 0:
        return None
    drop = np.linspace(0.0, rate, depth) if depth > 1 else np.array([rate])
    uniform = keyed_uniform(tiles, depth * 2, "depth", *parts).reshape(len(tiles), depth, 2)
    kept = (uniform >= drop[None, :, None]) / (1 - drop[None, :, None])
    return torch.from_numpy(kept)


def seeded(*parts: int | str) -> torch.Generator:
    """A CPU torch generator of its own for the item that `parts` name."""
    made = torch.Generator()
    made.manual_seed(key(*parts) >> 1)
    return made
