"""Augmentation of tiles as uint8: flips, quarter turns and blur, decided per (seed, epoch, slide, tile)."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tapfm_eval.methods.randomness import keyed_uniform

BLUR_PROBABILITY = 0.5
BLUR_MAX_SIGMA_PX = 0.8
_RADIUS_PX = 3


def augment_tiles(tiles: Tensor, indices: NDArray[np.int64], *parts: int | str) -> Tensor:
    """A new uint8 tensor (K, 3, H, W): each square tile flipped, turned and blurred by its own draw.

    It runs once, before both passes of a step, so that they see the same pixels.
    """
    draws = keyed_uniform(indices, 4, "augment", *parts)
    out = torch.empty_like(tiles)
    for i, (flip, turn, blur, sigma) in enumerate(draws):
        tile = tiles[i].flip(-1) if flip < 0.5 else tiles[i]
        tile = torch.rot90(tile, int(turn * 4), (-2, -1))
        out[i] = gaussian_blur(tile, sigma * BLUR_MAX_SIGMA_PX) if blur < BLUR_PROBABILITY else tile
    return out


def gaussian_blur(tile: Tensor, sigma_px: float) -> Tensor:
    """A uint8 tile (3, H, W) convolved with a Gaussian; edges are reflected."""
    if sigma_px < 0.05:  # narrower than any pixel: the kernel is a single 1
        return tile
    offsets = torch.arange(-_RADIUS_PX, _RADIUS_PX + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    padded = F.pad(tile.float().unsqueeze(0), (_RADIUS_PX,) * 4, mode="reflect")
    blurred = F.conv2d(F.conv2d(padded, kernel.unsqueeze(2), groups=3), kernel.unsqueeze(3), groups=3)
    return blurred[0].round().clamp(0, 255).to(torch.uint8)
