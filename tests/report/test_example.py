"""The committed example: one run in all its files, and nothing in them about the machine that made it."""

import html
import json
import re

import pytest
from PIL import Image
from refresh_example import EXAMPLE, FILES, IMAGES, PICTURES, ROOT, leaks, text_of

from tapfm_eval.serialise import FORMAT


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_example_names_no_machine_and_is_small(name: str) -> None:
    assert leaks(text_of(EXAMPLE / name)) == []
    assert (EXAMPLE / name).stat().st_size < 5_000_000


@pytest.mark.parametrize("text", ["--out /tmp/x", "in /home/somebody/study", r"C:\\Users\\x", "/root/.cache"])
def test_a_path_of_a_machine_is_noticed(text: str) -> None:
    assert leaks(f"run {text} done") != []


def squeezed(text: str) -> str:
    """Letters and digits alone: a PDF breaks lines, and words at hyphens, where it likes."""
    return "".join(character for character in text if character.isalnum())


def test_the_example_is_one_rehearsal_in_two_formats() -> None:
    page, paper = text_of(EXAMPLE / "report.html"), text_of(EXAMPLE / "report.pdf")
    (run,) = set(re.findall(r"rehearsal-[0-9a-f]{12}", page))
    flat = squeezed(paper)
    assert squeezed(run) in flat
    captions = re.findall(r'id="caption-[^"]*"><b>(Table \d+)</b> (.*?)(?:</span>)?$', page, re.MULTILINE)
    assert len(captions) > 15
    for number, caption in captions:
        assert squeezed(f"{number}{html.unescape(caption)}") in flat


def test_the_results_of_the_example_are_those_that_it_shows() -> None:
    results = json.loads(text_of(EXAMPLE / "results.json"))
    assert results["format"] == FORMAT
    page = html.unescape(text_of(EXAMPLE / "report.html"))
    primary = results["primary"]
    assert f"{primary['arm_auroc']['value']:.2f} against {primary['versus_auroc']['value']:.2f}" in page
    shown = [r for r in results["aurocs"] if r["split"] != "validation" and r["auroc"]["value"] is not None]
    assert len(shown) > 20
    for each in (r["auroc"] for r in shown):
        assert f"{each['value']:.2f} ({each['lower']:.2f}–{each['upper']:.2f})" in page


def test_the_readme_shows_two_pages_of_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in PICTURES:
        assert f"docs/images/{name}" in readme
        with Image.open(IMAGES / name) as picture:
            assert picture.width >= 800
