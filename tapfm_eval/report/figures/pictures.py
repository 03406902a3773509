"""Slides with what their tiles weighed: text by matplotlib, pictures put in as they are."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tapfm_eval.report.drawings import PictureRow, PictureSheet
from tapfm_eval.report.figures.sheet import WIDTH, sheet
from tapfm_eval.report.fitting import SMALL, fitted, width_of
from tapfm_eval.report.palette import HAIRLINE, INK, MUTED
from tapfm_eval.report.pictures import Picture

_OVERVIEW, _HIGH, _GAP = 118.0, 91.0, 8.0  # box of a whole slide, and the space beside it
_TILE, _TILE_GAP, _TILES_LEFT = 42.5, 3.0, 270.0
_HEADER, _TITLE, _SPACE = 21.0, 22.0, 17.0  # two figures of two slides share a page
_BARS_MM = (20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1)  # a scale bar is as long as one of these
_FINE = 6.6
_ROW, _BARE_ROW = _TITLE + _HIGH + _SPACE, _TITLE + _SPACE  # with and without pictures


@dataclass(frozen=True, slots=True)
class Placed:
    """A picture and its place on the sheet, points from the top left corner."""

    picture: Picture
    x: float
    y: float
    width: float
    height: float


def picture_figure(drawing: PictureSheet) -> tuple[Figure, tuple[Placed, ...]]:
    """The words of the sheet, and where the pictures go."""
    heights = [_ROW if row.overviews else _BARE_ROW for row in drawing.rows]
    height = _HEADER + sum(heights)
    figure, axes = sheet(height)
    placed: list[Placed] = []
    for x, header in zip((0.0, _OVERVIEW + _GAP, _TILES_LEFT), drawing.headers, strict=True):
        axes.text(x, 11, header, color=MUTED, va="baseline", size=SMALL)
    axes.plot([0, WIDTH], [17, 17], color=HAIRLINE, lw=0.5)
    for number, row in enumerate(drawing.rows):
        placed += _row(axes, row, _HEADER + sum(heights[:number]))
    _scale(axes, drawing, height - 4)
    return figure, tuple(placed)


def _row(axes: Axes, row: PictureRow, top: float) -> list[Placed]:
    title = fitted(row.title, WIDTH)
    axes.text(0, top + 8, title, weight="bold", va="baseline", color=INK)
    axes.text(0, top + 17.5, fitted(row.note, WIDTH, SMALL), va="baseline", size=SMALL, color=MUTED)
    if not row.overviews:
        return []
    y = top + _TITLE
    placed = [
        _within(picture, number * (_OVERVIEW + _GAP), y, _OVERVIEW, _HIGH)
        for number, picture in enumerate(row.overviews)
    ]
    if row.wide_mm > 0:
        _scale_bar(axes, placed[0], row.wide_mm)
    for line, (name, tiles) in enumerate((("most", row.strongest), ("least", row.weakest))):
        at = y + line * (_TILE + 2 * _TILE_GAP)
        axes.text(_TILES_LEFT - 6, at + _TILE / 2, name, rotation=90, ha="center", va="center", size=SMALL, color=MUTED)
        placed += [
            _within(tile, _TILES_LEFT + number * (_TILE + _TILE_GAP), at, _TILE, _TILE)
            for number, tile in enumerate(tiles)
        ]
    return placed


def _within(picture: Picture, x: float, y: float, width: float, height: float) -> Placed:
    """As large as fits into a box, at its top left."""
    scale = min(width / picture.width, height / picture.height)
    return Placed(picture, x, y, picture.width * scale, picture.height * scale)


def _scale_bar(axes: Axes, overview: Placed, wide_mm: float) -> None:
    """Under the tissue: a round length of at most two fifths of its width."""
    length = next((mm for mm in _BARS_MM if mm <= 0.4 * wide_mm), 0.4 * wide_mm)
    right = overview.x + overview.width * length / wide_mm
    y = overview.y + overview.height + 5
    axes.plot([overview.x, right], [y, y], color=INK, lw=1.2, solid_capstyle="butt")
    axes.text(right + 4, y + 2.2, f"{length:.2g} mm", va="baseline", size=_FINE, color=MUTED)


def _scale(axes: Axes, drawing: PictureSheet, y: float) -> None:
    """The colours between the names of their ends, as wide together as the pictures above them."""
    least, most = (width_of(name, SMALL) for name in drawing.scale_ends)
    left = _OVERVIEW + _GAP + least + 4
    wide = max(20.0, _OVERVIEW - least - most - 8)
    step = wide / len(drawing.scale)
    for number, colour in enumerate(drawing.scale):
        x = left + number * step
        axes.fill([x, x + step, x + step, x], [y - 6, y - 6, y, y], color=[value / 255 for value in colour], lw=0)
    axes.text(left - 4, y, drawing.scale_ends[0], ha="right", va="baseline", size=SMALL, color=MUTED)
    axes.text(left + wide + 4, y, drawing.scale_ends[1], va="baseline", size=SMALL, color=MUTED)


def with_pictures(svg: str, placed: Sequence[Placed]) -> str:
    """The SVG with its pictures embedded before its end; its user units are points."""
    images = "".join(
        f'<image x="{p.x:.2f}" y="{p.y:.2f}" width="{p.width:.2f}" height="{p.height:.2f}" '
        f'xlink:href="data:image/jpeg;base64,{base64.b64encode(p.picture.data).decode("ascii")}"/>\n'
        for p in placed
    )
    end = svg.rindex("</svg>")
    return svg[:end] + images + svg[end:]
