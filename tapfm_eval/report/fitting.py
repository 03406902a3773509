"""How words and curves are made to fit into a figure."""

import re
from collections.abc import Sequence

SIZE, SMALL = 8.0, 7.2  # points; text of figures
# What is none of the letters and signs that the figures' font surely has is spelt out on paper, as in [U+6F22]: within
# a figure typst gives up where two fonts share a word.
NOT_PLAIN = re.compile(
    "[^\\x00-\\x7e\u00a0-\u00ac\u00ae-\u017f\u0391-\u03a1\u03a3-\u03a9\u03b1-\u03c9\u0410-\u044f"
    "\u2010-\u2015\u2018-\u201e\u2026\u2212\u2264\u2265\u221e]"
)


def width_of(text: str, size: float = SIZE) -> float:
    """A generous guess of the text's width in points, without knowing the font that a reader will have."""
    return size * sum(map(_ems, text))


def _ems(character: str) -> float:
    return 4.0 if NOT_PLAIN.match(character) else 0.49


def fitted(text: str, width: float, size: float = SIZE) -> str:
    """The text, cut short with an ellipsis where it would not fit into `width` points."""
    flat = " ".join(text.split())
    if width_of(flat, size) <= width:
        return flat
    room = width - size
    for position, character in enumerate(flat):
        room -= size * _ems(character)
        if room < 0:
            return flat[:position].rstrip() + "…"
    return flat


def wrapped(text: str, width: float, size: float, lines: int) -> list[str]:
    """The text in at most `lines` lines of `width` points; the last ends in an ellipsis where text is left over."""
    found: list[str] = []
    line = ""
    for word in " ".join(text.split()).split(" "):
        joined = f"{line} {word}".strip()
        if width_of(joined, size) <= width or not line:
            line = joined
        else:
            found.append(line)
            line = word
    found.append(line)
    kept = found[:lines]
    if len(found) > lines:
        kept[-1] += " …"
    return [fitted(part, width, size) for part in kept]


def thinned(x: Sequence[float], y: Sequence[float], cells: int = 700) -> tuple[list[float], list[float]]:
    """The curve on a grid finer than print, without repeated points and without those inside a straight run."""
    kept: list[tuple[int, int]] = []
    for point in zip((round(value * cells) for value in x), (round(value * cells) for value in y), strict=True):
        if kept and kept[-1] == point:
            continue
        if len(kept) > 1:
            (ax, ay), (bx, by) = kept[-2:]
            if (bx - ax) * (point[1] - ay) == (by - ay) * (point[0] - ax):
                kept.pop()
        kept.append(point)
    return [px / cells for px, _ in kept], [py / cells for _, py in kept]
