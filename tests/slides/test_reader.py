"""The reader knows a slide's scale or refuses it, and reads in level-0 coordinates."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
from numpy.typing import NDArray

from tapfm_eval.errors import SlideError
from tapfm_eval.slides import reader as reader_module
from tapfm_eval.slides.reader import TilePlan, open_reader, open_slide

WriteSlide = Callable[..., Path]


def refusal(path: Path, manifest_mpp: float | None = None) -> str:
    with pytest.raises(SlideError) as caught:
        open_reader(path, slide_id="S1", manifest_mpp=manifest_mpp)
    assert "S1" in str(caught.value)
    problem = caught.value.problems[0]
    assert all((problem.where, problem.expected, problem.got, problem.remedy))
    return str(caught.value)


def test_real_slide_states_its_own_scale(cmu: Path) -> None:
    with open_slide(cmu, slide_id="CMU", manifest_mpp=None) as slide:
        info = slide.info
        assert (info.width, info.height, info.mpp, info.mpp_source) == (2220, 2967, 0.499, "slide")
        assert (info.objective, info.vendor, info.level_downsamples) == (20.0, "aperio", (1.0,))
        assert info.quickhash is not None
        assert info.fingerprint == info.quickhash
        assert slide.read_region(100, 200, 30, 20).shape == (20, 30, 3)


def test_associated_images_are_never_touched(cmu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(_: object) -> None:
        raise AssertionError("label and macro may hold names")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(touched))
    with open_slide(cmu, slide_id="CMU", manifest_mpp=None) as slide:
        slide.thumbnail(200)
        slide.read_region(0, 0, 10, 10)


def test_manifest_gives_the_scale_that_a_slide_lacks(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide
) -> None:
    path = write_slide(tmp_path / "a.svs", stained, mpp=None)
    assert "mpp column of the manifest" in refusal(path)
    with open_slide(path, slide_id="S1", manifest_mpp=0.25) as slide:
        assert (slide.info.mpp, slide.info.mpp_source) == (0.25, "manifest")


def test_generic_tiff_states_its_scale_by_its_resolution(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide
) -> None:
    path = write_slide(tmp_path / "a.tiff", stained, mpp=0.25, aperio=False)
    with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
        assert slide.info.mpp == pytest.approx(0.25, rel=1e-6)
        assert slide.info.vendor == "generic-tiff"


def test_slide_and_manifest_may_differ_by_five_per_cent_and_no_more(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide
) -> None:
    path = write_slide(tmp_path / "a.svs", stained, mpp=0.5)
    with open_slide(path, slide_id="S1", manifest_mpp=0.52) as slide:
        assert (slide.info.mpp, slide.info.mpp_source) == (0.5, "slide")
    message = refusal(path, manifest_mpp=0.25)
    assert "slide 0.5" in message
    assert "manifest 0.25" in message


def test_pixels_that_are_not_square_are_refused(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide
) -> None:
    path = write_slide(tmp_path / "a.tiff", stained, mpp=0.5, mpp_y=0.52, aperio=False)
    assert "0.5 x 0.52" in refusal(path)
    near = write_slide(tmp_path / "b.tiff", stained, mpp=0.5, mpp_y=0.505, aperio=False)
    with open_slide(near, slide_id="S1", manifest_mpp=None) as slide:
        assert slide.info.mpp == pytest.approx(0.5025, rel=1e-5)


def test_a_scale_no_microscope_has_is_no_scale(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide
) -> None:
    path = write_slide(tmp_path / "a.tiff", stained, mpp=352.8, aperio=False)  # 72 dpi
    assert "352.8" in refusal(path)
    with open_slide(path, slide_id="S1", manifest_mpp=0.5) as slide:
        assert slide.info.mpp_source == "manifest"


@pytest.mark.parametrize("mpp", [0.0, -0.5, 353.0, float("nan"), float("inf")])
def test_an_impossible_manifest_scale_is_refused(cmu: Path, mpp: float) -> None:
    assert "Correct the mpp column" in refusal(cmu, manifest_mpp=mpp)


def test_what_is_no_slide_is_refused_with_a_remedy(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide
) -> None:
    assert "no such file" in refusal(tmp_path / "absent.svs")
    assert "a folder" in refusal(tmp_path)
    empty = tmp_path / "empty.svs"
    empty.touch()
    assert "an empty file" in refusal(empty)
    text = tmp_path / "text.svs"
    text.write_text("not an image\n" * 100)
    assert "no slide" in refusal(text)
    noise = tmp_path / "noise.svs"
    noise.write_bytes(np.random.default_rng(0).bytes(4096))
    assert "no slide" in refusal(noise)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
def test_a_file_cut_short_is_refused_when_opened_or_read(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide, share: float
) -> None:
    def read(path: Path) -> None:
        with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
            slide.thumbnail(100)
            slide.read_region(0, 0, slide.info.width, slide.info.height)

    path = write_slide(tmp_path / "a.svs", stained, mpp=0.5, levels=3)
    read(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SlideError, match=r"S1.*(cut short|damaged)"):
        read(path)


def test_beyond_the_edge_is_white(tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide) -> None:
    path = write_slide(tmp_path / "a.svs", stained, mpp=0.5, lossless=True)
    with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
        region = slide.read_region(1090, 1390, 20, 20)
    assert (region[:10, :10] == stained[1390:, 1090:]).all()
    assert (region[10:] == 255).all()
    assert (region[:, 10:] == 255).all()


def test_a_tile_of_40x_is_the_mean_of_its_two_by_two_blocks(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide
) -> None:
    path = write_slide(tmp_path / "a.svs", stained, mpp=0.25, lossless=True)
    with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
        tile = slide.read_tile(448, 224, TilePlan(level=0, size_level=448, tile_px0=448, tile_px=224))
    blocks = stained[224:672, 448:896].reshape(224, 2, 224, 2, 3).mean(axis=(1, 3))
    assert tile.shape == (224, 224, 3)
    assert np.abs(tile - blocks).max() <= 0.5


def test_a_reduction_by_a_broken_factor_keeps_the_mean_and_does_not_overshoot(
    tmp_path: Path, write_slide: WriteSlide
) -> None:
    edge = np.full((480, 480, 3), 60, np.uint8)
    edge[:, 240:] = 200
    path = write_slide(tmp_path / "a.svs", edge, mpp=0.25, lossless=True)
    with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
        tile = slide.read_tile(0, 0, TilePlan(level=0, size_level=480, tile_px0=480, tile_px=200))
    assert tile.min() >= 60
    assert tile.max() <= 200
    assert tile.mean() == pytest.approx(130, abs=0.5)


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("strip_bytes", [1, 200_000, 2**26])
def test_a_thumbnail_is_the_area_mean_whatever_the_pyramid_and_the_strips(
    tmp_path: Path,
    stained: NDArray[np.uint8],
    write_slide: WriteSlide,
    monkeypatch: pytest.MonkeyPatch,
    levels: int,
    strip_bytes: int,
) -> None:
    path = write_slide(tmp_path / "a.svs", stained[:1400, :1096], mpp=0.5, lossless=True, levels=levels)
    monkeypatch.setattr(reader_module, "_STRIP_BYTES", strip_bytes)
    with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
        thumbnail = slide.thumbnail(175)
    means = stained[:1400, :1096].reshape(175, 8, 137, 8, 3).mean(axis=(1, 3))
    assert thumbnail.shape == (175, 137, 3)
    assert np.abs(thumbnail - means).max() <= 2  # each level of the pyramid and each axis rounds once


def test_a_thumbnail_is_never_enlarged(cmu: Path) -> None:
    with open_slide(cmu, slide_id="CMU", manifest_mpp=None) as slide:
        assert slide.thumbnail(10_000).shape == (2967, 2220, 3)
        assert slide.thumbnail(1).shape == (1, 1, 3)


def test_a_slide_may_be_closed_twice_and_is_not_read_afterwards(cmu: Path) -> None:
    with open_slide(cmu, slide_id="CMU", manifest_mpp=None) as slide:
        pass
    slide.close()
    with pytest.raises(ctypes.ArgumentError, match="closed"):
        slide.read_region(0, 0, 10, 10)
