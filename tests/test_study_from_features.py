"""A study of frozen arms runs on the tile features that people have: no slides, no weights, no backbone."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import MappingProxyType

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from tapfm_eval import preparation, reporting, study
from tapfm_eval.backbones import foreign
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.errors import BackboneError, InputError, ProtocolError, RunError, StudyError
from tapfm_eval.methods import train
from tapfm_eval.methods.attention_store import read_attention
from tapfm_eval.predictions.table import read_predictions
from tapfm_eval.preparation import RunOptions
from tapfm_eval.progress import Reporter
from tapfm_eval.rundir import sha256_file
from tapfm_eval.slides.tiles import read_tiles
from tapfm_eval.study import run_protocol

DIM, PATIENTS, EXTERNAL = 12, 24, 10
PROTOCOL = """
format: tapfm-eval/protocol/1
id: features
version: 1.0.0
title: Features of others
intended_use: A test of the software.
seeds: [1]
cohorts:
  here: {role: development, manifest: here.csv, split: split.csv}
  there: {role: external, manifest: there.csv}
targets: {GENE: {}}
arms:
  - {id: abmil, backbone: tiny, aggregator: abmil, adapt: frozen}
  - {id: mean, backbone: tiny, aggregator: mean, adapt: frozen, tiles_per_slide: 4}
training: {epochs: 3, lr_aggregator: 1.0e-2}
selection: {min_per_class: 1}
"""


def bag(patient: int, cohort: str) -> np.ndarray:
    """Tiles of a patient: the label shifts a third of them along the first entry."""
    rng = np.random.default_rng([patient, len(cohort)])
    tiles = rng.standard_normal((6 + patient % 4, DIM)).astype(np.float32)
    tiles[::3, 0] += 6 * (patient % 2)
    return tiles


def coords(tiles: int) -> np.ndarray:
    return np.stack([np.arange(tiles) % 3, np.arange(tiles) // 3], axis=1) * 448


def write_trident(folder: Path, name: str, values: np.ndarray, patch_size: int = 224) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["features"], file["coords"] = values, coords(len(values))
        file["features"].attrs["encoder"] = "tiny"
        file["coords"].attrs.update(
            patch_size=patch_size, patch_size_level0=448, level0_magnification=40, target_magnification=20, overlap=0
        )


def write_stamp(folder: Path, name: str, values: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["feats"], file["coords"] = values.astype(np.float16), coords(len(values)) / 4.0
        file.attrs.update(extractor="tiny", unit="um", tile_size_um=112.0, tile_size_px=224, feat_type="tile")


def write_clam(folder: Path, name: str, values: np.ndarray) -> None:
    for part in ("h5_files", "pt_files"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "h5_files" / f"{name}.h5", "w") as file:
        file["features"], file["coords"] = values, coords(len(values))
        file["coords"].attrs.update(patch_size=448, patch_level=0)
    torch.save(torch.from_numpy(values), folder / "pt_files" / f"{name}.pt")


Study = tuple[Path, RunOptions]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A protocol with TRIDENT's features of one cohort and STAMP's of the other; and the options to run it."""
    card = replace(CARDS["uni"], name="tiny", dim=DIM, depth=1, heads=1, timm_arguments=MappingProxyType({}))
    for module in (preparation, reporting, study, foreign):
        monkeypatch.setattr(module, "CARDS", {"tiny": card})
    here, there = ["patient_id,slide_id,path,GENE"], ["patient_id,slide_id,path,GENE"]
    for i in range(PATIENTS):
        here.append(f"P{i},S{i},S{i}.0123.svs,{i % 2}")
        # TRIDENT names its files as the slide's own file is called; some are renamed by their owners
        write_trident(tmp_path / "trident", f"S{i}.0123" if i % 2 else f"S{i}", bag(i, "here"))
    for i in range(PATIENTS, PATIENTS + EXTERNAL):
        there.append(f"Q{i},S{i},S{i}.svs,{i % 2}")
        write_stamp(tmp_path / "stamp", f"S{i}", bag(i, "there"))
    (tmp_path / "here.csv").write_text("\n".join(here) + "\n", encoding="utf-8")
    (tmp_path / "there.csv").write_text("\n".join(there) + "\n", encoding="utf-8")
    parts = ["train" if i < 12 else "validation" if i < 18 else "test" for i in range(PATIENTS)]
    table = pd.DataFrame({"patient_id": [f"P{i}" for i in range(PATIENTS)], "fold": 0, "split": parts})
    write_split(tmp_path / "split.csv", table, {"scheme": "own", "manifest_sha256": sha256_file(tmp_path / "here.csv")})
    (tmp_path / "features.yaml").write_text(PROTOCOL, encoding="utf-8")
    folders = {"here": tmp_path / "trident", "there": tmp_path / "stamp"}
    return tmp_path / "features.yaml", RunOptions(features=folders, out=tmp_path / "reports", device="cpu", workers=0)


def run(given: Study, *arms: str) -> Path:
    """The folder of the run; of one that stops once these arms are trained, if any are named."""
    return run_protocol(given[0], replace(given[1], arms=arms), Reporter(quiet=True)).folder


def test_features_of_trident_and_stamp_carry_a_study_to_its_report(given: Study) -> None:
    folder = run(given)
    predictions = read_predictions(folder / "predictions.csv")
    assert len(predictions) == 2 * (6 + 6 + EXTERNAL)
    external = predictions[(predictions["split"] == "external") & (predictions["arm"] == "abmil")]
    assert roc_auc_score(external["label"], external["score"]) >= 0.9
    assert (folder / "report.pdf").stat().st_size > 10_000
    hashes = json.loads((folder / "provenance.json").read_text())["sections"]["hashes (sha256)"]
    assert {"features here", "features there"} <= hashes.keys()
    kept = read_attention(folder / "arms" / "abmil" / "seed-1" / "fold-0" / "attention" / "there" / "S25.h5")
    assert np.array_equal(kept.coords, coords(len(bag(25, "there"))) // 2)  # micrometres as pixels of 0.5 um
    assert kept.tile_px0 == 224
    assert kept.weights.sum() == pytest.approx(1, abs=1e-6)
    assert np.isnan(kept.attention).all()
    assert len((folder / "tiles.csv").read_text().splitlines()) == 2 + PATIENTS + EXTERNAL


@pytest.mark.long
def test_clams_features_give_what_tridents_of_the_same_tiles_give(given: Study) -> None:
    """CLAM says neither scale nor encoder; `features.json` beside its folders does."""
    from_trident = run(given)
    folder = given[0].parent / "clam"
    for i in range(PATIENTS):
        write_clam(folder, f"S{i}.0123", bag(i, "here"))
    silent = replace(given[1], features={**given[1].features, "here": folder})
    with pytest.raises(BackboneError, match=r"features\.json"):
        run((given[0], silent))
    facts = {"encoder": "tiny", "tile_px": 224, "mpp": 0.5, "overlap": 0}
    (folder / "features.json").write_text(json.dumps(facts), encoding="utf-8")
    from_clam = run((given[0], silent))
    assert from_clam != from_trident
    first, second = (read_predictions(run / "predictions.csv") for run in (from_trident, from_clam))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.long
def test_a_loss_that_is_no_number_stops_the_study_and_its_last_good_state_goes_on(
    given: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (run((given[0], replace(given[1], out=given[1].out / "whole"))) / "predictions.csv").read_bytes()
    step, steps = train._gradients, count(1)
    with monkeypatch.context() as faulty:
        faulty.setattr(train, "_gradients", lambda *given: math.nan if next(steps) == 17 else step(*given))
        with pytest.raises(StudyError, match=r"^abmil, seed 1, fold 0: the loss is nan in epoch 2 at slide S") as error:
            run(given)
    assert "Lower the learning rate" in str(error.value)
    kept = list(given[1].out.glob("features-1.0.0/*/arms/abmil/seed-1/fold-0/**/*.safetensors"))
    assert kept
    assert all(tensor.isfinite().all() for path in kept for tensor in load_file(path).values())
    assert (run(given) / "predictions.csv").read_bytes() == whole


def test_a_second_start_takes_nothing_again_and_other_features_are_another_run(given: Study) -> None:
    first = run(given, "mean")
    stored = first / "features" / "tiny" / "here" / "S0.h5"
    before = stored.stat().st_mtime_ns
    assert run(given, "mean") == first
    assert stored.stat().st_mtime_ns == before
    (first / "tiles" / "here" / "S0.h5").unlink()
    assert run(given, "mean") == first
    assert len(read_tiles(first / "tiles" / "here" / "S0.h5")) == len(bag(0, "here"))
    write_trident(given[1].features["here"], "S0", bag(0, "here") + 1)
    assert run(given, "mean") != first


def one_wrong(folder: Path) -> None:
    write_trident(folder, "S2", bag(2, "here"), patch_size=256)
    write_trident(folder, "S4", bag(4, "here")[:, :5])


def one_gone(folder: Path) -> None:
    (folder / "S2.h5").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (one_wrong, ["S2.h5, tile_px: expected 224 (protocol), got 256", "S4.h5", "(N, 12)"]),
        (one_gone, ["missing: S2"]),
    ],
)
def test_features_that_are_not_the_protocols_are_refused_together_before_any_training(
    given: Study, spoil: Callable[[Path], None], words: list[str]
) -> None:
    spoil(given[1].features["here"])
    with pytest.raises(BackboneError) as error:
        run(given)
    for word in words:
        assert word in str(error.value)
    assert not list(given[1].out.rglob("selection.json"))
    assert not list(given[1].out.rglob("features/*/*/*.h5"))


def test_a_folder_that_is_not_there_is_said(given: Study) -> None:
    gone = replace(given[1], features={**given[1].features, "there": given[0].parent / "nowhere"})
    with pytest.raises(BackboneError, match="--features there: expected a folder"):
        run((given[0], gone))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("adapt: frozen}", "adapt: full}", r"arms\[0\] \(abmil\)\.adapt: expected frozen.*give the slides"),
        ("aggregator: abmil", "aggregator: tapfm", r"aggregator: expected another one.*attention"),
        ("selection:", "tiles: {regions: annotations}\nselection:", r"tiles\.regions: expected none"),
    ],
)
def test_what_needs_pixels_is_refused(given: Study, old: str, new: str, words: str) -> None:
    given[0].write_text(PROTOCOL.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ProtocolError, match=words):
        run(given)


def test_slides_and_features_of_one_cohort_are_one_too_many(given: Study) -> None:
    both = replace(given[1], slides={"here": given[0].parent})
    with pytest.raises(InputError, match="either features or slides"):
        run((given[0], both))
    with pytest.raises(InputError, match="--features"):
        run((given[0], replace(given[1], features={"elsewhere": given[0].parent})))


def test_tiles_that_another_tool_resized_may_be_the_protocols(given: Study) -> None:
    for path in given[1].features["here"].iterdir():
        with h5py.File(path, "r+") as file:
            file["coords"].attrs["patch_size"] = 256
    for path in given[1].features["there"].iterdir():
        with h5py.File(path, "r+") as file:
            file.attrs.update(tile_size_px=256, tile_size_um=128.0)
    given[0].write_text(PROTOCOL + "tiles: {mpp: 0.5, tile_px: 256}\n", encoding="utf-8")
    assert list(run(given, "mean").rglob("selection.json"))


def test_several_backbones_have_a_folder_each_and_tiles_in_the_same_places(
    given: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = {name: replace(preparation.CARDS["tiny"], name=name) for name in ("tiny", "small")}
    for module in (preparation, reporting, study, foreign):
        monkeypatch.setattr(module, "CARDS", cards)
    text = PROTOCOL.replace("{id: mean, backbone: tiny", "{id: mean, backbone: small")
    given[0].write_text(text, encoding="utf-8")
    for cohort, folder in given[1].features.items():
        inner = folder / "features_small"
        for path in sorted(folder.glob("*.h5")):
            number = int(path.stem.removeprefix("S").removesuffix(".0123"))
            if cohort == "here":
                write_trident(inner, path.stem, 2 * bag(number, cohort))
            else:
                write_stamp(inner, path.stem, 2 * bag(number, cohort))
            with h5py.File(inner / path.name, "r+") as file:
                if cohort == "here":
                    file["features"].attrs["encoder"] = "small"
                else:
                    file.attrs["extractor"] = "small"
    folder = run(given, "mean")
    assert sorted(path.name for path in (folder / "features").iterdir()) == ["small", "tiny"]
    for path in (given[1].features["there"] / "features_small").iterdir():
        with h5py.File(path, "r+") as file:
            file["coords"][0] = 9000.0
    with pytest.raises(BackboneError, match="in other places"):
        run(given, "mean")


def test_a_run_refuses_other_features_under_its_own_name(given: Study) -> None:
    """The run's name derives from the features, so only a folder that was tampered with gets here."""
    folder = run(given, "mean")
    slides = json.loads((folder / "slides.json").read_text())
    slides["slides"]["S0"] = "features of others"
    (folder / "slides.json").write_text(json.dumps(slides))
    with pytest.raises(RunError, match="1 changed: S0"):
        run(given, "mean")
