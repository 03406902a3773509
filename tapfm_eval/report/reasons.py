"""Why something is not estimable, said once in a table's note where many of its rows would repeat it."""

from collections import Counter
from dataclasses import replace

from tapfm_eval.report.blocks import Cell, RowGroup, Table

_MANY = 3  # cells from which on a reason goes into the note
_ALONE, _WITHIN = "not estimable: ", " (interval not estimable: "


def reasons_once(table: Table) -> Table:
    """The table with letters for the reasons that recur; its CSV keeps every reason in its place."""
    found = Counter(
        reason for group in table.groups for row in group.rows for cell in row if (reason := _reason(cell.text))
    )
    recurring = [reason for reason, times in found.items() if times >= _MANY]
    if not recurring or len(recurring) > 26:
        return table
    letters = {reason: chr(ord("a") + position) for position, reason in enumerate(recurring)}
    told = " ".join(f"({letter}) {reason}." for reason, letter in letters.items())
    groups = tuple(
        RowGroup(group.title, tuple(tuple(_marked(cell, letters) for cell in row) for row in group.rows))
        for group in table.groups
    )
    return replace(table, groups=groups, note=f"{table.note} {told}".strip())


def _reason(text: str) -> str:
    if text.startswith(_ALONE):
        return text.removeprefix(_ALONE)
    return text.partition(_WITHIN)[2].removesuffix(")")


def _marked(cell: Cell, letters: dict[str, str]) -> Cell:
    letter = letters.get(_reason(cell.text))
    if letter is None:
        return cell
    value = cell.text.partition(_WITHIN)[0]
    text = (
        f"not estimable ({letter})" if cell.text.startswith(_ALONE) else f"{value} (interval not estimable, {letter})"
    )
    return replace(cell, text=text, whole=cell.text)
