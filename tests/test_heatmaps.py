"""Pictures of slides: made from the pyramid alone, small, the same bytes each time, and never a reason to stop."""

import io
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openslide
import pytest
from numpy.typing import NDArray
from PIL import Image

from tapfm_eval.errors import RunError
from tapfm_eval.methods.attention_store import TileAttention, attention_path, write_attention
from tapfm_eval.rehearsal.svs import write_svs
from tapfm_eval.report.palette import weight_colour
from tapfm_eval.report.pictures import FOLDER, LIST, CasePictures, Picture, read_pictures
from tapfm_eval.results import CaseResult
from tapfm_eval.rundir import RunFolder
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.tiles import TileGrid, TileSpec, tile_grid
from tapfm_eval.stages.heatmaps import SHOWN_TILES, THUMBNAIL_PX, draw_cases, mean_weights

EDGE = 64  # pixels of a tile, level 0
CASE = CaseResult(
    "Youden", "EGFR", "tapfm", "ext", "external", "true positive", "P1", "P1-1", 0.8, 0.4, 9
)  # fmt: skip


@dataclass(frozen=True)
class Slide:
    slide_id: str
    cohort: str
    path: Path
    manifest_mpp: float | None
    grid: TileGrid


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """A pink square on glass, each of its 64 tiles of a shade of its own."""
    path = tmp_path_factory.mktemp("slides") / "P1.svs"
    image = np.full((768, 640, 3), 244, np.uint8)
    for row in range(8):
        for column in range(8):
            y, x = EDGE * (row + 2), EDGE * (column + 1)
            image[y : y + EDGE, x : x + EDGE] = (140 + 10 * row, 40 + 8 * column, 150)
    write_svs(path, image, mpp=0.5, objective=20, name="P1")
    with open_slide(path, slide_id="P1-1", manifest_mpp=None) as reader:
        grid = tile_grid(reader, TileSpec(mpp=0.5, tile_px=EDGE, min_tissue=0.5))
    assert len(grid) == 64
    return Slide("P1-1", "ext", path, None, grid)


@pytest.fixture
def folder(tmp_path: Path, slide: Slide) -> RunFolder:
    """A run whose two models weigh the tiles by their place in the grid, and one arm that is not shown."""
    run = RunFolder(tmp_path / "run")
    for fold, weights in ((0, np.arange(64.0)), (1, np.arange(64.0) ** 2)):
        keep(run, slide, "tapfm", fold, weights)
    keep(run, slide, "abmil", 0, np.arange(64.0)[::-1])
    return run


def keep(run: RunFolder, slide: Slide, arm: str, fold: int, weights: NDArray[np.float64]) -> None:
    shares = (weights / weights.sum()).astype(np.float32)
    content = TileAttention(slide.slide_id, slide.grid.xy0, EDGE, shares, shares)
    write_attention(attention_path(run.unit(arm, 1, fold), slide.cohort, slide.slide_id), content)


def draw(slide: Slide, folder: RunFolder, case: CaseResult = CASE) -> CasePictures:
    (drawn,) = draw_cases([case], [slide], folder, lambda _: None)
    return drawn


def pixels(shown: Picture | None) -> NDArray[np.int64]:
    assert shown is not None
    return np.asarray(Image.open(io.BytesIO(shown.data)), dtype=np.int64)


def test_weights_are_the_mean_share_over_the_models_of_the_arm(slide: Slide, folder: RunFolder) -> None:
    weights, models = mean_weights(CASE, slide.grid, folder)
    line, square = np.arange(64.0), np.arange(64.0) ** 2
    assert models == 2
    assert weights == pytest.approx((line / line.sum() + square / square.sum()) / 2, rel=1e-6)
    assert weights.sum() == pytest.approx(1)


def test_the_strongest_and_weakest_tiles_are_shown_in_order(slide: Slide, folder: RunFolder) -> None:
    drawn = draw(slide, folder)
    shades = [pixels(tile)[50, 50] for tile in (*drawn.strongest, *drawn.weakest)]
    expected = [(63 - i) for i in range(SHOWN_TILES)] + list(range(SHOWN_TILES))
    for shade, i in zip(shades, expected, strict=True):
        assert np.abs(shade - (140 + 10 * (i // 8), 40 + 8 * (i % 8), 150)).max() < 6  # JPEG, twice
    assert (drawn.tiles, drawn.models, drawn.tile_um, drawn.slide_mm) == (64, 2, 32.0, (0.3, 0.4))


def test_half_of_the_weight_is_counted_from_the_strongest(slide: Slide, folder: RunFolder) -> None:
    weights, _ = mean_weights(CASE, slide.grid, folder)
    ranked = sorted(weights, reverse=True)
    half = draw(slide, folder).half
    assert sum(ranked[: half - 1]) < 0.5 <= sum(ranked[:half]) + 1e-9


def test_each_tile_has_the_colour_of_its_rank_over_the_tissue_where_it_lies(slide: Slide, folder: RunFolder) -> None:
    drawn = draw(slide, folder)
    shown = pixels(drawn.weights)
    tissue = pixels(drawn.tissue) @ (0.299, 0.587, 0.114)  # luma of ITU-R BT.601, as Pillow's grey
    height, width = shown.shape[:2]
    assert max(height, width) <= THUMBNAIL_PX
    scale = width / slide.grid.width
    for i, (x0, y0) in enumerate(slide.grid.xy0[:60]):  # the last four are framed
        at = round((y0 + EDGE / 2) * scale), round((x0 + EDGE / 2) * scale)
        under = 0.6 * tissue[at] + 0.4 * 255
        assert np.abs(shown[at] - (0.6 * np.array(weight_colour(i / 63)) + 0.4 * under)).max() < 12
    assert (shown[5, 5] > 230).all()


def test_drawing_again_gives_the_same_bytes_and_the_report_reads_what_was_drawn(
    slide: Slide, folder: RunFolder
) -> None:
    drawn = draw(slide, folder)
    place = folder.root / FOLDER
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert sum(map(len, before.values())) < 200_000
    assert read_pictures(folder.root) == (drawn,)
    draw(slide, folder)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    draw(slide, folder, replace(CASE, target="KRAS"))
    assert not any(path.name.startswith("EGFR") for path in place.iterdir())  # of a choice that no longer holds


def test_label_and_macro_images_are_never_read(
    slide: Slide, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise AssertionError("an associated image was asked for")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(refuse))
    assert draw(slide, folder).tissue is not None


@pytest.mark.parametrize("fault", ["gone", "elsewhere", "no weights", "torn", "other tiles", "alike", "features"])
def test_what_cannot_be_drawn_keeps_its_line_with_the_reason(
    slide: Slide, folder: RunFolder, tmp_path: Path, fault: str
) -> None:
    given, slides = slide, [slide]
    path = attention_path(folder.unit("tapfm", 1, 0), "ext", "P1-1")
    if fault == "gone":
        slides = [replace(slide, path=tmp_path / "nowhere.svs")]
    elif fault == "elsewhere":
        slides = []
    elif fault == "no weights":
        shutil.rmtree(folder.root / "arms" / "tapfm")
    elif fault == "torn":
        path.write_bytes(path.read_bytes()[:300])
    elif fault == "other tiles":
        write_attention(path, TileAttention("P1-1", given.grid.xy0[::-1], EDGE, *[np.full(64, 1 / 64, np.float32)] * 2))
    elif fault == "alike":
        for fold in (0, 1):
            keep(folder, slide, "tapfm", fold, np.ones(64))
    else:
        slides = [replace(slide, path=tmp_path / "P1-1.h5")]
    (drawn,) = draw_cases([CASE], slides, folder, lambda _: None)
    assert drawn.reason == {
        "gone": "the slide cannot be read", "elsewhere": "the slide is not at hand",
        "no weights": "no model kept the weights of its tiles", "torn": "the weights of its tiles are damaged",
        "other tiles": "the weights are of other tiles than the slide's", "alike": "all tiles weigh the same",
        "features": "the study was given features of it, not the slide",
    }[fault]  # fmt: skip
    assert (drawn.tissue, drawn.strongest) == (None, ())
    assert read_pictures(folder.root) == (drawn,)
    assert [entry.name for entry in (folder.root / FOLDER).iterdir()] == [LIST]


@pytest.mark.parametrize(
    ("old", "new"),
    [('"tiles": ', '"tiles": 1e999, "was": '), ('"call": "', '"call": "../'), ('"slide_mm": [', '"slide_mm": [1, ')],
)
def test_a_list_of_pictures_that_somebody_edited_is_refused(
    slide: Slide, folder: RunFolder, old: str, new: str
) -> None:
    draw(slide, folder)
    path = folder.root / FOLDER / LIST
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RunError, match=r"heatmaps\.json.*Delete the folder heatmaps"):
        read_pictures(folder.root)
