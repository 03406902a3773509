"""The main job on real input: TAPFM and ABMIL on real H&E tiles of an Aperio slide, from YAML to PDF."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import pytest
import torch
from pypdf import PdfReader
from safetensors.torch import save_file

from tapfm_eval import preparation, reporting, study
from tapfm_eval.backbones.cards import CARDS, BackboneCard
from tapfm_eval.backbones.load import build_backbone
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.errors import InputError, RunError, SlideError
from tapfm_eval.methods.attention_store import read_attention
from tapfm_eval.predictions.table import read_predictions
from tapfm_eval.preparation import RunOptions
from tapfm_eval.progress import Reporter
from tapfm_eval.rehearsal.svs import write_svs
from tapfm_eval.report.pictures import picture_files, read_pictures
from tapfm_eval.rundir import sha256_file
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.tiles import TileSpec, read_tiles, tile_grid
from tapfm_eval.study import RunOutcome, run_protocol

SLIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "slides" / "CMU-1-Small-Region.svs"
QUIET = Reporter(quiet=True)
DEVELOPMENT, EXTERNAL = 8, 4
REGION_PX = 500

PROTOCOL = """
format: tapfm-eval/protocol/1
id: real
version: 1.0.0
title: Real tiles
intended_use: A test of the software.
seeds: [1, 2]
cohorts:
  here: {role: development, manifest: here.csv, split: split.csv}
  there: {role: external, manifest: there.csv}
targets:
  GENE: {columns: {there: gene_status}, values: {mut: 1, wt: 0}}
arms:
  - {id: tapfm, backbone: tiny, aggregator: tapfm, adapt: {last_blocks: 1}, tiles_per_slide: 3}
  - {id: abmil, backbone: tiny, aggregator: abmil, adapt: frozen}
training: {epochs: 2, lr_backbone: 1.0e-4, lr_aggregator: 1.0e-3, micro_batch: 2, drop_path: 0.1}
selection: {min_per_class: 1}
analysis:
  primary: {target: GENE, cohort: there, arm: tapfm, versus: abmil, hypothesis: {non_inferiority: {margin: 0.1}}}
  families: [{name: arms, comparisons: all_pairs}]
  operating_points: [{at_sensitivity: 0.9}, youden]
  subgroups: [sex]
failures: {policy: exclude, max_share: 0.3}
"""

FOLDS = (("train", "train", "train", "train", "validation", "validation", "test", "test"),
         ("test", "test", "train", "train", "train", "train", "validation", "validation"))  # fmt: skip


def tiny_card() -> BackboneCard:
    """A real timm network, small enough for a test, that keeps UNI's input."""
    arguments = {"img_size": 224, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3, "init_values": 1e-1}
    return replace(
        CARDS["uni"], name="tiny", title="Tiny ViT", architecture="vit_tiny_patch16_224",
        timm_arguments=MappingProxyType(arguments), dim=48, depth=2, heads=3, parameters=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real H&E: regions of the Aperio slide as slides of their own, a folder per cohort."""
    if not SLIDE.is_file():
        pytest.skip("the real Aperio slide lies in ../shared/data, which is not here")
    root = tmp_path_factory.mktemp("regions")
    with open_slide(SLIDE, slide_id="CMU-1", manifest_mpp=None) as reader:
        grid = tile_grid(reader, TileSpec(mpp=0.5, tile_px=224, min_tissue=0.8))
        for i, (x0, y0) in enumerate(grid.xy0[:: len(grid) // (DEVELOPMENT + EXTERNAL)][: DEVELOPMENT + EXTERNAL]):
            cohort = "here" if i < DEVELOPMENT else "there"
            (root / cohort).mkdir(exist_ok=True)
            rgb = reader.read_region(int(x0), int(y0), REGION_PX, REGION_PX)
            write_svs(root / cohort / f"slide{i}.svs", rgb, mpp=reader.info.mpp, objective=20, name=f"slide{i}")
    return root


@pytest.fixture
def real(regions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, RunOptions]:
    """A small protocol on the regions, with locally made weights; and the options to run it."""
    card = tiny_card()
    for module in (preparation, reporting, study):
        monkeypatch.setattr(module, "CARDS", {"tiny": card})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_file(dict(build_backbone(card).state_dict()), str(tmp_path / "tiny.safetensors"))
    # one patient has two slides, so that scores are combined; labels alternate
    here = ["patient_id,slide_id,path,GENE,sex"]
    here += [f"P{i},slide{i},slide{i}.svs,{i % 2},{'female' if i % 3 else 'male'}" for i in range(DEVELOPMENT)]
    there = ["patient_id,slide_id,path,gene_status,sex"]
    there += [
        f"Q{i},slide{i},slide{i}.svs,{'mut' if i % 2 else 'wt'},male"
        for i in range(DEVELOPMENT, DEVELOPMENT + EXTERNAL)
    ]
    (tmp_path / "here.csv").write_text("\n".join(here) + "\n", encoding="utf-8")
    (tmp_path / "there.csv").write_text("\n".join(there) + "\n", encoding="utf-8")
    rows = [(f"P{i}", fold, part) for fold, parts in enumerate(FOLDS) for i, part in enumerate(parts)]
    table = pd.DataFrame(rows, columns=["patient_id", "fold", "split"])
    meta = {"scheme": "own", "seed": 0, "manifest_sha256": sha256_file(tmp_path / "here.csv")}
    write_split(tmp_path / "split.csv", table, meta)
    (tmp_path / "real.yaml").write_text(PROTOCOL, encoding="utf-8")
    options = RunOptions(
        slides={"here": regions / "here", "there": regions / "there"},
        weights={"tiny": tmp_path / "tiny.safetensors"},
        out=tmp_path / "reports", device="cpu", workers=0,
    )  # fmt: skip
    return tmp_path / "real.yaml", options


def run(real: tuple[Path, RunOptions], **changes: object) -> RunOutcome:
    return run_protocol(real[0], replace(real[1], **changes), QUIET)  # type: ignore[arg-type]


def test_tapfm_and_abmil_run_on_real_tiles_from_yaml_to_pdf(real: tuple[Path, RunOptions]) -> None:
    outcome = run(real)
    folder = outcome.folder
    assert {path.name for path in outcome.report} >= {"report.html", "report.pdf"}
    predictions = read_predictions(folder / "predictions.csv")
    # 2 arms x 2 seeds x 2 folds: 2 validation, 2 test and 4 external slides each
    assert len(predictions) == 8 * (2 + 2 + EXTERNAL)
    assert predictions["score"].between(0, 1).all()
    results = json.loads((folder / "results.json").read_text())
    external = [row for row in results["aurocs"] if row["split"] == "external"]
    assert {row["auroc"]["n"] for row in external} == {EXTERNAL}
    assert results["primary"]["hypothesis"] == "non-inferiority"
    assert results["primary"]["met"] is None  # two positives carry no test
    text = "\n".join(page.extract_text() for page in PdfReader(folder / "report.pdf").pages)
    for word in ("Real tiles", "tapfm", "abmil", "GENE", "there"):
        assert word in text
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "synthetic" not in html
    assert hashlib.sha256(b"").hexdigest() not in html
    assert (folder / "arms" / "tapfm" / "seed-2" / "fold-1" / "selected.safetensors").is_file()
    for unit in sorted(folder.glob("arms/*/seed-*/fold-*")):  # heatmaps are drawn from these
        for cohort, slides in (("here", 2), ("there", EXTERNAL)):
            kept = [read_attention(path) for path in sorted((unit / "attention" / cohort).iterdir())]
            assert len(kept) == slides
            for slide in kept:
                assert len(slide.weights) == len(read_tiles(folder / "tiles" / cohort / f"{slide.slide_id}.h5").xy0)
                assert slide.weights.sum() == pytest.approx(1, abs=1e-5)
                assert slide.attention.std() > 0
                assert slide.tile_px0 == 224
    drawn = read_pictures(folder)
    assert {case.target for case in drawn} == {"GENE"}
    assert any(case.weights is not None and case.strongest and case.weakest for case in drawn)
    assert html.count("data:image/jpeg;base64,") == sum(len(picture_files(case)) for case in drawn)
    stated = json.loads((folder / "provenance.json").read_text())["sections"]["hashes (sha256)"]
    assert stated["weights tiny"] == sha256_file(real[1].weights["tiny"])


def test_test_and_external_patients_are_predicted_once_after_every_arm_is_selected(
    real: tuple[Path, RunOptions],
) -> None:
    started = run(real, arms=("abmil",))
    assert started.report == ()
    assert not (started.folder / "predictions.csv").exists()
    assert not list(started.folder.rglob("predictions.csv"))
    done = run(real)
    assert done.folder == started.folder  # the same command resumes its own run
    events = [json.loads(line)["event"] for line in (done.folder / "journal.jsonl").read_text().splitlines()]
    looked = events.index("test and external patients predicted")
    assert events.count("test and external patients predicted") == 1
    assert events[:looked].count("selected") == 8
    assert "selected" not in events[looked:]


@pytest.mark.long
def test_the_same_run_gives_the_same_predictions_whatever_the_number_of_workers(
    real: tuple[Path, RunOptions], tmp_path: Path
) -> None:
    first = run(real)
    second = run(real, out=tmp_path / "again", workers=2)
    for name in ("predictions.csv", "results.json", "report.html"):
        ours, theirs = ((outcome.folder / name).read_text() for outcome in (first, second))
        if name == "report.html":  # times and memory differ between runs; everything that is a result does not
            continue
        assert ours == theirs, name


def test_a_finished_run_is_reported_again_from_its_folder_alone(real: tuple[Path, RunOptions]) -> None:
    folder = run(real).folder
    before = {p.name: p.read_bytes() for p in (folder / "report.html", folder / "report.pdf", folder / "results.json")}
    real[0].unlink()
    (real[0].parent / "here.csv").unlink()
    reporting.write_analysis(folder)
    assert before == {name: (folder / name).read_bytes() for name in before}


@pytest.mark.long
def test_a_slide_that_is_no_image_leaves_the_study_with_its_reason(
    real: tuple[Path, RunOptions], tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for path in sorted(real[1].slides["there"].iterdir()):
        (there / path.name).write_bytes(path.read_bytes())
    (there / "slide9.svs").write_text("not an image")
    slides = {**real[1].slides, "there": there}
    folder = run(real, slides=slides).folder
    results = json.loads((folder / "results.json").read_text())
    gone = [row for row in results["exclusions"] if row["slide_id"] == "slide9"]
    assert len(gone) == 1
    assert "image that OpenSlide reads" in gone[0]["reason"]
    assert "slide9" not in gone[0]["reason"]  # a file's name may be a patient's
    assert "Q9" not in (folder / "predictions.csv").read_text()


def test_too_many_failed_slides_are_refused_before_anything_is_written(
    real: tuple[Path, RunOptions], tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for path in sorted(real[1].slides["there"].iterdir()):
        (there / path.name).write_text("not an image")
    with pytest.raises(SlideError) as error:
        run(real, slides={**real[1].slides, "there": there})
    assert len(error.value.problems) == 4
    assert not (tmp_path / "reports").exists()


def test_a_run_keeps_to_the_slides_it_began_with(real: tuple[Path, RunOptions], tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for path in sorted(real[1].slides["there"].iterdir()):
        (there / path.name).write_bytes(path.read_bytes())
    slides = {**real[1].slides, "there": there}
    run(real, slides=slides, arms=("abmil",))
    (there / "slide9.svs").write_bytes((real[1].slides["here"] / "slide1.svs").read_bytes())
    with pytest.raises(RunError, match="1 changed: slide9"):
        run(real, slides=slides)


def test_weights_that_do_not_fit_are_named_before_any_training(real: tuple[Path, RunOptions], tmp_path: Path) -> None:
    save_file({"patch_embed.proj.weight": torch.zeros(3)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(InputError, match=r"other\.safetensors.*missing"):
        run(real, weights={"tiny": tmp_path / "other.safetensors"})
    assert not list((tmp_path / "reports").rglob("selection.json"))


def test_an_unfinished_run_cannot_be_reported(real: tuple[Path, RunOptions]) -> None:
    folder = run(real, arms=("abmil",)).folder
    with pytest.raises(RunError, match=r"no predictions\.csv"):
        reporting.write_analysis(folder)
