"""Slides in the report: told in words, under pseudonyms, embedded as they are, and refused where they are damaged."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from example import example_inputs, with_results

from tapfm_eval.errors import RunError
from tapfm_eval.report.blocks import Paragraph, Section, Table
from tapfm_eval.report.content import build_content
from tapfm_eval.report.drawings import PictureSheet
from tapfm_eval.report.figures import draw
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.report.pictures import FOLDER, LIST, picture_files, pictures_json, read_pictures


def section(inputs: ReportInputs, *, show_ids: bool = False) -> Section:
    return next(s for s in build_content(inputs, show_ids=show_ids).sections if s.id == "heatmaps")


def table(inputs: ReportInputs, *, show_ids: bool = False) -> Table:
    return next(b for b in section(inputs, show_ids=show_ids).blocks if isinstance(b, Table))


def store(root: Path) -> Path:
    """The example's pictures as a run leaves them."""
    cases = example_inputs().pictures[:4]
    (root / FOLDER).mkdir()
    for case in cases:
        for name, shown in picture_files(case).items():
            (root / FOLDER / name).write_bytes(shown.data)
    (root / FOLDER / LIST).write_text(pictures_json(cases), encoding="utf-8")
    return root / FOLDER


def test_the_figure_embeds_every_picture_as_it_is_and_the_same_each_time() -> None:
    content = build_content(example_inputs())
    figures = [figure for figure in content.figures if isinstance(figure.drawing, PictureSheet)]
    assert [figure.id for figure in figures] == [
        f"heatmaps-{target}-{calls}" for target in ("EGFR", "KRAS") for calls in ("right", "wrong")
    ]
    for figure, drawn in zip(figures, (2, 1) * 2, strict=True):  # one of four slides could not be read
        assert isinstance(figure.drawing, PictureSheet)
        svg = draw(figure.drawing)
        found = [base64.b64decode(text) for text in re.findall(r"data:image/jpeg;base64,([^\"]+)\"", svg)]
        rows = figure.drawing.rows
        shown = [p.data for row in rows for p in (*row.overviews, *row.strongest, *row.weakest)]
        assert found == shown
        assert len(shown) == drawn * (2 + 8)
        assert draw(figure.drawing) == svg


def test_every_slide_is_told_in_words_with_what_its_call_means() -> None:
    figures = {figure.id: figure for figure in build_content(example_inputs()).figures}
    figure = figures["heatmaps-EGFR-right"]
    assert "True positive, case 4 (mutated, called mutated): score 0.62, threshold 0.31; 1,432 tiles, half of the " \
        "weight on 71; slide 21 × 14 mm." in figure.alt  # fmt: skip
    wrong = figures["heatmaps-EGFR-wrong"].alt
    assert "False negative, case 2 (mutated, called not mutated): not shown: the slide cannot be read." in wrong
    assert "Tiles are 112 µm wide" in figure.caption


def test_patients_are_numbered_unless_their_ids_are_asked_for() -> None:
    hidden, named = table(example_inputs()), table(example_inputs(), show_ids=True)
    assert "C3L-" not in repr(section(example_inputs()))
    assert hidden.groups[0].rows[0][1].text == "case 4"
    assert named.groups[0].rows[0][1].text == "C3L-EGFR-00040"
    assert named.groups[0].rows[0][2].text == "C3L-EGFR-00040-21"


def test_the_text_says_how_slides_were_chosen_and_what_a_weight_is_not() -> None:
    text = " ".join(block.text for block in section(example_inputs()).blocks if isinstance(block, Paragraph))
    assert "the threshold of Youden’s index, fixed on validation patients. Nobody picked them" in text
    assert "averaged over 5 models" in text
    assert "does not say that the tile argued for the mutation" in text
    assert "2 of 3 targets are shown" in text


def test_hostile_ids_are_text_in_the_picture_and_its_words() -> None:
    inputs = example_inputs()
    hostile = "</svg><script>alert(1)</script>\u202e"
    first, picture = inputs.results.cases[0], inputs.pictures[0]
    cases = (replace(first, patient_id=hostile), *inputs.results.cases[1:])
    changed = replace(with_results(inputs, cases=cases), pictures=(replace(picture, patient_id=hostile),))
    figure = next(f for f in build_content(changed, show_ids=True).figures if f.id == "heatmaps-EGFR-right")
    svg = draw(figure.drawing)
    assert "<script>" not in svg
    assert svg.count("</svg>") == 1
    assert "&lt;script&gt;" in svg
    assert "[U+202E]" in figure.alt
    assert svg.count("<image ") == 10
    assert ">5 mm</text>" in svg  # the slide is 21 mm wide, and a scale bar at most two fifths of it


def test_a_run_without_pictures_says_so_and_still_names_whom_it_would_show() -> None:
    inputs = replace(example_inputs(), pictures=())
    blocks = section(inputs).blocks
    assert isinstance(blocks[1], Paragraph)
    assert "kept no pictures" in blocks[1].text
    assert len([row for group in table(inputs).groups for row in group.rows]) == 8
    without = build_content(with_results(inputs, cases=()))
    assert "heatmaps" not in [s.id for s in without.sections]


def test_pictures_come_back_as_they_were_stored(tmp_path: Path) -> None:
    assert read_pictures(tmp_path) == ()
    store(tmp_path)
    assert read_pictures(tmp_path) == example_inputs().pictures[:4]


@pytest.mark.parametrize("fault", ["torn", "no jpeg", "missing", "format", "climbing", "huge", "text"])
def test_damaged_or_strange_pictures_are_refused(tmp_path: Path, fault: str) -> None:
    folder = store(tmp_path)
    first = folder / "EGFR-true-positive-tissue.jpg"
    content = json.loads((folder / LIST).read_text())
    if fault == "torn":
        first.write_bytes(first.read_bytes()[:200])
    elif fault == "no jpeg":
        first.write_bytes(b"<svg onload='alert(1)'/>")
    elif fault == "missing":
        first.unlink()
    elif fault == "huge":
        first.write_bytes(first.read_bytes() + bytes(2**20))
    else:
        if fault == "format":
            content["format"] = "tapfm-eval/heatmaps/99"
        elif fault == "climbing":
            content["cases"][0]["target"] = "../../EGFR"
        else:
            content["cases"][0]["slide_mm"] = "large"
        (folder / LIST).write_text(json.dumps(content))
    with pytest.raises(RunError, match="draws them anew"):
        read_pictures(tmp_path)
