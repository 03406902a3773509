"""DSMIL: a critical tile, and a bag seen from it (Li, Li & Eliceiri 2021, arXiv 2011.08939)."""

import math

import torch
from torch import Tensor, nn

from tapfm_eval.methods.aggregator import Aggregator, SlideOutput
from tapfm_eval.methods.losses import SlideLoss


class Dsmil(Aggregator):
    """Two streams a target: the highest tile score, and attention by likeness to the tile that has it.

    Logits are the mean of both streams, the loss the mean of both streams' losses, as in the paper. Permutation
    invariant (between tiles of exactly equal highest score the first in the bag is critical).

    Deliberate differences from the paper: each target has its own classifier of its own bag embedding, so that an
    unknown target leaves the others alone; the inner products that the softmax sees are divided by the root of their
    length, without which embeddings of 1,536 numbers saturate it; one magnification.
    """

    def __init__(self, dim: int, targets: int, *, query: int = 128) -> None:
        super().__init__()
        self.instance = nn.Linear(dim, targets)
        self.query = nn.Linear(dim, query)
        self.value = nn.Linear(dim, dim)
        self.classifier = nn.Linear(dim, targets)

    def _streams(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        instance_logits, critical = self.instance(z).max(dim=0)  # (L,), (L,)
        q = self.query(z)  # (K, query)
        likeness = q @ q[critical].T / math.sqrt(q.shape[1])  # (K, L)
        weights = torch.softmax(likeness, dim=0)  # (K, L)
        # weights sum to 1, so pooling before the linear value map gives the same as after it, for one bag instead of K
        embedding = self.value(weights.T @ z)  # (L, D)
        bag_logits = (embedding * self.classifier.weight).sum(1) + self.classifier.bias  # (L,)
        return instance_logits, bag_logits, weights

    def forward(self, z: Tensor, a: Tensor) -> SlideOutput:
        instance_logits, bag_logits, weights = self._streams(z)
        return SlideOutput((instance_logits + bag_logits) / 2, weights.mean(1))  # (L,), (K,)

    def loss(self, z: Tensor, a: Tensor, loss_of: SlideLoss) -> Tensor:
        """The mean of both streams' slide losses (a scalar)."""
        instance_logits, bag_logits, _ = self._streams(z)
        return (loss_of(instance_logits) + loss_of(bag_logits)) / 2
