"""The block diagnosis trains on training patients alone, names N*, keeps figure and table, and repeats to the byte."""

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from tapfm_eval import diagnosis, preparation
from tapfm_eval.backbones.cards import CARDS, stand_in
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.diagnosis import Diagnosis, ProbePlan, diagnose_blocks
from tapfm_eval.errors import InputError
from tapfm_eval.methods.probe import MicroBatch
from tapfm_eval.methods.recipe import Recipe
from tapfm_eval.preparation import RunOptions
from tapfm_eval.progress import Reporter
from tapfm_eval.rehearsal.svs import write_svs
from tapfm_eval.rundir import sha256_file

PROTOCOL = """
format: tapfm-eval/protocol/1
id: probed
version: 1.0.0
title: Probed
intended_use: A test of the software.
seeds: [1]
cohorts:
  here: {role: development, manifest: here.csv, split: split.csv}
targets: {GENE: {}}
arms: [{id: a, backbone: tiny, aggregator: tapfm, adapt: frozen}]
training: {lr_backbone: 1.0e-3, lr_aggregator: 1.0e-3}
selection: {min_per_class: 1}
"""
PARTS = ("train",) * 6 + ("validation",) * 2 + ("test",) * 2


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, RunOptions]:
    """Ten patients; only those who train have a slide, so that a look at another one would fail."""
    card = replace(stand_in(CARDS["uni"]), name="tiny")
    arguments = dict(card.timm_arguments) | {"embed_dim": 24, "num_heads": 2, "depth": 3, "img_size": 224}
    card = replace(card, timm_arguments=MappingProxyType(arguments), dim=24, depth=3, heads=2, tile_px=224)
    for module in (diagnosis, preparation):
        monkeypatch.setattr(module, "CARDS", {"tiny": card})
    for i in range(6):
        tissue = np.random.default_rng(i).normal((150, 70 + 20 * (i % 2), 150), 25, (512, 512, 3))
        write_svs(tmp_path / f"s{i}.svs", tissue.clip(0, 255).astype(np.uint8), mpp=0.5, objective=20, name=f"s{i}")
    rows = [f"P{i},s{i},s{i}.svs,{i % 2}" for i in range(len(PARTS))]
    (tmp_path / "here.csv").write_text("\n".join(["patient_id,slide_id,path,GENE", *rows]) + "\n", encoding="utf-8")
    parts = pd.DataFrame({"patient_id": [f"P{i}" for i in range(len(PARTS))], "fold": 0, "split": PARTS})
    write_split(tmp_path / "split.csv", parts,
                {"scheme": "own", "seed": 0, "manifest_sha256": sha256_file(tmp_path / "here.csv")})  # fmt: skip
    (tmp_path / "p.yaml").write_text(PROTOCOL, encoding="utf-8")
    return tmp_path / "p.yaml", RunOptions(slides={"here": tmp_path}, device="cpu", workers=0)


def probe(study: tuple[Path, RunOptions], out: Path, plan: ProbePlan = ProbePlan(patients=4)) -> Diagnosis:  # noqa: B008
    return diagnose_blocks(study[0], "a", plan, replace(study[1], out=out), Reporter(quiet=True))


def test_a_slide_that_cannot_be_tiled_is_named(study: tuple[Path, RunOptions], tmp_path: Path) -> None:
    for i in range(6):
        (tmp_path / f"s{i}.svs").write_bytes(b"no slide")
    with pytest.raises(InputError, match=r"slide s[0-9]: expected tiles of tissue, got .*`exclude`"):
        probe(study, tmp_path / "out")


def test_a_probe_of_training_patients_names_the_last_blocks(study: tuple[Path, RunOptions], tmp_path: Path) -> None:
    found = probe(study, tmp_path / "one")
    assert (found.patients, found.tiles_compared, found.drift.depth) == (4, 4 * 4, 3)
    assert sum(found.drift.shares) == pytest.approx(1)
    best = found.last_blocks
    assert best is not None
    assert found.drift.last(best) >= 0.85
    assert best == 1 or found.drift.last(best - 1) < 0.85
    content = json.loads((found.folder / "diagnosis.json").read_text(encoding="utf-8"))
    assert content["last_blocks"] == best
    assert len((found.folder / "blocks.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert f"N* = {best}" in (found.folder / "drift.svg").read_text(encoding="utf-8")

    again = probe(study, tmp_path / "two")
    for name in ("diagnosis.json", "blocks.csv", "drift.svg"):
        assert (again.folder / name).read_bytes() == (found.folder / name).read_bytes()


def test_without_slides_of_training_patients_the_remedy_is_named(
    study: tuple[Path, RunOptions], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="--slides here=DIR"):
        probe((study[0], replace(study[1], slides={"here": empty})), tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_on_a_gpu_the_micro_batch_is_probed_and_kernels_are_the_protocols(
    study: tuple[Path, RunOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def probed(_: object, recipe: Recipe, most: int, *__: object) -> MicroBatch:
        asked.append(most)
        return MicroBatch(2, 0.1, 0.0)

    def kernels(_: object, **chosen: bool) -> None:
        asked.append(chosen)

    monkeypatch.setattr(diagnosis, "has_own_memory", lambda _: True)
    monkeypatch.setattr(diagnosis, "training_micro_batch", probed)
    monkeypatch.setattr(diagnosis.TileEncoder, "use_kernels", kernels)
    found = probe(study, tmp_path / "gpu")
    assert asked[-2:] == [{"fused": True, "compiled": False}, 4]
    assert found.drift.depth == 3
