"""What each card must say beyond its parameter count, and the CLS + mean embedding."""

from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from torch import nn

from tapfm_eval.backbones.cards import CARDS, stand_in
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.load import build_backbone

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BIOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
HIBOU = ((0.7068, 0.5755, 0.7220), (0.1950, 0.2316, 0.1816))
HALF = ((0.5,) * 3, (0.5,) * 3)

# name: hub id, embedding length, prefix tokens, positions, hidden width of the MLP's first matrix, LayerScale, colours
FACTS = {
    "uni": ("MahmoodLab/UNI", 1024, 1, 197, 4096, True, IMAGENET),
    "uni2-h": ("MahmoodLab/UNI2-h", 1536, 9, 256, 8192, True, IMAGENET),
    "gigapath": ("prov-gigapath/prov-gigapath", 1536, 1, 197, 8192, True, IMAGENET),
    "h-optimus-0": ("bioptimus/H-optimus-0", 1536, 5, 256, 8192, True, BIOPTIMUS),
    "h-optimus-1": ("bioptimus/H-optimus-1", 1536, 5, 256, 8192, True, BIOPTIMUS),
    "h0-mini": ("bioptimus/H0-mini", 768, 5, 256, 4096, True, BIOPTIMUS),
    "virchow": ("paige-ai/Virchow", 2560, 1, 257, 6832, True, IMAGENET),
    "virchow2": ("paige-ai/Virchow2", 2560, 5, 261, 6832, True, IMAGENET),
    "phikon": ("owkin/phikon", 768, 1, 197, 3072, False, IMAGENET),
    "phikon-v2": ("owkin/phikon-v2", 1024, 1, 197, 4096, True, IMAGENET),
    "hibou-b": ("histai/hibou-b", 768, 5, 256, 4096, True, HIBOU),
    "hibou-l": ("histai/hibou-L", 1024, 5, 256, 5472, True, HIBOU),
    "midnight-12k": ("kaiko-ai/midnight", 1536, 1, 257, 8192, True, HALF),
    "kaiko-s16": ("1aurent/vit_small_patch16_224.kaiko_ai_towards_large_pathology_fms", 384, 1, 197, 1536, False, HALF),
    "kaiko-s8": ("1aurent/vit_small_patch8_224.kaiko_ai_towards_large_pathology_fms", 384, 1, 785, 1536, False, HALF),
    "kaiko-b16": ("1aurent/vit_base_patch16_224.kaiko_ai_towards_large_pathology_fms", 768, 1, 197, 3072, False, HALF),
    "kaiko-b8": ("1aurent/vit_base_patch8_224.kaiko_ai_towards_large_pathology_fms", 768, 1, 785, 3072, False, HALF),
    "kaiko-l14": (
        "1aurent/vit_large_patch14_reg4_224.kaiko_ai_towards_large_pathology_fms", 1024, 5, 1369, 4096, True, HALF,
    ),
    "dinov2-l14": ("timm/vit_large_patch14_dinov2.lvd142m", 1024, 1, 1370, 4096, True, IMAGENET),
    "dinov2-l14-reg4": ("timm/vit_large_patch14_reg4_dinov2.lvd142m", 1024, 5, 1369, 4096, True, IMAGENET),
}  # fmt: skip
SEEN = {
    "TCGA": {"phikon", "phikon-v2", "h0-mini", "midnight-12k", "kaiko-s16", "kaiko-s8", "kaiko-b16", "kaiko-b8",
             "kaiko-l14"},
    "CPTAC": {"phikon-v2"},
    "GTEx": {"uni", "phikon-v2"},
    "MGB": {"uni"},
    "MSK": {"virchow", "virchow2"},
    "Providence": {"gigapath"},
}  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_a_card_agrees_with_the_table_of_facts(name: str) -> None:
    hub_id, dim, prefix, positions, hidden, layer_scale, colours = FACTS[name]
    card = CARDS[name]
    with torch.device("meta"):
        network = build_backbone(card)
    assert (card.hub_id, card.dim, card.prefix_tokens, (card.mean, card.std)) == (hub_id, dim, prefix, colours)
    assert network.pos_embed.shape[1] == positions
    assert network.blocks[0].mlp.fc1.out_features == hidden
    assert isinstance(network.blocks[0].ls1, nn.Identity) is not layer_scale
    assert network.norm.eps == card.norm_epsilon == (1e-12 if name == "phikon" else 1e-6)
    assert (card.tile_px, card.mpp) == (224, 0.5)


def test_the_table_of_facts_is_whole() -> None:
    assert set(FACTS) == set(CARDS)
    assert [name for name, card in CARDS.items() if card.embedding == "cls_mean"] == ["virchow", "virchow2"]
    layouts = {name: card.layout for name, card in CARDS.items() if card.layout != "timm"}
    assert layouts == {
        "phikon": "vit", "phikon-v2": "dinov2", "midnight-12k": "dinov2",
        "hibou-b": "dinov2_registers", "hibou-l": "dinov2_registers",
    }  # fmt: skip


@pytest.mark.parametrize("programme", SEEN)
def test_a_card_states_which_programmes_were_seen_in_pretraining(programme: str) -> None:
    assert {name for name, card in CARDS.items() if card.exposure(programme) == "included"} == SEEN[programme]


def test_a_programme_that_nobody_declared_is_undisclosed() -> None:
    for name in ("h-optimus-0", "h-optimus-1", "hibou-b", "hibou-l", "uni2-h"):
        for programme in ("TCGA", "CPTAC", "GTEx"):
            assert CARDS[name].exposure(programme) == "undisclosed", (name, programme)


@pytest.mark.parametrize("name", CARDS)
@torch.no_grad()
def test_a_stand_in_gives_embeddings_of_its_cards_kind(name: str) -> None:
    """A tile in, an embedding of the stated length out, at the card's own tile size."""
    stood = stand_in(CARDS[name])
    encoder = TileEncoder(build_backbone(stood).eval(), stood)
    z, a = encoder(torch.zeros(1, 3, stood.tile_px, stood.tile_px, dtype=torch.uint8))
    assert z.shape == (1, stood.dim)
    assert stood.dim == encoder.dim == (128 if stood.embedding == "cls_mean" else 64)
    assert a.shape == (1,)


@torch.no_grad()
def test_registers_are_left_out_of_the_mean() -> None:
    """A register token of another value moves the patches through attention only: cut that, and the mean stays."""
    stood = stand_in(CARDS["virchow2"])
    card = replace(
        stood, timm_arguments=MappingProxyType(dict(stood.timm_arguments) | {"img_size": 56}), tile_px=56
    )  # fmt: skip
    network = build_backbone(card).eval()
    for block in network.blocks:
        block.attn.proj.weight.zero_()
    encoder = TileEncoder(network, card)
    tiles = torch.randint(0, 256, (2, 3, 56, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    before, _ = encoder(tiles)
    network.reg_token += 3
    after, _ = encoder(tiles)
    assert torch.equal(before, after)
    network.pos_embed[:, 6] += 3  # the first patch
    moved, _ = encoder(tiles)
    assert torch.equal(moved[:, :64], before[:, :64])
    assert not torch.equal(moved[:, 64:], before[:, 64:])
