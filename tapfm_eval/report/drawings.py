"""What each figure shows, as plain frozen records; `figures.py` draws them."""

from dataclasses import dataclass

from tapfm_eval.report.pictures import Picture

NO_ARM, OTHERS = -1, -2  # styles of lines that belong to no arm, and of arms that are not told apart


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One estimate with its interval; NaN draws nothing and leaves the text to say why."""

    label: str
    counts: str  # `23 / 161`
    text: str  # the estimate as printed
    value: float
    lower: float
    upper: float
    style: int  # position of the arm; 0 is the accent


@dataclass(frozen=True, slots=True)
class ForestGroup:
    """Rows under one heading."""

    title: str
    rows: tuple[ForestRow, ...]
    reference: float | None = None  # no effect in this group alone, such as its prevalence


@dataclass(frozen=True, slots=True)
class ForestPlot:
    """Estimates with intervals along one axis."""

    groups: tuple[ForestGroup, ...]
    headers: tuple[str, str, str]  # over labels, counts and estimates
    axis: str
    reference: float | None  # where there is no effect; None where each group has its own
    span: tuple[float, float]  # limits of the axis


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points, in the style of an arm."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    style: int  # position of the arm, 0 is the accent; or NO_ARM, OTHERS
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of note on a curve: an operating point, or the epoch that was selected."""

    x: float
    y: float
    style: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """Limits around a curve."""

    x: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    style: int


@dataclass(frozen=True, slots=True)
class Whisker:
    """A value with its interval, upright."""

    x: float
    value: float
    lower: float
    upper: float
    style: int


Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Panel:
    """One small plot."""

    title: str
    note: str  # n and events, or why the panel is empty
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    bands: tuple[Band, ...] = ()
    whiskers: tuple[Whisker, ...] = ()
    limits: tuple[Span, Span] | None = None  # of x and y; None: those of all panels together


@dataclass(frozen=True, slots=True)
class CurveGrid:
    """Small multiples, on common axes unless a panel has limits of its own."""

    panels: tuple[Panel, ...]
    x_label: str
    y_label: str
    legend: tuple[tuple[str, int, bool], ...]  # name, style, dashed
    unit_square: bool  # square panels from 0 to 1 with their diagonal: ROC space, reliability
    whole_x: bool = False  # x counts something: epochs


@dataclass(frozen=True, slots=True)
class FlowBox:
    """How many remain, and how many left before."""

    title: str
    counts: str
    left: str  # empty where nobody left


@dataclass(frozen=True, slots=True)
class FlowDiagram:
    """A trunk of boxes that narrows from top to bottom, then branches side by side."""

    trunk: tuple[FlowBox, ...]
    branches: tuple[FlowBox, ...]


@dataclass(frozen=True, slots=True)
class PictureRow:
    """One slide: the whole of it twice, and its tiles of most and of least weight."""

    title: str
    note: str  # size and counts, or why there is no picture
    overviews: tuple[Picture, ...]  # the tissue, then the same with its tiles coloured
    strongest: tuple[Picture, ...]
    weakest: tuple[Picture, ...]
    wide_mm: float = 0.0  # width of the overviews; 0 where it is not known, and no scale bar is drawn


@dataclass(frozen=True, slots=True)
class PictureSheet:
    """Slides under each other, with the scale of their colours."""

    rows: tuple[PictureRow, ...]
    headers: tuple[str, str, str]  # over tissue, weights, tiles
    scale: tuple[tuple[int, int, int], ...]  # colours from least to most, red, green, blue
    scale_ends: tuple[str, str]


Drawing = ForestPlot | CurveGrid | FlowDiagram | PictureSheet
