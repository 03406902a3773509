"""What all forest plots of the report share: rows, the axis, and how they are dealt out over pages."""

import math
from collections.abc import Sequence

from tapfm_eval.report.drawings import ForestGroup, ForestRow
from tapfm_eval.report.numbers import count, estimate_text, visible
from tapfm_eval.report.scope import Scope
from tapfm_eval.statistics.records import Estimate

FOREST_ROWS = 40  # rows of a forest plot that fill a page


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
    """Groups dealt out, in order, so that no page holds more than `limit` rows unless one group alone does."""
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
