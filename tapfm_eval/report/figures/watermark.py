"""The word that lies under every page of a rehearsal, as outlines: letters would stray into text that is copied."""

from functools import cache

from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from tapfm_eval.report.palette import FAINT

_SIZE, _SPACE = 74.0, 7.0  # points: height of the letters, and more between them
_CODES = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}


@cache
def watermark_svg(word: str) -> str:
    """The word along a line in the faintest grey; bold letters that matplotlib ships, so the same everywhere."""
    face = FontProperties(family="STIXGeneral", weight="bold")
    left, outlines = 0.0, []
    for letter in word:
        path = TextPath((left, 0.0), letter, size=_SIZE, prop=face)
        outlines += [
            _CODES[code] + ("" if code == Path.CLOSEPOLY else " ".join(f"{value:.2f}" for value in points))
            for points, code in path.iter_segments(simplify=False)
        ]
        left = float(path.get_extents().x1) + _SPACE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {-_SIZE:g} {left:.2f} {_SIZE * 1.2:g}" '
        f'width="{left:.2f}" height="{_SIZE * 1.2:g}">'
        f'<path transform="scale(1 -1)" fill="{FAINT}" d="{"".join(outlines)}"/></svg>'
    )
