"""The figures as SVG: text stays text, the same drawing gives the same bytes."""

import io
import math
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tapfm_eval.report.drawings import CurveGrid, Drawing, FlowBox, FlowDiagram, ForestPlot, ForestRow, Panel
from tapfm_eval.report.fitting import SIZE, SMALL, fitted, thinned, width_of, wrapped
from tapfm_eval.report.numbers import fixed
from tapfm_eval.report.palette import ARM_COLOURS, FAINT, HAIRLINE, INK, LINE_STYLES, MUTED

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


def draw(drawing: Drawing) -> str:
    """The drawing as an SVG document, `WIDTH` points wide, with a transparent ground."""
    with _style():
        match drawing:
            case ForestPlot():
                return _svg(_forest(drawing))
            case CurveGrid():
                return _svg(_grid(drawing))
            case FlowDiagram():
                return _svg(_flow(drawing))


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
def _style() -> Iterator[None]:
    """Matplotlib's defaults with the report's style, whatever the user's matplotlibrc says."""
    with mpl.rc_context(), warnings.catch_warnings():
        # The measuring font lacks some scripts; the text stays text in the SVG, and its reader has a font for them.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas: Any = FigureCanvasSVG(figure)  # its methods are not typed
    canvas.print_svg(buffer, metadata=nothing)
    text = re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)
    return text.replace(f"'{_MEASURED_WITH}'", _SHOWN_WITH)


def _sheet(height: float) -> tuple[Figure, Axes]:
    """A figure whose axes measure points from the top left corner."""
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    figure.patch.set_alpha(0.0)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    return figure, axes


def _colour(style: int) -> str:
    return ARM_COLOURS[style % len(ARM_COLOURS)]


def _dashes(style: int) -> Any:
    pattern = LINE_STYLES[style // len(ARM_COLOURS) % len(LINE_STYLES)]
    return (0, pattern) if pattern else "solid"


# Forest plots ---------------------------------------------------------------------------------------------------------

_ROW, _GROUP, _HEAD, _AXIS = 11.2, 17.5, 18.0, 32.0
_COUNTS_WIDTH, _TEXT_WIDTH, _SPACE = 42.0, 100.0, 14.0


def _forest(plot: ForestPlot) -> Figure:
    """Labels and counts on the left, estimates in words on the right, and the axis in the room between."""
    rows = [row for group in plot.groups for row in group.rows]
    titled = sum(bool(group.title) for group in plot.groups)
    height = _HEAD + len(rows) * _ROW + titled * _GROUP + _AXIS
    figure, axes = _sheet(height)
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
            axes.text(0, y + _GROUP - 5, fitted(group.title, counts + _SPACE), weight="bold", va="baseline", color=INK)
            y += _GROUP
        for row in group.rows:
            baseline = y + _ROW - 3.5
            axes.text(8, baseline, fitted(row.label, labels - 8), va="baseline", color=INK)
            axes.text(counts, baseline, row.counts, ha="right", va="baseline", color=INK)
            colour = INK if math.isfinite(row.value) else MUTED
            axes.text(text, baseline, fitted(row.text, _TEXT_WIDTH), va="baseline", color=colour)
            _interval(axes, row, baseline - 2.6, frame)
            y += _ROW
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
    x = frame.position(plot.reference)
    axes.plot([x, x], [17, bottom], color=MUTED, lw=0.7, zorder=1)
    middle = (frame.left + frame.right) / 2
    axes.text(middle, bottom + 21, plot.axis, ha="center", va="baseline", size=SMALL, color=MUTED)


def _interval(axes: Axes, row: ForestRow, y: float, frame: _Frame) -> None:
    if not math.isfinite(row.value):
        return
    colour = _colour(row.style)
    if math.isfinite(row.lower) and math.isfinite(row.upper):
        limits = [frame.position(row.lower), frame.position(row.upper)]
        axes.plot(limits, [y, y], color=colour, lw=1.1, solid_capstyle="butt")
    axes.plot(
        [frame.position(row.value)], [y], marker="s", ms=4.4, mfc=colour, mec=colour, mew=0.6, ls="none", zorder=3
    )


# Small multiples ------------------------------------------------------------------------------------------------------

_GAP, _TITLE, _FOOT, _SIDE = 14.0, 27.0, 28.0, 30.0  # between panels, above and below them, left of the first
_LEGEND_ROW = 12.0


def _grid(grid: CurveGrid) -> Figure:
    number = len(grid.panels)
    columns = 4 if number in (4, 7, 8) or (number > 9 and not grid.unit_square) else 3
    rows = max(1, math.ceil(number / columns))
    width = (WIDTH - _SIDE - (columns - 1) * _GAP) / columns
    height = width if grid.unit_square else width * 0.72
    pitch_x, pitch_y = width + _GAP, height + _TITLE + _FOOT
    beside = number < rows * columns and len(grid.legend) * _LEGEND_ROW <= height
    lines = 0 if beside else math.ceil(len(grid.legend) / columns)
    total = rows * pitch_y + lines * _LEGEND_ROW + 2
    figure, sheet = _sheet(total)
    limits = None if grid.unit_square else _limits(grid)
    for index, panel in enumerate(grid.panels):
        left, top = _SIDE + index % columns * pitch_x, index // columns * pitch_y + _TITLE
        axes = figure.add_axes((left / WIDTH, 1 - (top + height) / total, width / WIDTH, height / total))
        sheet.text(left, top - 15, fitted(panel.title, width), weight="bold", va="baseline", color=INK)
        if panel.note and panel.curves:
            sheet.text(left, top - 6, fitted(panel.note, width, SMALL), va="baseline", size=SMALL, color=MUTED)
        _panel(axes, grid, panel, limits)
        if index + columns >= number:
            axes.set_xlabel(grid.x_label, size=SMALL, color=MUTED, labelpad=2.5)
        if index % columns == 0:
            axes.set_ylabel(grid.y_label, size=SMALL, color=MUTED, labelpad=3)
        else:
            axes.tick_params(labelleft=False)
    if beside:
        _legend(sheet, grid.legend, _SIDE + number % columns * pitch_x + 6, total - pitch_y + _TITLE + 6, width, 1)
    else:
        _legend(sheet, grid.legend, _SIDE, rows * pitch_y + 6, pitch_x, columns)
    return figure


def _legend(
    sheet: Axes, entries: Sequence[tuple[str, int, bool]], left: float, top: float, width: float, per_row: int
) -> None:
    for index, (name, style, _) in enumerate(entries):
        x, y = left + index % per_row * width, top + index // per_row * _LEGEND_ROW
        sheet.plot([x, x + 16], [y - 2.4, y - 2.4], color=_colour(style), lw=1.4, ls=_dashes(style))
        sheet.text(x + 21, y, fitted(name, width - 24), va="baseline", color=INK)


def _limits(grid: CurveGrid) -> tuple[tuple[float, float], tuple[float, float]]:
    """Common limits of all panels, so that they can be compared by eye."""
    xs = [x for panel in grid.panels for curve in panel.curves for x in curve.x] or [0.0, 1.0]
    ys = [y for panel in grid.panels for curve in panel.curves for y in curve.y] or [0.0, 1.0]
    pad_x, pad_y = 0.04 * (max(xs) - min(xs)) or 0.5, 0.08 * (max(ys) - min(ys)) or 0.05
    return (min(xs) - pad_x, max(xs) + pad_x), (min(ys) - pad_y, max(ys) + pad_y)


def _panel(
    axes: Axes, grid: CurveGrid, panel: Panel, limits: tuple[tuple[float, float], tuple[float, float]] | None
) -> None:
    axes.patch.set_alpha(0.0)
    axes.tick_params(labelsize=SMALL, labelcolor=MUTED, color=MUTED, width=0.5, length=2.5, pad=2)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_linewidth(0.5)
        spine.set_color(MUTED)
    if limits is None:
        axes.set_xlim(-0.015, 1.015)
        axes.set_ylim(-0.015, 1.015)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([0, 0.5, 1], labels=["0", "0.5", "1"])
        axes.plot([0, 1], [0, 1], color=HAIRLINE, lw=0.6, zorder=0)
    else:
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: fixed(value, 6).rstrip("0").rstrip(".")))
        axes.grid(visible=True, axis="y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    for curve in reversed(panel.curves):
        x, y = thinned(curve.x, curve.y) if grid.unit_square else (curve.x, curve.y)
        dashes = (0, (3.0, 1.6)) if curve.dashed else _dashes(curve.style)
        width = 1.5 if curve.style == 0 and grid.unit_square else 1.0
        axes.plot(
            x,
            y,
            color=_colour(curve.style),
            lw=width,
            ls=dashes,
            solid_joinstyle="round",
            zorder=3 if curve.style == 0 else 2,
        )
    for mark in panel.marks:
        axes.plot([mark.x], [mark.y], marker="o", ms=4.6, mfc="none", mec=INK, mew=0.9, ls="none", zorder=5)
    if not panel.curves:
        lines = wrapped(panel.note, 110, SMALL, 5)
        axes.text(
            0.5, 0.5, "\n".join(lines), transform=axes.transAxes, ha="center", va="center", size=SMALL, color=MUTED
        )


# Participant flow -----------------------------------------------------------------------------------------------------

_BOX_WIDTH, _BOX_HEIGHT, _BOX_GAP = 196.0, 30.0, 20.0
_SIDE_LEFT, _SIDE_WIDTH = 232.0, 234.0
_BRANCH_COLUMNS, _BRANCH_HEIGHT = 3, 42.0


def _flow(diagram: FlowDiagram) -> Figure:
    trunk, branches = diagram.trunk, diagram.branches
    lines = math.ceil(len(branches) / _BRANCH_COLUMNS)
    trunk_height = len(trunk) * _BOX_HEIGHT + max(0, len(trunk) - 1) * _BOX_GAP
    branch_height = (14 + lines * (_BRANCH_HEIGHT + 8)) if branches else 0
    figure, axes = _sheet(trunk_height + branch_height + 6)
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
