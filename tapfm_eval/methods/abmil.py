"""ABMIL: gated attention over tile embeddings (Ilse, Tomczak & Welling 2018, arXiv 1802.04712)."""

import torch
from torch import Tensor, nn

from tapfm_eval.methods.aggregator import Aggregator, SlideOutput


class Abmil(Aggregator):
    """Projection, gated attention shared by all targets, linear classifier. Permutation invariant.

    Deliberate differences from the paper: the projection starts from a foundation model's embedding instead of a CNN,
    and one attention serves several targets.
    """

    def __init__(self, dim: int, targets: int, *, hidden: int = 512, attention: int = 128) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU())
        self.content = nn.Linear(hidden, attention)
        self.gate = nn.Linear(hidden, attention)
        self.score = nn.Linear(attention, 1)
        self.classifier = nn.Linear(hidden, targets)

    def forward(self, z: Tensor, a: Tensor) -> SlideOutput:
        h = self.project(z)  # (K, hidden)
        gated = torch.tanh(self.content(h)) * torch.sigmoid(self.gate(h))  # (K, attention)
        weights = torch.softmax(self.score(gated).squeeze(1), dim=0)  # (K,)
        return SlideOutput(self.classifier(weights @ h), weights)  # (L,)
