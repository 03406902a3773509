"""Forest plots: labels and counts on the left, the axis in the middle, estimates in words on the right."""

import math
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tapfm_eval.report.drawings import ForestPlot, ForestRow
from tapfm_eval.report.figures.sheet import WIDTH, colour_of, marker_of, sheet
from tapfm_eval.report.fitting import SMALL, fitted, width_of
from tapfm_eval.report.numbers import fixed
from tapfm_eval.report.palette import FAINT, HAIRLINE, INK, MUTED

_PITCH, _CLOSE_PITCH = (11.2, 17.5), (9.6, 14.5)  # of rows, and of headings over a group
_LOOSE_ROWS = 20  # more of them stand closer, so that two plots share a page
_HEAD, _AXIS = 18.0, 32.0
_COUNTS_WIDTH, _TEXT_WIDTH, _SPACE = 42.0, 100.0, 14.0


def forest_figure(plot: ForestPlot) -> Figure:
    """Labels and counts on the left, estimates in words on the right, and the axis in the room between."""
    rows = [row for group in plot.groups for row in group.rows]
    titled = sum(bool(group.title) for group in plot.groups)
    row_pitch, group_pitch = _PITCH if len(rows) <= _LOOSE_ROWS else _CLOSE_PITCH
    height = _HEAD + len(rows) * row_pitch + titled * group_pitch + _AXIS
    figure, axes = sheet(height)
    labels = 8 + min(184.0, max([90.0, *(width_of(row.label) for row in rows)]))
    counts, text = labels + _COUNTS_WIDTH, WIDTH - _TEXT_WIDTH
    frame = _Frame(*plot.span, left=counts + _SPACE, right=text - _SPACE, bottom=height - _AXIS + 5)
    for x, align, header in zip((0.0, counts, text), ("left", "right", "left"), plot.headers, strict=True):
        axes.text(x, 11, header, color=MUTED, ha=align, va="baseline", size=SMALL)
    axes.plot([0, WIDTH], [17, 17], color=HAIRLINE, lw=0.5)
    _forest_axis(axes, plot, frame)
    y = _HEAD
    for group in plot.groups:
        if group.title:
            title = fitted(group.title, counts + _SPACE)
            axes.text(0, y + group_pitch - 5, title, weight="bold", va="baseline", color=INK)
            y += group_pitch
        if group.reference is not None:
            x = frame.position(group.reference)
            axes.plot([x, x], [y, y + len(group.rows) * row_pitch], color=MUTED, lw=0.9, zorder=1)
        for row in group.rows:
            baseline = y + row_pitch - 3
            axes.text(8, baseline, fitted(row.label, labels - 8), va="baseline", color=INK)
            axes.text(counts, baseline, row.counts, ha="right", va="baseline", color=INK)
            colour = INK if math.isfinite(row.value) else MUTED
            axes.text(text, baseline, fitted(row.text, _TEXT_WIDTH), va="baseline", color=colour)
            _interval(axes, row, baseline - 2.6, frame)
            y += row_pitch
    return figure


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the axis of a forest plot lies on the sheet."""

    low: float
    high: float
    left: float
    right: float
    bottom: float

    def position(self, value: float) -> float:
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)


def _forest_axis(axes: Axes, plot: ForestPlot, frame: _Frame) -> None:
    extent = frame.high - frame.low
    step = 0.05 if extent <= 0.26 else 0.1 if extent <= 0.62 else 0.2 if extent <= 1.2 else 0.5
    first, last = math.ceil(frame.low / step - 1e-9), math.floor(frame.high / step + 1e-9)
    bottom = frame.bottom
    for tick in (number * step for number in range(first, last + 1)):
        x = frame.position(tick)
        axes.plot([x, x], [17, bottom], color=FAINT, lw=0.6, zorder=0)
        axes.plot([x, x], [bottom, bottom + 2.5], color=MUTED, lw=0.5)
        label = fixed(tick, 2 if step < 0.1 else 1)
        axes.text(x, bottom + 10.5, label, ha="center", va="baseline", size=SMALL, color=MUTED)
    axes.plot([frame.left, frame.right], [bottom, bottom], color=MUTED, lw=0.5)
    if plot.reference is not None:
        x = frame.position(plot.reference)
        axes.plot([x, x], [17, bottom], color=MUTED, lw=0.7, zorder=1)
    middle = (frame.left + frame.right) / 2
    axes.text(middle, bottom + 21, plot.axis, ha="center", va="baseline", size=SMALL, color=MUTED)


def _interval(axes: Axes, row: ForestRow, y: float, frame: _Frame) -> None:
    if not math.isfinite(row.value):
        return
    colour = colour_of(row.style)
    if math.isfinite(row.lower) and math.isfinite(row.upper):
        limits = [frame.position(row.lower), frame.position(row.upper)]
        axes.plot(limits, [y, y], color=colour, lw=1.1, solid_capstyle="butt")
    axes.plot([frame.position(row.value)], [y], ms=4.4, mew=0.8, zorder=3, **marker_of(row.style))
