"""`content.json`: everything that a report says beside its tables' rows and its figures, for machines to read."""

import json

from tapfm_eval.report.blocks import Block, Content, Figure, Table
from tapfm_eval.serialise import plain

FORMAT = "tapfm-eval/content/1"


def content_json(content: Content) -> str:
    """Sections with their paragraphs, verdict, facts, captions, notes and alternative texts, in the report's order.

    A table is named with its headers, a figure with its alternative text; their `file` holds rows and drawing.
    """
    head = {
        name: plain(getattr(content, name))
        for name in ("title", "subtitle", "status", "watermark", "identity", "footer")
    }
    sections = [
        {"id": section.id, "title": section.title, "blocks": [_said(block) for block in section.blocks]}
        for section in content.sections
    ]
    return json.dumps({"format": FORMAT, **head, "sections": sections}, indent=1, ensure_ascii=False) + "\n"


def _said(block: Block) -> dict[str, object]:
    kind = {"kind": type(block).__name__.lower()}
    if isinstance(block, Table):
        headers = [column.header for column in block.columns if column.shown]
        file = f"tables/{block.id}.csv"
        return {**kind, "number": block.number, "caption": block.caption, "columns": headers, "note": block.note,
                "file": file}  # fmt: skip
    if isinstance(block, Figure):
        file = f"figures/{block.id}.svg"
        return {**kind, "number": block.number, "caption": block.caption, "alt": block.alt, "file": file}
    fields = plain(block)
    assert isinstance(fields, dict)
    return {**kind, **fields}
