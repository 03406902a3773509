"""What all figures share: a sheet measured in points, one style, text that stays text, and the same bytes each time."""

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from tapfm_eval.report.drawings import NO_ARM
from tapfm_eval.report.fitting import SIZE
from tapfm_eval.report.palette import ARM_COLOURS, INK, LINE_STYLES, MARKERS, MUTED

WIDTH = 468.0  # points; the width of the text on a page
_MEASURED_WITH = "STIXGeneral"  # shipped with matplotlib; as wide as the fonts that readers will see
_SHOWN_WITH = "'Libertinus Serif', 'Palatino Linotype', Palatino, 'Book Antiqua', 'URW Palladio L', Georgia, serif"
_JOINED = ("Mn", "Me", "Mc", "Cf", "Zs")  # marks, joiners and odd spaces: drawn together with a neighbour or not at all
_STYLE: Any = {
    "font.family": [_MEASURED_WITH],
    "font.size": SIZE,
    "text.parse_math": False,
    "text.color": INK,
    "axes.unicode_minus": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "tapfm-eval",
    "path.simplify": True,
    "path.simplify_threshold": 0.15,
}


def font_folder() -> Path:
    """Where matplotlib keeps the fonts that it ships; the PDF takes DejaVu Sans from there."""
    return Path(mpl.get_data_path()) / "fonts" / "ttf"


@cache
def _charmap() -> frozenset[int]:
    return frozenset(FT2Font(font_folder() / "DejaVuSans.ttf").get_charmap())


def printable(text: str) -> str:
    """The text, composed (NFC), with each character that no shipped font is sure to draw spelt out, as in `[U+1F9EC]`.

    Marks that compose with no letter are spelt out too: fonts lack many of their pairs, and a PDF/A may lack no glyph.
    """
    if text.isascii():
        return text
    drawn = _charmap()

    def sure(character: str) -> bool:
        return character.isascii() or (ord(character) in drawn and unicodedata.category(character) not in _JOINED)

    composed = unicodedata.normalize("NFC", text)
    return "".join(c if sure(c) else f"[U+{ord(c):04X}]" for c in composed)


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib's defaults with the report's style, whatever the user's matplotlibrc says."""
    with mpl.rc_context(), warnings.catch_warnings():
        # The measuring font lacks some scripts; the text stays text in the SVG, and its reader has a font for them.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def svg_of(figure: Figure) -> str:
    """The figure as an SVG document without date, maker or trailing blanks."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas: Any = FigureCanvasSVG(figure)  # its methods are not typed
    canvas.print_svg(buffer, metadata=nothing)
    text = re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)
    return text.replace(f"'{_MEASURED_WITH}'", _SHOWN_WITH)


def sheet(height: float) -> tuple[Figure, Axes]:
    """A figure whose axes measure points from the top left corner."""
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    figure.patch.set_alpha(0.0)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    return figure, axes


def colour_of(style: int) -> str:
    """The colour of the arm in this position; ink for what is no arm, grey for arms that are not told apart."""
    if style < 0:
        return INK if style == NO_ARM else MUTED
    return ARM_COLOURS[style % len(ARM_COLOURS)]


def dashes_of(style: int) -> Any:
    """The line style of the arm in this position: unlike its neighbours', and unlike that of the same colour."""
    place = max(style, 0)
    pattern = LINE_STYLES[(place + place // len(ARM_COLOURS)) % len(LINE_STYLES)]
    return (0, pattern) if pattern else "solid"


def marker_of(style: int) -> dict[str, Any]:
    """The marker of the arm in this position: a shape for each colour, hollow where colours come again."""
    colour, place = colour_of(style), max(style, 0)
    face = colour if place // len(ARM_COLOURS) % 2 == 0 else "none"
    return {"marker": MARKERS[place % len(MARKERS)], "mfc": face, "mec": colour, "ls": "none"}
