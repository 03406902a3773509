"""What every aggregator is: a bag of tile embeddings and attention to one logit per target."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from tapfm_eval.methods.losses import SlideLoss


@dataclass(frozen=True, slots=True)
class SlideOutput:
    """What an aggregator says of one slide."""

    logits: Tensor  # (L,), one per target
    weights: Tensor  # (K,), the share of each tile; sums to 1


class Aggregator(nn.Module, ABC):
    """Pools a bag of K tiles; `uses_attention` says whether the backbone's own attention takes part."""

    uses_attention: bool = False

    @abstractmethod
    def forward(self, z: Tensor, a: Tensor) -> SlideOutput:
        """Logits of one slide from embeddings z (K, D) and raw backbone attention a (K,)."""

    def loss(self, z: Tensor, a: Tensor, loss_of: SlideLoss) -> Tensor:
        """What training minimises on one slide (a scalar): the slide's loss, unless a paper adds terms of its own."""
        return loss_of(self(z, a).logits)
