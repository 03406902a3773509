"""The arithmetic of docs/scale.md comes out, and is that of `plan`."""

import ast
import operator
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.planning import StudyPlan, plan_study, storage
from tapfm_eval.planning.published import backbone_cost

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
OPERATORS = {ast.Add: operator.add, ast.Mult: operator.mul, ast.Div: operator.truediv}


def rows() -> Iterator[tuple[str, str, float]]:
    """What, arithmetic and result of each row of the table."""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and re.match(r"[(0-9]", cells[1]):
            yield cells[0], cells[1], float(cells[2].replace(",", ""))


def worked_out(arithmetic: str) -> float:
    """The value of a line of numbers, +, x and /."""

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.BinOp):
            return float(OPERATORS[type(node.op)](value(node.left), value(node.right)))
        assert isinstance(node, ast.Constant)
        return float(node.value)

    return value(ast.parse(arithmetic.replace(",", "").replace("x", "*"), mode="eval").body)


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    path = tmp_path_factory.mktemp("scale") / "large.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def plan(protocol: Path) -> StudyPlan:
    return plan_study(protocol, gpus=["64"])


@pytest.mark.parametrize(("what", "arithmetic", "result"), list(rows()), ids=lambda value: str(value)[:30])
def test_every_line_comes_out(what: str, arithmetic: str, result: float) -> None:
    assert worked_out(arithmetic) == pytest.approx(result, rel=0.01), what


def test_the_lines_are_those_of_the_plan(plan: StudyPlan) -> None:
    page = {what: result for what, _, result in rows()}
    kept = {row.what: row.gigabytes for row in plan.storage}
    read = {row.what: row for row in plan.readings}
    (tapfm,) = plan.arms[0].units
    embedding = read["h-optimus-0 on ours"]
    for what, planned in (
        ("embedding them once", plan.embeddings[0].hours),
        ("training", tapfm.train_hours),
        ("selection", tapfm.select_hours),
        ("prediction", tapfm.predict_hours),
        ("slides", kept["slides"] / 1000),
        ("tile grids", kept["tile grids"]),
        ("embeddings", kept["embeddings of h-optimus-0"]),
        ("attention to predicted tiles", kept["attention to predicted tiles"]),
        ("selected weights", kept["weights, histories, predictions"]),
        ("checkpoints of the training under way", kept["checkpoints of a unit of tapfm"]),
        ("what one GPU reads while it embeds", embedding.tiles_per_second),
        ("the same from storage", embedding.megabytes_per_second),
        ("cores that decode, for 64", 64 * embedding.cores),
        ("the frozen arm reads", read["abmil"].terabytes),
        ("pieces of work for GPUs", plan.units),
        ("files in the run folder", sum(row.files for row in plan.storage[1:-1])),
    ):
        assert page[what] == pytest.approx(planned, rel=0.01), what


def test_the_assumptions_are_those_of_the_code() -> None:
    cost = backbone_cost(CARDS["h-optimus-0"])
    assert round(1000 * cost.seconds_per_tile, 1) == 34.8
    assert round(storage.tiles_of_a_slide()) == 13_610
    assert (storage.SLIDE_GB, storage.CORE_TILES_PER_SECOND) == (0.78, 190)


def test_the_command_prints_what_the_page_shows(protocol: Path) -> None:
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-m", "tapfm_eval", "plan", str(protocol), "--gpus", "64"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    start = printed.index(shown.splitlines()[0])
    assert printed[start : start + len(shown.splitlines())] == shown.splitlines()
