"""A training that is stopped and resumed: the same bits on a CPU, the same to a stated tolerance on a GPU."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_study import RECIPE, TileStore, toy_data

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.errors import PausedError
from tapfm_eval.methods.checkpoint import Checkpoints, Pace
from tapfm_eval.methods.model import SlideModel, build_aggregator
from tapfm_eval.methods.train import Trained, train_unit
from tapfm_eval.methods.unit import Unit, training_key

UNIT = Unit("arm", seed=1, fold=0)
BRIEF = replace(RECIPE, epochs=2, drop_path=0.2, micro_batch=2)
GPU_TOLERANCE = 0.001  # of a probability, beyond what two undisturbed trainings differ; docs/guide.md says so

CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; on a CPU the bits are equal")
)


def trained(device: str, encoder: TileEncoder, folder: Path | None, every: int | None = None) -> Trained | None:
    """The unit from its newest checkpoint on; None where it was stopped, after so many slides, with one written."""
    data = replace(toy_data(8, 8, targets=1), min_per_class=1)
    generator = torch.Generator().manual_seed(0)
    store = TileStore({
        s.slide_id: torch.randint(0, 256, (len(s.grid), 3, 48, 48), dtype=torch.uint8, generator=generator)
        for s in (*data.train, *data.validation)
    })  # fmt: skip
    place = torch.device(device)
    model = SlideModel(encoder.to(place), build_aggregator("tapfm", 16, 1, BRIEF, 1, 0, "arm").to(place), place)
    kept = None if folder is None else Checkpoints(folder, training_key(UNIT, BRIEF, data), pace=Pace(slides=1))
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count > 0
        if every is not None and done > every:
            raise PausedError("stop")

    with suppress(PausedError):
        return train_unit(UNIT, model, BRIEF, data, store, store, advance, kept)
    return None


def largest_difference(one: Trained, two: Trained) -> float:
    assert one.validation_scores.keys() == two.validation_scores.keys()
    return max(float(np.abs(one.validation_scores[s] - two.validation_scores[s]).max()) for s in one.validation_scores)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_stopped_at_every_third_slide_it_comes_to_the_same(
    tmp_path: Path, tiny_encoder: Callable[..., TileEncoder], device: str
) -> None:
    def encoder() -> TileEncoder:
        return tiny_encoder(dtype=torch.float32)

    whole, again = (trained(device, encoder(), None) for _ in range(2))
    assert whole is not None
    assert again is not None
    sessions, resumed = 0, None
    while resumed is None:
        sessions += 1
        resumed = trained(device, encoder(), tmp_path, every=3)
    assert sessions > 4
    if device == "cpu":
        assert largest_difference(whole, again) == largest_difference(whole, resumed) == 0
        assert all(torch.equal(whole.state[name], resumed.state[name]) for name in whole.state)
        assert whole.history == resumed.history
    else:
        assert largest_difference(whole, resumed) <= largest_difference(whole, again) + GPU_TOLERANCE


def test_the_guide_states_this_tolerance() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    assert f"by more than {GPU_TOLERANCE}" in " ".join(guide.split())
