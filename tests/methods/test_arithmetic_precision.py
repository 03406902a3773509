"""fp16 gradients are scaled on their way and unscaled after; a step that overflows is left out."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.methods import precision
from tapfm_eval.methods.adapt import StepReport, adaptation_step
from tapfm_eval.methods.losses import SlideLoss, TargetWeights
from tapfm_eval.methods.model import SlideModel
from tapfm_eval.methods.precision import FIRST_SCALE, LossScaler, autocast, autocast_dtype
from tapfm_eval.methods.tapfm import Tapfm

CPU = torch.device("cpu")
LOSS = SlideLoss(torch.tensor([1.0]), TargetWeights((0.5,), (1.0,)), 0.1)


def half() -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.float16)


def parameter(*gradient: float) -> nn.Parameter:
    made = nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient)
    return made


def test_a_cpu_computes_in_full_precision() -> None:
    assert autocast_dtype(CPU) is None
    with autocast(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert SlideModel(None, Tapfm(4, 1, temperature=0.1, layer_norm=True), CPU).scaler is None


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_that_only_emulates_bf16_computes_in_fp16(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, dtype: torch.dtype
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or bf16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert autocast_dtype(torch.device("cuda")) == dtype


def test_good_gradients_are_divided_and_the_scale_doubles_after_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "GROWTH_INTERVAL", 3)
    scaler = LossScaler()
    for step in range(3):
        one, without = parameter(FIRST_SCALE, -2 * FIRST_SCALE), nn.Parameter(torch.zeros(1))
        assert scaler.unscale([one, without])
        assert one.grad is not None
        assert one.grad.tolist() == [1.0, -2.0]
        assert without.grad is None
        assert scaler.state() == {"scale": FIRST_SCALE * (2 if step == 2 else 1), "good_steps": (step + 1) % 3}


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_an_overflow_takes_all_gradients_away_and_halves_the_scale(bad: float) -> None:
    scaler, fine, broken = LossScaler(), parameter(1.0), parameter(2.0, bad)
    scaler.good_steps = 5
    assert not scaler.unscale([fine, broken])
    assert fine.grad is None
    assert broken.grad is None
    assert scaler.state() == {"scale": FIRST_SCALE / 2, "good_steps": 0}


def test_a_scale_is_exhausted_once_it_no_longer_makes_gradients_larger() -> None:
    scaler = LossScaler()
    for _ in range(16):  # down to a scale of 1
        scaler.unscale([parameter(float("inf"))])
        assert not scaler.exhausted
    scaler.unscale([parameter(float("inf"))])
    assert scaler.exhausted


def test_its_state_comes_back() -> None:
    before, after = LossScaler(), LossScaler()
    before.unscale([parameter(float("inf"))])
    before.unscale([parameter(1.0)])
    after.load(before.state())
    assert after.state() == before.state()


def step(encoder: TileEncoder, micro_batch: int, scaler: LossScaler | None, lowest: float = 1.0) -> StepReport:
    """A step in real float16; `lowest` makes the slide's gradients small, as a large bag does."""
    torch.manual_seed(3)
    aggregator = Tapfm(16, 1, temperature=0.1, layer_norm=False)
    with torch.no_grad():
        aggregator.classifier.weight *= lowest
    tiles = torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return adaptation_step(
        encoder, aggregator, LOSS, tiles, keep=None, micro_batch=micro_batch, lambda_attention=1.0, device=CPU,
        autocast=half, scaler=scaler,
    )  # fmt: skip


def gradient(encoder: TileEncoder) -> Tensor:
    found = encoder.network.blocks[0].attn.qkv.weight.grad
    return torch.zeros(1) if found is None else found


@pytest.mark.parametrize("micro_batch", [2, 8], ids=["two passes", "one pass"])
def test_scaling_keeps_gradients_that_fp16_would_round_to_zero(
    tiny_encoder: Callable[..., TileEncoder], micro_batch: int
) -> None:
    plain = tiny_encoder("uni", 0, torch.float32)
    scaled, exact = copy.deepcopy(plain), copy.deepcopy(plain)
    step(plain, micro_batch, None, 1e-7)
    assert not step(scaled, micro_batch, LossScaler(), 1e-7).skipped
    torch.manual_seed(3)
    aggregator = Tapfm(16, 1, temperature=0.1, layer_norm=False)
    with torch.no_grad():
        aggregator.classifier.weight *= 1e-7
    tiles = torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    adaptation_step(exact, aggregator, LOSS, tiles, keep=None, micro_batch=8, lambda_attention=1.0, device=CPU,
                    autocast=nullcontext)  # fmt: skip
    size = float(gradient(exact).abs().max())
    lost = float((gradient(plain) - gradient(exact)).abs().max())
    left = float((gradient(scaled) - gradient(exact)).abs().max())
    assert size > 0
    assert lost > 0.2 * size
    assert left < 0.05 * size


def test_a_scale_too_large_skips_the_backbone_and_the_next_step_recovers(
    tiny_encoder: Callable[..., TileEncoder],
) -> None:
    encoder, scaler = tiny_encoder("uni", 0, torch.float32), LossScaler()
    scaler.scale = 2.0**40
    before = [parameter.detach().clone() for parameter in encoder.parameters()]
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)
    skipped = []
    for _ in range(60):
        optimizer.zero_grad()
        skipped.append(step(encoder, 2, scaler).skipped)
        optimizer.step()
        if not skipped[-1]:
            break
        assert all(torch.equal(p, q) for p, q in zip(encoder.parameters(), before, strict=True))
    assert skipped[0]
    assert not skipped[-1]
    assert any(not torch.equal(p, q) for p, q in zip(encoder.parameters(), before, strict=True))
