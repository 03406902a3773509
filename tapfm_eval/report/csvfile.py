"""A table as CSV: unrounded values beside the text that the report shows, safe to open in a spreadsheet."""

import math
import re

from tapfm_eval.report.blocks import Cell, Column, Table, Value

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table_csv(table: Table) -> str:
    """The table as CSV text: one line per row, the group's title first where the table has groups.

    A column with several values (an estimate and its limits) is followed by `<name>_text`, the cell as shown, which
    also says why something is not estimable. NaN and None are empty. A text that a spreadsheet would run as a formula
    gets a leading apostrophe; numbers, negative ones too, stay numbers.
    """
    grouped = any(group.title for group in table.groups)
    header: list[Value] = [table.group_name] if grouped else []
    for column in table.columns:
        header += _names(column)
    lines = [header]
    for group in table.groups:
        for row in group.rows:
            values: list[Value] = [group.title] if grouped else []
            for column, cell in zip(table.columns, row, strict=True):
                values += _values(column, cell)
            lines.append(values)
    return "".join(",".join(_quoted(_safe(value)) for value in line) + "\n" for line in lines)


def _names(column: Column) -> list[str]:
    return [*column.names, *([f"{column.names[0]}_text"] if _shows_more(column) else [])]


def _values(column: Column, cell: Cell) -> list[Value]:
    return [*cell.values, *([cell.whole or cell.text] if _shows_more(column) else [])]


def _shows_more(column: Column) -> bool:
    """An estimate with limits: its text may hold a reason that the values cannot."""
    return len(column.names) == 3


def _safe(value: Value) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        return repr(value)
    return f"'{value}" if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value) else value


def _quoted(text: str) -> str:
    # By hand: the csv module may leave a lone carriage return unquoted, which readers take as the end of a row.
    if not any(character in text for character in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'
