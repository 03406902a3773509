"""What a report is made of: plain frozen records, which renderers turn into HTML, PDF and CSV without adding a word."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from tapfm_eval.report.drawings import Drawing

Value = str | int | float | None  # a CSV cell; empty for None and for NaN (not estimable)
Kind = Literal["text", "number"]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; `warning` is set apart and never overlooked, `note` is small print."""

    text: str
    tone: Literal["body", "note", "warning"] = "body"


@dataclass(frozen=True, slots=True)
class Bullets:
    """A short list, one sentence an item."""

    items: tuple[str, ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and its value; `code` for hashes, versions and paths."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """Names with values, in order."""

    facts: tuple[Fact, ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to the primary question, in one sentence, with the figures that carry it."""

    label: str  # `Primary endpoint met`
    sentence: str
    facts: tuple[Fact, ...]
    met: bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column as shown, and the CSV columns that its cells fill with unrounded values."""

    header: str
    names: tuple[str, ...]  # CSV names: one, or value, lower and upper for an estimate
    kind: Kind = "text"
    width: float = 1.0  # share of the table relative to the other columns
    shown: bool = True  # False: in the CSV alone, as where a note says once what every row would repeat


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as shown, and its unrounded values in the order of the column's `names`."""

    text: str
    values: tuple[Value, ...]
    order: float | None = None  # what a number column is sorted by; None sorts last
    whole: str = ""  # the text in the CSV, where a note says for many rows what `text` leaves out


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows under one sub-heading of a table; an untitled group has no sub-heading."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `id` names its anchor and its CSV file."""

    id: str
    caption: str
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    group_name: str = "group"  # CSV column that holds the groups' titles
    note: str = ""
    width: float = 1.0  # share of the page
    number: int = 0  # given when the content is assembled


def as_shown(table: Table) -> Table:
    """The table without the columns that are in its CSV alone."""
    kept = [position for position, column in enumerate(table.columns) if column.shown]
    return replace(
        table,
        columns=tuple(table.columns[position] for position in kept),
        groups=tuple(
            RowGroup(group.title, tuple(tuple(row[position] for position in kept) for row in group.rows))
            for group in table.groups
        ),
    )


def method_column(header: str, methods: Iterable[str], width: float) -> tuple[Column, str]:
    """A column for the method of each row, and a note in its place where all rows share one."""
    names = list(dict.fromkeys(filter(None, methods)))
    if len(names) > 1:
        return Column(header, ("method",), width=width), ""
    return Column(header, ("method",), width=width, shown=False), f" {header}: {names[0]}." if names else ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, described by what it draws; `id` names its anchor and its SVG file."""

    id: str
    caption: str
    alt: str  # says in words what the picture shows
    drawing: Drawing
    number: int = 0  # given when the content is assembled


@dataclass(frozen=True, slots=True)
class Listing:
    """Text that is shown as it is, line by line."""

    text: str
    caption: str


Block = Paragraph | Bullets | KeyFacts | Verdict | Table | Figure | Listing


@dataclass(frozen=True, slots=True)
class Section:
    """A numbered section of the report."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that the report says, in the order in which it is said."""

    title: str
    subtitle: str
    status: str
    watermark: str  # shown on every page; empty for a real run
    identity: tuple[Fact, ...]  # protocol, version, hash, run
    footer: str  # one line that identifies the report on every page
    sections: tuple[Section, ...]
    language: str = "en"

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables, in order."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Table))

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All figures, in order."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Figure))


def numbered(sections: Iterable[Section]) -> tuple[Section, ...]:
    """The sections with their tables and figures numbered through."""
    tables = figures = 0
    found = []
    for section in sections:
        blocks: list[Block] = []
        for block in section.blocks:
            if isinstance(block, Table):
                tables += 1
                blocks.append(replace(block, number=tables))
            elif isinstance(block, Figure):
                figures += 1
                blocks.append(replace(block, number=figures))
            else:
                blocks.append(block)
        found.append(replace(section, blocks=tuple(blocks)))
    return tuple(found)
