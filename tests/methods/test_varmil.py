"""VarMIL against an obvious twin, one tile at a time."""

import aggregator_checks as checks
import numpy as np
import pytest
import torch
from aggregator_checks import DIM, LABELS, TARGETS, loss_of, numbers, random_bag, seeded, softmax
from numpy.typing import NDArray

from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.varmil import Varmil


def varmil() -> Aggregator:
    return seeded(Varmil, attention=8)


def twin(aggregator: Aggregator, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits and weights as the paper's text describes them."""
    p = numbers(aggregator)
    raw = [p["score.weight"][0] @ np.tanh(p["content.weight"] @ tile + p["content.bias"]) for tile in z]
    weights = softmax(np.array(raw))
    mean = np.average(z, axis=0, weights=weights)
    variance = np.average((z - mean) ** 2, axis=0, weights=weights)
    if len(z) > 1:
        variance = variance * len(z) / (len(z) - 1)
    return p["classifier.weight"] @ np.concatenate([mean, variance]) + p["classifier.bias"], weights


@pytest.mark.parametrize("tiles", [1, 2, 17, 40])
def test_logits_weights_and_loss_equal_the_twin(tiles: int) -> None:
    aggregator = varmil()
    z, a = random_bag(tiles, seed=tiles)
    logits, weights = twin(aggregator, z.numpy())
    output = aggregator(z, a)
    np.testing.assert_allclose(output.logits.detach().numpy(), logits, rtol=0, atol=1e-12)
    np.testing.assert_allclose(output.weights.detach().numpy(), weights, rtol=0, atol=1e-12)
    got = float(aggregator.loss(z, a, loss_of(*LABELS)).detach())
    assert got == pytest.approx(checks.slow_slide_loss(logits, LABELS), abs=1e-12)


def test_under_equal_weights_the_spread_is_the_unbiased_sample_variance() -> None:
    aggregator = varmil()
    z, a = random_bag(12)
    with torch.no_grad():
        for name, parameter in aggregator.named_parameters():
            if name.startswith("score"):
                parameter.zero_()
        aggregator.classifier.weight[:] = torch.eye(2 * DIM, dtype=torch.float64)[DIM : DIM + TARGETS]
        aggregator.classifier.bias.zero_()
    expected = z.numpy().var(axis=0, ddof=1)[:TARGETS]
    np.testing.assert_allclose(aggregator(z, a).logits.detach().numpy(), expected, rtol=0, atol=1e-12)


def test_order_of_tiles_does_not_matter() -> None:
    checks.assert_order_of_tiles_does_not_matter(varmil())


def test_weights_are_shares() -> None:
    checks.assert_weights_are_shares(varmil())


def test_an_unknown_label_contributes_nothing() -> None:
    checks.assert_an_unknown_label_contributes_nothing(varmil())


@pytest.mark.parametrize("adaptation", checks.ADAPTATIONS)
def test_two_passes_equal_the_joint_graph(adaptation: str) -> None:
    checks.assert_two_passes_equal_the_joint_graph(varmil(), adaptation)
