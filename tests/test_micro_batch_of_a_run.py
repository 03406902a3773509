"""A run finds the micro-batch of a GPU once, writes it to its journal, and a resumed run takes it from there."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tapfm_eval.backbones.cards import CARDS, stand_in
from tapfm_eval.methods.model import SlideModel
from tapfm_eval.methods.probe import MicroBatch
from tapfm_eval.methods.recipe import resolve_recipe
from tapfm_eval.methods.sources import StudySlide
from tapfm_eval.methods.unit import Unit
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.rundir import RunFolder
from tapfm_eval.slides.reader import TilePlan
from tapfm_eval.slides.tiles import TileGrid, TileSpec
from tapfm_eval.stages import micro_batch, units
from tapfm_eval.stages.micro_batch import settled_for_embedding, settled_for_training
from tapfm_eval.stages.units import StudyData, build_model

TUNED = {"id": "tuned", "backbone": "uni", "aggregator": "tapfm", "adapt": "full", "tiles_per_slide": 30}
FROZEN = {"id": "frozen", "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"}


class Probes:
    """Stands for the GPU; counts how often it was asked, and for how large a bag."""

    def __init__(self, found: int) -> None:
        self.found = found
        self.asked: list[tuple[str, int | None]] = []

    def training(self, model: SlideModel, recipe: object, most: int, tile_px: int, where: str) -> MicroBatch:
        self.asked.append((where, most))
        return MicroBatch(self.found, 1.23, 4567.8)

    def inference(self, model: SlideModel, tile_px: int, where: str) -> MicroBatch:
        self.asked.append((where, None))
        return MicroBatch(2 * self.found, 1.0, 1.0)


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Probes:
    made = Probes(7)
    monkeypatch.setattr(micro_batch, "has_own_memory", lambda _: True)
    monkeypatch.setattr(micro_batch, "training_micro_batch", made.training)
    monkeypatch.setattr(micro_batch, "inference_micro_batch", made.inference)
    return made


def slide(number: int, tiles: int) -> StudySlide:
    grid = TileGrid(
        slide_id=f"S{number}", fingerprint="f", width=100, height=100, mpp=0.5, mpp_source="slide", objective=20.0,
        spec=TileSpec(0.5, 224, 0.5), plan=TilePlan(0, 224, 224, 224), xy0=np.zeros((tiles, 2), np.int64),
        tissue=np.ones(tiles, np.float32), positions=tiles, thumbnail_tissue=1.0,
    )  # fmt: skip
    return StudySlide(f"S{number}", f"P{number}", "dev", Path(f"S{number}.svs"), None, grid)


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., StudyData]:
    def make(**training: object) -> StudyData:
        protocol = Protocol.model_validate({
            "format": "tapfm-eval/protocol/1", "id": "p", "version": "1.0.0", "title": "t", "intended_use": "u",
            "seeds": [1], "cohorts": {"dev": {"role": "development", "manifest": "m.csv", "split": "s.csv"}},
            "targets": {"A": {}}, "arms": [TUNED, FROZEN], "training": training,
        })  # fmt: skip
        slides = (slide(1, 12), slide(2, 21))
        return StudyData(
            protocol, {}, slides, {"uni": stand_in(CARDS["uni"])}, {}, RunFolder(tmp_path), torch.device("cpu"), 0
        )

    return make


def settled(data: StudyData) -> int:
    arm = data.protocol.arms[0]
    recipe = resolve_recipe(data.protocol, arm)
    model = build_model(data, arm, Unit(arm.id, 1, 0), recipe)
    return settled_for_training(data, arm, model, recipe).micro_batch


def embedded(data: StudyData) -> int:
    tuned, frozen = data.protocol.arms
    recipe = resolve_recipe(data.protocol, frozen)
    model = build_model(data, tuned, Unit("tuned", 1, 0), recipe)
    return settled_for_embedding(data, frozen, model, recipe).micro_batch


def found(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "micro-batch found"]


def test_a_gpu_is_probed_once_for_an_arm_and_the_journal_is_asked_from_then_on(
    study: Callable[..., StudyData], probes: Probes, tmp_path: Path
) -> None:
    assert settled(study()) == 7
    assert probes.asked == [("arm tuned", 21)]  # of 30 asked for, the largest slide has 21
    (event,) = found(tmp_path)
    assert (event["what"], event["tiles"], event["seconds"], event["peak_mb"]) == ("training tuned", 7, 1.2, 4568)
    probes.found = 5
    assert settled(study()) == 7  # as a resumed run finds it
    assert embedded(study()) == 10
    assert embedded(study()) == 10
    assert probes.asked == [("arm tuned", 21), ("embedding with uni", None)]


def test_another_kind_of_gpu_is_probed_anew(
    study: Callable[..., StudyData], probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settled(study()) == 7
    monkeypatch.setattr(micro_batch, "_name", lambda _: "a larger one, 80 GB")
    probes.found = 19
    assert settled(study()) == 19


def test_what_another_process_found_first_counts(
    study: Callable[..., StudyData], probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = study()

    def meanwhile(*args: object) -> MicroBatch:
        data.folder.journal(micro_batch.FOUND, what="training tuned", device="cpu", tiles=3)
        return MicroBatch(7, 0.0, 0.0)

    monkeypatch.setattr(micro_batch, "training_micro_batch", meanwhile)
    assert settled(data) == 3
    assert len(found(data.folder.root)) == 2


def test_a_stated_number_is_taken_without_asking(study: Callable[..., StudyData], probes: Probes) -> None:
    assert settled(study(micro_batch=4)) == 4
    assert embedded(study(micro_batch=4)) == 4
    assert probes.asked == []


def test_a_cpu_takes_its_fixed_number(study: Callable[..., StudyData], tmp_path: Path) -> None:
    assert settled(study()) == embedded(study()) == 16
    assert not (tmp_path / "journal.jsonl").exists()


def test_a_damaged_line_of_the_journal_is_probed_over(study: Callable[..., StudyData], probes: Probes) -> None:
    data = study()
    data.folder.journal(micro_batch.FOUND, what="training tuned", device="cpu", tiles="many")
    assert settled(data) == 7


def test_a_protocols_kernels_reach_the_backbone(
    study: Callable[..., StudyData], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, bool]] = []
    monkeypatch.setattr(units.TileEncoder, "use_kernels", lambda _, **chosen: asked.append(chosen))
    settled(study(fused_attention=False, compile_blocks=True))
    assert asked[-1] == {"fused": False, "compiled": True}
    settled(study())
    assert asked[-1] == {"fused": True, "compiled": False}
