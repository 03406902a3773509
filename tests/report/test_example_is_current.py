"""The committed example says what the report now says of its own results; `make example` makes it anew."""

import html
import re
from pathlib import Path

import pytest
from example import example_inputs
from refresh_example import EXAMPLE, text_of
from stored_results import read_results

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.report.blocks import Figure, Table, as_shown
from tapfm_eval.report.content import build_content
from tapfm_eval.report.figures import draw
from tapfm_eval.report.html import render_html
from tapfm_eval.report.inputs import RehearsalSummary, ReportInputs
from tapfm_eval.serialise import results_json

_RUN = ("checklist", "cases", "audit", "training", "rehearsal", "heatmaps")  # say what results alone do not tell


def flat(text: str) -> str:
    """Letters and digits alone."""
    return "".join(character for character in text if character.isalnum())


def not_said(page: str, results: str, folder: Path) -> list[str]:
    """What these results would make the report say, and the page does not."""
    (listing,) = re.findall(r"<pre[^>]*>(format: .*?)</pre>", page, re.DOTALL)
    (folder / "protocol.yaml").write_text(html.unescape(listing), encoding="utf-8")
    protocol = read_protocol(folder / "protocol.yaml", backbones=CARDS, as_run=True)
    rehearsal = RehearsalSummary(dict.fromkeys(protocol.targets, 0.9), (), ())
    content = build_content(ReportInputs(protocol, "0" * 64, "run", read_results(results), (), {}, rehearsal))
    said = flat(
        html.unescape(re.sub(r"<svg.*?</svg>|<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL))
    )
    visible = flat(html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL))))
    found = []
    for section in content.sections:
        if section.id not in ("provenance", *_RUN) and f'<section id="{section.id}"' not in page:
            found.append(f"section {section.id}")
        for block in section.blocks:
            if isinstance(block, Table) and not block.id.startswith(_RUN):
                rows = ["".join(cell.text for cell in row) for group in as_shown(block).groups for row in group.rows]
                texts = (block.caption, block.note, *rows)
                found += [f"table {block.id}: {text}" for text in texts if flat(text) not in visible]
            elif isinstance(block, Figure) and not block.id.startswith(_RUN):
                texts = (block.caption, block.alt)
                found += [f"figure {block.id}: {text}" for text in texts if flat(text) not in said]
    return found


def test_what_a_page_does_not_say_is_found(tmp_path: Path) -> None:
    inputs = example_inputs(rehearsal=True)
    content = build_content(inputs)
    page = render_html(content, {figure.id: draw(figure.drawing) for figure in content.figures})
    results = results_json(inputs.results)
    assert not_said(page, results, tmp_path) == []
    other = page.replace("Macro and micro AUROC over the targets", "Macro AUROC").replace(
        '<section id="macro"', "<section "
    )
    assert [text.partition(":")[0] for text in not_said(other, results, tmp_path)] == [
        "section macro",
        "table macro-auroc",
    ]


@pytest.mark.parametrize(("old", "new"), [('"level"', '"levels"'), ('"assessed": true', '"assessed": "yes"')])
def test_results_of_another_form_are_no_results(old: str, new: str) -> None:
    text = results_json(example_inputs().results)
    read_results(text)
    with pytest.raises(ValueError, match="results"):
        read_results(text.replace(old, new, 1))


def test_the_committed_example_is_what_the_report_now_says_of_its_results(tmp_path: Path) -> None:
    assert not_said(text_of(EXAMPLE / "report.html"), text_of(EXAMPLE / "results.json"), tmp_path) == []
