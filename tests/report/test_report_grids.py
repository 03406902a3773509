"""Small multiples of curves: what their legends say."""

import pytest

from tapfm_eval.report.drawings import Curve, CurveGrid, Panel
from tapfm_eval.report.figures import draw

NAMES = ("tapfm-hoptimus0", "tapfm-uni-lora", "abmil-hoptimus0", "abmil-hoptimus0-ft", "a" * 60)


@pytest.mark.parametrize("panels", range(1, 8))
@pytest.mark.parametrize("square", [True, False])
def test_a_legend_cuts_no_name_that_a_line_can_hold(panels: int, square: bool) -> None:
    """Arms whose names begin alike would be one and the same in it."""
    curve = Curve((0.0, 1.0), (0.0, 1.0), 0)
    grid = CurveGrid(
        tuple(Panel(f"T{i}", "", (curve,)) for i in range(panels)), "x", "y",
        tuple((name, i, False) for i, name in enumerate(NAMES)), unit_square=square,
    )  # fmt: skip
    svg = draw(grid)
    assert [name for name in NAMES if f">{name}<" not in svg] == []
