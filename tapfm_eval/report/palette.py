"""The colours of the report, the same on paper, on screen and in figures; on a dark screen each has a lighter twin."""

INK = "#1b1f24"
MUTED = "#5c646e"
HAIRLINE = "#c6cbd1"
FAINT = "#eef0f2"
ACCENT = "#0b5c8f"
# Any two, and the ink, stay at least 12 apart (CIEDE2000) for protanopes, deuteranopes and tritanopes, on a light and
# on a dark ground; a test computes it. Whoever sees no colour at all has dashes and shapes.
ARM_COLOURS = (ACCENT, "#8e3a25", "#248860", "#c26c96", "#98871c", "#3a9cd2")
WEIGHTS = ((226, 236, 245), (11, 92, 143), (6, 33, 56))  # red, green, blue of the least, middle and most weight
WEIGHT_OPACITY = 0.6  # of the colour over the tissue in grey, which shows through
TISSUE_GREY = 208  # of tissue as it lies under the colours, on the whole
FRAME = "#f2902a"  # round the tiles of most weight; seen on every colour of the scale
LINE_STYLES = ((), (5.0, 1.5), (1.3, 1.3), (5.0, 1.3, 1.3, 1.3))  # on and off, in line widths
MARKERS = ("s", "o", "D", "^", "v", "p")  # one for each colour; hollow where the colours come again

DARK_TWINS = {
    INK: "#e4e7eb",
    MUTED: "#a0a8b2",
    HAIRLINE: "#3c434c",
    FAINT: "#22272d",
    ACCENT: "#6cb6e6",
    "#8e3a25": "#ae6624",
    "#248860": "#9ceead",
    "#c26c96": "#d97da1",
    "#98871c": "#b7a543",
    "#3a9cd2": "#3a7ebe",
}


def weight_colour(share: float) -> tuple[int, int, int]:
    """The colour of a rank between 0, the least weight, and 1, the most: from pale over the accent to nearly black.

    >>> weight_colour(0.0), weight_colour(0.5), weight_colour(1.0)
    ((226, 236, 245), (11, 92, 143), (6, 33, 56))
    """
    low, high, at = (*WEIGHTS[:2], 2 * share) if share < 0.5 else (*WEIGHTS[1:], 2 * share - 1)
    red, green, blue = (round(a + (b - a) * at) for a, b in zip(low, high, strict=True))
    return red, green, blue


def blended(colour: tuple[int, int, int], grey: int) -> tuple[int, int, int]:
    """The colour as it looks over tissue of this grey.

    >>> blended((11, 92, 143), 208)
    (90, 138, 169)
    """
    red, green, blue = (round(WEIGHT_OPACITY * part + (1 - WEIGHT_OPACITY) * grey) for part in colour)
    return red, green, blue
