"""What all small multiples of the report share: how panels are dealt out over figures, and how those are named."""

from collections.abc import Callable, Sequence

from tapfm_eval.report.blocks import Figure
from tapfm_eval.report.drawings import CurveGrid, Panel
from tapfm_eval.report.sections.forests import of_pages

_SQUARES, _PANELS = 15, 12  # panels of a figure that leave room for its caption and legend on any paper


def grid_figures(
    panels: Sequence[Panel],
    *,
    name: str,
    caption: str,
    remark: str,
    alt: Callable[[list[str]], str],
    x_label: str,
    y_label: str,
    legend: Sequence[tuple[str, int, bool]],
    unit_square: bool = False,
    whole_x: bool = False,
) -> list[Figure]:
    """The panels as one figure, or as several where they fill more than a page; none without panels.

    Args:
        panels: In the order in which they are read.
        name: The figure's id; numbered where there are several.
        caption: What is shown.
        remark: What the caption ends with, how to read it.
        alt: The figure in words, from the titles of its panels.
        x_label: What the horizontal axes measure.
        y_label: What the upright axes measure.
        legend: Name, style and dashes of each kind of line; empty where the caption says it.
        unit_square: Both axes run from 0 to 1.
        whole_x: The horizontal axes count something.
    """
    most = _SQUARES if unit_square else _PANELS
    paged = [panels[i : i + most] for i in range(0, len(panels), most)]
    return [
        Figure(
            id=name + (f"-{number}" if len(paged) > 1 else ""),
            caption=f"{caption}{of_pages(number, len(paged))}. {remark}",
            alt=alt([panel.title for panel in page]),
            drawing=CurveGrid(tuple(page), x_label, y_label, tuple(legend), unit_square, whole_x),
        )
        for number, page in enumerate(paged, 1)
    ]
