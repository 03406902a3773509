"""Which parameters an adaptation trains, where the graph begins, and that adapters start as nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.errors import ProtocolError
from tapfm_eval.methods.adaptation import LoraLinear, adapt_encoder
from tapfm_eval.protocol.schema import LastBlocks, Lora, LoraPlan

LORA = Lora(lora=LoraPlan(rank=2))
TILES = torch.randint(0, 256, (4, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def trained(encoder: TileEncoder) -> set[str]:
    return {name.removeprefix("network.") for name, p in encoder.named_parameters() if p.requires_grad}


def outputs(encoder: TileEncoder) -> Tensor:
    with torch.no_grad():
        z, a = encoder(TILES)
    return torch.cat([z, a[:, None]], dim=1)


def test_full_adaptation_trains_everything(tiny_encoder: Callable[..., TileEncoder]) -> None:
    encoder = tiny_encoder()
    adapt_encoder(encoder, "full", "arm")
    assert trained(encoder) == {name.removeprefix("network.") for name, _ in encoder.named_parameters()}
    assert encoder.first_trained_block == 0


def test_a_frozen_encoder_trains_nothing(tiny_encoder: Callable[..., TileEncoder]) -> None:
    encoder = tiny_encoder()
    adapt_encoder(encoder, "frozen", "arm")
    assert trained(encoder) == set()
    assert encoder.first_trained_block == encoder.depth == 3
    z, a = encoder(TILES)
    assert not z.requires_grad
    assert not a.requires_grad


@pytest.mark.parametrize("count", [1, 2, 3])
def test_last_blocks_train_with_the_final_norm(tiny_encoder: Callable[..., TileEncoder], count: int) -> None:
    encoder = tiny_encoder()
    before = outputs(encoder)
    adapt_encoder(encoder, LastBlocks(last_blocks=count), "arm")
    kept = tuple(f"blocks.{i}." for i in range(3 - count, 3))
    every = {name.removeprefix("network.") for name, _ in encoder.named_parameters()}
    assert trained(encoder) == {name for name in every if name.startswith((*kept, "norm."))}
    assert encoder.first_trained_block == 3 - count
    assert torch.equal(outputs(encoder), before)


def test_more_blocks_than_the_backbone_has_are_refused(tiny_encoder: Callable[..., TileEncoder]) -> None:
    with pytest.raises(ProtocolError) as error:
        adapt_encoder(tiny_encoder(), LastBlocks(last_blocks=4), "arm x")
    assert "arm x.adapt.last_blocks" in str(error.value)
    assert "at most 3" in str(error.value)
    assert "got 4" in str(error.value)


def test_lora_starts_as_the_published_network_and_trains_adapters_alone(
    tiny_encoder: Callable[..., TileEncoder],
) -> None:
    encoder = tiny_encoder()
    before = outputs(encoder)
    adapt_encoder(encoder, LORA, "arm", 1, 0, "arm")
    assert torch.equal(outputs(encoder), before)
    assert trained(encoder) == {
        f"blocks.{block}.attn.{layer}.{part}"
        for block in range(3) for layer in ("qkv", "proj") for part in ("down", "up")
    }  # fmt: skip
    z, a = encoder(TILES)
    (z.sum() + a.sum()).backward()
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=0.5)
    base = encoder.network.blocks[0].attn.qkv.base.weight.clone()
    optimizer.step()
    assert not torch.allclose(outputs(encoder), before)
    assert torch.equal(encoder.network.blocks[0].attn.qkv.base.weight, base)


def test_a_lora_layer_is_its_formula() -> None:
    base = torch.nn.Linear(5, 7).double()
    layer = LoraLinear(base, 2, 1.5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.up.normal_(generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    merged = base.weight + 1.5 * layer.up @ layer.down
    assert torch.allclose(layer(x), x @ merged.T + base.bias, atol=1e-12)
    assert (layer.down.dtype, layer.down.shape, layer.up.shape) == (torch.float64, (2, 5), (7, 2))


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (4.0, 2.0), (1.0, 0.5)])
def test_alpha_over_rank_scales_the_adapters(
    tiny_encoder: Callable[..., TileEncoder], alpha: float | None, scale: float
) -> None:
    encoder = tiny_encoder()
    adapt_encoder(encoder, Lora(lora=LoraPlan(rank=2, alpha=alpha)), "arm", 1)
    assert encoder.network.blocks[0].attn.proj.scale == scale


def test_adapters_depend_on_their_seed_alone(tiny_encoder: Callable[..., TileEncoder]) -> None:
    def downs(*parts: int | str) -> list[Tensor]:
        encoder = tiny_encoder()
        adapt_encoder(encoder, LORA, "arm", *parts)
        return [module.down.detach() for module in encoder.modules() if isinstance(module, LoraLinear)]

    torch.manual_seed(1)
    first = downs(1, 0)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(first, downs(1, 0), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, downs(2, 0), strict=True))
    assert not torch.equal(first[0], first[2]), "blocks share their initial adapters"
