"""How a CSV file of a user crosses the border: whole, as text, rows numbered, or refused with every fault named."""

import csv
import hashlib
import io
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.errors import InputError, Problem

MAX_BYTES = 256 * 1024 * 1024
MAX_COLUMNS = 2_000
MAX_CELL = 4_000  # characters; a longer cell is a lost quote or the wrong file, and would fill a report page
_SAVE_AS = "Save it as CSV (UTF-8, comma separated)."
_FORBIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # invisible: two ids would look alike and differ
_EXCEL_ERRORS = frozenset({"#N/A", "#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!"})


@dataclass(frozen=True, slots=True)
class CsvFile:
    """The cells of a CSV file as text, stripped of surrounding blanks."""

    where: str  # the path as the user gave it, for messages
    sha256: str  # of the file's bytes
    comment: str | None  # the first line without its `#`, where the caller allows one
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # each as long as `columns`
    lines: tuple[int, ...]  # line of each row in the file, counted from 1

    def column(self, name: str) -> list[str]:
        """The cells of one column, top to bottom."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


def shown(value: str) -> str:
    """The value in quotes, shortened to what fits in a message."""
    return repr(value if len(value) <= 60 else value[:57] + "...")


def read_bytes(path: Path, raises: type[InputError], what: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a file of a user.

    Raises:
        InputError: The class `raises`, where there is no such file, it cannot be read or it is too large.
    """
    expected = f"{what} (a file)"
    try:
        if not path.exists():
            raise raises(Problem(str(path), expected, "no such file", "Correct the path, or make the file."))
        if not path.is_file():
            raise raises(Problem(str(path), expected, "a folder or device", "Name the file itself."))
        size = path.stat().st_size
        if size > max_bytes:
            limit = f"at most {max_bytes // 2**20} MiB"
            raise raises(Problem(str(path), f"{what} of {limit}", f"{size / 2**20:.0f} MiB", "Is it the right file?"))
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        reason = getattr(error, "strerror", None) or str(error)
        raise raises(Problem(str(path), expected, reason, "Make the file readable, or correct the path.")) from None


def decode(data: bytes, path: Path, raises: type[InputError], what: str) -> str:
    """The text of a file: UTF-8, with or without a byte order mark.

    Raises:
        InputError: The class `raises`, for workbooks, UTF-16, other encodings, NUL bytes and empty files.
    """
    where = str(path)
    if not data.strip():
        raise raises(Problem(where, what, "an empty file", "Write the file again."))
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise raises(Problem(where, f"{what} as text", "an Excel workbook or a zip archive", _SAVE_AS))
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise raises(Problem(where, f"{what} in UTF-8", "UTF-16 text", _SAVE_AS))
    if b"\x00" in data:
        line = data.count(b"\n", 0, data.index(b"\x00")) + 1
        raise raises(Problem(f"{where}, line {line}", f"{what} as text", "a NUL byte: the file is binary", _SAVE_AS))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        got = f"byte 0x{data[error.start]:02x}, which is no UTF-8"
        raise raises(Problem(f"{where}, line {line}", f"{what} in UTF-8", got, _SAVE_AS)) from None


def read_csv_file(
    path: Path,
    raises: type[InputError],
    what: str,
    required: tuple[str, ...],
    comment: bool = False,
    separator: str = ",",
    unnamed_index: bool = False,
) -> CsvFile:
    """Every row of a UTF-8 table, as text.

    Args:
        path: The file, as the user gave it.
        raises: The error class to raise.
        what: What the file claims to be, for messages: `a cohort manifest`.
        required: Columns that must be there.
        comment: Whether the first line may be a `#` comment, which is then handed back apart.
        separator: A comma, or a tab.
        unnamed_index: Whether the first column may be an index without a name, which is then called `index`.

    Raises:
        InputError: The class `raises`, with every structural fault: encoding, separator, header, ragged rows,
            invisible characters, over-long cells, Excel's error values.
    """
    data = read_bytes(path, raises, what)
    text = decode(data, path, raises, what)
    sha256 = hashlib.sha256(data).hexdigest()
    note: str | None = None
    first_line = 1
    if comment and text.startswith("#"):
        stream = io.StringIO(text, newline="")
        note = stream.readline()[1:].strip()
        text = stream.read()
        first_line = 2
    records, problems = _records(text, first_line, str(path), separator)
    if not records:
        raise raises([*problems, Problem(str(path), f"{what} with a header row", "no header", "Write the file again.")])
    header_line, header = records[0]
    columns = tuple(cell.strip() for cell in header)
    if unnamed_index and columns[0] == "":
        columns = ("index", *columns[1:])
    faults = _header_problems(f"{path}, row {header_line}", columns, required, separator)
    if any(problem.expected.startswith("columns separated by") for problem in faults):
        raise raises(faults)  # every row would be another fault for the same reason
    problems += faults
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    for line, cells in records[1:]:
        if len(cells) != len(columns):
            got = f"{len(cells)} cells"
            remedy = "Quote cells that hold a comma, and give every column a cell."
            problems.append(Problem(f"{path}, row {line}", f"{len(columns)} cells, as in the header", got, remedy))
            continue
        row = tuple(cell.strip() for cell in cells)
        for name, cell in zip(columns, row, strict=True):
            if fault := _cell_fault(cell):
                problems.append(Problem(f"{path}, row {line}, column {name}", *fault))
        rows.append(row)
        lines.append(line)
    if len(records) == 1 and not problems:
        problems.append(Problem(str(path), f"{what} with at least one row", "a header alone", "Add the rows."))
    if problems:
        raise raises(problems)
    return CsvFile(str(path), sha256, note, columns, tuple(rows), tuple(lines))


def _records(
    text: str, first_line: int, where: str, separator: str
) -> tuple[list[tuple[int, list[str]]], list[Problem]]:
    # strict: without it a lost quote silently swallows every row up to the next one
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    records: list[tuple[int, list[str]]] = []
    started = first_line
    try:
        for cells in reader:
            if cells:  # a line without any character is no row
                records.append((started, cells))
            started = first_line + reader.line_num
    except csv.Error as error:
        if "field larger" in str(error):
            got, remedy = "a cell of more than 131072 characters", "Look for a quotation mark that is never closed."
        else:
            got, remedy = (
                f"text that does not parse ({error})",
                "Look for a stray quotation mark in or before this row.",
            )
        return records, [Problem(f"{where}, row {started}", "comma-separated cells", got, remedy)]
    return records, []


def _header_problems(where: str, columns: tuple[str, ...], required: tuple[str, ...], separator: str) -> list[Problem]:
    if len(columns) == 1:
        wanted = {",": "commas", "\t": "tabs"}[separator]
        for mark, name in ((";", "semicolon"), ("\t", "tab"), ("|", "vertical bar"), (",", "comma")):
            if mark in columns[0]:
                expected = f"columns separated by {wanted}"
                remedy = f"Save the file with {wanted} as separators (and points as decimal marks), not {name}s."
                return [Problem(where, expected, f"{name}-separated text", remedy)]
    if len(columns) > MAX_COLUMNS:
        return [Problem(where, f"at most {MAX_COLUMNS} columns", str(len(columns)), "Is it the right file?")]
    problems = []
    for position, name in enumerate(columns, start=1):
        at = f"{where}, column {position}"
        if not name:
            remedy = "Name the column, or delete it (a table written with its index has one such column)."
            problems.append(Problem(at, "a column name", "an empty cell", remedy))
        elif fault := _cell_fault(name):
            problems.append(Problem(at, *fault))
        elif name in columns[: position - 1]:
            problems.append(Problem(at, "column names that differ", f"{shown(name)} again", "Rename or delete one."))
    for name in required:
        if name not in columns:
            alike = [other for other in columns if _plain(other) == _plain(name)]
            remedy = f"Rename column {shown(alike[0])}." if alike else "Add the column."
            had = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
            problems.append(Problem(where, f"a column {name!r}", f"columns {shown(had)[1:-1]}", remedy))
    return problems


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _cell_fault(cell: str) -> tuple[str, str, str] | None:
    """Expected, got and remedy for a cell that no column may hold."""
    if len(cell) > MAX_CELL:
        remedy = "Shorten it, or look for a quotation mark that is never closed."
        return f"at most {MAX_CELL} characters", f"{len(cell)} characters", remedy
    if cell in _EXCEL_ERRORS:
        return "a value", f"the spreadsheet error {cell}", "Mend the formula, or leave the cell empty."
    if not cell.isprintable():
        for character in cell:
            if unicodedata.category(character) in _FORBIDDEN:
                got = f"the invisible character U+{ord(character):04X} in {shown(cell)}"
                return "visible characters on one line", got, "Delete the character (line breaks included)."
    return None
