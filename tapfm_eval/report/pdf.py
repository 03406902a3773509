"""The report as a tagged, archivable PDF, laid out by typst with the fonts that it ships."""

import dataclasses
import json
import re
import tempfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typst

from tapfm_eval.report.blocks import Block, Cell, Content, Fact, Figure, RowGroup, Table, as_shown
from tapfm_eval.report.columns import fit_columns, heading, p_values_whole
from tapfm_eval.report.figures import font_folder, printable
from tapfm_eval.report.figures.watermark import watermark_svg
from tapfm_eval.report.fitting import NOT_PLAIN
from tapfm_eval.report.palette import ACCENT, FAINT, HAIRLINE, INK, MUTED

STANDARDS: Any = ["a-2a", "ua-1"]  # any: typst spells out a literal type that differs by version
TEMPLATE = Path(__file__).parent / "templates" / "report.typ"
_CREATED = 315_532_800  # 1980-01-01: no clock may change the bytes
_TYPST_PAPER = {"a4": "a4", "letter": "us-letter"}
_BREAK = "\u200b"  # where a long word may break; the template makes it an empty box, so that no text holds it
_WHOLE = 16  # lines of a table that is rather moved to the next page than broken
_LONG_WORD = re.compile(r"[^\s\u200b]{19,}")


def render_pdf(content: Content, figures: Mapping[str, str], *, paper: str = "a4") -> bytes:
    """The report as PDF/A-2a and PDF/UA-1; the same content gives the same bytes.

    Text reaches typst as JSON strings in a file beside the template, so nothing in it can be markup. System fonts are
    ignored. Characters that no shipped font can draw are spelt out as `[U+1F9EC]`.

    Args:
        content: What the report says.
        figures: SVG by the id of each figure of the content.
        paper: `a4` or `letter`.
    """
    with tempfile.TemporaryDirectory(prefix="tapfm-eval-report-") as name:
        folder = Path(name)
        for number, figure in enumerate(content.figures):
            (folder / f"figure-{number}.svg").write_text(_plain_figure(figures[figure.id]), encoding="utf-8")
        files = {figure.id: f"figure-{number}.svg" for number, figure in enumerate(content.figures)}
        data = _document(content, files) | {"paper": _TYPST_PAPER[paper]}
        (folder / "content.json").write_text(json.dumps(data, ensure_ascii=True), encoding="utf-8")
        if content.watermark:
            (folder / "watermark.svg").write_text(watermark_svg("REHEARSAL"), encoding="utf-8")
        main = folder / "report.typ"
        main.write_bytes(TEMPLATE.read_bytes())
        fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=[font_folder()])
        pdf: bytes = typst.compile(
            main, root=folder, font_paths=fonts, format="pdf", pdf_standards=STANDARDS, timestamp=_CREATED
        )
    return pdf


def _plain_figure(svg: str) -> str:
    return NOT_PLAIN.sub(lambda found: f"[U+{ord(found.group()):04X}]", unicodedata.normalize("NFC", svg))


def _document(content: Content, files: Mapping[str, str]) -> dict[str, Any]:
    """The content as JSON data in the form that the template reads."""
    return {
        "title": _text(content.title),
        "metadata": {
            "title": printable(content.title),
            "description": f"{content.subtitle}, {printable(content.footer)}",
        },
        "subtitle": content.subtitle,
        "status": content.status,
        "watermark": content.watermark,
        "footer": _text(content.footer),
        "language": content.language,
        "identity": [_fact(fact) for fact in (*content.identity, Fact("Status", content.status))],
        "palette": {"ink": INK, "muted": MUTED, "hairline": HAIRLINE, "faint": FAINT, "accent": ACCENT},
        "sections": [
            {
                "id": section.id,
                "heading": f"{number}  {_text(section.title)}",
                "blocks": [_block(block, files) for block in section.blocks],
            }
            for number, section in enumerate(content.sections, 1)
        ],
    }


def _block(block: Block, files: Mapping[str, str]) -> dict[str, Any]:
    kind = {"type": type(block).__name__}
    if isinstance(block, Table):
        block = as_shown(block)
        fit = fit_columns(block)
        shares = zip(block.columns, fit.shares, strict=True)
        return kind | {
            "number": block.number,
            "caption": _text(block.caption),
            "note": _text(block.note),
            "width": block.width,
            "size": fit.size,
            "whole": fit.lines <= _WHOLE,
            "columns": [{"header": heading(_text(c.header)), "kind": c.kind, "share": share} for c, share in shares],
            "groups": [_group(group) for group in block.groups],
        }
    if isinstance(block, Figure):
        return kind | {
            "number": block.number,
            "caption": _text(block.caption),
            "alt": printable(block.alt),
            "file": files[block.id],
        }
    fields = {field.name: getattr(block, field.name) for field in dataclasses.fields(block)}
    return kind | {name: _plain(value) for name, value in fields.items()}


def _group(group: RowGroup) -> dict[str, Any]:
    return {"title": _text(group.title), "rows": [[_cell(cell) for cell in row] for row in group.rows]}


def _cell(cell: Cell) -> str:
    return _text(cell.text)


def _fact(fact: Fact) -> dict[str, Any]:
    return {"name": _text(fact.name), "value": _text(fact.value), "code": fact.code}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Fact):
        return _fact(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _text(text: str) -> str:
    """The text with what fonts lack spelt out, and with places where long words may break across lines."""
    return _LONG_WORD.sub(_with_breaks, p_values_whole(printable(text)))


def _with_breaks(word: re.Match[str]) -> str:
    softened = re.sub(r"(?<=[/_.:,;=])(?=\w)", _BREAK, word.group())
    return _LONG_WORD.sub(lambda run: _BREAK.join(re.findall(r".{1,12}", run.group())), softened)
