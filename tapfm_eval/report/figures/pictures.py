"""Slides with what their tiles weighed: text by matplotlib, pictures put in as they are."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tapfm_eval.report.drawings import PictureRow, PictureSheet
from tapfm_eval.report.figures.sheet import WIDTH, sheet
from tapfm_eval.report.fitting import SMALL, fitted
from tapfm_eval.report.palette import HAIRLINE, INK, MUTED
from tapfm_eval.report.pictures import Picture

_OVERVIEW, _GAP = 110.0, 6.0  # edge of the box of a whole slide; space beside it
_TILE, _TILE_GAP, _TILES_LEFT = 50.0, 3.0, 250.0
_HEADER, _TITLE, _SPACE, _FOOT = 22.0, 22.0, 14.0, 22.0
_ROW, _BARE_ROW = _TITLE + _OVERVIEW + _SPACE, _TITLE + _SPACE  # with and without pictures


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
    height = _HEADER + sum(heights) + _FOOT
    figure, axes = sheet(height)
    placed: list[Placed] = []
    for x, header in zip((0.0, _OVERVIEW + _GAP, _TILES_LEFT), drawing.headers, strict=True):
        axes.text(x, 11, header, color=MUTED, va="baseline", size=SMALL)
    axes.plot([0, WIDTH], [17, 17], color=HAIRLINE, lw=0.5)
    for number, row in enumerate(drawing.rows):
        placed += _row(axes, row, _HEADER + sum(heights[:number]))
    _scale(axes, drawing, height - _FOOT + 8)
    return figure, tuple(placed)


def _row(axes: Axes, row: PictureRow, top: float) -> list[Placed]:
    title = fitted(row.title, WIDTH)
    axes.text(0, top + 8, title, weight="bold", va="baseline", color=INK)
    axes.text(0, top + 17.5, fitted(row.note, WIDTH, SMALL), va="baseline", size=SMALL, color=MUTED)
    if not row.overviews:
        return []
    y = top + _TITLE
    placed = [
        _within(picture, number * (_OVERVIEW + _GAP), y, _OVERVIEW) for number, picture in enumerate(row.overviews)
    ]
    for line, (name, tiles) in enumerate((("most", row.strongest), ("least", row.weakest))):
        at = y + line * (_TILE + 2 * _TILE_GAP)
        axes.text(_TILES_LEFT - 6, at + _TILE / 2, name, rotation=90, ha="center", va="center", size=SMALL, color=MUTED)
        placed += [
            _within(tile, _TILES_LEFT + number * (_TILE + _TILE_GAP), at, _TILE) for number, tile in enumerate(tiles)
        ]
    return placed


def _within(picture: Picture, x: float, y: float, edge: float) -> Placed:
    """As large as fits into a square, at its top left."""
    scale = edge / max(picture.width, picture.height)
    return Placed(picture, x, y, picture.width * scale, picture.height * scale)


def _scale(axes: Axes, drawing: PictureSheet, y: float) -> None:
    left, step = _OVERVIEW + _GAP, _OVERVIEW / len(drawing.scale)
    for number, colour in enumerate(drawing.scale):
        x = left + number * step
        axes.fill([x, x + step, x + step, x], [y - 6, y - 6, y, y], color=[value / 255 for value in colour], lw=0)
    axes.text(left - 4, y, drawing.scale_ends[0], ha="right", va="baseline", size=SMALL, color=MUTED)
    axes.text(left + _OVERVIEW + 4, y, drawing.scale_ends[1], va="baseline", size=SMALL, color=MUTED)


def with_pictures(svg: str, placed: Sequence[Placed]) -> str:
    """The SVG with its pictures embedded before its end; its user units are points."""
    images = "".join(
        f'<image x="{p.x:.2f}" y="{p.y:.2f}" width="{p.width:.2f}" height="{p.height:.2f}" '
        f'xlink:href="data:image/jpeg;base64,{base64.b64encode(p.picture.data).decode("ascii")}"/>\n'
        for p in placed
    )
    end = svg.rindex("</svg>")
    return svg[:end] + images + svg[end:]
