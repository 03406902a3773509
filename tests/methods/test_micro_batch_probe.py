"""The micro-batch of a GPU is the largest that fits, found by real steps; a GPU is played here by an encoder that runs
out of memory beyond a number of tiles."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy_study import RECIPE

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.errors import StudyError
from tapfm_eval.methods import probe
from tapfm_eval.methods.abmil import Abmil
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.model import SlideModel
from tapfm_eval.methods.probe import inference_micro_batch, largest_that_fits, training_micro_batch
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.protocol.schema import LastBlocks


@settings(max_examples=200, derandomize=True, deadline=None)
@given(holds=st.integers(0, 3000), most=st.integers(1, 2000))
def test_the_largest_number_that_fits_is_found_to_an_eighth(holds: int, most: int) -> None:
    tried: list[int] = []

    def fits(count: int) -> bool:
        tried.append(count)
        return count <= holds

    found = largest_that_fits(fits, most)
    best = min(holds, most)
    assert found <= best
    assert best - found <= found // 8
    assert found == 0 or fits(found)
    assert len(tried) <= 16
    assert max(tried) <= most
    if holds >= most:
        assert found == most  # the whole bag: one pass is enough


class Limited:
    """Memory that holds `limit` tiles at a time."""

    def __init__(self, encoder: TileEncoder, limit: int) -> None:
        self.encoder, self.limit = encoder, limit
        self.asked: list[int] = []
        self.rest = encoder.rest
        encoder.rest = self.limited  # type: ignore[method-assign]

    def limited(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.asked.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.rest(x, keep)


def model_of(encoder: TileEncoder) -> SlideModel:
    return SlideModel(encoder, Tapfm(16, 2, temperature=0.1, layer_norm=True).double(), torch.device("cpu"))


@pytest.mark.parametrize("adapt", ["full", LastBlocks(last_blocks=1)], ids=str)
def test_the_probe_takes_real_steps_and_leaves_the_model_as_it_was(
    tiny_encoder: Callable[..., TileEncoder], adapt: object
) -> None:
    encoder = tiny_encoder("uni")
    adapt_encoder(encoder, adapt, "arm")  # type: ignore[arg-type]
    before = copy.deepcopy(encoder.state_dict())
    limited, model = Limited(encoder, 5), model_of(encoder)
    state = torch.random.get_rng_state()
    found = training_micro_batch(model, replace(RECIPE, drop_path=0.2), 12, 48, "arm")
    assert found.tiles == 5
    assert set(limited.asked) == {1, 2, 4, 5, 6, 8}  # 6 and 8 are too many
    assert all(p.grad is None for _, module in model.modules() for p in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was used"


def test_a_bag_that_fits_whole_is_taken_whole(tiny_encoder: Callable[..., TileEncoder]) -> None:
    encoder = tiny_encoder("uni")
    limited = Limited(encoder, 100)
    assert training_micro_batch(model_of(encoder), RECIPE, 11, 48, "arm").tiles == 11
    assert max(limited.asked) == 11


def test_a_gpu_that_holds_no_tile_is_said_with_what_to_do(tiny_encoder: Callable[..., TileEncoder]) -> None:
    encoder = tiny_encoder("uni")
    Limited(encoder, 0)
    with pytest.raises(StudyError, match=r"arm huge: .*a single tile.*last_blocks"):
        training_micro_batch(model_of(encoder), RECIPE, 11, 48, "arm huge")


def test_inference_has_a_probe_of_its_own(tiny_encoder: Callable[..., TileEncoder]) -> None:
    encoder = tiny_encoder("uni").requires_grad_(False)
    limited = Limited(encoder, 19)
    model = SlideModel(encoder, Abmil(16, 2), torch.device("cpu"))
    found = inference_micro_batch(model, 48, "embedding").tiles
    assert found == 18
    assert max(limited.asked) == 32


def test_an_attempt_that_leaves_too_little_free_does_not_count(
    tiny_encoder: Callable[..., TileEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_encoder("uni")
    limited = Limited(encoder, 1000)
    monkeypatch.setattr(probe, "_free", lambda _: 100.0)
    monkeypatch.setattr(probe, "_peak", lambda _, budget: (11 * limited.asked[-1] / budget, float(limited.asked[-1])))
    found = training_micro_batch(model_of(encoder), RECIPE, 64, 48, "arm")
    assert found.tiles == 8  # 88 of 100; the limit is 90
    assert found.peak_mb == 8


def test_what_the_optimizer_takes_is_held_beside_each_attempt(
    tiny_encoder: Callable[..., TileEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_encoder("uni")
    adapt_encoder(encoder, LastBlocks(last_blocks=1), "arm")
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    held: list[int] = []
    real = probe._held
    monkeypatch.setattr(probe, "_held", lambda *args: held.append(sum(t.numel() for t in real(*args))) or [])
    training_micro_batch(model_of(encoder), RECIPE, 2, 48, "arm")
    assert held == [3 * trained, 3 * trained]
