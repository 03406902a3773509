"""The participant flow: a trunk of boxes that narrows, then branches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tapfm_eval.report.drawings import FlowBox, FlowDiagram
from tapfm_eval.report.figures.sheet import WIDTH, sheet
from tapfm_eval.report.fitting import SMALL, fitted, wrapped
from tapfm_eval.report.palette import INK, MUTED

_BOX_WIDTH, _BOX_HEIGHT, _BOX_GAP = 204.0, 26.0, 15.0
_SIDE_LEFT, _SIDE_WIDTH = 240.0, 226.0
_BRANCH_COLUMNS, _BRANCH_GAP, _BRANCH_LEAD, _BUS = 5, 8.0, 12.0, 9.0  # lead: above a row; bus: left of several rows
_TITLE_LINE, _LINE, _FINE, _FINE_LINE = 9.5, 8.8, 6.6, 7.8


@dataclass(frozen=True, slots=True)
class _Branch:
    """The lines of a branch's box."""

    title: str
    counts: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def height(self) -> float:
        return 7.5 + _TITLE_LINE + len(self.counts) * _LINE + len(self.left) * _FINE_LINE


def flow_figure(diagram: FlowDiagram) -> Figure:
    """Boxes under each other, as high as their words; beside the arrows who left; below them the branches in rows."""
    trunk, rows = diagram.trunk, _rows(diagram.branches)
    trunk_height = len(trunk) * _BOX_HEIGHT + max(0, len(trunk) - 1) * _BOX_GAP
    heights = [max(branch.height for branch in row) for row in rows]
    figure, axes = sheet(trunk_height + sum(heights) + len(rows) * _BRANCH_LEAD + 6)
    y = 2.0
    for index, box in enumerate(trunk):
        if index:
            _arrow(axes, _BOX_WIDTH / 2, y - _BOX_GAP, y)
            if box.left:
                _side_note(axes, box, y - _BOX_GAP / 2)
        _box(axes, 1.0, y, _BOX_WIDTH, _BOX_HEIGHT)
        axes.text(_BOX_WIDTH / 2, y + 11, fitted(box.title, _BOX_WIDTH - 8), ha="center", weight="bold", color=INK)
        axes.text(_BOX_WIDTH / 2, y + 20.5, box.counts, ha="center", size=SMALL, color=INK)
        y += _BOX_HEIGHT + _BOX_GAP
    if rows:
        _branches(axes, rows, heights, y - _BOX_GAP if trunk else y)
    return figure


def _rows(boxes: Sequence[FlowBox]) -> list[list[_Branch]]:
    """Branches in as few rows as hold them, and those about equally full."""
    if not boxes:
        return []
    number = math.ceil(len(boxes) / _BRANCH_COLUMNS)
    columns = math.ceil(len(boxes) / number)
    room = _branch_width(columns, several=number > 1) - 9
    branches = [
        _Branch(
            fitted(box.title, room),
            tuple(wrapped(box.counts, room, SMALL, 2)),
            tuple(wrapped(box.left, room, _FINE, 4)) if box.left else (),
        )
        for box in boxes
    ]
    return [branches[i : i + columns] for i in range(0, len(branches), columns)]


def _branch_width(columns: int, *, several: bool) -> float:
    if columns == 1:
        return _BOX_WIDTH
    return (WIDTH - 2 - (_BUS if several else 0) - (columns - 1) * _BRANCH_GAP) / max(columns, 3)


def _branches(axes: Axes, rows: Sequence[Sequence[_Branch]], heights: Sequence[float], top: float) -> None:
    """Each row hangs from a bar; where there are several, a line on the left leads from bar to bar."""
    several = len(rows) > 1
    width = _branch_width(len(rows[0]), several=several)
    stem, left = _BOX_WIDTH / 2, 1.0 + (_BUS if several else 0)
    bars = [top + sum(heights[:i]) + i * _BRANCH_LEAD + _BRANCH_LEAD / 2 for i in range(len(rows))]
    axes.plot([stem, stem], [top, bars[0]], color=MUTED, lw=0.6)
    if several:
        axes.plot([1.0, 1.0], [bars[0], bars[-1]], color=MUTED, lw=0.6)
    for number, (row, height, bar) in enumerate(zip(rows, heights, bars, strict=True)):
        y = bar + _BRANCH_LEAD / 2
        middles = [left + i * (width + _BRANCH_GAP) + width / 2 for i in range(len(row))]
        ends = [*middles, *([stem] if number == 0 else []), *([1.0] if several else [])]
        axes.plot([min(ends), max(ends)], [bar, bar], color=MUTED, lw=0.6)
        for branch, middle in zip(row, middles, strict=True):
            x = middle - width / 2
            axes.plot([middle, middle], [bar, y], color=MUTED, lw=0.6)
            _box(axes, x, y, width, height)
            _words(axes, branch, x + 5, y)


def _words(axes: Axes, branch: _Branch, x: float, y: float) -> None:
    at = y + 2.5 + _TITLE_LINE - 1
    axes.text(x, at, branch.title, weight="bold", color=INK)
    for line in branch.counts:
        at += _LINE
        axes.text(x, at, line, size=SMALL, color=INK)
    for line in branch.left:
        at += _FINE_LINE
        axes.text(x, at, line, size=_FINE, color=MUTED)


def _box(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    corners_x, corners_y = [x, x + width, x + width, x, x], [y, y, y + height, y + height, y]
    axes.plot(corners_x, corners_y, color=MUTED, lw=0.6, solid_joinstyle="miter")


def _arrow(axes: Axes, x: float, top: float, bottom: float) -> None:
    axes.plot([x, x], [top, bottom], color=MUTED, lw=0.6)
    axes.plot([x - 2.4, x, x + 2.4], [bottom - 4, bottom, bottom - 4], color=MUTED, lw=0.6)


def _side_note(axes: Axes, box: FlowBox, y: float) -> None:
    axes.plot([_BOX_WIDTH / 2, _SIDE_LEFT - 6], [y, y], color=MUTED, lw=0.6)
    lines = wrapped(box.left, _SIDE_WIDTH, SMALL, 4)
    top = y + 2.4 - (len(lines) - 1) * 4.4
    for number, line in enumerate(lines):
        axes.text(_SIDE_LEFT, top + 8.8 * number, line, size=SMALL, color=INK)
