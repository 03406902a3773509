"""Fused and plain attention, compiled and plain blocks compute the same; a protocol chooses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.errors import BackboneError
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.randomness import depth_keep
from tapfm_eval.protocol.schema import Adapt, LastBlocks, Lora, LoraPlan

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's compiler looks at it itself


def tiles(count: int, edge: int = 48) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, edge, edge), dtype=torch.uint8, generator=torch.Generator().manual_seed(count)
    )


@pytest.mark.parametrize("name", ["uni", "h-optimus-0", "virchow2"])
def test_plain_attention_gives_what_the_fused_kernel_gives(
    tiny_encoder: Callable[..., TileEncoder], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    encoder = tiny_encoder(name)
    edge = int(encoder.network.patch_embed.img_size[0])
    fused = encoder(tiles(3, edge))
    kernels = 0
    real = torch.nn.functional.scaled_dot_product_attention

    def counted(*args: Any, **options: Any) -> Tensor:
        nonlocal kernels
        kernels += 1
        return real(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    encoder(tiles(3, edge))
    assert kernels == encoder.depth - (0 if encoder.mean_of_patches else 1)
    encoder.use_kernels(fused=False, compiled=False)
    plain = encoder(tiles(3, edge))
    assert kernels == encoder.depth - (0 if encoder.mean_of_patches else 1), "a fused kernel ran"
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_compiled_blocks_share_a_few_graphs_whatever_depth_and_batch(
    tiny_encoder: Callable[..., TileEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.compile gives up, without a word, after eight graphs of one function: one a block would be too many."""
    compiled: list[nn.Module] = []

    def backend(graph: nn.Module, _: list[Tensor]) -> Callable[..., Any]:
        compiled.append(graph)
        return graph.forward

    plain = tiny_encoder("uni")
    expected = {n: plain(tiles(n)) for n in (5, 4, 3)}
    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda run: compile_with(run, backend=backend, fullgraph=True))
    torch._dynamo.reset()
    plain.use_kernels(fused=True, compiled=True)
    for n, (z, a) in expected.items():
        for graph in (True, False):
            with torch.set_grad_enabled(graph):
                ours = plain(tiles(n))
            torch.testing.assert_close(ours[0], z, rtol=0, atol=1e-12)
            torch.testing.assert_close(ours[1], a, rtol=0, atol=1e-15)
            assert ours[0].requires_grad is graph
    assert 1 <= len(compiled) <= 4
    torch._dynamo.reset()


@pytest.mark.parametrize("adapt", ["full", LastBlocks(last_blocks=1), Lora(lora=LoraPlan(rank=2))], ids=str)
def test_training_and_inference_stay_compiled_whatever_remains_of_a_bag(
    tiny_encoder: Callable[..., TileEncoder], monkeypatch: pytest.MonkeyPatch, adapt: Adapt
) -> None:
    """A last part of one tile is another graph, and so are trained blocks, frozen ones, training and inference."""
    runs = 0

    def backend(graph: nn.Module, _: list[Tensor]) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            nonlocal runs
            runs += 1
            return graph(*given)

        return counted

    encoder, compile_with = tiny_encoder("uni"), torch.compile
    adapt_encoder(encoder, adapt, "arm", 1)
    monkeypatch.setattr(torch, "compile", lambda run: compile_with(run, backend=backend))
    encoder.use_kernels(fused=True, compiled=True)
    for _ in range(2):
        encoder.train()
        for parts in ((5, 1), (4, 3), (6, 1)):
            for n in parts:
                keep = depth_keep(np.arange(n), encoder.depth, 0.2, "step").double()
                with torch.no_grad():
                    encoder(tiles(n), keep)
            for n in parts:
                z, a = encoder(tiles(n), depth_keep(np.arange(n), encoder.depth, 0.2, "step").double())
                (z.sum() + a.sum()).backward()
        encoder.eval()
        for n in (8, 2, 1):
            runs = 0
            with torch.no_grad():
                encoder(tiles(n))
            assert runs == encoder.depth - 1  # all but the last block, which is computed for the CLS row
    torch.compiler.reset()


def test_a_machine_that_cannot_compile_says_what_to_state(
    tiny_encoder: Callable[..., TileEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def backend(_: nn.Module, __: list[Tensor]) -> Callable[..., Any]:
        raise FileNotFoundError("no C++ compiler")

    encoder, compile_with = tiny_encoder("uni"), torch.compile
    monkeypatch.setattr(torch, "compile", lambda run: compile_with(run, backend=backend))
    torch._dynamo.reset()
    encoder.use_kernels(fused=True, compiled=True)
    with pytest.raises(BackboneError, match=r"compile_blocks: .*no C\+\+ compiler.*compile_blocks: false"):
        encoder(tiles(2))
    torch._dynamo.reset()


@pytest.mark.long
def test_torchs_own_compiler_agrees_in_float32(tiny_encoder: Callable[..., TileEncoder]) -> None:
    encoder = tiny_encoder("uni", dtype=torch.float32)
    z, a = encoder(tiles(4))
    encoder.use_kernels(fused=True, compiled=True)
    for n in (4, 3):
        ours = encoder(tiles(4)[:n])
        torch.testing.assert_close(ours[0], z[:n], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours[1], a[:n], rtol=1e-4, atol=1e-7)
