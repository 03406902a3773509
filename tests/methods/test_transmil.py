"""TransMIL against an obvious twin: one head, one token and one pixel of the square at a time."""

import aggregator_checks as checks
import numpy as np
import pytest
from aggregator_checks import LABELS, loss_of, numbers, random_bag, seeded, softmax
from numpy.typing import NDArray

from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.transmil import TransMil

WIDTH, HEADS = 8, 2


def transmil() -> Aggregator:
    return seeded(TransMil, hidden=WIDTH, heads=HEADS)


def layer_norm(x: NDArray[np.float64], p: dict[str, NDArray[np.float64]], name: str) -> NDArray[np.float64]:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]
    )


def self_attention(
    x: NDArray[np.float64], p: dict[str, NDArray[np.float64]], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The tokens after the layer, and its attention (heads, N, N)."""
    qkv = layer_norm(x, p, f"{name}.norm") @ p[f"{name}.qkv.weight"].T
    q, k, v = qkv[:, :WIDTH], qkv[:, WIDTH : 2 * WIDTH], qkv[:, 2 * WIDTH :]
    size = WIDTH // HEADS
    heads, maps = [], []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        attention = np.array([softmax(row @ k[:, part].T / np.sqrt(size)) for row in q[:, part]])
        heads.append(attention @ v[:, part])
        maps.append(attention)
    mixed = np.concatenate(heads, axis=1)
    return x + mixed @ p[f"{name}.out.weight"].T + p[f"{name}.out.bias"], np.array(maps)


def ppeg(x: NDArray[np.float64], side: int, p: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    square = x.reshape(side, side, WIDTH)
    out = square.copy()
    for i, kernel in enumerate((7, 5, 3)):
        weight, bias = p[f"position.convolutions.{i}.weight"], p[f"position.convolutions.{i}.bias"]
        half = kernel // 2
        for y in range(side):
            for xx in range(side):
                out[y, xx] += bias
                for dy in range(-half, half + 1):
                    for dx in range(-half, half + 1):
                        if 0 <= y + dy < side and 0 <= xx + dx < side:
                            out[y, xx] += weight[:, 0, dy + half, dx + half] * square[y + dy, xx + dx]
    return out.reshape(-1, WIDTH)


def twin(aggregator: Aggregator, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits and weights with every matrix written out."""
    p = numbers(aggregator)
    h = np.maximum(z @ p["project.0.weight"].T + p["project.0.bias"], 0)
    side = int(np.ceil(np.sqrt(len(h))))
    owners = [i % len(h) for i in range(side**2)]
    x = np.vstack([p["class_token"][None], h[owners]])
    x, _ = self_attention(x, p, "first")
    x = np.vstack([x[:1], ppeg(x[1:], side, p)])
    x, maps = self_attention(x, p, "second")
    logits = p["classifier.weight"] @ layer_norm(x[0], p, "norm") + p["classifier.bias"]
    weights = np.zeros(len(h))
    for owner, share in zip(owners, maps[:, 0, 1:].mean(0), strict=True):
        weights[owner] += share
    return logits, weights / weights.sum()


@pytest.mark.parametrize("tiles", [1, 2, 3, 4, 5, 9, 10, 17, 26])
def test_logits_weights_and_loss_equal_the_twin(tiles: int) -> None:
    aggregator = transmil()
    z, a = random_bag(tiles, seed=tiles)
    logits, weights = twin(aggregator, z.numpy())
    output = aggregator(z, a)
    np.testing.assert_allclose(output.logits.detach().numpy(), logits, rtol=0, atol=1e-11)
    np.testing.assert_allclose(output.weights.detach().numpy(), weights, rtol=0, atol=1e-11)
    got = float(aggregator.loss(z, a, loss_of(*LABELS)).detach())
    assert got == pytest.approx(checks.slow_slide_loss(logits, LABELS), abs=1e-11)


def test_order_of_tiles_matters() -> None:
    aggregator = transmil()
    z, a = random_bag(16)
    moved = (aggregator(z.flip(0), a).logits - aggregator(z, a).logits).detach()
    assert float(moved.abs().max()) > 1e-3


def test_weights_are_shares() -> None:
    checks.assert_weights_are_shares(transmil())


def test_an_unknown_label_contributes_nothing() -> None:
    checks.assert_an_unknown_label_contributes_nothing(transmil())


@pytest.mark.parametrize("adaptation", checks.ADAPTATIONS)
def test_two_passes_equal_the_joint_graph(adaptation: str) -> None:
    checks.assert_two_passes_equal_the_joint_graph(transmil(), adaptation)
