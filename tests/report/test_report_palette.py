"""Colours that all readers can tell apart: Machado's model of colour blindness and the CIEDE2000 difference."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from tapfm_eval.report.figures.sheet import dashes_of, marker_of
from tapfm_eval.report.palette import ARM_COLOURS, DARK_TWINS, FRAME, INK, TISSUE_GREY, blended, weight_colour

LEAST = 12.0
# Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, severity 1.0, linear RGB
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: str) -> NDArray[np.float64]:
    """sRGB in hexadecimal to linear RGB."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> tuple[float, float, float]:
    """Linear RGB to CIE L*a*b*, white of D65."""
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    )
    t = to_xyz @ rgb.clip(0, 1) / (0.95047, 1.0, 1.08883)
    x, y, z = (float(v) ** (1 / 3) if v > (6 / 29) ** 3 else float(v) / (3 * (6 / 29) ** 2) + 4 / 29 for v in t)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def ciede2000(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """Colour difference after Sharma, Wu and Dalal 2005, doi:10.1002/col.20070, all weights 1."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean_c = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)))
    c1, c2 = np.hypot(a1 * (1 + g), b1), np.hypot(a2 * (1 + g), b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * (1 + g))) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    delta_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    level, c = (l1 + l2) / 2, (c1 + c2) / 2
    h = h1 + turn / 2 if c1 * c2 else h1 + h2
    t = 1 - 0.17 * np.cos(np.radians(h - 30)) + 0.24 * np.cos(np.radians(2 * h))
    t += 0.32 * np.cos(np.radians(3 * h + 6)) - 0.2 * np.cos(np.radians(4 * h - 63))
    s_l = 1 + 0.015 * (level - 50) ** 2 / np.sqrt(20 + (level - 50) ** 2)
    s_c, s_h = 1 + 0.045 * c, 1 + 0.015 * c * t
    r = -2 * np.sqrt(c**7 / (c**7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-((((h % 360) - 275) / 25) ** 2))))
    parts = ((l2 - l1) / s_l, (c2 - c1) / s_c, delta_h / s_h)
    return float(np.sqrt(sum(part**2 for part in parts) + r * parts[1] * parts[2]))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2."""
    low, high = sorted(float(linear(c) @ (0.2126, 0.7152, 0.0722)) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_difference_is_that_of_the_published_pairs(
    one: tuple[float, float, float], other: tuple[float, float, float], difference: float
) -> None:
    """Pairs 1, 7, 25 and 34 of table 1 of Sharma, Wu and Dalal 2005."""
    assert ciede2000(one, other) == pytest.approx(difference, abs=1e-4)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_arms_can_be_told_apart_by_colour_blind_readers(sight: str, theme: str) -> None:
    colours = [*ARM_COLOURS, INK] if theme == "light" else [DARK_TWINS[colour] for colour in (*ARM_COLOURS, INK)]
    for one, other in combinations(colours, 2):
        seen = ciede2000(*(lab(SIGHT[sight] @ linear(colour)) for colour in (one, other)))
        assert seen >= LEAST, (one, other, seen)


@pytest.mark.parametrize("sight", SIGHT)
def test_frames_are_seen_on_every_colour_of_the_heatmap(sight: str) -> None:
    for share in np.linspace(0, 1, 22):
        under = "#" + "".join(f"{part:02x}" for part in blended(weight_colour(float(share)), TISSUE_GREY))
        seen = ciede2000(*(lab(SIGHT[sight] @ linear(colour)) for colour in (FRAME, under)))
        assert seen >= 20, (under, seen)


def test_arms_stand_out_from_the_ground() -> None:
    assert min(contrast(colour, "#ffffff") for colour in ARM_COLOURS) >= 3
    assert min(contrast(DARK_TWINS[colour], "#14181c") for colour in ARM_COLOURS) >= 3


def test_arms_can_be_told_apart_without_any_colour() -> None:
    """Neighbours differ in dashes and in shape; arms of one colour differ in both."""
    arms = range(4 * len(ARM_COLOURS))
    dashes = [str(dashes_of(arm)) for arm in arms]
    shapes = [(marker_of(arm)["marker"], marker_of(arm)["mfc"] == "none") for arm in arms]
    assert all(dashes[arm] != dashes[arm + 1] for arm in arms[:-1])
    assert all(shapes[arm] != shapes[arm + 1] for arm in arms[:-1])
    for first in range(len(ARM_COLOURS)):
        assert len(set(dashes[first :: len(ARM_COLOURS)])) == 4
        assert shapes[first] != shapes[first + len(ARM_COLOURS)]
    assert dashes[0] == "solid"
