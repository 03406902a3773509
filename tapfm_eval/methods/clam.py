"""CLAM: attention pooling, and clustering of its extremes (Lu et al. 2021, doi:10.1038/s41551-020-00682-w)."""

import torch
from torch import Tensor, nn

from tapfm_eval.methods.aggregator import Aggregator, SlideOutput
from tapfm_eval.methods.losses import SlideLoss

BAG_SHARE, INSTANCE_SHARE = 0.7, 0.3  # c1 and c2 of the paper
EXTREMES = 8  # B: tiles of the highest and of the lowest attention that are clustered
MARGIN = 1.0  # alpha of the smooth SVM loss; its temperature is 1


class Clam(Aggregator):
    """Projection, gated attention with one branch for all targets or one a class, linear classifiers.

    Permutation invariant, up to ties of attention in training. The loss adds to the slide's own an instance loss: the
    most attended tiles of a slide are told from the least attended ones by small linear clusterers.

    A target is here a pair of exclusive classes, as in the paper's binary tasks. With several branches each class of a
    target has its own attention and its own score; the target's logit is the score of class 1 less that of class 0,
    whose sigmoid is the paper's softmax. Each class has a clusterer, which reads its class's branch: that of the
    slide's class learns 1 for the top tiles and 0 for the bottom tiles, that of the other class learns 0 for the top
    tiles. A target contributes the mean of its two clusterers.

    Deliberate differences from the paper: targets are independent sigmoids instead of one softmax, so that several
    may be positive and any may be unknown; a target's clustering weighs as much as its slide loss does (class and
    target weights; exactly zero if unknown), so that 0.7 and 0.3 mean the same at every prevalence; bags of fewer than
    16 tiles cluster their upper and lower half; no dropout.
    """

    def __init__(self, dim: int, targets: int, *, multi_branch: bool, hidden: int = 512, attention: int = 256) -> None:
        super().__init__()
        self.classes = 2 if multi_branch else 1  # branches and scores a target
        self.project = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU())
        self.content = nn.Linear(hidden, attention)
        self.gate = nn.Linear(hidden, attention)
        self.score = nn.Linear(attention, 2 * targets if multi_branch else 1)  # target x class (0, 1)
        self.classifier = nn.Linear(hidden, self.classes * targets)
        self.clusterers = nn.Linear(hidden, targets * 2 * 2)  # target x class x (out, in)

    def _attend(self, z: Tensor) -> tuple[Tensor, Tensor]:
        h = self.project(z)  # (K, hidden)
        gated = torch.tanh(self.content(h)) * torch.sigmoid(self.gate(h))  # (K, attention)
        return h, torch.softmax(self.score(gated).T, dim=1)  # (K, hidden), (branches, K)

    def _logits(self, h: Tensor, attention: Tensor) -> Tensor:
        pooled = attention @ h  # (branches, hidden)
        scores = (pooled * self.classifier.weight).sum(1) + self.classifier.bias  # (classes L,), each of its branch
        return scores if self.classes == 1 else scores[1::2] - scores[0::2]  # (L,)

    def forward(self, z: Tensor, a: Tensor) -> SlideOutput:
        h, attention = self._attend(z)
        return SlideOutput(self._logits(h, attention), attention.mean(0))  # (L,), (K,)

    def loss(self, z: Tensor, a: Tensor, loss_of: SlideLoss) -> Tensor:
        """0.7 of the slide's loss and 0.3 of the clustering of its extreme tiles (a scalar)."""
        h, attention = self._attend(z)
        return BAG_SHARE * loss_of(self._logits(h, attention)) + INSTANCE_SHARE * self._clustering(
            h, attention, loss_of
        )

    def _clustering(self, h: Tensor, attention: Tensor, loss_of: SlideLoss) -> Tensor:
        count = min(EXTREMES, len(h) // 2)
        total = h.new_zeros(())
        if count == 0:  # one tile is neither the upper nor the lower half of its bag
            return total
        clusterers = self.clusterers.weight.view(-1, 2, 2, h.shape[1])  # (L, class, out/in, hidden)
        biases = self.clusterers.bias.view(-1, 2, 2)  # (L, class, out/in)
        pseudo = torch.arange(2 * count, device=h.device).lt(count).long()  # (2B,): 1 for the top, 0 for the bottom
        for target, importance in enumerate(loss_of.importance(h)):
            if bool(torch.isnan(loss_of.labels[target])):
                continue
            own = int(loss_of.labels[target] > 0.5)
            own_row, other_row = (
                attention[2 * target + c if self.classes == 2 else 0].detach() for c in (own, 1 - own)
            )  # (K,) each
            top, bottom = own_row.topk(count).indices, own_row.topk(count, largest=False).indices
            own_scores = h[torch.cat([top, bottom])] @ clusterers[target, own].T + biases[target, own]  # (2B, 2)
            other_top = other_row.topk(count).indices
            other_scores = h[other_top] @ clusterers[target, 1 - own].T + biases[target, 1 - own]  # (B, 2)
            both = smooth_svm(own_scores, pseudo).mean() + smooth_svm(other_scores, torch.zeros_like(top)).mean()
            total = total + importance * both / 2
        return total


def smooth_svm(scores: Tensor, classes: Tensor) -> Tensor:
    """Smooth top-1 SVM loss (n,) of scores (n, C) for classes (n,) (Berrada et al. 2018, arXiv 1802.07595).

    log sum_j exp(s_j - s_y + alpha [j != y]): cross-entropy that asks for a margin alpha.
    """
    chosen = scores.gather(1, classes[:, None])  # (n, 1)
    margins = torch.full_like(scores, MARGIN).scatter(1, classes[:, None], 0.0)
    return torch.logsumexp(scores - chosen + margins, dim=1)
