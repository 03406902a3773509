"""What all forest plots of the report share: rows, the axis, and how they are dealt out over pages."""

import math
from collections.abc import Sequence

from tapfm_eval.report.blocks import Figure
from tapfm_eval.report.drawings import ForestGroup, ForestPlot, ForestRow
from tapfm_eval.report.numbers import count, estimate_text, visible
from tapfm_eval.report.scope import Scope
from tapfm_eval.statistics.records import Estimate

FOREST_ROWS = 28  # rows of one forest plot, at most: about half a page, so that little of a page stays empty


def forest_figures(
    scope: Scope,
    groups: Sequence[ForestGroup],
    *,
    name: str,
    caption: str,
    shows: str,
    measure: str,
    axis: str,
    reference: float | None,
    limits: tuple[float, float] = (0.0, 1.0),
    step: float = 0.1,
    label: str = "",
    remark: str = "",
) -> list[Figure]:
    """The groups as one forest plot, or as several alike on a common axis where they fill more than a page.

    Args:
        scope: Names the interval.
        groups: What is plotted; nothing is drawn where it is empty.
        name: The figure's id; numbered where there are several.
        caption: What is shown, before its interval is named.
        shows: What the plot is of, for those who cannot see it: `AUROCs in cohort · test`.
        measure: Heading of the estimates.
        axis: What the axis measures.
        reference: Where there is no effect, inside the axis in any case; None where each group has its own.
        limits: What the measure cannot exceed.
        step: To what the axis is rounded outwards.
        label: Heading of the rows.
        remark: What the caption ends with.
    """
    rows = [row for group in groups for row in group.rows]
    if not rows:
        return []
    low, high = forest_span(rows, step=step, floor=limits[0], ceiling=limits[1])
    if reference is None:
        low = limits[0]
    else:
        low, high = min(low, reference), max(high, reference)
    paged = pages(groups, FOREST_ROWS)
    return [
        Figure(
            id=name + (f"-{number}" if len(paged) > 1 else ""),
            caption=f"{caption}{of_pages(number, len(paged))}{remark}",
            alt=f"Forest plot of {shows}. {forest_words(page)}",
            drawing=ForestPlot(
                groups=page,
                headers=(label, "Events / n", f"{measure} ({scope.interval})"),
                axis=axis,
                reference=reference,
                span=(low, high),
            ),
        )
        for number, page in enumerate(paged, 1)
    ]


def forest_row(scope: Scope, label: str, estimate: Estimate, style: int) -> ForestRow:
    """One AUROC as a line of a forest plot."""
    return ForestRow(
        label=visible(label),
        counts=f"{count(estimate.positives)} / {count(estimate.n)}",
        text="not estimable" if math.isnan(estimate.value) else estimate_text(estimate, scope.decimals),
        value=estimate.value,
        lower=estimate.lower,
        upper=estimate.upper,
        style=style,
    )


def forest_span(rows: Sequence[ForestRow], *, step: float, floor: float, ceiling: float) -> tuple[float, float]:
    """Axis limits that hold every interval, rounded outwards to `step` and kept within floor and ceiling."""
    finite = [limit for row in rows for limit in (row.lower, row.upper, row.value) if math.isfinite(limit)]
    if not finite:
        return floor, ceiling
    low = max(floor, math.floor(min(finite) / step) * step)
    high = min(ceiling, math.ceil(max(finite) / step) * step)
    return (low, high) if high > low else (floor, ceiling)


def pages(groups: Sequence[ForestGroup], limit: int) -> tuple[tuple[ForestGroup, ...], ...]:
    """Groups dealt out in order over as few pages as `limit` rows allow, and over those as evenly as can be.

    A group is never cut; one that alone exceeds the limit has a page of its own.
    """
    fewest = len(_dealt(groups, limit))
    least = next(rows for rows in range(1, limit + 1) if len(_dealt(groups, rows)) == fewest)
    return _dealt(groups, least)


def _dealt(groups: Sequence[ForestGroup], limit: int) -> tuple[tuple[ForestGroup, ...], ...]:
    found: list[list[ForestGroup]] = []
    used = 0
    for group in groups:
        size = len(group.rows) + 1
        if not found or used + size > limit:
            found.append([])
            used = 0
        found[-1].append(group)
        used += size
    return tuple(tuple(page) for page in found)


def of_pages(number: int, total: int) -> str:
    """` (2 of 3)` where a figure is dealt out over several."""
    return f" ({number} of {total})" if total > 1 else ""


def forest_words(groups: Sequence[ForestGroup]) -> str:
    """The plot in words, for those who cannot see it."""
    return " ".join(f"{g.title}: " + "; ".join(f"{r.label} {r.text}" for r in g.rows) + "." for g in groups)
