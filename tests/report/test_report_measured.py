"""What the report quotes of simulations is what docs/statistics-auroc.md says, and stands where it matters."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from example import example_inputs, with_results

from tapfm_eval.report.blocks import Bullets, Content, Paragraph, Table
from tapfm_eval.report.content import build_content
from tapfm_eval.report.figures import draw
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.report.measured import COVARIATES_COVERED, FEW_POSITIVES, NEAR_1, PAIRED_TEST

DOCS = Path(__file__).resolve().parents[2] / "docs"


def rows_under(heading: str, page: str = "statistics-auroc.md") -> list[list[str]]:
    _, _, rest = (DOCS / page).read_text(encoding="utf-8").partition(f"### {heading}")
    lines = [line for line in rest.partition("\n### ")[0].splitlines() if re.match(r"\| \d", line)]
    rows = [line.strip("|").split("|") for line in lines]
    return [[cell.strip() for cell in row] for row in rows]


def test_the_record_of_the_paired_test_is_that_of_the_tables() -> None:
    alike, unlike = rows_under("Paired tests: type I error"), rows_under("Paired tests where positives spread")
    covered = [(row[0][:4], int(row[2]), float(row[5])) for row in (*alike, *unlike)]  # AUROC, positives, coverage of t
    assert len(covered) == 65
    assert max(float(row[4]) for row in alike) == PAIRED_TEST.rejected_alike
    assert max(float(row[3]) for row in unlike) == PAIRED_TEST.rejected_unlike
    few = [share for _, positives, share in covered if positives in (5, 10)]
    assert (min(few), max(few)) == PAIRED_TEST.covered
    near = [share for auroc, positives, share in covered if auroc == "0.95" and positives < FEW_POSITIVES]
    assert min(near) == PAIRED_TEST.covered_near_1
    assert min(share for _, positives, share in covered if positives >= FEW_POSITIVES) > 0.91


def test_the_note_on_covariates_alone_quotes_their_table() -> None:
    rows = rows_under("Covariates alone that tell nothing", "statistics.md")
    covered = [float(row[3]) for row in rows]
    assert len(covered) == 15
    assert (min(covered), max(covered)) == COVARIATES_COVERED
    (found,) = (table for table in build_content(example_inputs()).tables if table.id == "controls")
    assert "simulated 95% intervals covered 83% to 89%" in found.note
    assert "Low values may be chance" in found.note


def test_the_methods_quote_it_rounded() -> None:
    section = next(section for section in build_content(example_inputs()).sections if section.id == "methods")
    text = " ".join(block.text for block in section.blocks if isinstance(block, Paragraph))
    assert "rejected in at most 5.3% at nominal 5%" in text
    assert "in up to 25% where they are few" in text
    assert "covered 83% to 96% with 5 to 10 positives, least where AUROCs are near 1" in text


def with_difference(positives: int, auroc: float) -> ReportInputs:
    """The example, whose arms have this AUROC for EGFR in the external cohort, compared on so many positives."""
    inputs = example_inputs()
    primary = inputs.results.primary
    assert primary is not None
    aurocs = tuple(
        replace(r, auroc=replace(r.auroc, value=auroc)) if (r.target, r.split) == ("EGFR", "external") else
        replace(r, auroc=replace(r.auroc, value=0.7))
        for r in inputs.results.aurocs
    )  # fmt: skip
    comparisons = tuple(
        replace(c, difference=replace(c.difference, positives=positives)) for c in inputs.results.comparisons
    )
    changed = replace(primary, difference=replace(primary.difference, positives=positives))
    return with_results(inputs, aurocs=aurocs, comparisons=comparisons, primary=changed)


def marked(content: Content) -> set[tuple[str, str]]:
    (found,) = (table for table in content.tables if isinstance(table, Table) and table.id == "comparisons-1")
    return {(g.title, row[0].text) for g in found.groups for row in g.rows if row[3].text.endswith("§")}


@pytest.mark.parametrize(("positives", "auroc", "narrow"), [
    (FEW_POSITIVES - 1, NEAR_1, True), (FEW_POSITIVES, NEAR_1, False), (FEW_POSITIVES - 1, NEAR_1 - 0.01, False),
])  # fmt: skip
def test_an_interval_near_1_on_few_positives_is_marked_in_table_figure_and_summary(
    positives: int, auroc: float, narrow: bool
) -> None:
    content = build_content(with_difference(positives, auroc))
    (found,) = (table for table in content.tables if table.id == "comparisons-1")
    figure = next(figure for figure in content.figures if figure.id == "differences-1-cptac-luad-external")
    (limits,) = (b.items for b in content.sections[0].blocks if isinstance(b, Bullets))
    assert marked(content) == ({("cptac-luad · external", "EGFR")} if narrow else set())
    for text in (found.note, figure.caption):
        assert bool(re.search("§ Too narrow: fewer than 20 .* covered as little as 80%", text)) == narrow
    assert ("§" in draw(figure.drawing)) == narrow
    assert any("as exact as its interval" in line for line in limits) == narrow
    remarks = {row[-1].text for group in found.groups for row in group.rows}
    assert any(remarks) == narrow
