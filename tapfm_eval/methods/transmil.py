"""TransMIL: tiles attend to each other before a class token reads them (Shao et al. 2021, arXiv 2106.00908)."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tapfm_eval.methods.aggregator import Aggregator, SlideOutput


class TransMil(Aggregator):
    """Projection, self-attention, PPEG position encoding, self-attention, and a classifier of the class token.

    NOT permutation invariant: PPEG lays the bag row by row on a square, so the order of tiles counts (here their order
    in the slide's tile grid). A bag that fills no square is continued by its own first tiles.

    Deliberate differences from the paper: attention is exact where the paper approximates it (Nystrom, 256
    landmarks), through the fused kernel, which needs no K x K matrix either; of the second layer only the class token's
    row is computed, since nothing else of it is read; targets are independent sigmoids; no dropout.
    """

    def __init__(self, dim: int, targets: int, *, hidden: int = 512, heads: int = 8) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU())
        self.class_token = nn.Parameter(torch.randn(hidden))
        self.first = _SelfAttention(hidden, heads)
        self.position = Ppeg(hidden)
        self.second = _SelfAttention(hidden, heads)
        self.norm = nn.LayerNorm(hidden)
        self.classifier = nn.Linear(hidden, targets)

    def forward(self, z: Tensor, a: Tensor) -> SlideOutput:
        count = len(z)
        side = math.isqrt(count - 1) + 1
        repeated = side**2 - count  # never more than K
        h = self.project(z)  # (K, hidden)
        tokens = torch.cat([self.class_token[None], h, h[:repeated]])  # (1 + side^2, hidden)
        tokens = self.first(tokens)
        tokens = torch.cat([tokens[:1], self.position(tokens[1:], side)])
        token, attention = self.second.class_row(tokens)  # (hidden,), (side^2,)
        own, echo = attention[:count], attention[count:]
        weights = own + F.pad(echo, (0, count - repeated))  # (K,); a repeated tile has both its shares
        return SlideOutput(self.classifier(self.norm(token)), weights / weights.sum())  # (L,)


class Ppeg(nn.Module):
    """Pyramid position encoding: a square of tokens plus its 7 x 7, 5 x 5 and 3 x 3 depthwise convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width) for kernel in (7, 5, 3)
        )

    def forward(self, tokens: Tensor, side: int) -> Tensor:
        square = tokens.T.reshape(1, -1, side, side)  # (1, width, side, side)
        encoded = square + sum(convolve(square) for convolve in self.convolutions)
        return cast(Tensor, encoded).flatten(2)[0].T  # (side^2, width)


class _SelfAttention(nn.Module):
    """A pre-norm residual layer of multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def _split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count, width = tokens.shape
        parts = self.qkv(self.norm(tokens)).view(count, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(1, 2, 0, 3)  # (heads, N, d) each
        return q, k, v

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self._split(tokens)
        mixed = F.scaled_dot_product_attention(q[None], k[None], v[None])[0]  # (heads, N, d)
        return tokens + cast(Tensor, self.out(mixed.transpose(0, 1).flatten(1)))  # (N, width)

    def class_row(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The first token after the layer (width,), and its attention to the others, mean over heads (N - 1,)."""
        q, k, v = self._split(tokens)
        attention = torch.softmax(q[:, :1] @ k.transpose(1, 2) / math.sqrt(q.shape[2]), dim=2)  # (heads, 1, N)
        mixed = (attention @ v).flatten()  # (width,)
        return tokens[0] + cast(Tensor, self.out(mixed)), attention[:, 0, 1:].mean(0)
