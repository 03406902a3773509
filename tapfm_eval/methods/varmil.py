"""VarMIL: attention-weighted mean and variance of a bag (Schirris et al. 2022, doi:10.1016/j.media.2022.102464)."""

import torch
from torch import Tensor, nn

from tapfm_eval.methods.aggregator import Aggregator, SlideOutput


class Varmil(Aggregator):
    """Attention, then a linear classifier of the weighted mean beside the weighted variance. Permutation invariant.

    The variance is K/(K-1) sum_i w_i (z_i - mean)^2, weights summing to 1, per embedding entry: unbiased where weights
    are equal. It is 0 for a bag of one tile, which says nothing of spread.

    Deliberate difference from the paper: one attention serves several targets.
    """

    def __init__(self, dim: int, targets: int, *, attention: int = 128) -> None:
        super().__init__()
        self.content = nn.Linear(dim, attention)
        self.score = nn.Linear(attention, 1)
        self.classifier = nn.Linear(2 * dim, targets)

    def forward(self, z: Tensor, a: Tensor) -> SlideOutput:
        weights = torch.softmax(self.score(torch.tanh(self.content(z))).squeeze(1), dim=0)  # (K,)
        mean = weights @ z  # (D,)
        variance = weights @ (z - mean).square() * (len(z) / max(len(z) - 1, 1))  # (D,)
        return SlideOutput(self.classifier(torch.cat([mean, variance])), weights)  # (L,)
