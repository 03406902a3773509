"""Cells of a stranger's table as labels and scores: 0 and 1, probabilities; anything else is refused with its rows."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tapfm_eval.cohort.csvfile import shown
from tapfm_eval.errors import Problem

_MISSING = frozenset({"", "NA", "na", "NaN", "nan", "None", "null"})
_LABELS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "TRUE": 1.0, "FALSE": 0.0, "True": 1.0, "False": 0.0}
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class Column:
    """The cells of one column and where they stand."""

    where: str  # the file
    name: str
    lines: tuple[int, ...]
    cells: tuple[str, ...]

    def at(self, lines: Sequence[int]) -> str:
        """The place of some rows, for messages."""
        said = ", ".join(map(str, lines[:10])) + (f" and {len(lines) - 10} more" if len(lines) > 10 else "")
        return f"{self.where}, row{'' if len(lines) == 1 else 's'} {said}, column {self.name}"


def labels_of(
    column: Column,
    positive: str | None,
    problems: list[Problem],
    *,
    needed: bool = True,
    classes: tuple[str, ...] | None = None,
) -> list[float]:
    """Labels 0, 1 or NaN (unknown: empty or NA).

    Args:
        column: The cells.
        positive: How the positive class is spelt; the one other spelling is then the negative class. None: the cells
            are 0 and 1, or TRUE and FALSE.
        problems: Faults are added here.
        needed: Whether at least one label must be known.
        classes: The spellings that may occur, where the file says them.
    """
    spellings = {cell for cell in column.cells if cell not in _MISSING}
    if positive is None:
        meaning = dict(_LABELS)
        wrong = spellings - set(meaning)
    else:
        others = (set(classes) if classes else spellings) - {positive}
        meaning = {positive: 1.0, **dict.fromkeys(others, 0.0)}
        wrong = spellings - set(meaning)
        at = f"{column.where}, column {column.name}"
        if spellings and positive not in spellings | set(classes or ()):
            remedy = f"Correct --positive: the cells say {', '.join(sorted(spellings)[:5])}."
            problems.append(Problem(at, f"cells {positive!r}", "none", remedy))
        elif len(others) > 1:
            got = ", ".join(shown(other) for other in sorted(others)[:5])
            remedy = "Leave cells of unknown status empty (or NA), and unite the rest."
            problems.append(Problem(at, f"one spelling beside {positive!r}", got, remedy))
    problems += _spelling_problems(column, sorted(wrong), sorted(spellings), positive)
    if needed and not spellings:
        remedy = "Fill in labels, or give --manifest."
        problems.append(Problem(f"{column.where}, column {column.name}", "known labels", "none", remedy))
    return [meaning.get(cell, math.nan) for cell in column.cells]


def _spelling_problems(column: Column, wrong: list[str], spellings: list[str], positive: str | None) -> list[Problem]:
    """What the labels say instead of 0 and 1: two words at once, anything else by its rows."""
    factor = spellings == ["1", "2"]
    if positive is None and len(spellings) == 2 and (factor or wrong == spellings):
        one, other = spellings
        got = f"{shown(one)} and {shown(other)}"
        remedy = f"Say which of them is positive: --positive {other}, or --positive {one}."
        if factor:
            remedy = "R counts the levels of a factor from 1: if 2 means positive, --positive 2."
        return [Problem(f"{column.where}, column {column.name}", "0, 1 or empty", got, remedy)]
    problems = []
    for spelt in wrong:
        lines = [line for line, cell in zip(column.lines, column.cells, strict=True) if cell == spelt]
        remedy = f"Say how the positive class is spelt (--positive {wrong[0]}), or leave cells of unknown status empty."
        problems.append(Problem(column.at(lines), "0, 1 or empty", shown(spelt), remedy))
    return problems


def scores_of(column: Column, problems: list[Problem]) -> list[float]:
    """Scores as probabilities from 0 to 1; a missing, unreadable or other number is a fault."""
    missing: list[int] = []
    unreadable: dict[str, list[int]] = {}
    outside: list[tuple[int, float]] = []
    scores = []
    for line, cell in zip(column.lines, column.cells, strict=True):
        value = math.nan
        if cell in _MISSING:
            missing.append(line)
        elif _NUMBER.fullmatch(cell) is None:
            unreadable.setdefault(cell, []).append(line)
        else:
            value = float(cell)
            if not 0 <= value <= 1:
                outside.append((line, value))
        scores.append(value)
    if missing:
        remedy = (
            "Delete these rows. With --manifest, or a second file that has them, the report counts them as not scored."
        )
        problems.append(Problem(column.at(missing), "a score", "none", remedy))
    for cell, lines in unreadable.items():
        problems.append(Problem(column.at(lines), "a number from 0 to 1", shown(cell), "Write 0.25, with a point."))
    if outside:
        values = [value for _, value in outside]
        low, high = min(values), max(values)
        percent = low >= 0 and 1 < high <= 100 and len(outside) > len(scores) // 4
        remedy = (
            "If these are percentages, divide by 100."
            if percent
            else "If these are logits, turn them into probabilities: plogis(x) in R, 1 / (1 + exp(-x)) elsewhere."
        )
        got = f"{low:g}" if len(outside) == 1 else f"{len(outside)} numbers from {low:g} to {high:g}"
        problems.append(Problem(column.at([line for line, _ in outside]), "a probability from 0 to 1", got, remedy))
    return scores
