"""The colours of the report, the same on paper, on screen and in figures; on a dark screen each has a lighter twin."""

INK = "#1b1f24"
MUTED = "#5c646e"
HAIRLINE = "#c6cbd1"
FAINT = "#eef0f2"
ACCENT = "#0b5c8f"
ARM_COLOURS = (ACCENT, "#c9591a", "#12826c", "#a8528f", "#b08414", "#4a9bd1")  # told apart by colour-blind readers
WEIGHTS = ((226, 236, 245), (11, 92, 143), (6, 33, 56))  # red, green, blue of the least, middle and most weight
LINE_STYLES = ((), (4.0, 1.6), (1.2, 1.4))  # an arm past the sixth takes its colour again, with dashes

DARK_TWINS = {
    INK: "#e4e7eb",
    MUTED: "#a0a8b2",
    HAIRLINE: "#3c434c",
    FAINT: "#22272d",
    ACCENT: "#6cb6e6",
    "#c9591a": "#ec8a50",
    "#12826c": "#4fc3a8",
    "#a8528f": "#d68cc0",
    "#b08414": "#dcb54c",
    "#4a9bd1": "#9fd0f3",
}


def weight_colour(share: float) -> tuple[int, int, int]:
    """The colour of a rank between 0, the least weight, and 1, the most: from pale over the accent to nearly black.

    >>> weight_colour(0.0), weight_colour(0.5), weight_colour(1.0)
    ((226, 236, 245), (11, 92, 143), (6, 33, 56))
    """
    low, high, at = (*WEIGHTS[:2], 2 * share) if share < 0.5 else (*WEIGHTS[1:], 2 * share - 1)
    red, green, blue = (round(a + (b - a) * at) for a, b in zip(low, high, strict=True))
    return red, green, blue
