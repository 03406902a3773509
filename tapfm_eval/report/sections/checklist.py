"""Which reporting items this report answers, and which a human must still supply."""

from collections.abc import Sequence
from dataclasses import dataclass

from tapfm_eval.report.blocks import Column, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.numbers import text_cell
from tapfm_eval.report.scope import Scope


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that readers of a diagnostic accuracy study are owed."""

    what: str
    tripod_ai: str  # item of TRIPOD+AI 2024 (doi:10.1136/bmj-2023-078378)
    stard: str  # item of STARD 2015 (doi:10.1136/bmj.h5527)
    section: str  # id of the section that answers it; empty where a human must


FROM_DATA = (
    Item("Participant flow with reasons for each exclusion", "20a", "19", "flow"),
    Item("Characteristics of the patients per cohort", "20b", "20", "characteristics"),
    Item("Training and external patients compared", "16, 20c", "", "characteristics"),
    Item("Events and unknown labels per target", "11, 21", "16, 19", "auroc"),
    Item("Unit of analysis; how several slides of a patient are combined", "12a, 12b", "14", "methods"),
    Item("Preparation and checking of data", "7", "10a", "audit"),
    Item("Model, its input, training, selection and tuning", "9a, 12a, 12c", "10a", "methods"),
    Item("How scores were calculated for evaluation", "12g, 15", "10a", "methods"),
    Item("Class imbalance: weighted loss and its correction", "13", "", "methods"),
    Item("Discrimination with intervals, per cohort", "23a", "24", "auroc"),
    Item("Calibration with intervals", "23a", "24", "calibration"),
    Item("Recalibration and performance after it", "12f, 24", "", "calibration"),
    Item("Clinical utility: net benefit", "12e, 23a", "14", "decision-curves"),
    Item(
        "2 × 2 tables at every threshold, and whether it was fixed in advance", "15, 23a", "12a, 23", "operating-points"
    ),
    Item("Comparisons between models and the rule for multiplicity", "12e", "14, 24", "comparisons"),
    Item("Heterogeneity between subgroups and sites", "12d, 23a, 23b", "17, 24", "subgroups"),
    Item("Confounding: negative controls and strata", "12d, 23b", "17", "confounding"),
    Item("Precision achieved: interval widths and events", "23a", "24", "auroc"),
    Item("Failed slides and how they were handled", "11, 20a", "15, 16", "flow"),
    Item("Protocol, fixed and identified by hash", "18c", "29", "protocol"),
    Item("Software versions, seeds and hashes", "12c", "10a", "provenance"),
)
BY_HUMAN = (
    Item("Title, abstract and objectives", "1, 2, 4", "1, 2, 4", ""),
    Item("Care pathway and how a score would change it", "3a, 3b, 27c", "3, 27", ""),
    Item("Eligibility, sampling, dates and places", "5a, 5b, 6a, 6b", "5, 6, 7, 8, 9", ""),
    Item("Reference assay and panel, its rationale and thresholds", "8a", "10b, 11, 12b", ""),
    Item("Who read assay and slide, blind to each other or not", "8b, 8c, 9b, 9c", "13a, 13b", ""),
    Item("Interval and treatment between slide and assay", "6c, 8a", "22", ""),
    Item("Specimen handling, staining and scanning", "5a, 9b", "10a", ""),
    Item("Severity of disease and other diagnoses", "20b", "21a, 21b", ""),
    Item("Rationale of thresholds, margin and sample size", "10, 15", "12a, 18", ""),
    Item("Slides of poor quality in use; who may use the model", "27a, 27b", "27", ""),
    Item("Adverse events of slide or assay", "", "25", ""),
    Item("Ethics approval and consent", "17", "", ""),
    Item("Registration, funding and competing interests", "18a, 18b, 18d", "28, 30", ""),
    Item("Availability of data, analytical code and trained models", "18e, 18f, 22", "", ""),
    Item("Involvement of patients and the public", "19", "", ""),
    Item("Fairness towards groups of patients", "3c, 14, 25", "", ""),
    Item("Limits, bias and generalisability in the authors’ words", "25, 26", "26", ""),
)


def checklist_section(scope: Scope, before: Sequence[Section], after: Sequence[Section]) -> Section:
    """The checklist, pointing at the sections that stand before and after it in this report."""
    numbers = (*range(1, len(before) + 1), *range(len(before) + 2, len(before) + len(after) + 2))
    places = {
        section.id: f"{number}, {section.title}" for number, section in zip(numbers, (*before, *after), strict=True)
    }
    absent = "the protocol asks for none" if scope.inputs.scored is None else "authors to complete"
    answered = tuple(
        (
            text_cell(item.what),
            text_cell(item.tripod_ai),
            text_cell(item.stard),
            text_cell(f"section {places[item.section]}" if item.section in places else absent),
        )
        for item in FROM_DATA
    )
    left = tuple(
        (text_cell(item.what), text_cell(item.tripod_ai), text_cell(item.stard), text_cell("authors to complete"))
        for item in BY_HUMAN
    )
    table = Table(
        "checklist",
        "Reporting items",
        (
            Column("Item", ("item",), width=4.4),
            Column("TRIPOD+AI", ("tripod_ai_2024",), width=1.1),
            Column("STARD 2015", ("stard_2015",), width=1.1),
            Column("Where", ("where",), width=2.2),
        ),
        (RowGroup("Filled from data", answered), RowGroup("Left for a human", left)),
        group_name="filled_by",
        note="Every item of TRIPOD+AI 2024 (doi:10.1136/bmj-2023-078378) and of STARD 2015 (doi:10.1136/bmj.h5527) "
        "stands here at least once. Their numbers were compared with published copies of both lists; which line and "
        "which section answers which item is our own reading. STARD-AI and CLAIM 2024 are not mapped.",
    )
    text = (
        "Two guidelines ask for the items below. The software answers those that follow from data; the others it "
        "cannot know, and they are marked as open until an author writes them."
    )
    return Section("checklist", "Reporting checklist", (Paragraph(text), table))
