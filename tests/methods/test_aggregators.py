"""TAPFM, ABMIL and mean pooling against re-implementations in plain numpy; names, seeds and the recipe's settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tapfm_eval.methods.abmil import Abmil
from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.mean_pooling import MeanPooling
from tapfm_eval.methods.model import build_aggregator
from tapfm_eval.methods.recipe import paper_recipe
from tapfm_eval.methods.tapfm import Tapfm, attention_weights
from tapfm_eval.protocol.schema import AGGREGATORS, Arm

Floats = NDArray[np.float64]
DIM, TARGETS = 12, 3
RECIPE = paper_recipe(Arm(id="a", backbone="uni", aggregator="tapfm", adapt="full"))


def numbers(module: torch.nn.Module) -> dict[str, Floats]:
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def softmax(x: Floats) -> Floats:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def layer_norm(x: Floats, weight: Floats, bias: Floats) -> Floats:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias


def slow_tapfm(module: Tapfm, z: Floats, a: Floats) -> tuple[Floats, Floats]:
    p = numbers(module)
    w = softmax((a - a.min()) / (a.max() - a.min() + 1e-8) / module.temperature)
    pooled = sum(w[i] * z[i] for i in range(len(z)))
    if "norm.weight" in p:
        pooled = layer_norm(pooled, p["norm.weight"], p["norm.bias"])
    return p["classifier.weight"] @ pooled + p["classifier.bias"], w


def slow_abmil(module: Abmil, z: Floats, a: Floats) -> tuple[Floats, Floats]:
    p = numbers(module)
    h = [np.maximum(p["project.0.weight"] @ tile + p["project.0.bias"], 0) for tile in z]
    score = [
        p["score.weight"]
        @ (np.tanh(p["content.weight"] @ t + p["content.bias"]) * sigmoid(p["gate.weight"] @ t + p["gate.bias"]))
        + p["score.bias"]
        for t in h
    ]
    w = softmax(np.concatenate(score))
    pooled = sum(w[i] * h[i] for i in range(len(h)))
    return p["classifier.weight"] @ pooled + p["classifier.bias"], w


def slow_mean(module: MeanPooling, z: Floats, a: Floats) -> tuple[Floats, Floats]:
    p = numbers(module)
    pooled = layer_norm(z.mean(axis=0), p["norm.weight"], p["norm.bias"])
    return p["classifier.weight"] @ pooled + p["classifier.bias"], np.full(len(z), 1 / len(z))


CASES = {
    "tapfm": (lambda: Tapfm(DIM, TARGETS, temperature=0.1, layer_norm=True), slow_tapfm),
    "tapfm without norm, warmer": (lambda: Tapfm(DIM, TARGETS, temperature=0.7, layer_norm=False), slow_tapfm),
    "abmil": (lambda: Abmil(DIM, TARGETS, hidden=10, attention=6), slow_abmil),
    "mean": (lambda: MeanPooling(DIM, TARGETS), slow_mean),
}  # fmt: skip


def made(name: str) -> Aggregator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module: Aggregator = CASES[name][0]().double()
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
    return module


def random_bag(count: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((count, DIM))), torch.from_numpy(1 / 196 + 1e-5 * rng.random(count))


@settings(max_examples=25, derandomize=True, deadline=None)
@given(count=st.integers(1, 40), seed=st.integers(0, 10_000))
@pytest.mark.parametrize("name", CASES)
def test_an_aggregator_equals_its_paper_written_out(name: str, count: int, seed: int) -> None:
    module = made(name)
    z, a = random_bag(count, seed)
    if count == 1 and name.startswith("tapfm"):
        a = torch.full((1,), 0.005, dtype=torch.float64)
    output = module(z, a)
    logits, weights = CASES[name][1](module, z.numpy(), a.numpy())
    assert np.allclose(output.logits.detach().numpy(), logits, atol=1e-9)
    assert np.allclose(output.weights.detach().numpy(), weights, atol=1e-12)
    assert output.logits.shape == (TARGETS,)
    assert float(output.weights.detach().sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_tiles_does_not_matter(name: str) -> None:
    module = made(name)
    z, a = random_bag(30, 1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    straight, shuffled = module(z, a), module(z[order], a[order])
    assert torch.allclose(straight.logits, shuffled.logits, atol=1e-12)
    assert torch.allclose(straight.weights[order], shuffled.weights, atol=1e-12)


def test_tapfm_alone_uses_the_backbones_attention() -> None:
    for name in CASES:
        module = made(name)
        z, a = random_bag(10, 2)
        differs = not torch.equal(module(z, a).logits, module(z, a.flip(0)).logits)
        assert differs == module.uses_attention == name.startswith("tapfm")


@pytest.mark.parametrize("spread", [0.0, 1e-10, 9e-9])
def test_flat_attention_gives_uniform_weights_and_no_gradient(spread: float) -> None:
    a = (0.005 + spread * torch.linspace(0, 1, 8, dtype=torch.float64)).requires_grad_()
    weights = attention_weights(a, 0.1)
    assert weights.tolist() == [0.125] * 8
    z = torch.randn(8, DIM, dtype=torch.float64, requires_grad=True)
    made("tapfm")(z, a).logits.sum().backward()
    assert a.grad is None or float(a.grad.abs().max()) == 0
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_attention_weights_do_not_depend_on_scale_or_shift() -> None:
    """Min-max comes first, so that a spread of 1e-6 around 1/196 tells tiles apart as well as one of 1."""
    unit = torch.linspace(0, 1, 9, dtype=torch.float64)
    small = attention_weights(1 / 196 + 1e-5 * unit, 0.1)
    assert torch.allclose(small, torch.softmax(unit / 0.1, 0), atol=1e-2)
    assert float(small[-1] / small[0]) > 1e4


def test_attention_weights_have_the_gradient_of_their_formula() -> None:
    a = (torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attention_weights(x, 0.5), (a,))


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_aggregator_of_the_schema_is_built_from_its_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = build_aggregator(name, DIM, TARGETS, RECIPE, 1, 0, "arm").state_dict()
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was used"
    torch.manual_seed(2)
    again = build_aggregator(name, DIM, TARGETS, RECIPE, 1, 0, "arm").state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = build_aggregator(name, DIM, TARGETS, RECIPE, 2, 0, "arm").state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_temperature_and_layer_norm_come_from_the_recipe() -> None:
    z, a = (x.float() for x in random_bag(6, 0))
    one = build_aggregator("tapfm", DIM, TARGETS, replace(RECIPE, temperature=0.1), 1)
    other = build_aggregator("tapfm", DIM, TARGETS, replace(RECIPE, temperature=1.0), 1)
    assert not torch.equal(one(z, a).weights, other(z, a).weights)
    plain = build_aggregator("tapfm", DIM, TARGETS, replace(RECIPE, layer_norm=False), 1)
    assert {name for name, _ in plain.named_parameters()} == {"classifier.weight", "classifier.bias"}
    assert "norm.weight" in dict(one.named_parameters())
