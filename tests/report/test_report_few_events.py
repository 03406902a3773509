"""Thresholds and recalibrations that rest on few validation patients say so wherever they are used."""

from dataclasses import replace

import pytest
from example import example_inputs, with_results

from tapfm_eval.report.blocks import Content, Paragraph
from tapfm_eval.report.content import build_content
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.results import OperatingPointResult

FITTED = ("operating-points", "calibration", "decision-curves")


def on(events: int, negatives: int = 40) -> ReportInputs:
    """The example, its thresholds and recalibrations of EGFR placed on so many events, all others on enough."""

    def placed(point: OperatingPointResult) -> OperatingPointResult:
        if point.split != "validation":
            return point
        positives = events if point.target == "EGFR" else 20
        return replace(point, true_positives=positives, false_negatives=0, true_negatives=negatives, false_positives=0)

    results = example_inputs().results
    fits = tuple(
        replace(fit, positives=events if fit.target == "EGFR" else 20, n=negatives + 20)
        for fit in results.recalibrations
    )
    return with_results(
        example_inputs(), recalibrations=fits, operating_points=tuple(map(placed, results.operating_points))
    )


def paragraphs(content: Content, name: str) -> str:
    section = next(section for section in content.sections if section.id == name)
    return " ".join(block.text for block in section.blocks if isinstance(block, Paragraph))


@pytest.mark.parametrize(("events", "few"), [(3, True), (9, True), (10, False)])
def test_sections_that_use_what_rests_on_few_events_say_so(events: int, few: bool) -> None:
    content = build_content(on(events))
    for name in FITTED:
        said = f"of EGFR ({events}) rests on fewer than 10 validation patients of the rarer class"
        assert (said in paragraphs(content, name)) == few, name
    (fits,) = (table for table in content.tables if table.id == "recalibration")
    remarks = {(row[0].text, row[5].text) for group in fits.groups for row in group.rows}
    assert (("EGFR", f"rests on {events} patients of the rarer class") in remarks) == few
    assert ("KRAS", "") in remarks


def test_nothing_is_said_of_a_recalibration_that_was_not_made() -> None:
    inputs = on(3)
    fits = tuple(replace(fit, reason="no finite fit") for fit in inputs.results.recalibrations)
    content = build_content(with_results(inputs, recalibrations=fits))
    for name in FITTED[1:]:
        assert "rests on" not in paragraphs(content, name)
