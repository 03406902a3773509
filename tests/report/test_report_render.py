"""The files: same bytes, same numbers, hostile text as text, and nothing that reaches outside."""

import base64
import csv
import html
import io
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import cached_property
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pypdfium2
import pytest
from example import example_inputs, with_results
from fontTools.ttLib import TTFont
from golden_study import golden_inputs
from pypdf import PdfReader

from tapfm_eval.audit.findings import Finding
from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.errors import InputError
from tapfm_eval.report.blocks import Bullets, Cell, Column, RowGroup, Table, as_shown
from tapfm_eval.report.content import WATERMARK, build_content
from tapfm_eval.report.csvfile import table_csv
from tapfm_eval.report.figures import draw, font_folder, printable
from tapfm_eval.report.html import render_html
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.report.numbers import visible
from tapfm_eval.report.pdf import render_pdf
from tapfm_eval.report.write import write_report
from tapfm_eval.serialise import results_json

LONG = "x" * 10_000
HOSTILE = (
    "<script>alert(1)</script>",
    "#panic() $x^2$ *bold* _it_ @ref <label> \\ `raw` // #include",
    '"); }); </style> {{ 7*7 }} {% raw %} &amp;',
    "abc\u202edcba\u200f\u2066x",
    "=HYPERLINK(1)",
    LONG,
    "🧬 😀 漢字 مرحبا é\ue000",
    "\\$\\alpha$ ]] --> ]]>",
    "ⅉồ ✓█∵ℒ e\u030a\u0302\u0317 \u05d0\u0598\u05b0 नमस्ते ❤\ufe0f \u1680",
)


class Rendered:
    """One report in all its forms."""

    def __init__(self, inputs: ReportInputs, *, show_ids: bool = False, paper: str = "a4") -> None:
        self.content = build_content(inputs, show_ids=show_ids)
        self.figures = {figure.id: draw(figure.drawing) for figure in self.content.figures}
        self.html = render_html(self.content, self.figures)
        self.pdf = render_pdf(self.content, self.figures, paper=paper)
        self.reader = PdfReader(io.BytesIO(self.pdf))

    @cached_property
    def pages(self) -> list[str]:
        return [page.extract_text() for page in self.reader.pages]


@pytest.fixture(scope="module")
def real() -> Rendered:
    return Rendered(example_inputs())


@pytest.fixture(scope="module")
def rehearsed() -> Rendered:
    return Rendered(example_inputs(rehearsal=True), paper="letter")


@pytest.fixture(scope="module")
def golden() -> Rendered:
    return Rendered(golden_inputs())


@pytest.fixture(scope="module")
def hostile() -> Rendered:
    return Rendered(hostile_inputs(), show_ids=True)


def hostile_inputs() -> ReportInputs:
    inputs = example_inputs(rehearsal=True)
    assert inputs.rehearsal is not None
    short = tuple(text for text in HOSTILE if text != LONG)
    exclusions = tuple(Exclusion("tcga-luad", text, f"s{text[:50]}", "slides", text[:80]) for text in HOSTILE)
    subgroups = tuple(
        replace(inputs.results.subgroups[i % 3], variable="site", level=text) for i, text in enumerate(HOSTILE)
    )
    protocol = inputs.protocol.model_copy(update={"title": HOSTILE[0], "intended_use": "\n\n".join(short)})
    flow = tuple(replace(step, reason=short[i % len(short)]) for i, step in enumerate(inputs.results.flow))
    changed = replace(
        inputs,
        protocol=protocol,
        provenance={HOSTILE[0]: {HOSTILE[1]: HOSTILE[2], HOSTILE[3]: HOSTILE[6]}},
        rehearsal=replace(inputs.rehearsal, changes=short),
    )
    return with_results(changed, exclusions=exclusions, subgroups=subgroups, flow=flow)


class Outline(HTMLParser):
    """Tags, attributes, ids and headings of a page, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self._silent = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)


def squeezed(text: str) -> str:
    """Text without white space, which layout is free to change."""
    return re.sub(r"\s+", "", text)


def test_rendering_again_gives_the_same_bytes(real: Rendered) -> None:
    again = Rendered(example_inputs())
    assert again.figures == real.figures
    assert again.html == real.html
    assert again.pdf == real.pdf
    assert [table_csv(t) for t in again.content.tables] == [table_csv(t) for t in real.content.tables]


def test_every_number_of_every_table_is_in_html_and_pdf(real: Rendered) -> None:
    page = squeezed("".join(Outline(real.html).text))
    paper = squeezed(" ".join(real.pages))
    for table in map(as_shown, real.content.tables):
        for group in table.groups:
            for row in group.rows:
                whole = squeezed("".join(cell.text for cell in row))
                assert whole in page, (table.id, whole)
                assert whole in paper, (table.id, whole)


def test_every_table_and_figure_is_captioned_in_html_and_pdf(real: Rendered) -> None:
    page, paper = squeezed("".join(Outline(real.html).text)), squeezed(" ".join(real.pages))
    for kind, blocks in (("Table", real.content.tables), ("Figure", real.content.figures)):
        for block in blocks:
            caption = squeezed(f"{kind}{block.number}{block.caption}")
            assert caption in page
            assert caption in paper


def test_every_word_of_every_figure_is_in_html_and_pdf(real: Rendered) -> None:
    """In HTML in the figure itself; in the PDF as often as there, on the page that has its caption."""
    pages = [squeezed(page) for page in real.pages]
    page = squeezed("".join(Outline(real.html).text))
    for figure in real.content.figures:
        drawing = real.figures[figure.id]
        words = [squeezed(html.unescape(text)) for text in re.findall(r"<text[^>]*>(.*?)</text>", drawing, re.DOTALL)]
        assert words, figure.id
        assert "".join(words) in page, figure.id
        (paper,) = [text for text in pages if squeezed(f"Figure {figure.number}{figure.caption}") in text]
        for word, times in Counter(words).items():
            assert paper.count(word) >= times, (figure.id, word)


def test_every_estimate_of_the_results_is_in_a_table() -> None:
    """Unrounded, from `results.json` to the CSV; curves and the points of reliability plots are drawn instead."""
    inputs = golden_inputs()
    results = json.loads(results_json(inputs.results))
    lines = [line for table in build_content(inputs).tables for line in csv.reader(io.StringIO(table_csv(table)))]
    shown = {cell for line in lines for cell in line}
    drawn = {"curves", "decision_curves", "curve", "bins"}
    counted = {"missed", "confirmed"}  # printed as patients of patients
    found: list[tuple[str, float]] = []

    def estimates(value: object, path: str) -> None:
        if isinstance(value, list):
            for item in value:
                estimates(item, path)
        elif isinstance(value, dict):
            fixed_here = path == "triage" and value["split"] == "validation"  # thresholds are no result where they rose
            for name in value.keys() - drawn - counted if not fixed_here else ():
                estimates(value[name], f"{path}.{name}".strip("."))
        elif isinstance(value, float) and path.endswith((".value", ".lower", ".upper", "p_value")):
            found.append((path, value))

    estimates({name: value for name, value in results.items() if name != "primary"}, "")
    assert len(found) > 1000
    assert {path for path, value in found if repr(value) not in shown} == set()


@pytest.mark.parametrize("name", ["real", "rehearsed", "hostile"])
def test_no_page_is_empty(name: str, request: pytest.FixtureRequest) -> None:
    rendered: Rendered = request.getfixturevalue(name)
    furniture = [rendered.content.footer, rendered.content.watermark, rendered.content.subtitle]
    for page in rendered.pages:
        for words in filter(None, furniture):
            page = page.replace(words, "")
        assert len(re.sub(r"Research use only\..*|Page \d+ of \d+", "", page).strip()) > 40


@pytest.mark.parametrize("paper", ["a4", "letter"])
@pytest.mark.parametrize(
    "study", ["plain", "rehearsal", "three cohorts more", "twelve targets more", "real, five cohorts"]
)
def test_the_summary_is_one_page(study: str, paper: str) -> None:
    inputs = example_inputs(rehearsal=study not in ("plain", "real, five cohorts"))
    unseen = tuple(result for result in inputs.results.aurocs if result.split == "external")
    if study in ("three cohorts more", "real, five cohorts"):
        more = tuple(replace(result, cohort=f"hospital-{i}") for i in range(3) for result in unseen)
        inputs = with_results(inputs, aurocs=(*inputs.results.aurocs, *more))
    if study == "twelve targets more":
        more = tuple(replace(r, target=f"GENE{i}") for i in range(12) for r in unseen if r.target == "EGFR")
        inputs = with_results(inputs, aurocs=(*more, *inputs.results.aurocs))
    findings = tuple(
        Finding(code, "warning", f"cohorts.{cohort}", "what", (), "remedy")
        for code, cohort in (("backbone-saw-cohort", "tcga-luad"), ("backbone-undisclosed", "cptac-luad"))
    )
    assert inputs.results.primary is not None
    few = replace(inputs.results.primary, difference=replace(inputs.results.primary.difference, positives=9))
    content = build_content(replace(with_results(inputs, primary=few), findings=findings))
    front = replace(content, sections=content.sections[:2])
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(render_pdf(front, {}, paper=paper))).pages]
    second = squeezed(pages[1])
    for furniture in (front.footer, front.watermark or front.subtitle):
        second = second.replace(squeezed(furniture), "", 1)
    assert second.startswith("Contents"), second[:200]
    (limits,) = (block for block in front.sections[0].blocks if isinstance(block, Bullets))
    (table,) = (block for block in front.sections[0].blocks if isinstance(block, Table))
    assert squeezed(limits.items[-1]) in squeezed(pages[0])
    assert any(row[0].text == "EGFR" for group in table.groups for row in group.rows)


def blank_shares(pdf: bytes) -> list[float]:
    """Of each page's text area, the share below its last words or lines; a watermark is too faint to count."""
    document = pypdfium2.PdfDocument(pdf)
    shares = []
    for page in document:
        grey = np.asarray(page.render(scale=0.5).to_pil().convert("L"))
        points = grey.shape[0] / page.get_height()
        area = grey[round(74 * points) : round((page.get_height() - 68) * points)]  # 26 mm above, 24 mm below
        dark = np.flatnonzero((area < 200).any(axis=1))
        shares.append(1 - (int(dark[-1]) + 1 if len(dark) else 0) / len(area))
    return shares


@pytest.mark.parametrize("name", ["real", "rehearsed", "golden"])
def test_no_page_but_the_last_is_half_empty(name: str, request: pytest.FixtureRequest) -> None:
    rendered: Rendered = request.getfixturevalue(name)
    *shares, _ = blank_shares(rendered.pdf)
    assert {page: share for page, share in enumerate(shares, 1) if share > 0.45} == {}
    assert sum(shares) / len(shares) < 0.2


def test_a_rehearsal_says_so_on_every_page(rehearsed: Rendered, real: Rendered) -> None:
    assert all(squeezed(WATERMARK) in squeezed(page) for page in rehearsed.pages)
    assert WATERMARK in "".join(Outline(rehearsed.html).text)
    assert "REHEARSAL" not in "".join(Outline(real.html).text)
    assert not any("REHEARSAL" in page for page in real.pages)


def test_the_watermark_puts_no_letter_between_the_lines(rehearsed: Rendered) -> None:
    assert not any(re.search(r"^[A-Z]$", page, re.MULTILINE) for page in rehearsed.pages)


@pytest.mark.parametrize("name", ["real", "rehearsed", "hostile"])
def test_run_and_hashes_can_be_searched_and_copied_from_the_pdf(name: str, request: pytest.FixtureRequest) -> None:
    """No invisible character stands in them: not on the pages, nor in the file's own title and subject."""
    rendered: Rendered = request.getfixturevalue(name)
    inputs = example_inputs()
    metadata = rendered.reader.metadata
    assert metadata is not None
    assert inputs.run_id in metadata["/Subject"]
    assert all(inputs.run_id in page for page in rendered.pages)
    whole = "\n".join(rendered.pages)
    assert inputs.protocol_sha256 in whole
    assert name == "hostile" or "9b" * 32 in whole
    assert not re.search("[\u00ad\u200b-\u200d\u2060\ufeff]", f"{whole}{metadata.title}{metadata['/Subject']}")


def test_pages_are_numbered_to_the_last(real: Rendered) -> None:
    total = len(real.pages)
    assert all(f"Page {number} of {total}" in page for number, page in enumerate(real.pages, 1))


def test_the_pdf_is_tagged_titled_archivable_and_has_bookmarks(real: Rendered) -> None:
    catalog = real.reader.trailer["/Root"]
    xmp = catalog["/Metadata"].get_data().decode()
    assert real.reader.metadata is not None
    assert real.reader.metadata.title == real.content.title
    assert catalog["/Lang"].lower().startswith("en")
    assert catalog["/MarkInfo"]["/Marked"]
    assert catalog["/ViewerPreferences"]["/DisplayDocTitle"]
    assert "<pdfaid:part>2</pdfaid:part>" in xmp
    assert "<pdfaid:conformance>A</pdfaid:conformance>" in xmp
    assert "<pdfuaid:part>1</pdfuaid:part>" in xmp
    titles = [item.title for item in real.reader.outline if not isinstance(item, list)]
    assert [re.sub(r"^\d+\s+", "", title) for title in titles] == [s.title for s in real.content.sections]


def test_fonts_are_embedded_and_none_comes_from_the_machine(real: Rendered) -> None:
    names = set()
    for page in real.reader.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            names.add(font.get_object()["/BaseFont"].split("+")[-1])
    assert names
    assert all(name.startswith(("LibertinusSerif", "DejaVuSans")) for name in names), names


def test_a_font_of_the_machine_with_the_same_name_changes_no_byte(tmp_path: Path) -> None:
    """The home holds a face that calls itself Libertinus Serif; only a typst that is told to look there takes it."""
    face = TTFont(font_folder() / "DejaVuSansMono.ttf", recalcTimestamp=False)
    for record in face["name"].names:
        if record.nameID in (1, 16):
            record.string = "Libertinus Serif"
    fonts = tmp_path / ".local" / "share" / "fonts"
    fonts.mkdir(parents=True)
    face.save(fonts / "impostor.ttf")
    code = (
        "import sys; from tapfm_eval.report.blocks import Content, Paragraph, Section; "
        "from tapfm_eval.report.pdf import render_pdf; "
        "page = Content('T', 'S', 'ok', '', (), 'foot', (Section('a', 'A', (Paragraph('Plain words'),)),)); "
        "sys.stdout.buffer.write(render_pdf(page, {}))"
    )
    looking = (
        "import typst; make = typst.Fonts; typst.Fonts = lambda **k: make(**{**k, 'include_system_fonts': True}); "
    )
    machines = {
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / ".local" / "share"),
        "TYPST_FONT_PATHS": str(fonts),
    }
    runs = ((code, {}), (code, machines), (looking + code, machines))
    plain, planted, fooled = (
        subprocess.run([sys.executable, "-c", c], env={**os.environ, **env}, capture_output=True, check=True).stdout
        for c, env in runs
    )
    assert planted == plain
    assert fooled != plain


def test_paper_is_a4_unless_letter_is_asked_for(real: Rendered, rehearsed: Rendered) -> None:
    assert [round(float(side)) for side in real.reader.pages[0].mediabox[2:]] == [595, 842]
    assert [round(float(side)) for side in rehearsed.reader.pages[0].mediabox[2:]] == [612, 792]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_appears_as_text(hostile: Rendered, text: str) -> None:
    page = "".join(Outline(hostile.html).text)
    assert visible(text) in page
    paper = squeezed(" ".join(hostile.pages))
    if text == LONG:
        assert paper.count("x") > len(LONG)
    else:
        assert squeezed(printable(visible(text))) in paper


def test_what_no_shipped_font_can_draw_is_spelt_out_on_paper() -> None:
    assert printable("😀 🧬 漢字 é") == "😀 [U+1F9EC] [U+6F22][U+5B57] é"
    assert printable("e\u0301 x\u0301") == "é x[U+0301]"


def test_hostile_text_makes_no_markup(hostile: Rendered, rehearsed: Rendered) -> None:
    assert set(Outline(hostile.html).tags) == set(Outline(rehearsed.html).tags)
    assert Outline(hostile.html).tags.count("script") == 1
    assert "alert(1)" not in re.search(r"<script>(.*?)</script>", hostile.html, re.DOTALL).group(1)
    assert "49" not in hostile.content.title


def test_no_bidirectional_control_reaches_a_reader(hostile: Rendered) -> None:
    controls = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f]")
    assert not controls.search(hostile.html)
    assert not any(controls.search(page) for page in hostile.pages)


@pytest.mark.parametrize("name", ["real", "hostile"])
def test_the_page_refers_to_nothing_outside_itself(name: str, request: pytest.FixtureRequest) -> None:
    rendered: Rendered = request.getfixturevalue(name)
    outline = Outline(rendered.html)
    links = [value for _, key, value in outline.attributes if key in ("href", "src", "xlink:href", "srcset", "action")]
    assert links
    assert all(link.startswith(("#", "data:text/csv;", "data:image/jpeg;base64,")) for link in links)
    style = "".join(re.findall(r"<style>(.*?)</style>", rendered.html, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    assert not {"link", "iframe", "object", "embed", "img", "form", "base"} & set(outline.tags)


@pytest.mark.parametrize("name", ["real", "hostile"])
def test_the_page_can_be_walked_by_keyboard_and_read_aloud(name: str, request: pytest.FixtureRequest) -> None:
    rendered: Rendered = request.getfixturevalue(name)
    outline = Outline(rendered.html)
    headings = [int(tag[1]) for tag in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    ids = [value for _, key, value in outline.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for _, key, value in outline.attributes if key == "href" and value.startswith("#")}
    assert targets <= set(ids)
    labels = {value for _, key, value in outline.attributes if key == "aria-labelledby"}
    assert labels <= set(ids)
    assert {"main", "nav", "header", "footer"} <= set(outline.tags)
    assert ("html", "lang", "en") in outline.attributes
    assert all(scope in ("col", "row", "rowgroup") for tag, key, scope in outline.attributes if key == "scope")
    assert outline.tags.count("svg") == len(
        [1 for _, key, value in outline.attributes if (key, value) == ("role", "img")]
    )


def test_p_values_are_whole_and_tables_are_named_by_their_captions_alone(real: Rendered) -> None:
    text = "".join(Outline(re.sub(r"<svg.*?</svg>", "", real.html, flags=re.DOTALL)).text)  # lines of figures are set
    assert re.search(r"p\u00a0[=<]\u00a0\d", text)
    assert not re.search(r"\bp [=<>] \d", text)
    assert not re.search(r"""role=["']region""", real.html)  # a landmark for every table would drown the others
    for name in re.findall(r'<table aria-labelledby="([^"]+)"', real.html):
        label = re.search(rf'<span id="{re.escape(name)}">(.*?)</span>', real.html, re.DOTALL)
        assert label is not None
        assert "CSV" not in label.group(1)


def test_the_title_names_the_study(real: Rendered, rehearsed: Rendered) -> None:
    title = re.search(r"<title>(.*?)</title>", real.html).group(1)
    assert html.unescape(title) == "Driver mutations in lung adenocarcinoma from H&E · Clinical validation report"
    assert "REHEARSAL" in re.search(r"<title>(.*?)</title>", rehearsed.html).group(1)


def test_figures_follow_the_theme_of_the_page(real: Rendered) -> None:
    drawings = re.findall(r"<svg.*?</svg>", real.html, re.DOTALL)
    assert len(drawings) == len(real.content.figures)
    drawn = [drawing for drawing in drawings if "<image" not in drawing]  # the colours of pictures are theirs
    assert len(drawn) > 5
    assert not any(re.search(r": #[0-9a-f]{6}", drawing) for drawing in drawn)


def test_an_embedded_csv_is_the_written_csv(real: Rendered, tmp_path: Path) -> None:
    links = [
        value for _, key, value in Outline(real.html).attributes if key == "href" and value.startswith("data:text")
    ]
    for table, link in zip(real.content.tables, links, strict=True):
        assert base64.b64decode(link.split(",", 1)[1]).decode() == table_csv(table)


def test_csv_holds_unrounded_values_and_the_reason_for_their_absence(real: Rendered) -> None:
    table = next(table for table in real.content.tables if table.id == "auroc")
    rows = list(csv.DictReader(io.StringIO(table_csv(table))))
    results = example_inputs().results.aurocs
    assert len(rows) == len(results)
    row = next(row for row in rows if row["arm"] == "tapfm-hoptimus0" and row["target"] == "EGFR")
    result = next(r for r in results if (r.arm, r.target, r.split) == ("tapfm-hoptimus0", "EGFR", "test"))
    assert float(row["auroc"]) == result.auroc.value
    assert float(row["lower"]) == result.auroc.lower
    assert row["part"] == "tcga-luad · test"
    absent = next(row for row in rows if row["auroc_text"].startswith("not estimable"))
    assert absent["auroc"] == absent["lower"] == absent["upper"] == ""


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+1+1", "'+1+1"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-0.5", "-0.5"),
        ("+3e-2", "+3e-2"),
        (-0.25, "-0.25"),
        (-3, "-3"),
        (float("nan"), ""),
        (None, ""),
        ('plain, "quoted"\nlines', 'plain, "quoted"\nlines'),
    ],
)
def test_csv_cells_cannot_be_formulae_and_numbers_stay_numbers(value: str | float | None, written: str) -> None:
    table = Table("t", "T", (Column("A", ("a", "b")),), (RowGroup("", ((Cell("x", (value, 1)),),)),))
    rows = list(csv.reader(io.StringIO(table_csv(table), newline="")))
    assert rows == [["a", "b"], [written, "1"]]


def test_hostile_text_is_whole_in_csv(hostile: Rendered) -> None:
    table = next(table for table in hostile.content.tables if table.id == "exclusions")
    patients = [row["patient"] for row in csv.DictReader(io.StringIO(table_csv(table), newline=""))]
    assert [text.removeprefix("'") for text in patients] == list(HOSTILE)
    assert not any(text.startswith(("=", "+", "-", "@")) for text in patients)


def test_a_user_style_for_matplotlib_changes_nothing(real: Rendered) -> None:
    figure = real.content.figures[2]
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "lines.linewidth": 9}):
        assert draw(figure.drawing) == real.figures[figure.id]


def test_write_report_writes_each_file_whole(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    inputs = example_inputs()
    written = write_report(inputs, folder)
    content = build_content(inputs)
    names = sorted(str(path.relative_to(folder)) for path in written)
    expected = ["content.json", "report.html", "report.pdf"]
    expected += [f"figures/{figure.id}.svg" for figure in content.figures]
    expected += [f"tables/{table.id}.csv" for table in content.tables]
    assert names == sorted(expected)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == names
    first = {path: path.read_bytes() for path in written}
    assert {path: path.read_bytes() for path in write_report(inputs, folder)} == first


def test_only_the_formats_asked_for_are_written(tmp_path: Path) -> None:
    written = write_report(example_inputs(), tmp_path, formats=("html",))
    assert (tmp_path / "report.html") in written
    assert not (tmp_path / "report.pdf").exists()


def test_an_unknown_format_or_paper_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'docx'(.|\n)*'a3'"):
        write_report(example_inputs(), tmp_path / "run", formats=("docx",), paper="a3")
    assert not (tmp_path / "run").exists()


def test_starting_the_command_line_loads_neither_plots_nor_torch() -> None:
    heavy = ("torch", "matplotlib", "typst", "jinja2", "pandas", "scipy")
    code = f"import sys, tapfm_eval.report.write; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_rendering_never_loads_torch() -> None:
    modules = "content, csvfile, figures, html, pdf"
    code = f"import sys; from tapfm_eval.report import {modules}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.long
def test_a_large_study_renders_quickly_and_stays_small(tmp_path: Path) -> None:
    arms = tuple(f"{a}-{b}" for a in ("tapfm", "abmil", "mean") for b in ("hoptimus0", "uni", "uni-lora", "gigapath"))
    inputs = example_inputs(arms=arms, patients={"validation": 500, "test": 500, "external": 9_000})
    started = time.perf_counter()
    write_report(inputs, tmp_path)
    assert time.perf_counter() - started < 30
    assert (tmp_path / "report.html").stat().st_size < 10_000_000
    assert max(blank_shares((tmp_path / "report.pdf").read_bytes())[:-1]) < 0.5
