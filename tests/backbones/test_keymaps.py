"""Checkpoints in the layout of transformers: names round trip, and a forward pass written from their names agrees."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.special import erf
from torch import Tensor

from tapfm_eval.backbones.cards import CARDS, BackboneCard, stand_in
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.keymaps import key_map
from tapfm_eval.backbones.load import build_backbone, load_backbone, to_timm
from tapfm_eval.errors import BackboneError

MAPPED = [name for name, card in CARDS.items() if card.layout != "timm"]
Arrays = dict[str, NDArray[np.float64]]


def small(name: str) -> BackboneCard:
    """A mapped card's small twin whose tiles are three patches wide, to be loaded from a file."""
    stood = stand_in(CARDS[name])
    edge = 3 * stood.patch_px
    arguments = dict(stood.timm_arguments) | {"img_size": edge}
    return replace(stood, timm_arguments=MappingProxyType(arguments), tile_px=edge, stand_in=False)


def published(card: BackboneCard, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under the names and shapes of the owner's checkpoint, written out from its class."""
    width, layers = card.width, card.depth
    patches = (card.tile_px // card.patch_px) ** 2
    hidden = int(card.timm_arguments["mlp_ratio"] * width)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, 1 + patches, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, card.patch_px, card.patch_px),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    if card.layout != "vit":
        shapes["embeddings.mask_token"] = (1, width)
    else:
        shapes |= {"pooler.dense.weight": (width, width), "pooler.dense.bias": (width,)}
    if card.layout == "dinov2_registers":
        shapes["embeddings.register_tokens"] = (1, 4, width)
    for i in range(layers):
        layer = f"encoder.layer.{i}"
        linear = {f"attention.attention.{part}": (width, width) for part in ("query", "key", "value")}
        linear["attention.output.dense"] = (width, width)
        if card.layout == "vit":
            norms = ("layernorm_before", "layernorm_after")
            linear |= {"intermediate.dense": (hidden, width), "output.dense": (width, hidden)}
        else:
            norms = ("norm1", "norm2")
            names = ("weights_in", "weights_out") if card.mlp == "swiglu" else ("fc1", "fc2")
            half = hidden // 2 if card.mlp == "swiglu" else hidden
            linear |= {f"mlp.{names[0]}": (hidden, width), f"mlp.{names[1]}": (width, half)}
            shapes |= {f"{layer}.layer_scale{j}.lambda1": (width,) for j in (1, 2)}
        for norm in norms:
            shapes |= {f"{layer}.{norm}.{kind}": (width,) for kind in ("weight", "bias")}
        for name, shape in linear.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


def layer_norm(x: NDArray[np.float64], p: Arrays, name: str, epsilon: float) -> NDArray[np.float64]:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return np.asarray(scaled * p[f"{name}.weight"] + p[f"{name}.bias"])


def linear(x: NDArray[np.float64], p: Arrays, name: str) -> NDArray[np.float64]:
    return np.asarray(x @ p[f"{name}.weight"].T + p[f"{name}.bias"])


def gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x * (1 + erf(x / np.sqrt(2))) / 2)


def owners_forward(card: BackboneCard, state: dict[str, Tensor], pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The CLS token of one normalised tile (3, H, W), computed from the owner's names alone."""
    p = {name: tensor.double().numpy() for name, tensor in state.items()}
    epsilon, edge = (1e-12 if card.layout == "vit" else 1e-6), card.patch_px
    kernel = p["embeddings.patch_embeddings.projection.weight"]
    count = card.tile_px // edge
    patches = [
        np.einsum("dchw,chw->d", kernel, pixels[:, y * edge : (y + 1) * edge, x * edge : (x + 1) * edge])
        + p["embeddings.patch_embeddings.projection.bias"]
        for y in range(count)
        for x in range(count)
    ]
    x = np.vstack([p["embeddings.cls_token"][0], patches]) + p["embeddings.position_embeddings"][0]
    if card.layout == "dinov2_registers":  # registers come after positions were added, and have none
        x = np.vstack([x[:1], p["embeddings.register_tokens"][0], x[1:]])
    before, after = ("layernorm_before", "layernorm_after") if card.layout == "vit" else ("norm1", "norm2")
    for i in range(card.depth):
        layer = f"encoder.layer.{i}"
        h = layer_norm(x, p, f"{layer}.{before}", epsilon)
        q, k, v = (linear(h, p, f"{layer}.attention.attention.{part}") for part in ("query", "key", "value"))
        size = card.width // card.heads
        heads = []
        for head in range(card.heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, part] @ k[:, part].T / np.sqrt(size)
            e = np.exp(scores - scores.max(1, keepdims=True))
            heads.append(e / e.sum(1, keepdims=True) @ v[:, part])
        update = linear(np.hstack(heads), p, f"{layer}.attention.output.dense")
        x = x + update * p.get(f"{layer}.layer_scale1.lambda1", np.float64(1))
        h = layer_norm(x, p, f"{layer}.{after}", epsilon)
        if card.layout == "vit":
            update = linear(gelu(linear(h, p, f"{layer}.intermediate.dense")), p, f"{layer}.output.dense")
        elif card.mlp == "swiglu":
            gate, value = np.split(linear(h, p, f"{layer}.mlp.weights_in"), 2, axis=1)
            update = linear(gate / (1 + np.exp(-gate)) * value, p, f"{layer}.mlp.weights_out")
        else:
            update = linear(gelu(linear(h, p, f"{layer}.mlp.fc1")), p, f"{layer}.mlp.fc2")
        x = x + update * p.get(f"{layer}.layer_scale2.lambda1", np.float64(1))
    return layer_norm(x, p, "layernorm", epsilon)[0]


@pytest.mark.parametrize("name", MAPPED)
@torch.no_grad()
def test_a_mapped_checkpoint_computes_what_its_owner_computes(name: str, tmp_path: Path) -> None:
    card = small(name)
    state = published(card)
    save_file(state, str(tmp_path / "model.safetensors"))
    encoder = TileEncoder(load_backbone(card, weights=tmp_path / "model.safetensors", seed=1), card).double()
    tile = np.random.default_rng(3).integers(0, 256, (3, card.tile_px, card.tile_px), dtype=np.uint8)
    pixels = (tile / 255 - np.reshape(card.mean, (3, 1, 1))) / np.reshape(card.std, (3, 1, 1))
    z, _ = encoder(torch.from_numpy(tile)[None])
    np.testing.assert_allclose(z[0].numpy(), owners_forward(card, state, pixels), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MAPPED)
def test_names_and_numbers_of_the_whole_network_round_trip(name: str) -> None:
    """Every tensor of the published size is asked for once, and timm's network is filled to the last name."""
    card = CARDS[name]
    with torch.device("meta"):
        expected = build_backbone(card).state_dict()
    names = key_map(card.layout, card.depth, card.mlp)
    assert names is not None
    assert set(names.sources) == set(expected)
    parts = [part for group in names.sources.values() for part in group]
    assert len(parts) == len(set(parts))
    small_names = key_map(card.layout, 2, card.mlp)
    assert small_names is not None
    asked = {part for group in small_names.sources.values() for part in group}
    state = published(small(name))
    assert set(state) - small_names.dropped == asked
    made = to_timm(state, small_names)
    split = {}
    for target, group in small_names.sources.items():
        tensor = made[target]
        if names.folds_position and target == "pos_embed":
            tensor = torch.cat([torch.zeros_like(tensor[:, :1]), tensor], dim=1)
        split |= dict(zip(group, tensor.chunk(len(group)), strict=True))
    for part in asked - {"embeddings.cls_token", "embeddings.position_embeddings"}:
        assert torch.equal(split[part], state[part]), part
    position = state["embeddings.position_embeddings"]
    fold = position[:, :1] if names.folds_position else 0
    assert torch.equal(split["embeddings.cls_token"], state["embeddings.cls_token"] + fold)
    assert torch.equal(split["embeddings.position_embeddings"][:, 1:], position[:, 1:])


def test_timms_own_layout_needs_no_map() -> None:
    assert key_map("timm", 24, "gelu") is None


@pytest.mark.parametrize("name", ["phikon", "midnight-12k", "hibou-b"])
def test_a_misfit_is_named_as_the_owner_names_it(name: str, tmp_path: Path) -> None:
    card = small(name)
    state = published(card)
    del state["encoder.layer.1.attention.attention.key.weight"]
    state["embeddings.position_embeddings"] = torch.zeros(1, 30, card.width)
    state["encoder.layer.7.extra"] = torch.zeros(2)
    path = tmp_path / "w.safetensors"
    save_file(state, str(path))
    with pytest.raises(BackboneError) as error:
        load_backbone(card, weights=path, seed=1)
    text = str(error.value)
    assert "encoder.layer.1.attention.attention.key.weight missing" in text
    assert "encoder.layer.1.attention.attention.query.weight missing" not in text
    assert "encoder.layer.7.extra unknown" in text
    assert CARDS[name].hub_id in text


def test_tensors_that_cannot_be_joined_are_named(tmp_path: Path) -> None:
    card = small("phikon-v2")
    state = published(card)
    state["encoder.layer.0.attention.attention.value.bias"] = torch.zeros(3)
    path = tmp_path / "w.safetensors"
    save_file(state, str(path))
    with pytest.raises(BackboneError, match=r"encoder\.layer\.0\.attention\.attention\.\w+\.bias unknown"):
        load_backbone(card, weights=path, seed=1)


def test_the_map_is_read_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, tapfm_eval.backbones.keymaps; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
