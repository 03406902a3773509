"""Mean pooling: the plainest aggregator, the floor that attention has to beat."""

from torch import Tensor, nn

from tapfm_eval.methods.aggregator import Aggregator, SlideOutput


class MeanPooling(Aggregator):
    """Mean of the tile embeddings, LayerNorm, linear classifier. Permutation invariant."""

    def __init__(self, dim: int, targets: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, targets)

    def forward(self, z: Tensor, a: Tensor) -> SlideOutput:
        weights = a.new_full((len(z),), 1.0 / len(z))
        return SlideOutput(self.classifier(self.norm(z.mean(0))), weights)
