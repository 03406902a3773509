"""TAPFM: the backbone's own CLS attention pools a slide's tiles (Kumar et al. 2025, arXiv 2506.05184)."""

import torch
from torch import Tensor, nn

from tapfm_eval.methods.aggregator import Aggregator, SlideOutput

EPSILON = 1e-8
FLAT = 1e-8  # a bag whose attention spreads less than this carries no ranking of tiles


def attention_weights(a: Tensor, temperature: float) -> Tensor:
    """Tile weights (K,) from raw attention (K,): min-max over the bag, then softmax at `temperature`.

    A bag of constant attention gets uniform weights and passes no gradient on.
    """
    low, high = a.min(), a.max()
    if float((high - low).detach()) < FLAT:
        return torch.full_like(a.detach(), 1.0 / a.numel())
    return torch.softmax((a - low) / (high - low + EPSILON) / temperature, dim=0)


class Tapfm(Aggregator):
    """Attention-weighted mean, LayerNorm, linear classifier. Permutation invariant.

    The paper's text has no temperature and no LayerNorm; its code uses 0.1 and one, and so do the defaults here.
    """

    uses_attention = True

    def __init__(self, dim: int, targets: int, *, temperature: float, layer_norm: bool) -> None:
        super().__init__()
        self.temperature = temperature
        self.norm = nn.LayerNorm(dim) if layer_norm else nn.Identity()
        self.classifier = nn.Linear(dim, targets)

    def forward(self, z: Tensor, a: Tensor) -> SlideOutput:
        weights = attention_weights(a, self.temperature)  # (K,)
        pooled = weights.to(z.dtype) @ z  # (D,)
        return SlideOutput(self.classifier(self.norm(pooled)), weights)  # (L,)
