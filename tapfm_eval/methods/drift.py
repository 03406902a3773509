"""How many last blocks are worth training: where a short full adaptation moves a backbone's representation.

After a short probe with everything trained, each block is compared with itself before: its drift is 1 - CKA of the
CLS tokens that it gives for the same tiles. The drifts are scaled to sum to 1, and N* is the fewest last blocks that
together hold a stated share (0.85) of them. CKA: Kornblith et al. 2019, arXiv 1905.00414, linear kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.methods.spool import TileSlices

SHARE = 0.85
LEAST_DRIFT = 1e-12  # less is rounding


@dataclass(frozen=True, slots=True)
class BlockDrift:
    """What a probe did to each block."""

    cka: tuple[float, ...]  # (depth,), from the first block to the last; 1 is unmoved
    shares: tuple[float, ...]  # of the drift 1 - CKA, summing to 1; all 0 where nothing moved

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.cka)

    def last(self, blocks: int) -> float:
        """Share of the drift that lies in the last `blocks`."""
        return sum(self.shares[self.depth - blocks :])

    def fewest(self, share: float = SHARE) -> int | None:
        """N*: the fewest last blocks that hold at least this share of the drift; None where nothing moved."""
        if not any(self.shares):
            return None
        return next(n for n in range(1, self.depth + 1) if self.last(n) >= share - LEAST_DRIFT)


def block_tokens(encoder: TileEncoder, tiles: TileSlices, micro_batch: int) -> list[Tensor]:
    """The CLS token that each block gives: depth tensors (K, D) in float32 on the CPU, for tiles (K, 3, H, W)."""
    network = encoder.network
    weight = network.patch_embed.proj.weight
    found: list[list[Tensor]] = [[] for _ in range(encoder.depth)]
    with torch.no_grad():
        for start in range(0, len(tiles), micro_batch):
            part = tiles[start : start + micro_batch].to(weight.device)
            x = (part - encoder.get_buffer("mean")) / encoder.get_buffer("std")
            blocks = network.forward_intermediates(
                x.to(weight.dtype), output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
            )
            for tokens, (_, prefix) in zip(found, cast(list[tuple[Tensor, Tensor]], blocks), strict=True):
                tokens.append(prefix[:, 0].float().cpu())  # (B, prefix, D) -> (B, D)
    return [torch.cat(tokens) for tokens in found]


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Centred kernel alignment of two descriptions (K, D) and (K, E) of the same K tiles; 1 up to rotation and scale.

    NaN where one of them is the same for all tiles.

    >>> x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]])
    >>> round(linear_cka(x, 3 * x.flip(1)), 6)
    1.0
    """
    a, b = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    a, b = a @ a.T, b @ b.T  # (K, K): K is far below D x D
    scale = float(a.norm() * b.norm())
    return float((a * b).sum()) / scale if scale > 0 else float("nan")


def block_drift(before: Sequence[Tensor], after: Sequence[Tensor]) -> BlockDrift:
    """The drift of each block from its tokens (K, D) before and after; one that tells no tiles apart is unmoved."""
    cka = np.array([linear_cka(x, y) for x, y in zip(before, after, strict=True)])
    drift: NDArray[np.float64] = np.nan_to_num(1 - cka, nan=0.0)
    drift[drift < LEAST_DRIFT] = 0.0
    shares = drift / drift.sum() if drift.any() else drift
    return BlockDrift(tuple(map(float, cka)), tuple(map(float, shares)))
