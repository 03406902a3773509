"""N*: the drift of a block is seen where it was planted, and the fewest last blocks that hold the share are named."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.methods.drift import BlockDrift, block_drift, block_tokens, linear_cka


def tiles(edge: int = 48) -> Tensor:
    return torch.randint(0, 256, (12, 3, edge, edge), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def slow_cka(x: Tensor, y: Tensor) -> float:
    """Kornblith et al. 2019, equation 4: from the feature side."""
    a, b = (t - t.mean(0, keepdim=True) for t in (x.double(), y.double()))
    cross, own_a, own_b = (float((m**2).sum()) for m in (b.T @ a, a.T @ a, b.T @ b))
    return cross / math.sqrt(own_a * own_b)


@given(st.integers(0, 2**31 - 1), st.integers(3, 9), st.integers(1, 6), st.integers(1, 6))
def test_cka_equals_its_form_over_features(seed: int, tiles: int, first: int, second: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.randn(tiles, first, generator=draw), torch.randn(tiles, second, generator=draw)
    assert linear_cka(x, y) == pytest.approx(slow_cka(x, y), rel=1e-9)
    turn, _ = torch.linalg.qr(torch.randn(first, first, generator=draw))
    assert linear_cka(x, 2.5 * x @ turn + 1) == pytest.approx(1, abs=1e-5)


def test_a_description_without_spread_has_no_cka() -> None:
    assert math.isnan(linear_cka(torch.ones(4, 3), torch.randn(4, 3)))


def test_block_tokens_are_those_of_the_network_block_by_block(tiny_encoder: Callable[..., TileEncoder]) -> None:
    encoder = tiny_encoder("h-optimus-0")  # with register tokens
    shown = tiles(42)
    tokens = block_tokens(encoder, shown, micro_batch=5)
    network = encoder.network
    x = (shown - encoder.get_buffer("mean")) / encoder.get_buffer("std")
    x = network.norm_pre(network._pos_embed(network.patch_embed(x)))
    for block, found in zip(network.blocks, tokens, strict=True):
        x = block(x)
        torch.testing.assert_close(found.double(), x[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_blocks_before_the_one_that_moved_have_no_drift(tiny_encoder: Callable[..., TileEncoder], moved: int) -> None:
    encoder = tiny_encoder()
    before = block_tokens(encoder, tiles(), 12)
    with torch.no_grad():
        for parameter in encoder.network.blocks[moved].parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    drift = block_drift(before, block_tokens(encoder, tiles(), 12))
    assert drift.depth == 3
    assert drift.shares[:moved] == pytest.approx((0,) * moved)
    assert drift.shares[moved] > 0
    assert sum(drift.shares) == pytest.approx(1)
    assert drift.last(3 - moved) == pytest.approx(1)
    fewest = drift.fewest(1.0)
    assert fewest is not None
    assert fewest <= 3 - moved


def test_the_fewest_last_blocks_hold_the_share_and_one_fewer_does_not() -> None:
    drift = BlockDrift((1.0,) * 5, (0.05, 0.05, 0.1, 0.3, 0.5))
    assert [drift.fewest(share) for share in (0.4, 0.5, 0.8, 0.85, 0.9, 1.0)] == [1, 1, 2, 3, 3, 5]


def test_a_probe_that_moved_nothing_names_no_number() -> None:
    tokens = [torch.randn(6, 4), torch.randn(6, 4)]
    drift = block_drift(tokens, tokens)
    assert drift.shares == (0, 0)
    assert drift.fewest() is None
