"""The cards say what timm builds; their stand-ins keep what the code around a backbone depends on."""

import subprocess
import sys

import pytest
import torch
from timm.layers.mlp import GluMlp, Mlp
from torch import nn

from tapfm_eval.backbones.cards import CARDS, stand_in
from tapfm_eval.backbones.load import build_backbone, load_backbone

PUBLISHED = {
    "uni": 303_350_784,
    "gigapath": 1_134_953_984,
    "h-optimus-0": 1_134_774_272,
    "uni2-h": 681_394_176,
    "h-optimus-1": 1_134_774_272,
    "h0-mini": 85_739_520,
    "virchow": 631_229_184,
    "virchow2": 631_239_424,
    "phikon": 85_798_656,
    "phikon-v2": 303_350_784,
    "hibou-b": 85_739_520,
    "hibou-l": 303_657_216,
    "midnight-12k": 1_134_769_664,
    "kaiko-s16": 21_665_664,
    "kaiko-s8": 21_670_272,
    "kaiko-b16": 85_798_656,
    "kaiko-b8": 85_807_872,
    "kaiko-l14": 304_370_688,  # with the positions of 518 px, as published
    "dinov2-l14": 304_367_616,
    "dinov2-l14-reg4": 304_370_688,
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_equals_the_network_it_builds(name: str) -> None:
    card = CARDS[name]
    with torch.device("meta"):
        network = build_backbone(card)
    assert sum(p.numel() for p in network.parameters()) == card.parameters == PUBLISHED[name]
    assert network.num_prefix_tokens == card.prefix_tokens
    assert (network.embed_dim, len(network.blocks)) == (card.width, card.depth)
    assert {block.attn.num_heads for block in network.blocks} == {card.heads}
    assert network.patch_embed.patch_size == (card.patch_px, card.patch_px)
    edge = card.timm_arguments["img_size"]
    assert network.patch_embed.img_size == (edge, edge)
    assert edge == card.tile_px or card.timm_arguments["dynamic_img_size"]
    assert isinstance(network.head, nn.Identity)


@pytest.mark.parametrize("name", CARDS)
def test_swiglu_comes_with_silu_and_gelu_does_not(name: str) -> None:
    """A SwiGLU with GELU loads without a fault and computes nonsense."""
    with torch.device("meta"):
        mlp = build_backbone(CARDS[name]).blocks[0].mlp
    if CARDS[name].mlp == "swiglu":
        assert isinstance(mlp, GluMlp)
        assert type(mlp.act) is nn.SiLU
        assert mlp.gate_last is False
    else:
        assert type(mlp) is Mlp
        assert type(mlp.act) is nn.GELU


@pytest.mark.parametrize("name", CARDS)
def test_a_stand_in_keeps_patch_size_registers_and_normalisation(name: str) -> None:
    card = CARDS[name]
    stood = stand_in(card)
    network = build_backbone(stood)
    assert (stood.name, stood.patch_px, stood.prefix_tokens) == (card.name, card.patch_px, card.prefix_tokens)
    assert (stood.mean, stood.std, stood.tile_px, stood.mpp) == (card.mean, card.std, card.tile_px, card.mpp)
    assert stood.mlp == card.mlp
    assert stood.stand_in
    assert network.patch_embed.patch_size == (card.patch_px, card.patch_px)
    assert network.num_prefix_tokens == card.prefix_tokens
    assert (network.embed_dim, len(network.blocks)) == (stood.width, stood.depth)
    assert sum(p.numel() for p in network.parameters()) < 1_000_000


def test_stand_in_weights_depend_on_name_and_seed_alone() -> None:
    card, other = stand_in(CARDS["uni"]), stand_in(CARDS["gigapath"])
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = load_backbone(card, weights=None, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was used"
    torch.manual_seed(2)
    again = load_backbone(card, weights=None, seed=3).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    for different in (load_backbone(card, weights=None, seed=4), load_backbone(other, weights=None, seed=3)):
        weight = different.state_dict()["blocks.0.attn.qkv.weight"]
        assert not torch.equal(first["blocks.0.attn.qkv.weight"], weight)


def test_facts_that_nobody_disclosed_are_not_printed_as_clean() -> None:
    for card in CARDS.values():
        assert card.licence
        assert card.reference
        assert "undisclosed" in card.pretraining or "declared excluded" in card.pretraining


def test_cards_are_read_without_torch() -> None:
    code = "import sys, tapfm_eval.backbones.cards; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
