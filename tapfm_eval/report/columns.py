"""How wide the columns of a table are: numerals stay on one line, words share what is left."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tapfm_eval.report.blocks import Cell, Column, Table

ROOM = 58.5  # ems of a table's text that fit side by side on a page
SIZES = (1.0, 0.95, 0.9, 0.85, 0.8)  # of the text, when a table needs more room; smaller would not be read
_PADDING, _GAP = 1.0, 0.9  # ems beside each cell, and more between a column of numerals and words after it
_AS_NUMBER = re.compile(r"[^a-zA-Z]*( to [^a-zA-Z]*)?|not assessed|[\d.,]+ \w{1,2}")
_P_VALUE = re.compile(r"\bp ([=<>]) ")
_BRACKETS = re.compile(r"\([^()]{1,14}\)")
_LONGEST_WORD = 9.0  # ems; longer words may break
_CLOSE_LINE = 13.0  # ems; lines of words on a narrow screen
_SHORT_HEADER = 5.5  # ems; such a header is not broken
_LONGEST_LINE, _LONGEST_REASON = 26.0, 12.0  # ems; longer text is set in lines, the sooner among numerals


@dataclass(frozen=True, slots=True)
class ColumnFit:
    """The columns of one table as laid out."""

    shares: tuple[float, ...]  # of the table's width; they add up to 1
    close: tuple[float, ...]  # the same where the table is no wider than `close_ems`
    size: float  # of the text, relative to that of other tables
    close_ems: float  # of that text; a screen that is narrower scrolls
    lines: int  # how high the table is, sub-headings counted twice


@dataclass(frozen=True, slots=True)
class _Demand:
    least: float  # ems: the longest numeral or word
    close: float  # ems: the same, and words in a few short lines
    most: float  # ems: nearly every text on one line
    padding: float  # ems: what of these stays empty
    share: float  # of what is left over, as the author of the table weighed it


def heading(header: str) -> str:
    """The header of a column as set: `(95% CI)` is not broken across lines."""
    return _BRACKETS.sub(lambda found: found.group().replace(" ", "\u00a0"), header)


def p_values_whole(text: str) -> str:
    """The text with `p = 0.84` on one line."""
    return _P_VALUE.sub("p\u00a0\\1\u00a0", text)


def fit_columns(table: Table) -> ColumnFit:
    """Widths for the shown columns of a table; `table` is what `blocks.as_shown` gives.

    A column first gets what its longest numeral or word takes, then what most of its texts take on one line; what is
    still left is shared out by the columns' own weights.
    """
    demands = []
    before = "text"
    for position, column in enumerate(table.columns):
        padding = _PADDING + (_GAP if (before, column.kind) == ("number", "text") else 0)
        demands.append(_demand(column, [row[position].text for group in table.groups for row in group.rows], padding))
        before = column.kind
    least = sum(demand.least for demand in demands)
    room = ROOM * table.width
    size = next((size for size in SIZES if least <= room / size), SIZES[-1])
    left = room / size - least
    hunger = sum(demand.most - demand.least for demand in demands)
    fed = min(1.0, max(0.0, left) / hunger) if hunger else 0.0
    spare = max(0.0, left - hunger) / sum(demand.share for demand in demands)
    widths = [d.least + fed * (d.most - d.least) + spare * d.share for d in demands]
    close = sum(demand.close for demand in demands)
    return ColumnFit(
        shares=tuple(width / sum(widths) for width in widths),
        close=tuple(demand.close / close for demand in demands),
        size=size,
        close_ems=close,
        lines=sum(
            2 * bool(group.title) + sum(_lines(row, demands, widths) for row in group.rows) for group in table.groups
        ),
    )


def _lines(row: Sequence[Cell], demands: Sequence[_Demand], widths: Sequence[float]) -> int:
    """Lines of a row: those of its highest cell."""
    whole = (len(cell.text) / 400 * _ems(cell.text) if len(cell.text) > 400 else _ems(cell.text) for cell in row)
    return max(
        math.ceil(ems / (width - demand.padding)) or 1
        for ems, width, demand in zip(whole, widths, demands, strict=True)
    )


def _demand(column: Column, texts: list[str], padding: float) -> _Demand:
    header = _ems(column.header)
    short = header <= _SHORT_HEADER
    least = header if short else max(map(_word_ems, heading(column.header).split(" ")))
    for text in set(texts):
        if column.kind == "number" and _AS_NUMBER.fullmatch(text):
            least = max(least, _ems(text))
        else:
            least = max(least, *(_word_ems(word) for word in text[:400].split() or [""]))
    longest = _LONGEST_REASON if column.kind == "number" else _LONGEST_LINE
    lines = sorted(min(_ems(text), longest) for text in texts) or [0.0]
    most = max(least, header / 2 + 1, lines[len(lines) * 7 // 8])  # a rare long text takes lines, not room from all
    close = max(least, min(most, _CLOSE_LINE))
    return _Demand(least + padding, close + padding, most + padding, padding, column.width)


def _word_ems(word: str) -> float:
    return min(_ems(word), _LONGEST_WORD)


@cache
def _ems(text: str) -> float:
    """Width of the text in ems of a serif face, guessed from the classes of its characters, on the generous side."""
    return sum(map(_character_ems, text[:400]))


def _character_ems(character: str) -> float:
    if character in " .,:;'|()[]ijlftr":
        return 0.31
    if character == "/":
        return 0.45
    if character in "mwMW%":
        return 0.82
    if character.isdigit() or character in "–-":
        return 0.5
    return 0.68 if character.isupper() else 0.53 if character.isascii() else 0.6
