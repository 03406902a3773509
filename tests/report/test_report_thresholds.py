"""Operating points as a pathologist reads them: whole per cent, why there is none, and two thresholds together."""

import math
from dataclasses import replace

import pytest
from example import example_inputs, with_results

from tapfm_eval.report.blocks import Paragraph, Section, Table
from tapfm_eval.report.content import build_content
from tapfm_eval.report.csvfile import table_csv
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.report.numbers import estimate_text, share_text
from tapfm_eval.statistics.records import Estimate

NAN = math.nan


def section(inputs: ReportInputs) -> Section:
    return next(section for section in build_content(inputs).sections if section.id == "operating-points")


def table(inputs: ReportInputs, name: str) -> Table:
    return next(block for block in section(inputs).blocks if isinstance(block, Table) and block.id == name)


def share(value: float, lower: float = NAN, upper: float = NAN, reason: str | None = None) -> Estimate:
    return Estimate(value, lower, upper, 0.95, "wilson", 20, 5, 20, reason)


def test_shares_are_whole_per_cents_and_large_numbers_lose_decimals() -> None:
    assert share_text(share(0.3667, 0.295, 0.4449)) == "37 (30–44)"
    assert share_text(share(1.0, 0.8717, 1.0)) == "100 (87–100)"
    assert share_text(share(NAN, reason="nobody")) == "–"
    assert share_text(share(0.5)) == "50"
    assert estimate_text(share(61.304, 4.6409, 1807.0512), 2) == "61.3 (4.64–1807)"


def test_a_missing_threshold_is_a_dash_with_its_reason_once_below_and_in_each_row_of_the_csv() -> None:
    inputs = example_inputs()
    empty = share(NAN, reason="no threshold on validation patients: 0 positives")
    points = tuple(
        replace(p, threshold=NAN, sensitivity=empty, specificity=empty, ppv=empty, npv=empty, avoided=empty)
        if p.target == "TP53" else p
        for p in inputs.results.operating_points
    )  # fmt: skip
    found = table(with_results(inputs, operating_points=points), "operating-points")
    rows = [row for group in found.groups for row in group.rows if row[0].text == "TP53"]
    assert {cell.text for row in rows for cell in row[4:9]} == {"–"}
    assert found.note.count("A dash for TP53: no threshold on validation patients: 0 positives.") == 1
    assert table_csv(found).count("no threshold on validation patients") == len(rows)


def test_the_text_says_on_whom_thresholds_were_fixed() -> None:
    inputs = example_inputs()
    one = section(inputs).blocks[0]
    folded = tuple(replace(unit, fold=fold) for unit in inputs.units for fold in range(5))
    several = section(replace(inputs, units=folded)).blocks[0]
    assert isinstance(one, Paragraph)
    assert isinstance(several, Paragraph)
    assert "out-of-fold" not in one.text
    assert "on the out-of-fold scores of all 5 folds together" in several.text
    assert "means over the 5 models of an arm" in several.text


def test_an_endless_threshold_is_explained() -> None:
    inputs = example_inputs()
    points = (replace(inputs.results.operating_points[0], threshold=math.inf), *inputs.results.operating_points[1:])
    assert "∞" not in table(inputs, "operating-points").note
    assert "A threshold of ∞" in table(with_results(inputs, operating_points=points), "operating-points").note


def test_two_thresholds_together_show_whom_they_rule_out_and_in_and_leave_validation_out() -> None:
    inputs = example_inputs()
    found = table(inputs, "triage")
    assert [group.title for group in found.groups] == [
        "out below the threshold of sensitivity 0.95, in from that of specificity 0.95 · tcga-luad · test",
        "out below the threshold of sensitivity 0.95, in from that of specificity 0.95 · cptac-luad · external",
    ]
    first = found.groups[0].rows[0]
    assert [cell.text for cell in first[2:8]] == [
        "0.120 / 0.550", "33 (27–40)", "1 / 68", "9 (6–14)", "15 / 19", "58 (51–64)",
    ]  # fmt: skip
    assert not any(block.id == "triage" for block in section(with_results(inputs, triage=())).blocks
                   if isinstance(block, Table))  # fmt: skip


@pytest.mark.parametrize("missing", [0, 3])
def test_the_flow_ends_with_patients_of_each_target_with_and_without_the_mutation(missing: int) -> None:
    inputs = example_inputs()
    trunk = tuple(step for step in inputs.results.flow if "analysed" not in step.step and step.cohort == "cptac-luad")
    aurocs = tuple(replace(result, missing=missing) for result in inputs.results.aurocs)
    content = build_content(with_results(inputs, flow=trunk, aurocs=aurocs))
    figure = next(figure for figure in content.figures if figure.id == "flow-cptac-luad")
    assert "analysed for EGFR: 26 mutated, 180 not" in figure.alt
    assert "analysed for ALK: not assessed in this cohort" in figure.alt
    assert ("3 patients left: label unknown" in figure.alt) == (missing == 3)
