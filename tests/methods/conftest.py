"""One core, and small encoders in float64."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch

from tapfm_eval.backbones.cards import CARDS, BackboneCard, stand_in
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.load import build_backbone
from tapfm_eval.methods.adaptation import adapt_encoder


@pytest.fixture(autouse=True, scope="session")
def _one_core() -> Iterator[None]:
    """Other tests share the machine, and sums keep their order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(card: BackboneCard) -> BackboneCard:
    """A stand-in whose tiles are three patches wide."""
    stood = stand_in(card)
    edge = 3 * card.patch_px
    arguments = dict(stood.timm_arguments) | {"img_size": edge, "embed_dim": 16, "num_heads": 2, "depth": 3}
    return replace(stood, timm_arguments=MappingProxyType(arguments), dim=16, depth=3, heads=2, tile_px=edge)


@pytest.fixture
def tiny_encoder() -> Callable[..., TileEncoder]:
    """A small random encoder of the named card's kind that trains as a whole, float64 unless said otherwise."""

    def make(name: str = "uni", seed: int = 0, dtype: torch.dtype = torch.float64) -> TileEncoder:
        card = tiny(CARDS[name])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_backbone(card)
            for parameter in network.parameters():  # biases and scales too, which start at 0 and 1
                torch.nn.init.normal_(parameter, std=0.2)
        encoder = TileEncoder(network, card).to(dtype)
        adapt_encoder(encoder, "full", "arm")
        return encoder

    return make
