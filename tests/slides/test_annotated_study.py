"""Annotations of a study's slides: where they are found, what they do to the tiles, and that they define the run."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tapfm_eval.analysis.flow import participant_flow
from tapfm_eval.cohort.load import load_cohorts
from tapfm_eval.cohort.locate import find_slides, regions_sha256
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.errors import InputError, RunError, SlideError
from tapfm_eval.preparation import Prepared, RunOptions, prepare_run
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.reporting import run_annotated
from tapfm_eval.rundir import RunFolder, sha256_file
from tapfm_eval.slides.tiles import tile_spec
from tapfm_eval.stages.tiling import Tiling, tile_slides

WriteSlide = Callable[..., Path]
HERE, THERE = ("P0", "P1", "P2"), ("Q0",)


def area(x0: int, y0: int, x1: int, y1: int, name: str = "Tumor") -> str:
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return json.dumps({"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}})


class Annotated:
    """A study of four slides in a folder, whose annotations a test writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.slides = root / "slides"
        self.regions = self.slides / "regions"
        self.column: dict[str, str] | None = None  # the manifest's `regions` cells by patient

    def protocol(self, regions: Any) -> Protocol:
        for name, patients in (("here", HERE), ("there", THERE)):
            table = pd.DataFrame({"patient_id": patients, "slide_id": [f"{p}_1" for p in patients]})
            table["path"] = table["slide_id"] + ".svs"
            table["GENE"] = [str(i % 2) for i in range(len(table))]
            if self.column is not None:
                table["regions"] = [self.column.get(p, "") for p in patients]
            table.to_csv(self.root / f"{name}.csv", index=False)
        parts = pd.DataFrame({"patient_id": HERE, "fold": 0, "split": ("train", "validation", "test")})
        meta = {"scheme": "own", "seed": 0, "manifest_sha256": sha256_file(self.root / "here.csv")}
        write_split(self.root / "split.csv", parts, meta)
        return Protocol.model_validate({
            "format": "tapfm-eval/protocol/1", "id": "drawn", "version": "1.0.0", "title": "Drawn",
            "intended_use": "A test of the software.", "seeds": [1],
            "cohorts": {"here": {"role": "development", "manifest": "here.csv", "split": "split.csv"},
                        "there": {"role": "external", "manifest": "there.csv"}},
            "targets": {"GENE": {}}, "tiles": {"regions": regions},
            "arms": [{"id": "a", "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"}],
            "failures": {"policy": "exclude", "max_share": 0.4},
        })  # fmt: skip

    def prepare(self, regions: Any) -> Prepared:
        protocol = self.protocol(regions)
        options = RunOptions(slides={"here": self.slides, "there": self.slides}, out=self.root / "reports")
        return prepare_run(protocol, load_cohorts(protocol, self.root), self.root / "drawn.yaml", options)

    def tile(self, regions: Any) -> Tiling:
        protocol = self.protocol(regions)
        cohorts = load_cohorts(protocol, self.root)
        files = [file for cohort in cohorts.values() for file in find_slides(cohort, self.slides).files]
        spec = replace(tile_spec(protocol.tiles), tile_px=64)
        return tile_slides(files, spec, RunFolder(self.root / "run"), 0, lambda _: None)

    def rows(self) -> dict[str, dict[str, str]]:
        """`tiles.csv` by patient."""
        with (self.root / "run" / "tiles.csv").open(encoding="utf-8", newline="") as file:
            assert file.readline() == "# tapfm-eval/tiled-slides/1\n"
            return {row["patient_id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory, stained: NDArray[np.uint8], write_slide: WriteSlide) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide") / "all.svs", stained, mpp=0.25)


@pytest.fixture
def drawn(tmp_path: Path, slide: Path) -> Annotated:
    study = Annotated(tmp_path)
    study.regions.mkdir(parents=True)
    for patient in (*HERE, *THERE):
        (study.slides / f"{patient}_1.svs").symlink_to(slide)
    return study


def test_a_slide_with_annotations_is_restricted_and_one_without_keeps_its_tissue(drawn: Annotated) -> None:
    (drawn.regions / "P1_1.geojson").write_text(area(300, 300, 700, 700))
    whole = {s.file.patient_id: len(s.grid) for s in drawn.tile("none").slides}
    assert {row["regions"] for row in drawn.rows().values()} == {""}
    tiling = drawn.tile({"classes": ["Tumor"]})
    found = {s.file.patient_id: len(s.grid) for s in tiling.slides}
    assert not tiling.failed
    assert 0 < found["P1"] < whole["P1"]
    assert {p: n for p, n in found.items() if p != "P1"} == {p: n for p, n in whole.items() if p != "P1"}
    rows = drawn.rows()
    assert {p: row["regions"] for p, row in rows.items()} == {
        p: "annotated" if p == "P1" else "whole tissue" for p in (*HERE, *THERE)
    }
    assert {p: int(row["tiles"]) for p, row in rows.items()} == found


def test_the_flow_counts_annotated_slides_in_every_part(drawn: Annotated) -> None:
    for patient in ("P1", "P2", "Q0"):
        (drawn.regions / f"{patient}_1.geojson").write_text(area(300, 300, 700, 700))
    tiling = drawn.tile("annotations")
    annotated = run_annotated(drawn.root / "run")
    assert annotated == {"here": {"P1_1", "P2_1"}, "there": {"Q0_1"}}
    cohorts = load_cohorts(drawn.protocol("annotations"), drawn.root)
    panels = [SimpleNamespace(cohort="here", split="test", patients=["P2"]),
              SimpleNamespace(cohort="there", split="external", patients=["Q0"])]  # fmt: skip
    steps, _ = participant_flow(cohorts, tiling.failed, panels, annotated)
    told = [(step.cohort, step.slides, step.annotated) for step in steps if step.annotated is not None]
    assert told == [("here", 3, 2), ("here", 1, 1), ("there", 1, 1), ("there", 1, 1)]
    unasked, _ = participant_flow(cohorts, tiling.failed, panels)
    assert {step.annotated for step in unasked} == {None}


@pytest.mark.parametrize("content", ["", "# tapfm-eval/tiled-slides/1\na,b\n1,2\n", "\x00", None])
def test_a_damaged_table_of_tiles_is_refused(drawn: Annotated, content: str | None) -> None:
    if content is not None:
        (drawn.root / "tiles.csv").write_text(content)
    with pytest.raises(RunError, match="Run the same command again"):
        run_annotated(drawn.root)


def test_an_annotation_that_changes_tiles_its_slide_anew(drawn: Annotated) -> None:
    file = drawn.regions / "P1_1.geojson"
    file.write_text(area(300, 300, 700, 700))
    first = drawn.tile("annotations").slides[1].grid
    file.write_text(area(300, 300, 900, 900))
    second = drawn.tile("annotations").slides[1].grid
    file.unlink()
    third = drawn.tile("annotations").slides[1].grid
    assert len(first) < len(second) < len(third)
    assert len({first.regions_sha256, second.regions_sha256, third.regions_sha256}) == 3


def test_the_manifest_says_where_annotations_lie_and_a_missing_one_is_a_failed_slide(drawn: Annotated) -> None:
    drawn.column = {"P0": "drawn/by hand.geojson", "Q0": "drawn/none.geojson"}
    (drawn.slides / "drawn").mkdir()
    (drawn.slides / "drawn" / "by hand.geojson").write_text(area(300, 300, 700, 700))
    (drawn.regions / "P1_1.geojson").write_text("not read: the manifest has a column")
    tiling = drawn.tile("annotations")
    assert {p: row["regions"] for p, row in drawn.rows().items()} == {
        "P0": "annotated", "P1": "whole tissue", "P2": "whole tissue",
    }  # fmt: skip
    assert [failure.slide_id for failure in tiling.failed] == ["Q0_1"]
    assert "no such file" in tiling.failed[0].reason


@pytest.mark.parametrize(
    "cell", ["../x.geojson", "/etc/x.geojson", "a/../../x.json", "C:x.geojson", "x.svs", "~/x.json"]
)
def test_a_path_that_leaves_the_slide_folder_is_refused(drawn: Annotated, cell: str) -> None:
    drawn.column = {"P0": cell}
    protocol = drawn.protocol("annotations")
    with pytest.raises(InputError, match="column regions: expected a GeoJSON file inside the slide folder"):
        load_cohorts(protocol, drawn.root)


def test_annotations_without_a_tile_are_a_failed_slide_and_never_the_whole_tissue(drawn: Annotated) -> None:
    (drawn.regions / "P0_1.geojson").write_text(area(10, 10, 40, 40))
    (drawn.regions / "P1_1.geojson").write_text(area(300, 300, 700, 700, "Stroma"))
    failed = {failure.slide_id: failure.reason for failure in drawn.tile({"classes": ["Tumor"]}).failed}
    assert "inside its annotations" in failed["P0_1"]
    assert "got classes Stroma" in failed["P1_1"]


def test_annotations_define_the_run(drawn: Annotated) -> None:
    before = drawn.prepare("annotations")
    assert drawn.prepare("annotations").run_id == before.run_id
    (drawn.regions / "P1_1.geojson").write_text(area(300, 300, 700, 700))
    with_one = drawn.prepare("annotations")
    (drawn.regions / "P1_1.geojson").write_text(area(300, 300, 700, 701))
    moved = drawn.prepare("annotations")
    assert len({before.run_id, with_one.run_id, moved.run_id}) == 3
    assert set(moved.hashes) >= {"regions here", "regions there"}
    unused = drawn.prepare("none")
    assert not any(name.startswith("regions") for name in unused.hashes)


def test_the_hash_of_annotations_depends_on_which_slide_has_them(drawn: Annotated) -> None:
    def whole() -> str:
        cohorts = load_cohorts(drawn.protocol("annotations"), drawn.root)
        return regions_sha256(find_slides(cohorts["here"], drawn.slides).files)

    (drawn.regions / "P1_1.geojson").write_text(area(300, 300, 700, 700))
    first = whole()
    (drawn.regions / "P1_1.geojson").rename(drawn.regions / "P2_1.geojson")
    assert whole() != first


def test_annotations_that_cannot_be_read_are_refused_before_anything_is_written(drawn: Annotated) -> None:
    for patient in HERE:
        (drawn.regions / f"{patient}_1.geojson").write_text("{}")
    with pytest.raises(SlideError, match=r"P0_1\.geojson.*\n.*P1_1\.geojson"):
        drawn.prepare("annotations")
    assert not (drawn.root / "reports").exists()
