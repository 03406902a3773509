"""Small multiples of curves: ROC space, reliability, decision curves, training."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tapfm_eval.report.drawings import OTHERS, Curve, CurveGrid, Panel, Span
from tapfm_eval.report.figures.sheet import WIDTH, colour_of, dashes_of, sheet
from tapfm_eval.report.fitting import SMALL, fitted, thinned, width_of, wrapped
from tapfm_eval.report.numbers import fixed
from tapfm_eval.report.palette import FAINT, HAIRLINE, INK, MUTED

_GAP, _TITLE, _FOOT, _SIDE = 14.0, 27.0, 28.0, 30.0  # between panels, above and below them, left of the first
_RIGHT = 7.0  # half of the last tick's label
_OWN_TICKS = 13.0  # more room between panels that each have labels of their own
_LEGEND_ROW = 12.0
_LEGEND_MARK = 24.0  # the line before a name, and the space around both
_DASHED = (0, (3.0, 1.6))

Limits = tuple[Span, Span]


def grid_figure(grid: CurveGrid) -> Figure:
    """Panels in rows, their legend in the gap that the last row leaves or else below."""
    number = len(grid.panels)
    columns = _columns(number, grid.unit_square)
    rows = max(1, math.ceil(number / columns))
    own = any(panel.limits is not None for panel in grid.panels)
    gap = _GAP + (_OWN_TICKS if own else 0)
    width = (WIDTH - _SIDE - _RIGHT - (columns - 1) * gap) / columns
    height = width if grid.unit_square else width * 0.72
    pitch_x, pitch_y = width + gap, height + _TITLE + _FOOT
    widest = max((_LEGEND_MARK + width_of(name) for name, _, _ in grid.legend), default=0.0)
    beside = number < rows * columns and len(grid.legend) * _LEGEND_ROW <= height and widest <= width
    per_row = max(1, min(len(grid.legend), int((WIDTH - _SIDE) / max(widest, 1.0))))  # no name is cut that fits a line
    lines = 0 if beside else math.ceil(len(grid.legend) / per_row)
    total = rows * pitch_y + lines * _LEGEND_ROW + 2
    figure, ground = sheet(total)
    limits = None if grid.unit_square else _limits(grid)
    for index, panel in enumerate(grid.panels):
        left, top = _SIDE + index % columns * pitch_x, index // columns * pitch_y + _TITLE
        axes = figure.add_axes((left / WIDTH, 1 - (top + height) / total, width / WIDTH, height / total))
        ground.text(left, top - 15, fitted(panel.title, width), weight="bold", va="baseline", color=INK)
        if panel.note and panel.curves:
            ground.text(left, top - 6, fitted(panel.note, width, SMALL), va="baseline", size=SMALL, color=MUTED)
        _panel(axes, grid, panel, panel.limits or limits)
        if index + columns >= number:
            axes.set_xlabel(grid.x_label, size=SMALL, color=MUTED, labelpad=2.5)
        if index % columns == 0:
            axes.set_ylabel(grid.y_label, size=SMALL, color=MUTED, labelpad=3)
        elif not own:
            axes.tick_params(labelleft=False)
    if beside:
        _legend(ground, grid.legend, _SIDE + number % columns * pitch_x + 6, total - pitch_y + _TITLE + 6, width, 1)
    else:
        pitch = min((WIDTH - _SIDE) / per_row, widest + _GAP)
        _legend(ground, grid.legend, _SIDE, rows * pitch_y + 6, pitch, per_row)
    return figure


def _columns(number: int, unit_square: bool) -> int:
    """As many as leave the last row fullest; squares may be smaller than panels whose ticks differ."""
    most = 5 if unit_square else 4
    least = most - 1
    return min((least, most), key=lambda columns: (math.ceil(number / columns), columns)) if number > least else least


def _legend(
    ground: Axes, entries: Sequence[tuple[str, int, bool]], left: float, top: float, width: float, per_row: int
) -> None:
    for index, (name, style, dashed) in enumerate(entries):
        x, y = left + index % per_row * width, top + index // per_row * _LEGEND_ROW
        dashes = _DASHED if dashed else dashes_of(style)
        ground.plot([x, x + 16], [y - 2.4, y - 2.4], color=colour_of(style), lw=1.0 if style < 0 else 1.4, ls=dashes)
        ground.text(x + 21, y, fitted(name, width - _LEGEND_MARK), va="baseline", color=INK)


def _limits(grid: CurveGrid) -> Limits:
    """Common limits of all panels, so that they can be compared by eye."""
    xs = [x for panel in grid.panels for curve in panel.curves for x in curve.x] or [0.0, 1.0]
    ys = [y for panel in grid.panels for curve in panel.curves for y in curve.y] or [0.0, 1.0]
    pad_x, pad_y = 0.04 * (max(xs) - min(xs)) or 0.5, 0.08 * (max(ys) - min(ys)) or 0.05
    return (min(xs) - pad_x, max(xs) + pad_x), (min(ys) - pad_y, max(ys) + pad_y)


def _panel(axes: Axes, grid: CurveGrid, panel: Panel, limits: Limits | None) -> None:
    axes.patch.set_alpha(0.0)
    axes.tick_params(labelsize=SMALL, labelcolor=MUTED, color=MUTED, width=0.5, length=2.5, pad=2)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_linewidth(0.5)
        spine.set_color(MUTED)
    _axes_of(axes, grid, limits)
    axes.set_axisbelow(True)
    _contents(axes, grid, panel)
    if not panel.curves:
        lines = wrapped(panel.note, 110, SMALL, 5)
        axes.text(
            0.5, 0.5, "\n".join(lines), transform=axes.transAxes, ha="center", va="center", size=SMALL, color=MUTED
        )


def _axes_of(axes: Axes, grid: CurveGrid, limits: Limits | None) -> None:
    if limits is None:
        axes.set_xlim(-0.015, 1.015)
        axes.set_ylim(-0.015, 1.015)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([0, 0.5, 1], labels=["0", "0.5", "1"])
        axes.plot([0, 1], [0, 1], color=HAIRLINE, lw=0.6, zorder=0)
        return
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=grid.whole_x))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_alike(axis.get_major_locator()())))
    axes.grid(visible=True, axis="y", color=FAINT, lw=0.6)


def _alike(ticks: Sequence[float]) -> Callable[[float, object], str]:
    """How all ticks of an axis are written: with the decimals of the one that needs most."""
    decimals = next((d for d in range(6) if all(abs(round(t, d) - t) < 1e-9 for t in ticks)), 6)
    return lambda value, _: fixed(value, decimals)


def _dashes(grid: CurveGrid, curve: Curve) -> Any:
    """Arms that share a panel differ in dashes too; in panels of one arm dashes mean what the caption says."""
    return _DASHED if curve.dashed else dashes_of(curve.style) if grid.legend else "solid"


def _contents(axes: Axes, grid: CurveGrid, panel: Panel) -> None:
    for band in panel.bands:
        axes.fill_between(band.x, band.lower, band.upper, color=colour_of(band.style), alpha=0.14, lw=0, zorder=1)
    for curve in reversed(panel.curves):
        x, y = thinned(curve.x, curve.y) if grid.unit_square else (curve.x, curve.y)
        width = 0.5 if curve.style == OTHERS else 0.9 if curve.style < 0 else 1.5 if curve.style == 0 else 1.0
        axes.plot(
            x, y, color=colour_of(curve.style), lw=width, ls=_dashes(grid, curve), solid_joinstyle="round",
            zorder=1.5 if curve.style == OTHERS else 3 if curve.style == 0 else 2,
        )  # fmt: skip
    for whisker in panel.whiskers:
        colour = colour_of(whisker.style)
        if math.isfinite(whisker.lower) and math.isfinite(whisker.upper):
            axes.plot([whisker.x, whisker.x], [whisker.lower, whisker.upper], color=colour, lw=0.7, zorder=2)
        axes.plot(
            [whisker.x], [whisker.value], marker="s", ms=2.6, mfc=colour, mec=colour, mew=0.3, ls="none", zorder=4
        )
    for mark in panel.marks:
        axes.plot(
            [mark.x], [mark.y], marker="o", ms=4.6, mfc="none", mec=INK, mew=0.9, ls="none", zorder=5, clip_on=False
        )  # a ring at sensitivity 1 is whole
