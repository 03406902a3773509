"""The participant flow: a trunk of boxes that narrows, then branches."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tapfm_eval.report.drawings import FlowBox, FlowDiagram
from tapfm_eval.report.figures.sheet import WIDTH, sheet
from tapfm_eval.report.fitting import SMALL, fitted, wrapped
from tapfm_eval.report.palette import INK, MUTED

_BOX_WIDTH, _BOX_HEIGHT, _BOX_GAP = 196.0, 30.0, 20.0
_SIDE_LEFT, _SIDE_WIDTH = 232.0, 234.0
_BRANCH_COLUMNS, _BRANCH_HEIGHT = 3, 42.0


def flow_figure(diagram: FlowDiagram) -> Figure:
    trunk, branches = diagram.trunk, diagram.branches
    lines = math.ceil(len(branches) / _BRANCH_COLUMNS)
    trunk_height = len(trunk) * _BOX_HEIGHT + max(0, len(trunk) - 1) * _BOX_GAP
    branch_height = (14 + lines * (_BRANCH_HEIGHT + 8)) if branches else 0
    figure, axes = sheet(trunk_height + branch_height + 6)
    y = 2.0
    for index, box in enumerate(trunk):
        if index:
            _arrow(axes, _BOX_WIDTH / 2, y - _BOX_GAP, y)
            if box.left:
                _side_note(axes, box, y - _BOX_GAP / 2)
        _box(axes, 1.0, y, _BOX_WIDTH, _BOX_HEIGHT)
        axes.text(_BOX_WIDTH / 2, y + 12.5, fitted(box.title, _BOX_WIDTH - 8), ha="center", weight="bold", color=INK)
        axes.text(_BOX_WIDTH / 2, y + 23, box.counts, ha="center", size=SMALL, color=INK)
        y += _BOX_HEIGHT + _BOX_GAP
    if branches:
        _branches(axes, branches, y - _BOX_GAP)
    return figure


def _branches(axes: Axes, branches: Sequence[FlowBox], top: float) -> None:
    gap = 10.0
    width = (WIDTH - 2 - (_BRANCH_COLUMNS - 1) * gap) / _BRANCH_COLUMNS
    for index, box in enumerate(branches):
        x = 1 + index % _BRANCH_COLUMNS * (width + gap)
        y = top + 14 + index // _BRANCH_COLUMNS * (_BRANCH_HEIGHT + 8)
        if index < _BRANCH_COLUMNS:
            middle = x + width / 2
            axes.plot([middle, middle], [top + 7, y], color=MUTED, lw=0.6)
        _box(axes, x, y, width, _BRANCH_HEIGHT)
        axes.text(x + 6, y + 11.5, fitted(box.title, width - 10), weight="bold", color=INK)
        axes.text(x + 6, y + 21.5, box.counts, size=SMALL, color=INK)
        for number, line in enumerate(wrapped(box.left, width - 12, 6.6, 2) if box.left else []):
            axes.text(x + 6, y + 30 + 7.8 * number, line, size=6.6, color=MUTED)
    first = 1 + width / 2
    last = first + (min(len(branches), _BRANCH_COLUMNS) - 1) * (width + gap)
    stem = _BOX_WIDTH / 2
    axes.plot([stem, stem], [top, top + 7], color=MUTED, lw=0.6)
    axes.plot([min(first, stem), max(last, stem)], [top + 7, top + 7], color=MUTED, lw=0.6)


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
