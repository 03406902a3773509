"""`content.json` holds every sentence of the report, names its files, and no more than the report does."""

import json
from pathlib import Path
from typing import Any

from example import example_inputs

from tapfm_eval.report.blocks import Bullets, Figure, KeyFacts, Listing, Paragraph, Table, Verdict
from tapfm_eval.report.content import WATERMARK, build_content
from tapfm_eval.report.words import content_json
from tapfm_eval.report.write import write_report


def test_every_sentence_stands_in_it_in_the_reports_order() -> None:
    content = build_content(example_inputs(rehearsal=True))
    found: dict[str, Any] = json.loads(content_json(content))
    assert (found["format"], found["title"], found["watermark"]) == ("tapfm-eval/content/1", content.title, WATERMARK)
    assert [section["title"] for section in found["sections"]] == [section.title for section in content.sections]
    kinds = set()
    for section, said in zip(content.sections, found["sections"], strict=True):
        for block, item in zip(section.blocks, said["blocks"], strict=True):
            kinds.add(item["kind"])
            match block:
                case Paragraph() | Listing():
                    assert item["text"] == block.text
                case Bullets():
                    assert (item["title"], item["items"]) == (block.title, list(block.items))
                case Verdict():
                    assert (item["label"], item["sentence"]) == (block.label, block.sentence)
                    assert [fact["value"] for fact in item["facts"]] == [fact.value for fact in block.facts]
                case KeyFacts():
                    assert [(f["name"], f["value"]) for f in item["facts"]] == [(f.name, f.value) for f in block.facts]
                case Table():
                    assert (item["caption"], item["note"]) == (block.caption, block.note)
                case Figure():
                    assert (item["caption"], item["alt"]) == (block.caption, block.alt)
    assert kinds == {"paragraph", "bullets", "verdict", "keyfacts", "table", "figure", "listing"}


def test_the_files_that_it_names_are_written_beside_it(tmp_path: Path) -> None:
    written = write_report(example_inputs(), tmp_path, formats=())
    found = json.loads((tmp_path / "content.json").read_text(encoding="utf-8"))
    named = {item["file"] for section in found["sections"] for item in section["blocks"] if "file" in item}
    assert named == {path.relative_to(tmp_path).as_posix() for path in written} - {"content.json"}
