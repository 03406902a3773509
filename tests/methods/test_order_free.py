"""A training depends on its slides, seeds and numbers: not on workers, the micro-batch, or how and where files lie."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_study import DIM, RECIPE, labels_of

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.checkpoint import Checkpoints, Pace
from tapfm_eval.methods.model import SlideModel, build_aggregator
from tapfm_eval.methods.sources import StudySlide, TileSource
from tapfm_eval.methods.train import Trained, train_unit
from tapfm_eval.methods.unit import TrainingData, Unit
from tapfm_eval.protocol.schema import LastBlocks, Lora, LoraPlan
from tapfm_eval.rehearsal.svs import write_svs
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.tiles import TileSpec, tile_grid

UNIT = Unit("arm", 1, 0)
FULL = replace(RECIPE, epochs=2, micro_batch=3, drop_path=0.4, augment=True, lr_backbone=1e-2)
TRAIN, VALIDATION = 8, 6


class Stopped(Exception):  # noqa: N818 - a signal, not a fault
    """Ends a training as a kill would."""


def lay(folder: Path, order: Sequence[int]) -> TrainingData:
    """Writes the same slides in this order, each into a folder that depends on it."""
    slides: dict[str, StudySlide] = {}
    for place, i in enumerate(order):
        rng = np.random.default_rng(i)
        rgb = (np.array([190, 110, 160]) + rng.integers(0, 60, (3 * 48, (2 + i % 2) * 48, 3))).astype(np.uint8)
        path = folder / f"part{place % 3}" / f"P{i:03d}.svs"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_svs(path, rgb, mpp=0.5, objective=20, name=f"P{i:03d}")
        with open_slide(path, slide_id=f"P{i:03d}", manifest_mpp=None) as reader:
            grid = tile_grid(reader, TileSpec(0.5, 48, 0.0))
        slides[f"P{i:03d}"] = StudySlide(f"P{i:03d}", f"P{i:03d}", "dev", path, None, grid)
    patients = [f"P{i:03d}" for i in range(TRAIN + VALIDATION)]
    return TrainingData(
        targets=("A", "B"), selecting=("A", "B"),
        train=tuple(slides[p] for p in slides if p in patients[:TRAIN]),
        validation=tuple(slides[p] for p in slides if p in patients[TRAIN:]),
        labels=labels_of(patients[:TRAIN], 2, 0) | labels_of(patients[TRAIN:], 2, 1),
        tiles_per_slide=5, min_per_class=1, ties=("validation_loss", "earliest"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return lay(tmp_path_factory.mktemp("slides"), list(range(TRAIN + VALIDATION)))


@dataclass(frozen=True)
class Arm:
    """An arm whose model is made anew for each training."""

    encoder: Callable[..., TileEncoder]
    adapt: object = "full"

    def train(
        self, data: TrainingData, *, workers: int = 0, micro_batch: int = 3, held_bytes: int = 2**20,
        advance: Callable[[int], None] = lambda _: None, checkpoints: Checkpoints | None = None,
    ) -> Trained:  # fmt: skip
        encoder = self.encoder()
        adapt_encoder(encoder, self.adapt, "arm", 1)  # type: ignore[arg-type]
        model = SlideModel(encoder, build_aggregator("tapfm", DIM, 2, FULL, 1).double(), torch.device("cpu"))
        slides = {slide.slide_id: slide for slide in (*data.train, *data.validation)}
        training = TileSource(slides, workers, 1, held_bytes)
        checking = TileSource(slides, workers, None, held_bytes)
        recipe = replace(FULL, micro_batch=micro_batch)
        return train_unit(UNIT, model, recipe, data, training, checking, advance, checkpoints)


def assert_same(one: Trained, other: Trained) -> None:
    assert one.history == other.history
    assert one.state.keys() == other.state.keys()
    assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)
    assert one.validation_scores.keys() == other.validation_scores.keys()
    assert all(np.array_equal(row, other.validation_scores[name]) for name, row in one.validation_scores.items())


def test_workers_change_nothing(laid: TrainingData, tiny_encoder: Callable[..., TileEncoder]) -> None:
    arm = Arm(tiny_encoder)
    assert_same(arm.train(laid), arm.train(laid, workers=2, held_bytes=0))


def test_the_order_of_files_on_disk_changes_nothing(
    laid: TrainingData, tmp_path: Path, tiny_encoder: Callable[..., TileEncoder]
) -> None:
    elsewhere = lay(tmp_path, [int(i) for i in np.random.default_rng(3).permutation(TRAIN + VALIDATION)])
    assert [s.slide_id for s in elsewhere.train] != [s.slide_id for s in laid.train]
    arm = Arm(tiny_encoder)
    assert_same(arm.train(laid), arm.train(elsewhere))


@pytest.mark.parametrize("adapt", ["full", LastBlocks(last_blocks=1), Lora(lora=LoraPlan(rank=2))], ids=str)
def test_the_micro_batch_changes_no_weight_beyond_rounding(
    laid: TrainingData, tiny_encoder: Callable[..., TileEncoder], adapt: object
) -> None:
    """In float64, over two epochs with stochastic depth and augmentation: two passes of 1 or 2 tiles, and one of 5."""
    arm = Arm(tiny_encoder, adapt)
    first = arm.train(laid, micro_batch=1)
    moved = max(float(value.abs().max()) for name, value in first.state.items() if name.startswith("backbone"))
    assert moved > 1e-3
    for micro_batch in (2, 5):
        other = arm.train(laid, micro_batch=micro_batch)
        for name, value in first.state.items():
            torch.testing.assert_close(
                other.state[name], value, rtol=0, atol=1e-7, msg=lambda text, n=name: f"{n} {text}"
            )


@pytest.mark.parametrize("stop", [3, TRAIN + 2, 2 * TRAIN + VALIDATION - 1])
def test_where_a_training_was_interrupted_changes_nothing(
    laid: TrainingData, tmp_path: Path, tiny_encoder: Callable[..., TileEncoder], stop: int
) -> None:
    """Inside an epoch, inside its validation, and in the second epoch."""
    arm, steps = Arm(tiny_encoder), 0

    def killed(by: int) -> None:
        nonlocal steps
        steps += by
        if steps > stop:
            raise Stopped

    def kept() -> Checkpoints:
        return Checkpoints(tmp_path, "key", pace=Pace(slides=1))

    with suppress(Stopped):
        arm.train(laid, advance=killed, checkpoints=kept())
    assert list(tmp_path.glob("checkpoint-*.json"))
    assert_same(arm.train(laid), arm.train(laid, checkpoints=kept()))
