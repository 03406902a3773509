"""DSMIL against an obvious twin, one target and one tile at a time."""

import aggregator_checks as checks
import numpy as np
import pytest
from aggregator_checks import LABELS, TARGETS, loss_of, numbers, random_bag, seeded, softmax
from numpy.typing import NDArray

from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.dsmil import Dsmil


def dsmil() -> Aggregator:
    return seeded(Dsmil, query=8)


def twin(
    aggregator: Aggregator, z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Logits of the instance stream, of the bag stream, and mean weights, as the paper's text describes them."""
    p = numbers(aggregator)
    instance, bag, weights = [], [], []
    for t in range(TARGETS):
        scores = [p["instance.weight"][t] @ tile + p["instance.bias"][t] for tile in z]
        critical = int(np.argmax(scores))
        queries = [p["query.weight"] @ tile + p["query.bias"] for tile in z]
        values = [p["value.weight"] @ tile + p["value.bias"] for tile in z]
        likeness = np.array([q @ queries[critical] / np.sqrt(len(q)) for q in queries])
        u = softmax(likeness)
        embedding = sum(w * v for w, v in zip(u, values, strict=True))
        instance.append(scores[critical])
        bag.append(p["classifier.weight"][t] @ embedding + p["classifier.bias"][t])
        weights.append(u)
    return np.array(instance), np.array(bag), np.mean(weights, axis=0)


@pytest.mark.parametrize("tiles", [1, 2, 17, 40])
def test_logits_weights_and_loss_equal_the_twin(tiles: int) -> None:
    aggregator = dsmil()
    z, a = random_bag(tiles, seed=tiles)
    instance, bag, weights = twin(aggregator, z.numpy())
    output = aggregator(z, a)
    np.testing.assert_allclose(output.logits.detach().numpy(), (instance + bag) / 2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(output.weights.detach().numpy(), weights, rtol=0, atol=1e-12)
    expected = (checks.slow_slide_loss(instance, LABELS) + checks.slow_slide_loss(bag, LABELS)) / 2
    assert float(aggregator.loss(z, a, loss_of(*LABELS)).detach()) == pytest.approx(expected, abs=1e-12)


def test_order_of_tiles_does_not_matter() -> None:
    checks.assert_order_of_tiles_does_not_matter(dsmil())


def test_weights_are_shares() -> None:
    checks.assert_weights_are_shares(dsmil())


def test_an_unknown_label_contributes_nothing() -> None:
    checks.assert_an_unknown_label_contributes_nothing(dsmil())


@pytest.mark.parametrize("adaptation", checks.ADAPTATIONS)
def test_two_passes_equal_the_joint_graph(adaptation: str) -> None:
    checks.assert_two_passes_equal_the_joint_graph(dsmil(), adaptation)
