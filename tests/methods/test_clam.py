"""CLAM against an obvious twin, one target and one tile at a time."""

import aggregator_checks as checks
import numpy as np
import pytest
import torch
from aggregator_checks import DIM, LABELS, NAN, TARGETS, WEIGHTS, loss_of, numbers, random_bag, seeded, softmax
from numpy.typing import NDArray

from tapfm_eval.methods.clam import Clam, smooth_svm

BRANCHES = pytest.mark.parametrize("multi_branch", [False, True], ids=["sb", "mb"])


def clam(multi_branch: bool) -> Clam:
    made = seeded(Clam, multi_branch=multi_branch, hidden=16, attention=8)
    assert isinstance(made, Clam)
    return made


class Twin:
    """CLAM as the paper's text describes it, in loops."""

    def __init__(self, aggregator: Clam, z: NDArray[np.float64]) -> None:
        p = numbers(aggregator)
        self.h = np.array([np.maximum(p["project.0.weight"] @ tile + p["project.0.bias"], 0) for tile in z])
        raw = []
        for h in self.h:
            content = np.tanh(p["content.weight"] @ h + p["content.bias"])
            gate = 1 / (1 + np.exp(-(p["gate.weight"] @ h + p["gate.bias"])))
            raw.append(p["score.weight"] @ (content * gate) + p["score.bias"])
        branches = np.array(raw).T
        several = len(branches) > 1
        # the attention of a class of a target: one of its own with several branches, else the only one
        self.rows = [[softmax(branches[2 * t + c if several else 0]) for c in (0, 1)] for t in range(TARGETS)]
        self.weights = np.mean([softmax(branch) for branch in branches], axis=0)

        def score(row: int, shares: NDArray[np.float64]) -> float:
            pooled = sum(w * h for w, h in zip(shares, self.h, strict=True))
            return float(p["classifier.weight"][row] @ pooled + p["classifier.bias"][row])

        self.logits = np.array(
            [score(2 * t + 1, self.rows[t][1]) - score(2 * t, self.rows[t][0]) if several else score(t, self.rows[t][0])
             for t in range(TARGETS)]
        )  # fmt: skip
        self.clusterers = p["clusterers.weight"].reshape(TARGETS, 2, 2, -1)
        self.biases = p["clusterers.bias"].reshape(TARGETS, 2, 2)

    def hinge(self, tile: int, target: int, of_class: int, truth: int) -> float:
        scores = self.clusterers[target, of_class] @ self.h[tile] + self.biases[target, of_class]
        return float(np.log(1 + np.exp(1 + scores[1 - truth] - scores[truth])))

    def clustering(self, labels: tuple[float, ...], count: int) -> float:
        total = 0.0
        for t, label in enumerate(labels):
            if np.isnan(label):
                continue
            own = int(label)
            order, other = np.argsort(self.rows[t][own]), np.argsort(self.rows[t][1 - own])
            top, bottom = order[::-1][:count], order[:count]
            inside = [self.hinge(k, t, own, 1) for k in top] + [self.hinge(k, t, own, 0) for k in bottom]
            outside = [self.hinge(k, t, 1 - own, 0) for k in other[::-1][:count]]
            p = WEIGHTS.prevalence[t]
            total += WEIGHTS.target[t] * (1 - p if own else p) * (np.mean(inside) + np.mean(outside)) / 2
        return total

    def loss(self, labels: tuple[float, ...], count: int) -> float:
        return 0.7 * checks.slow_slide_loss(self.logits, labels) + 0.3 * self.clustering(labels, count)


@BRANCHES
@pytest.mark.parametrize("tiles", [1, 2, 15, 16, 40])
def test_logits_weights_and_loss_equal_the_twin(multi_branch: bool, tiles: int) -> None:
    aggregator = clam(multi_branch)
    z, a = random_bag(tiles, seed=tiles)
    twin = Twin(aggregator, z.numpy())
    output = aggregator(z, a)
    np.testing.assert_allclose(output.logits.detach().numpy(), twin.logits, rtol=0, atol=1e-12)
    np.testing.assert_allclose(output.weights.detach().numpy(), twin.weights, rtol=0, atol=1e-12)
    count = min(8, tiles // 2)
    for labels in [LABELS, (0.0, 1.0, 1.0), (NAN, NAN, 1.0)]:
        got = float(aggregator.loss(z, a, loss_of(*labels)).detach())
        assert got == pytest.approx(twin.loss(labels, count) if count else 0.7 * checks.slow_slide_loss(
            twin.logits, labels), abs=1e-12)  # fmt: skip


def test_the_clustering_uses_eight_tiles_from_each_end() -> None:
    """Between the extremes a tile does not enter the instance loss."""
    aggregator = clam(False)
    z, _ = random_bag(40)
    h, attention = aggregator._attend(z)
    h = h.detach().requires_grad_()
    aggregator._clustering(h, attention, loss_of(1.0, NAN, NAN)).backward()
    assert h.grad is not None
    order = attention[0].argsort()
    assert bool(h.grad[order[8:-8]].any()) is False
    assert bool(h.grad[order[:8]].any(dim=1).all())
    assert bool(h.grad[order[-8:]].any(dim=1).all())


def test_the_instance_loss_does_not_train_the_attention() -> None:
    aggregator = clam(True)
    z, _ = random_bag(20)
    h, attention = aggregator._attend(z)
    aggregator._clustering(h, attention, loss_of(1.0, 0.0, 1.0)).backward()
    assert aggregator.score.weight.grad is None
    assert aggregator.clusterers.weight.grad is not None


def test_smooth_svm_asks_for_a_margin_of_one() -> None:
    scores = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert float(smooth_svm(scores, torch.tensor([1]))) == pytest.approx(np.log(2))
    assert float(smooth_svm(scores + 5, torch.tensor([0]))) == pytest.approx(np.log(1 + np.exp(2)))


@BRANCHES
def test_order_of_tiles_does_not_matter(multi_branch: bool) -> None:
    checks.assert_order_of_tiles_does_not_matter(clam(multi_branch))


@BRANCHES
def test_weights_are_shares(multi_branch: bool) -> None:
    checks.assert_weights_are_shares(clam(multi_branch))


@BRANCHES
def test_an_unknown_label_contributes_nothing(multi_branch: bool) -> None:
    checks.assert_an_unknown_label_contributes_nothing(clam(multi_branch))


@BRANCHES
@pytest.mark.parametrize("adaptation", checks.ADAPTATIONS)
def test_two_passes_equal_the_joint_graph(multi_branch: bool, adaptation: str) -> None:
    checks.assert_two_passes_equal_the_joint_graph(clam(multi_branch), adaptation)


def test_single_branch_attends_once_and_multi_branch_once_a_class() -> None:
    assert clam(False).score.out_features == 1
    assert clam(True).score.out_features == 2 * TARGETS
    one = [Clam(DIM, 1, multi_branch=several).score.out_features for several in (False, True)]
    assert one == [1, 2]  # with a single target too, the two are different networks
    published = Clam(DIM, TARGETS, multi_branch=True)
    assert (published.project[0].out_features, published.gate.out_features) == (512, 256)
