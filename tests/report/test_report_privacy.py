"""Names of patients, slides and files stay out of a report, in every form of it, unless they are asked for."""

import io
from pathlib import Path

import pytest
from example import example_inputs, with_results
from pypdf import PdfReader

from tapfm_eval.cohort.flow import Exclusion, FlowStep
from tapfm_eval.cohort.locate import SlideFile
from tapfm_eval.errors import Problem, SlideError
from tapfm_eval.report.content import build_content
from tapfm_eval.report.write import write_report
from tapfm_eval.rundir import RunFolder
from tapfm_eval.slides.tiles import TileSpec
from tapfm_eval.stages.tiling import tile_slides

SECRETS = ("S12-4711", "DOE JANE", "archive/", "PAT-00017", "SL-99")


def failed(folder: Path) -> Exclusion:
    """What the stage of tiles records of a file that is no slide, in a folder and by a name that tell who it is."""
    path = folder / "archive" / "S12-4711 DOE JANE.svs"
    path.parent.mkdir()
    path.write_bytes(b"no slide")
    file = SlideFile("tcga-luad", "PAT-00017", "SL-99", path, None)
    spec = TileSpec(0.5, 224, 0.5)
    return tile_slides([file], spec, RunFolder(folder / "run"), 0, lambda _: None).failed[0]


def test_a_failed_slide_is_recorded_without_its_file_in_the_reason(tmp_path: Path) -> None:
    found = failed(tmp_path)
    assert found.file == str(tmp_path / "archive" / "S12-4711 DOE JANE.svs")
    assert found.reason.startswith("expected a whole-slide image")
    assert not [word for word in SECRETS if word in found.reason]


def test_a_cause_names_neither_slide_nor_file_however_deep_they_stand() -> None:
    path = Path("/archive/S12-4711 DOE JANE.svs")
    inner = SlideError(Problem(f"slide SL-99 ({path}), level 0", "pixels", f"cannot open {path.name}", "Copy it."))
    outer = SlideError(Problem(str(path), "tiles that can still be read", str(inner), "Check."))
    assert not [word for word in SECRETS if word in outer.cause("SL-99", path)]
    assert "pixels" in outer.cause("SL-99", path)


@pytest.mark.parametrize("show_ids", [False, pytest.param(True, marks=pytest.mark.long)])
def test_no_form_of_the_report_names_a_file(tmp_path: Path, show_ids: bool) -> None:
    lost = failed(tmp_path)
    withdrawn = Exclusion("tcga-luad", "PAT-00017", "", "manifest", "PAT-00017 withdrew consent")
    step = FlowStep("tcga-luad", "kept by the manifest", 9, 9, 1, 1, withdrawn.reason)
    inputs = example_inputs()
    flow = (*inputs.results.flow[:1], step, *inputs.results.flow[1:])
    write_report(with_results(inputs, exclusions=(lost, withdrawn), flow=flow), tmp_path / "r", show_ids=show_ids)
    files = [path for path in (tmp_path / "r").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".html", ".pdf", ".csv", ".svg", ".json"}
    for path in files:
        if path.suffix == ".pdf":
            text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(path.read_bytes())).pages)
        else:
            text = path.read_text(encoding="utf-8")
        named = [word for word in SECRETS if word in text]
        if not show_ids:
            assert not named, path
        elif path.suffix in (".html", ".pdf") or path.name == "exclusions.csv":
            assert named, path


@pytest.mark.parametrize(("patient", "slide"), [("1", "2"), ("e", "s"), ("tile", "sl")])
def test_short_ids_leave_reasons_as_they_are(patient: str, slide: str) -> None:
    reasons = ("12 of 212 tiles at 0.51 µm", "the slide cannot be read")
    exclusions = tuple(Exclusion("c", patient, slide, "slides", reason) for reason in reasons)
    content = build_content(with_results(example_inputs(), exclusions=exclusions))
    for name, column in (("exclusions", 3), ("exclusion-reasons", 1)):
        (group,) = next(table for table in content.tables if table.id == name).groups
        assert tuple(row[column].text for row in group.rows) == reasons
