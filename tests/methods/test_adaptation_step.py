"""The bounded-memory step gives the gradients of joint back-propagation, exactly, at any micro-batch."""

import copy
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from plain_joint import joint_step
from torch import Tensor, nn

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.methods.abmil import Abmil
from tapfm_eval.methods.adapt import StepReport, TwoPasses, adaptation_step, aggregator_gradients, drive
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.losses import SlideLoss, TargetWeights
from tapfm_eval.methods.mean_pooling import MeanPooling
from tapfm_eval.methods.randomness import depth_keep
from tapfm_eval.methods.spool import Spool
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.protocol.schema import LastBlocks, Lora, LoraPlan

TOLERANCE = 1e-10
WEIGHTS = TargetWeights(prevalence=(0.2, 0.6, 0.35), target=(1.4, 0.6, 1.0))
AGGREGATORS: dict[str, Callable[[], Aggregator]] = {
    "tapfm": lambda: Tapfm(16, 3, temperature=0.1, layer_norm=True),
    "tapfm-plain": lambda: Tapfm(16, 3, temperature=1.0, layer_norm=False),
    "abmil": lambda: Abmil(16, 3, hidden=12, attention=6),
    "mean": lambda: MeanPooling(16, 3),
}
ADAPTATIONS = {
    "full": "full",
    "last_blocks": LastBlocks(last_blocks=2),
    "last_block": LastBlocks(last_blocks=1),
    "lora": Lora(lora=LoraPlan(rank=2, alpha=3.0)),
}


def make_aggregator(name: str, seed: int) -> Aggregator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AGGREGATORS[name]().double()


def make_tiles(count: int, edge: int, seed: int) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, edge, edge), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def loss_for(labels: list[float]) -> SlideLoss:
    return SlideLoss(torch.tensor(labels, dtype=torch.float64), WEIGHTS, 0.1)


def wake_lora(encoder: TileEncoder) -> None:
    """An adapter that still is zero has a zero gradient in its lower half: too easy."""
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))


def step(
    encoder: TileEncoder, aggregator: Aggregator, loss_of: SlideLoss, tiles: Tensor,
    *, keep: Tensor | None = None, micro_batch: int, lambda_attention: float = 1.0,
) -> StepReport:  # fmt: skip
    return adaptation_step(
        encoder, aggregator, loss_of, tiles, keep=keep, micro_batch=micro_batch, lambda_attention=lambda_attention,
        device=torch.device("cpu"), autocast=nullcontext,
    )  # fmt: skip


def gradients(*modules: nn.Module) -> dict[str, Tensor | None]:
    return {f"{i}.{n}": p.grad for i, module in enumerate(modules) for n, p in module.named_parameters()}


def assert_same_gradients(ours: dict[str, Tensor | None], theirs: dict[str, Tensor | None]) -> None:
    assert ours.keys() == theirs.keys()
    largest = 0.0
    for name, gradient in theirs.items():
        got = ours[name]
        if gradient is None or got is None:  # one way may leave out what the other finds to be zero
            present = got if gradient is None else gradient
            assert present is None or float(present.abs().max()) < TOLERANCE, name
            continue
        assert float((got - gradient).abs().max()) < TOLERANCE, name
        largest = max(largest, float(gradient.abs().max()))
    assert largest > 1e-6, "gradients so small prove nothing"


def check_equality(
    encoder: TileEncoder, aggregator: Aggregator, tiles: Tensor, keep: Tensor | None, labels: list[float],
    micro_batch: int, lambda_attention: float,
) -> None:  # fmt: skip
    other_encoder, other_aggregator = copy.deepcopy(encoder), copy.deepcopy(aggregator)
    report = step(
        encoder, aggregator, loss_for(labels), tiles,
        keep=keep, micro_batch=micro_batch, lambda_attention=lambda_attention,
    )  # fmt: skip
    joint = joint_step(other_encoder, other_aggregator, loss_for(labels), tiles, keep, lambda_attention)
    assert report.loss == pytest.approx(joint, abs=1e-12)
    assert report.passes == (1 if len(tiles) <= micro_batch else 2)
    assert_same_gradients(gradients(encoder, aggregator), gradients(other_encoder, other_aggregator))


@pytest.mark.parametrize("adapt", ADAPTATIONS)
@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("lambda_attention", [1.0, 0.0, 0.25])
def test_gradients_equal_those_of_one_joint_graph(
    tiny_encoder: Callable[..., TileEncoder], adapt: str, aggregator: str, lambda_attention: float
) -> None:
    encoder = tiny_encoder("h-optimus-0" if adapt == "full" else "uni")
    adapt_encoder(encoder, ADAPTATIONS[adapt], "arm", 1)
    wake_lora(encoder)
    edge = 42 if adapt == "full" else 48
    tiles = make_tiles(7, edge, seed=3)
    keep = depth_keep(np.arange(7), 3, 0.4, "step")
    check_equality(encoder, make_aggregator(aggregator, 4), tiles, keep, [1.0, float("nan"), 0.0], 3, lambda_attention)


@pytest.mark.parametrize("adapt", ADAPTATIONS)
def test_an_embedding_with_the_mean_of_patches_has_exact_gradients_too(
    tiny_encoder: Callable[..., TileEncoder], adapt: str
) -> None:
    """Its last block is computed whole, not for the CLS row alone."""
    encoder = tiny_encoder("virchow2")
    assert encoder.mean_of_patches
    adapt_encoder(encoder, ADAPTATIONS[adapt], "arm", 1)
    wake_lora(encoder)
    tiles = make_tiles(5, int(encoder.network.patch_embed.img_size[0]), seed=3)
    aggregator = Tapfm(encoder.dim, 3, temperature=0.1, layer_norm=True).double()
    check_equality(
        encoder, aggregator, tiles, depth_keep(np.arange(5), 3, 0.4, "step"), [1.0, float("nan"), 0.0], 2, 1.0
    )


@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 9),
    micro_batch=st.integers(1, 10),
    lambda_attention=st.sampled_from([0.0, 0.25, 1.0, 2.0]),
    rate=st.sampled_from([0.0, 0.3, 0.8]),
    labels=st.lists(st.sampled_from([0.0, 1.0, float("nan")]), min_size=3, max_size=3),
    name=st.sampled_from(list(AGGREGATORS)),
    backbone=st.sampled_from(["uni", "gigapath", "h-optimus-0"]),
    seed=st.integers(0, 1000),
)
@example(1, 1, 1.0, 0.0, [1.0, 0.0, 1.0], "tapfm", "uni", 0)
@example(9, 4, 1.0, 0.3, [1.0, 0.0, float("nan")], "tapfm", "h-optimus-0", 1)
def test_gradients_equal_for_any_bag_and_micro_batch(
    tiny_encoder: Callable[..., TileEncoder],
    count: int, micro_batch: int, lambda_attention: float, rate: float, labels: list[float], name: str,
    backbone: str, seed: int,
) -> None:  # fmt: skip
    encoder = tiny_encoder(backbone, seed)
    tiles = make_tiles(count, 42 if backbone == "h-optimus-0" else 48, seed)
    keep = depth_keep(np.arange(count) * 3 + seed, 3, rate, seed)
    aggregator = make_aggregator(name, seed + 1)
    if all(np.isnan(labels)):
        step(encoder, aggregator, loss_for(labels), tiles, keep=keep, micro_batch=micro_batch)
        moved = [g for g in gradients(encoder, aggregator).values() if g is not None]
        assert all(float(g.abs().max()) == 0 for g in moved)
        return
    check_equality(encoder, aggregator, tiles, keep, labels, micro_batch, lambda_attention)


@pytest.mark.parametrize("micro_batch", [2, 8])
def test_a_bag_of_constant_attention_gives_uniform_weights_and_no_attention_gradient(
    tiny_encoder: Callable[..., TileEncoder], micro_batch: int
) -> None:
    """Identical tiles have identical attention; stochastic depth in the last block still tells their z apart."""
    encoder, aggregator = tiny_encoder("uni"), make_aggregator("tapfm", 2)
    tiles = make_tiles(1, 48, seed=5).expand(5, -1, -1, -1)
    keep = torch.ones(5, 3, 2, dtype=torch.float64)
    keep[:, 2] = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    weights = aggregator(*encoder(tiles, keep)).weights
    assert weights.tolist() == [0.2] * 5
    assert not weights.requires_grad
    check_equality(encoder, aggregator, tiles, keep, [1.0, 0.0, 1.0], micro_batch, 1.0)


def test_lambda_scales_the_attention_path_alone(tiny_encoder: Callable[..., TileEncoder]) -> None:
    """g(lambda) is linear, with a slope: else lambda would be a parameter that is accepted and ignored."""
    found = {}
    for lambda_attention in (0.0, 0.5, 1.0):
        encoder, aggregator = tiny_encoder("uni"), make_aggregator("tapfm", 2)
        step(encoder, aggregator, loss_for([1.0, 0.0, 1.0]), make_tiles(6, 48, 1), micro_batch=4,
             lambda_attention=lambda_attention)  # fmt: skip
        found[lambda_attention] = encoder.network.blocks[2].attn.qkv.weight.grad
    slope = found[1.0] - found[0.0]
    assert float(slope.abs().max()) > 1e-6
    assert torch.allclose(found[0.5], found[0.0] + slope / 2, atol=1e-14)


class Watched(nn.Module):
    """Passes calls on to an encoder and remembers them."""

    def __init__(self, encoder: TileEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.first_trained_block = encoder.first_trained_block
        self.prefixes: list[int] = []
        self.calls: list[tuple[bool, int, Tensor | None, Tensor, Tensor]] = []

    def forward(self, tiles: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.rest(self.prefix(tiles, keep), keep)

    def prefix(self, tiles: Tensor, keep: Tensor | None = None) -> Tensor:
        self.prefixes.append(len(tiles))
        return self.encoder.prefix(tiles, keep)

    def rest(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, a = self.encoder.rest(x, keep)
        self.calls.append((torch.is_grad_enabled(), len(x), keep, z.detach(), a.detach()))
        return z, a


def test_the_second_pass_replays_the_first_with_the_same_masks(tiny_encoder: Callable[..., TileEncoder]) -> None:
    watched = Watched(tiny_encoder("uni"))
    keep = depth_keep(np.arange(7), 3, 0.5, "replay")
    report = step(watched, make_aggregator("tapfm", 0), loss_for([1.0, 0.0, 1.0]), make_tiles(7, 48, 0),  # type: ignore[arg-type]
                  keep=keep, micro_batch=3)  # fmt: skip
    assert report.passes == 2
    first, second = watched.calls[:3], watched.calls[3:]
    assert [call[0] for call in watched.calls] == [False] * 3 + [True] * 3
    assert [call[1] for call in first] == [call[1] for call in second] == [3, 3, 1]
    for before, after in zip(first, second, strict=True):
        assert all(torch.equal(b, a) for b, a in zip(before[2:], after[2:], strict=True))
    assert torch.equal(torch.cat([call[2] for call in first]), keep)


def test_a_bag_that_fits_is_run_once(tiny_encoder: Callable[..., TileEncoder]) -> None:
    watched = Watched(tiny_encoder("uni"))
    report = step(watched, make_aggregator("tapfm", 0), loss_for([1.0, 0.0, 1.0]), make_tiles(5, 48, 0), micro_batch=5)  # type: ignore[arg-type]
    assert report.passes == 1
    assert [call[:2] for call in watched.calls] == [(True, 5)]


def test_gradients_add_up_over_slides(tiny_encoder: Callable[..., TileEncoder]) -> None:
    encoder, aggregator = tiny_encoder("uni"), make_aggregator("abmil", 0)
    apart = []
    for seed in (1, 2):
        one, other = copy.deepcopy(encoder), copy.deepcopy(aggregator)
        step(one, other, loss_for([1.0, 0.0, 1.0]), make_tiles(4, 48, seed), micro_batch=3)
        apart.append(one.network.patch_embed.proj.weight.grad)
        step(encoder, aggregator, loss_for([1.0, 0.0, 1.0]), make_tiles(4, 48, seed), micro_batch=3)
    assert torch.allclose(encoder.network.patch_embed.proj.weight.grad, apart[0] + apart[1], atol=1e-13)


@pytest.mark.parametrize("adapt", ["last_blocks", "last_block", "lora"])
def test_frozen_parameters_get_no_gradient(tiny_encoder: Callable[..., TileEncoder], adapt: str) -> None:
    encoder = tiny_encoder("uni")
    adapt_encoder(encoder, ADAPTATIONS[adapt], "arm", 1)
    wake_lora(encoder)
    step(encoder, make_aggregator("tapfm", 0), loss_for([1.0, 0.0, 1.0]), make_tiles(4, 48, 0), micro_batch=3)
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("held_bytes", [0, 2**30], ids=["file", "memory"])
def test_frozen_blocks_run_once_for_a_tile_and_their_kept_output_changes_nothing(
    tiny_encoder: Callable[..., TileEncoder], monkeypatch: pytest.MonkeyPatch, held_bytes: int
) -> None:
    """Bit for bit what a step gives that runs the frozen blocks in both passes."""
    monkeypatch.setattr("tapfm_eval.methods.adapt.Spool", lambda rows: Spool(rows, held_bytes))
    plain = tiny_encoder("uni")
    adapt_encoder(plain, LastBlocks(last_blocks=1), "arm", 1)
    once, tiles, keep = copy.deepcopy(plain), make_tiles(7, 48, 0), depth_keep(np.arange(7), 3, 0.5, "frozen")
    watched = Watched(once)
    aggregator, other = make_aggregator("tapfm", 0), make_aggregator("tapfm", 0)
    step(watched, aggregator, loss_for([1.0, 0.0, 1.0]), tiles, keep=keep, micro_batch=3)  # type: ignore[arg-type]
    assert watched.prefixes == [3, 3, 1]
    bag = TwoPasses(plain, tiles, keep, 3, torch.device("cpu"), nullcontext)
    _, g_z, g_a = aggregator_gradients(other, loss_for([1.0, 0.0, 1.0]), *bag.encoded())
    for part in bag.parts:
        drive(*plain(tiles[part], keep[part]), g_z[part], g_a[part], 1.0)
    list(bag.with_graph())  # gives its file back
    compared = 0
    for ours, theirs in zip(once.parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None and theirs.grad is not None:
            assert torch.equal(ours.grad, theirs.grad)
            compared += 1
    assert compared > 5
