"""Tissue is kept; glass, pen and dirt are not."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import threshold_otsu

from tapfm_eval.slides.tissue import otsu_threshold, tissue_mask

IMAGES = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "tiles"

# Ruifrok and Johnston 2001: optical density of haematoxylin and eosin in red, green, blue
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])


def load(name: str, reduce: int = 1) -> NDArray[np.uint8]:
    path = IMAGES / name
    if not path.exists():
        pytest.skip(f"no {name} in the shared data beside the repository")
    image = Image.open(path).convert("RGBA")
    glass = Image.new("RGBA", image.size, "white")
    glass.alpha_composite(image)
    return np.asarray(glass.convert("RGB").reduce(reduce))


def field(rgb: tuple[int, int, int], *, noise: float = 2.0, edge: int = 128) -> NDArray[np.uint8]:
    values = np.random.default_rng(0).normal(rgb, noise, (edge, edge, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("reduce", [1, 4])
@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("almost-white-1.png", 0, 0.001),
        ("no-tissue.png", 0, 0.001),
        ("no-tissue-green-pen.png", 0, 0.001),
        ("diagnostic-slide-thumb-rgb.png", 0.33, 0.60),
        ("wsi-blue-pen.png", 0.20, 0.40),
        ("tcga-green-pen.png", 0.72, 0.84),
        ("tcga-red-pen.png", 0.50, 0.65),
        ("tissue-level0-4302-10273-4814-10785.png", 0.50, 0.70),
        ("tissue-level0-7352-11762-7864-12274.png", 0.75, 0.90),
        ("tcga-lung-rgb.png", 0.70, 0.90),
        ("high-nuclei-score-level0.png", 0.95, 1),
        ("tiatoolbox_target_image.png", 0.90, 1),
        ("very-low-nuclei-score-level0.png", 0.98, 1),
    ],
)
def test_share_of_tissue_is_what_the_eye_sees(name: str, least: float, most: float, reduce: int) -> None:
    assert least <= tissue_mask(load(name, reduce)).mean() <= most


@pytest.mark.parametrize(
    ("name", "where", "least", "most"),
    [
        ("tcga-green-pen.png", np.s_[400:600, 190:265], 0, 0.02),  # green ink over tissue
        ("tcga-green-pen.png", np.s_[300:450, 480:700], 0.97, 1),  # beside it
        ("tcga-red-pen.png", np.s_[170:260, 50:110], 0, 0.001),  # red ink
        ("tcga-red-pen.png", np.s_[250:420, 330:460], 0.97, 1),
        ("wsi-blue-pen.png", np.s_[58:75, 145:174], 0, 0.02),  # blue ink on glass
        ("wsi-blue-pen.png", np.s_[105:133, 145:165], 0, 0.02),
        ("diagnostic-slide-thumb-rgb.png", np.s_[20:34, 215:235], 0, 0.05),  # green ink on glass
        ("diagnostic-slide-thumb-rgb.png", np.s_[255:310, 452:464], 0, 0.1),  # thin red ink on glass
        ("diagnostic-slide-thumb-rgb.png", np.s_[262:275, 125:138], 0, 0.05),  # black ink over tissue
        ("diagnostic-slide-thumb-rgb.png", np.s_[400:440, 255:310], 0.95, 1),  # clean tissue
        ("diagnostic-slide-thumb-rgb.png", np.s_[490:525, :], 0, 0.02),  # the grey shadow of the edge
    ],
)
def test_pen_is_excluded_and_the_tissue_beside_it_kept(
    name: str, where: tuple[slice, slice], least: float, most: float
) -> None:
    assert least <= tissue_mask(load(name))[where].mean() <= most


@settings(max_examples=30, derandomize=True, deadline=None)
@given(
    haematoxylin=st.floats(0.0, 0.6),
    eosin=st.floats(0.0, 0.4),
)
def test_a_thumbnail_that_is_all_tissue_stays_whole(haematoxylin: float, eosin: float) -> None:
    density = haematoxylin * HAEMATOXYLIN + eosin * EOSIN
    if density[1] - density.min() < 0.07:
        return  # paler than any tissue seen
    rgb = tuple(round(255 * 10**-value) for value in density)
    assert tissue_mask(field(rgb)).mean() > 0.99


@settings(max_examples=30, derandomize=True, deadline=None)
@given(grey=st.integers(0, 255), tint=st.integers(-4, 4))
def test_glass_and_shadow_of_any_brightness_are_no_tissue(grey: int, tint: int) -> None:
    least = 120 if tint else 0  # a tint of four grey values in the dark is a colour
    value = max(grey, least)
    rgb = (value, value, int(np.clip(value + tint, 0, 255)))
    assert tissue_mask(field(rgb, noise=1.0)).mean() < 0.001


@pytest.mark.parametrize("ink", [(30, 120, 90), (40, 80, 200), (200, 20, 30), (15, 15, 18)])
def test_a_stroke_of_any_ink_leaves_the_rest_of_the_tissue(ink: tuple[int, int, int]) -> None:
    image = field((205, 130, 180), edge=200)
    image[:, 80:110] = field(ink, edge=200)[:, 80:110]
    mask = tissue_mask(image)
    assert not mask[:, 80:110].any()
    assert mask[:, :74].all()
    assert mask[:, 116:].all()


def test_specks_go_and_small_holes_close() -> None:
    image = field((243, 243, 243), edge=160)
    image[20:120, 20:120] = (205, 130, 180)
    image[60:64, 60:64] = 243  # hole
    image[140:143, 140:143] = (205, 130, 180)  # speck
    mask = tissue_mask(image)
    assert mask[30:110, 30:110].all()
    assert not mask[130:].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2)])
def test_the_smallest_thumbnails_have_a_mask(shape: tuple[int, int]) -> None:
    assert tissue_mask(np.full((*shape, 3), 243, np.uint8)).shape == shape


def test_flipping_and_turning_the_thumbnail_turns_the_mask() -> None:
    image = load("wsi-blue-pen.png")
    mask = tissue_mask(image)
    assert (tissue_mask(image[::-1]) == mask[::-1]).mean() > 0.9999
    assert (tissue_mask(np.rot90(image)) == np.rot90(mask)).mean() > 0.9999


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=3, max_size=40).filter(lambda counts: sum(c > 0 for c in counts) > 1))
def test_otsu_agrees_with_skimage_on_the_classes(counts: list[int]) -> None:
    centres = np.arange(len(counts)) + 0.5
    ours = otsu_threshold(np.array(counts), np.arange(len(counts) + 1.0))
    theirs = threshold_otsu(hist=(np.array(counts), centres))  # the last centre of the lower class

    def between(cut: NDArray[np.bool_]) -> float:
        n = np.array(counts, float)
        below, above = n[cut], n[~cut]
        gap = np.average(centres[cut], weights=below) - np.average(centres[~cut], weights=above)
        return float(below.sum() * above.sum() * gap**2)

    assert between(centres < ours) == pytest.approx(between(centres <= theirs))


def test_otsu_of_one_colour_is_the_lowest_edge() -> None:
    assert otsu_threshold(np.array([0, 9, 0]), np.array([0.0, 1.0, 2.0, 3.0])) == 0.0
