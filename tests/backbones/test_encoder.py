"""The encoder's embedding is timm's own, and its attention scalar is the one that the full matrix gives."""

from dataclasses import replace
from types import MappingProxyType

import pytest
import timm
import torch
from scipy.stats import spearmanr
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tapfm_eval.backbones.cards import CARDS, BackboneCard, stand_in
from tapfm_eval.backbones.encoder import TileEncoder, trainable_state
from tapfm_eval.backbones.load import build_backbone
from tapfm_eval.errors import BackboneError


def small(name: str) -> BackboneCard:
    """A stand-in whose tiles are four patches wide."""
    stood = stand_in(CARDS[name])
    edge = 4 * stood.patch_px
    arguments = MappingProxyType(dict(stood.timm_arguments) | {"img_size": edge})
    return replace(stood, timm_arguments=arguments, tile_px=edge)


def random_network(card: BackboneCard, **changes: object) -> VisionTransformer:
    """The card's network with weights, biases and scales that are all random and large enough to matter."""
    changed = replace(card, timm_arguments=MappingProxyType(dict(card.timm_arguments) | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = build_backbone(changed)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def random_tiles(card: BackboneCard, count: int = 3) -> Tensor:
    shape = (count, 3, card.tile_px, card.tile_px)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def normalised(card: BackboneCard, tiles: Tensor) -> Tensor:
    mean, std = torch.tensor(card.mean, dtype=torch.float64), torch.tensor(card.std, dtype=torch.float64)
    return (tiles.double() / 255 - mean[:, None, None]) / std[:, None, None]


def full_matrix_attention(network: VisionTransformer, x: Tensor) -> Tensor:
    """The last block's softmax(q k^T / sqrt(d)), whole: (K, heads, N, N)."""
    seen: list[Tensor] = []
    block = network.blocks[-1]
    handle = block.norm1.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    network(x)
    handle.remove()
    q, k, _ = block.attn.qkv(seen[0]).unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    q, k = block.attn.q_norm(q), block.attn.k_norm(k)
    return torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1)


@pytest.mark.parametrize("changes", [{}, {"qk_norm": True}], ids=["plain", "qk_norm"])
@pytest.mark.parametrize("name", CARDS)
@torch.no_grad()
def test_z_is_timms_own_and_a_is_the_mean_over_heads_and_patches(name: str, changes: dict[str, bool]) -> None:
    card = small(name)
    network = random_network(card, **changes).double()
    tiles = random_tiles(card)
    z, a = TileEncoder(network, card).double()(tiles)
    x = normalised(card, tiles)
    attention = full_matrix_attention(network, x)
    tokens = card.prefix_tokens + 16
    assert attention.shape == (3, card.heads, tokens, tokens)
    expected = torch.stack([attention[i, :, 0, card.prefix_tokens :].sum() / (card.heads * 16) for i in range(3)])
    assert z.shape == (3, card.dim)
    whole = network.forward_features(x)
    embedding = network(x)
    if card.embedding == "cls_mean":
        embedding = torch.cat([embedding, whole[:, card.prefix_tokens :].mean(1)], dim=1)
    assert float((z - embedding).abs().max()) < 1e-6  # normalised from float32 constants
    assert float((a - expected).abs().max()) < 1e-9
    assert float(a.std()) > 1e-5, "attention that is the same everywhere proves nothing"


@torch.no_grad()
def test_registers_are_left_out_of_the_attention() -> None:
    card = small("h-optimus-0")
    network = random_network(card).double()
    tiles = random_tiles(card)
    _, a = TileEncoder(network, card).double()(tiles)
    row = full_matrix_attention(network, normalised(card, tiles))[:, :, 0]
    with_registers = row[:, :, 1:].mean(dim=(1, 2))
    assert card.prefix_tokens == 5
    assert float((a - with_registers).abs().min()) > 1e-6


@torch.no_grad()
def test_float32_is_near_float64() -> None:
    card = small("gigapath")
    network = random_network(card)
    tiles = random_tiles(card)
    z, a = TileEncoder(network, card)(tiles)
    exact_z, exact_a = TileEncoder(network.double(), card).double()(tiles)
    assert (z.dtype, a.dtype) == (torch.float32, torch.float32)
    assert torch.allclose(z.double(), exact_z, atol=1e-4)
    assert torch.allclose(a.double(), exact_a, atol=1e-7)


@pytest.mark.parametrize("name", CARDS)
def test_under_bf16_autocast_attention_stays_float32_with_its_spread(name: str) -> None:
    """Values near 1/N with a spread below bf16's steps: rounded to bf16 they would all be equal."""
    card = small(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = build_backbone(card).eval()
    encoder, tiles = TileEncoder(network, card), random_tiles(card, 20)
    asked = []
    encoder.network.blocks[-1].attn.qkv.register_forward_hook(lambda _, given, made: asked.append(made.dtype))
    with torch.no_grad():
        _, exact = encoder(tiles)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z, a = encoder(tiles)
    assert asked == [torch.float32, torch.float32]  # the last block's queries and keys, under autocast too
    assert (z.dtype, a.dtype) == (torch.float32, torch.float32)
    assert len(a.unique()) == 20
    assert len(a.bfloat16().unique()) < 20, "the spread would survive bf16: the case is too easy"
    assert float((a - exact).abs().max()) < 0.1 * float(exact.std())
    assert spearmanr(a, exact).statistic > 0.98


@torch.no_grad()
def test_a_tile_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    card = small("uni")
    encoder, tiles = TileEncoder(random_network(card).double(), card).double(), random_tiles(card, 5)
    z, a = encoder(tiles)
    for i in range(5):
        alone_z, alone_a = encoder(tiles[i : i + 1])
        assert torch.allclose(alone_z[0], z[i], atol=1e-12)
        assert torch.allclose(alone_a[0], a[i], atol=1e-15)


@torch.no_grad()
def test_a_mask_scales_each_branch_of_each_block() -> None:
    """With all branches dropped the CLS token goes from the embedding straight to the norm."""
    card = small("uni")
    network = random_network(card).double()
    encoder, tiles = TileEncoder(network, card).double(), random_tiles(card)
    dropped, _ = encoder(tiles, torch.zeros(3, card.depth, 2))
    tokens = network._pos_embed(network.patch_embed(normalised(card, tiles)))
    assert torch.allclose(dropped, network.norm(tokens)[:, 0], atol=1e-7)
    kept, _ = encoder(tiles, torch.ones(3, card.depth, 2))
    assert torch.equal(kept, encoder(tiles)[0])
    for block in range(card.depth):
        for part in range(2):
            keep = torch.ones(3, card.depth, 2)
            keep[1, block, part] = 0
            z, _ = encoder(tiles, keep)
            assert torch.allclose(z[[0, 2]], kept[[0, 2]], atol=1e-12)
            assert float((z[1] - kept[1]).abs().max()) > 1e-3


def test_blocks_before_the_first_trained_one_run_without_a_graph() -> None:
    card = small("uni")
    encoder = TileEncoder(random_network(card), card)
    encoder.first_trained_block = 1
    z, a = encoder(random_tiles(card))
    (z.sum() + a.sum()).backward()
    with_gradient = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert with_gradient == {
        n for n, _ in encoder.named_parameters() if n.startswith(("network.blocks.1", "network.norm"))
    }


def test_networks_that_would_be_computed_wrongly_are_refused() -> None:
    card = small("uni")
    tiny = dict(card.timm_arguments) | {"num_classes": 0}
    refused = {
        "five prefix tokens": build_backbone(small("h-optimus-0")),
        "gated attention": random_network(card),
        "dropout": timm.create_model("vit_tiny_patch16_224", proj_drop_rate=0.1, **tiny),
        "timm's own stochastic depth": timm.create_model("vit_tiny_patch16_224", drop_path_rate=0.1, **tiny),
        "patch dropout": timm.create_model("vit_tiny_patch16_224", patch_drop_rate=0.5, **tiny),
        "mean pooling": timm.create_model("vit_tiny_patch16_224", global_pool="avg", class_token=True, **tiny),
        "post-norm blocks": timm.create_model("vit_relpos_small_patch16_224", num_classes=0),
    }
    refused["gated attention"].blocks[0].attn.gate = nn.Linear(64, 64)
    for what, network in refused.items():
        with pytest.raises(BackboneError) as error:
            TileEncoder(network, card)
        assert "backbone uni" in str(error.value), what
        assert "Correct its card" in str(error.value)


def test_the_trainable_state_is_a_copy_of_what_trains() -> None:
    card = small("uni")
    encoder = TileEncoder(random_network(card), card).requires_grad_(False)
    encoder.network.norm.requires_grad_(True)
    state = trainable_state(encoder)
    assert set(state) == {"network.norm.weight", "network.norm.bias"}
    with torch.no_grad():
        encoder.network.norm.bias.add_(1)
    assert not torch.equal(state["network.norm.bias"], encoder.network.norm.bias)
