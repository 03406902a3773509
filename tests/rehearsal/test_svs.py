"""Rehearsal slides are whole, reproducible files that OpenSlide opens as Aperio slides."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from skimage.measure import label

from tapfm_eval.errors import ProtocolError
from tapfm_eval.rehearsal import texture
from tapfm_eval.rehearsal.svs import NOTE
from tapfm_eval.rehearsal.synthetic import render_slide, write_slide

EFFECTS = {"stromal_eosin": 1.0, "pigment": 0.5}


@pytest.mark.parametrize(("mpp", "objective"), [(0.5, "20"), (0.25, "40")])
def test_openslide_reports_scale_objective_levels_and_origin(tmp_path: Path, mpp: float, objective: str) -> None:
    path = tmp_path / "s.svs"
    write_slide(path, seed=1, slide_id="TCGA-05-4244-01Z-00-DX1", mpp=mpp, effects=EFFECTS, tissue_tiles=3)
    with openslide.OpenSlide(path) as slide:
        properties = dict(slide.properties)
        assert properties["openslide.vendor"] == "aperio"
        assert float(properties["openslide.mpp-x"]) == float(properties["openslide.mpp-y"]) == mpp
        assert properties["openslide.objective-power"] == objective
        assert properties["aperio.Filename"] == "TCGA-05-4244-01Z-00-DX1"
        assert properties["aperio.Note"] == NOTE == "Synthetic rehearsal slide, not a patient"
        assert properties["openslide.level[0].tile-width"] == "256"
        assert slide.level_count == 2
        assert slide.level_downsamples[1] == pytest.approx(4, abs=0.05)
        assert not slide.associated_images


def test_levels_show_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "s.svs"
    write_slide(path, seed=1, slide_id="S", mpp=0.5, effects=EFFECTS, tissue_tiles=3)
    with openslide.OpenSlide(path) as slide:
        full = slide.read_region((0, 0), 0, slide.level_dimensions[0]).convert("RGB").resize(slide.level_dimensions[1])
        small = slide.read_region((0, 0), 1, slide.level_dimensions[1]).convert("RGB")
    difference = np.abs(np.asarray(full, dtype=float) - np.asarray(small, dtype=float))
    assert difference.mean() < 6


def test_a_40x_slide_shows_the_same_tissue_as_a_20x_slide(tmp_path: Path) -> None:
    pictures = []
    for mpp in (0.5, 0.25):
        path = tmp_path / f"{mpp}.svs"
        write_slide(path, seed=1, slide_id="S", mpp=mpp, effects=EFFECTS, tissue_tiles=3)
        with openslide.OpenSlide(path) as slide:
            whole = slide.read_region((0, 0), 0, slide.dimensions).convert("RGB")
        pictures.append(np.asarray(whole.resize([round(side * mpp / 0.5) for side in whole.size]), dtype=float))
    assert pictures[0].shape == pictures[1].shape
    assert np.abs(pictures[0].mean(axis=(0, 1)) - pictures[1].mean(axis=(0, 1))).max() < 1
    assert np.abs(pictures[0] - pictures[1]).mean() < 4


def test_the_same_arguments_give_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    def write(name: str) -> bytes:
        write_slide(tmp_path / name, seed=1, slide_id="S", mpp=0.25, effects=EFFECTS, tissue_tiles=2)
        return (tmp_path / name).read_bytes()

    first = write("a.svs")
    for cached in (texture.noise, texture.fibres, texture.erythrocyte, texture.granules):
        cached.cache_clear()
    render_slide(seed=9, slide_id="another", effects={}, tissue_tiles=2)
    assert write("b.svs") == first

    code = (
        "import sys, pathlib; from tapfm_eval.rehearsal.synthetic import write_slide\n"
        "write_slide(pathlib.Path(sys.argv[1]), seed=1, slide_id='S', mpp=0.25,"
        " effects={'pigment': 0.5, 'stromal_eosin': 1.0}, tissue_tiles=2)\n"
        "assert not {'torch', 'openslide', 'pandas'} & set(sys.modules)"
    )
    elsewhere = tmp_path / "c.svs"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(elsewhere)], check=True, env=environment)
    assert elsewhere.read_bytes() == first


def test_seed_and_slide_change_the_tissue() -> None:
    pictures = [
        render_slide(seed=seed, slide_id=slide, effects={}, tissue_tiles=2).tobytes()
        for seed, slide in ((1, "A"), (2, "A"), (1, "B"))
    ]
    assert len(set(pictures)) == 3


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(tifffile.TiffWriter, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        write_slide(tmp_path / "s.svs", seed=1, slide_id="S", mpp=0.5, effects={}, tissue_tiles=1)
    assert list(tmp_path.iterdir()) == []


def test_a_slide_replaces_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "s.svs").write_text("old")
    write_slide(tmp_path / "s.svs", seed=1, slide_id="S", mpp=0.5, effects={}, tissue_tiles=1)
    assert [path.name for path in tmp_path.iterdir()] == ["s.svs"]
    with openslide.OpenSlide(tmp_path / "s.svs") as slide:
        assert slide.level_count == 2


def test_any_slide_id_can_be_written_into_the_description(tmp_path: Path) -> None:
    write_slide(tmp_path / "s.svs", seed=1, slide_id="Präparat|MPP = 9\nb", mpp=0.5, effects={}, tissue_tiles=1)
    with openslide.OpenSlide(tmp_path / "s.svs") as slide:
        assert slide.properties["openslide.mpp-x"] == "0.5"
        assert slide.properties["aperio.Note"] == NOTE


def test_the_tissue_is_one_piece_on_glass_of_the_size_asked_for() -> None:
    for tiles in (6, 15):
        picture = render_slide(seed=1, slide_id=f"S{tiles}", effects={}, tissue_tiles=tiles).astype(int)
        stained = picture.max(axis=2) - picture.min(axis=2) > 20
        border = np.concatenate(
            [picture[:20].reshape(-1, 3), picture[-20:].reshape(-1, 3), picture[:, :20].reshape(-1, 3)]
        )
        assert border.min() > 225
        components = label(stained)
        assert np.bincount(components.ravel())[1:].max() > 0.85 * stained.sum()
        assert stained.sum() / 224**2 == pytest.approx(0.9 * tiles, rel=0.15)  # lumens are glass


def test_all_problems_of_a_request_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError) as error:
        write_slide(
            tmp_path / "s.svs",
            seed=1,
            slide_id="S",
            mpp=5.0,
            effects={"warts": 1.0, "mucin": float("nan")},
            tissue_tiles=0,
        )
    assert len(error.value.problems) == 4
    for part in ("'warts'", "finite strength", "0.2 to 0.6 um", "at least 1"):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []
