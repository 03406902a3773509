"""What the report says: numbers, order, reasons and silence, judged on the content alone."""

import math
from dataclasses import replace

import pytest
from example import example_inputs, example_protocol, with_results

from tapfm_eval.cohort.flow import Exclusion, FlowStep
from tapfm_eval.report.blocks import Bullets, Content, Figure, Listing, Paragraph, Table, Verdict
from tapfm_eval.report.content import WATERMARK, build_content
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.report.numbers import (
    decimals_for,
    difference_text,
    estimate_text,
    fixed,
    interval_text,
    p_text,
    percent,
    signed,
    visible,
)
from tapfm_eval.report.sections.flow import trunk_and_branches
from tapfm_eval.report.sections.training import duration, memory
from tapfm_eval.statistics.records import Comparison, Estimate

NAN = math.nan


def estimate(value: float, lower: float, upper: float, reason: str | None = None) -> Estimate:
    return Estimate(value, lower, upper, 0.95, "auto: logit-t", 100, 20, 100, reason)


def difference(value: float, lower: float, upper: float, reason: str | None = None) -> Comparison:
    return Comparison(value, lower, upper, 0.95, 2.0, 30.0, 0.04, "paired DeLong", 100, 20, 100, reason)


def section_ids(content: Content) -> list[str]:
    return [section.id for section in content.sections]


def table(inputs: ReportInputs, name: str, **options: bool) -> Table:
    return next(table for table in build_content(inputs, **options).tables if table.id == name)


def note(inputs: ReportInputs, name: str) -> str:
    return table(inputs, name).note


def shown(found: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for group in found.groups for row in group.rows]


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "<0.001"),
        (0.00099, "<0.001"),
        (0.001, "0.001"),
        (0.0071, "0.007"),
        (0.031, "0.03"),
        (0.0249, "0.025"),
        (0.0496, "0.050"),
        (0.0504, "0.050"),
        (0.0451, "0.045"),
        (0.5, "0.50"),
        (0.996, ">0.99"),
        (1.0, ">0.99"),
        (NAN, "–"),
    ],
)
def test_p_values_have_two_decimals_and_three_where_the_threshold_is_near(p: float, text: str) -> None:
    assert p_text(p) == text


def test_an_estimate_shows_its_interval_or_why_there_is_none() -> None:
    assert estimate_text(estimate(0.812, 0.701, 0.889), 2) == "0.81 (0.70–0.89)"
    assert estimate_text(estimate(NAN, NAN, NAN, "no positive patient"), 2) == "not estimable: no positive patient"
    assert estimate_text(estimate(1.0, NAN, NAN, "one patient"), 2) == "1.00 (interval not estimable: one patient)"
    assert estimate_text(estimate(-0.204, -0.5, 0.1), 2) == "−0.20 (−0.50 to 0.10)"


def test_a_difference_never_rounds_a_limit_that_excludes_zero_to_zero() -> None:
    assert difference_text(difference(0.041, -0.012, 0.094), 2) == "+0.04 (−0.01 to 0.09)"
    assert difference_text(difference(0.041, 0.004, 0.078), 2) == "+0.04 (>0 to 0.08)"
    assert difference_text(difference(-0.041, -0.078, -0.004), 2) == "−0.04 (−0.08 to <0)"
    assert difference_text(difference(0.0426, 0.0002, 0.0849), 3) == "+0.043 (>0 to 0.085)"
    assert difference_text(difference(NAN, NAN, NAN, "variance 0"), 2) == "not estimable: variance 0"


def test_numbers_have_a_true_minus_sign_and_no_negative_zero() -> None:
    assert fixed(-0.001, 2) == "0.00"
    assert fixed(-1.5, 1) == "−1.5"
    assert fixed(math.inf, 2) == "∞"
    assert signed(0.0, 2) == "0.00"
    assert signed(0.3, 1) == "+0.3"
    assert [percent(share) for share in (0.2604, 13 / 40, 31 / 40, 9 / 40, NAN)] == [
        "26%", "33%", "78%", "23%", "not estimable",
    ]  # fmt: skip
    assert percent(0.0525, 1) == "5.3%"
    assert interval_text(0.1, 0.2, 2) == "0.10–0.20"


def test_a_third_decimal_is_earned_by_narrow_intervals() -> None:
    wide, narrow = estimate(0.8, 0.7, 0.9), estimate(0.8, 0.79, 0.81)
    assert decimals_for([wide, wide, narrow], fine_below=0.04) == 2
    assert decimals_for([narrow, narrow, wide], fine_below=0.04) == 3
    assert decimals_for([estimate(NAN, NAN, NAN)], fine_below=0.04) == 2


def test_characters_that_hide_or_reorder_text_are_spelt_out() -> None:
    assert visible("TCGA\u202e-01\u200b\x00") == "TCGA[U+202E]-01[U+200B][U+0000]"
    assert visible("\ue000\ufffe") == "[U+E000][U+FFFE]"
    assert visible("Müller, 漢字, مرحبا, 🧬, 👩\u200d🔬") == "Müller, 漢字, مرحبا, 🧬, 👩\u200d🔬"


def test_time_and_memory_come_in_the_unit_that_suits_them() -> None:
    assert [duration(s) for s in (0.3, 41.2, 731, 187_200)] == ["0.3 s", "41 s", "12 min", "52.0 h"]
    assert [memory(m) for m in (840, 71_503, NAN)] == ["840 MB", "71.5 GB", "–"]


def test_the_same_inputs_give_equal_contents() -> None:
    assert build_content(example_inputs()) == build_content(example_inputs())


def test_the_title_block_identifies_protocol_and_run() -> None:
    inputs = example_inputs()
    content = build_content(inputs)
    facts = {fact.name: fact.value for fact in content.identity}
    assert facts == {"Protocol": "luad 1.0.0", "Run": inputs.run_id, "Protocol SHA-256": inputs.protocol_sha256}
    assert (content.status, content.watermark) == ("Complete", "")


def test_a_rehearsal_is_watermarked_and_warns_before_anything_else() -> None:
    content = build_content(example_inputs(rehearsal=True))
    first = content.sections[0].blocks[0]
    assert content.watermark == WATERMARK
    assert isinstance(first, Paragraph)
    assert first.tone == "warning"
    assert "All 5 of its checks passed." in first.text
    assert "rehearsal" in section_ids(content)
    assert "rehearsal" not in section_ids(build_content(example_inputs()))


def test_a_failed_rehearsal_check_is_named_in_the_summary() -> None:
    inputs = example_inputs(rehearsal=True)
    assert inputs.rehearsal is not None
    checks = (replace(inputs.rehearsal.checks[0], passed=False), *inputs.rehearsal.checks[1:])
    content = build_content(replace(inputs, rehearsal=replace(inputs.rehearsal, checks=checks)))
    first = content.sections[0].blocks[0]
    assert isinstance(first, Paragraph)
    assert "Failed: EGFR: planted effect found." in first.text
    planted = next(t for t in content.tables if t.id == "rehearsal-checks")
    assert planted.caption == "Self-check: 1 of 5 failed"


@pytest.mark.parametrize(
    ("met", "label"),
    [(True, "Primary endpoint met"), (False, "Primary endpoint not met"), (None, "Primary endpoint not estimable")],
)
def test_the_summary_gives_the_verdict_with_its_figures(met: bool | None, label: str) -> None:
    inputs = example_inputs()
    assert inputs.results.primary is not None
    primary = replace(inputs.results.primary, met=met, margin=0.05, hypothesis="non-inferiority")
    content = build_content(with_results(inputs, primary=primary))
    verdict = next(block for block in content.sections[0].blocks if isinstance(block, Verdict))
    facts = {fact.name: fact.value for fact in verdict.facts}
    assert (verdict.label, verdict.met) == (label, met)
    if met is None:
        assert verdict.sentence == primary.verdict
    else:
        assert verdict.sentence == (
            f"{primary.verdict[:-1]}: AUROC 0.91 against 0.84, a difference of +0.08 (95% CI −0.05 to 0.20; one-sided "
            "p = 0.20)."
        )
    assert facts["Margin"] == "0.05"
    assert facts["Adjusted p"].startswith("not needed: one primary test; ")
    assert facts["Adjusted p"].endswith(
        "among 3 comparisons of “arms on each target” on EGFR in cptac-luad (two-sided, Holm)"
    )
    assert facts["Patients"] == "206 patients, EGFR mutated in 26"
    assert facts["AUROC, tapfm-hoptimus0"] == estimate_text(primary.arm_auroc, 2)


def test_without_a_primary_endpoint_the_summary_says_that_all_is_descriptive() -> None:
    first = build_content(with_results(example_inputs(), primary=None)).sections[0].blocks[0]
    assert isinstance(first, Paragraph)
    assert "no primary endpoint" in first.text


def test_the_summary_says_what_the_study_does_not_show() -> None:
    summary = build_content(example_inputs()).sections[0]
    limits = next(block for block in summary.blocks if isinstance(block, Bullets))
    assert limits.title == "What this does not show"
    assert any("EGFR, KRAS and ALK: fewer than 20 patients" in line for line in limits.items)
    assert any("from 6% to 48%" in line for line in limits.items)


def test_events_unknown_labels_and_interval_method_stand_beside_every_auroc() -> None:
    inputs = example_inputs()
    rows = shown(table(inputs, "auroc"))
    assert len(rows) == len(inputs.results.aurocs)
    result = next(r for r in inputs.results.aurocs if (r.target, r.split) == ("EGFR", "external"))
    assert [
        "EGFR",
        "tapfm-hoptimus0",
        "26 / 206",
        "5",
        estimate_text(result.auroc, 2),
        "–",
        "auto: logit-t",
    ] in rows


def test_a_missing_column_is_not_assessed_and_a_missing_class_not_estimable() -> None:
    rows = shown(table(example_inputs(), "auroc"))
    alk = [row[4] for row in rows if row[:2] == ["ALK", "tapfm-hoptimus0"]]
    assert alk[1] == "not assessed: the cohort has no such label"
    assert alk[2] == "not estimable (a)"
    assert note(example_inputs(), "auroc").endswith("(a) 0 positive and 48 negative patients: both classes are needed.")


def test_unseen_patients_come_before_validation_patients() -> None:
    groups = [group.title for group in table(example_inputs(), "auroc").groups]
    assert groups == [
        "tcga-luad · test",
        "cptac-luad · external",
        "tcga-luad · validation (chose the epochs; optimistic)",
    ]


def test_published_values_stand_only_beside_the_same_model_task_and_cohort() -> None:
    found = table(example_inputs(), "auroc")
    column = [c.header for c in found.columns].index("Published")
    filled = [row for row in shown(found) if row[column] != "–"]
    assert [(row[0], row[1], row[column]) for row in filled] == [("EGFR", "tapfm-hoptimus0", "0.86")]
    assert "Kumar et al. 2025" in found.note
    rehearsed = table(example_inputs(rehearsal=True), "auroc")
    assert "Published" not in [c.header for c in rehearsed.columns]


def test_a_comparison_without_a_test_has_dashes_and_a_reason() -> None:
    rows = shown(table(example_inputs(), "comparisons-1"))
    alk = next(row for row in rows if row[0] == "ALK")
    assert "interval not estimable, a" in alk[3]
    assert "(a) 3 positive patients: no test below 5" in note(example_inputs(), "comparisons-1")
    assert alk[4:7] == ["–", "–", "–"]


def test_every_comparison_shows_its_adjusted_p() -> None:
    inputs = example_inputs()
    found = table(inputs, "comparisons-1")
    assert [c.header for c in found.columns][5:7] == ["p", "p, Holm per target"]
    cells = [row[6] for group in found.groups for row in group.rows]
    assert sorted(repr(cell.values[0]) for cell in cells) == sorted(
        repr(r.p_adjusted) for r in inputs.results.comparisons
    )
    assert "on the same target and patients, and not over all its 18 tests" in found.note


def test_operating_points_show_the_two_by_two_table_where_fixed_and_where_carried() -> None:
    inputs = example_inputs()
    found = table(inputs, "operating-points")
    point = inputs.results.operating_points[0]
    matrix = (point.true_positives, point.false_positives, point.false_negatives, point.true_negatives)
    assert found.groups[0].title == "sensitivity 0.95 · tcga-luad · validation (fixed here)"
    assert found.groups[1].title == "sensitivity 0.95 · tcga-luad · test"
    assert found.groups[0].rows[0][3].values == matrix
    assert found.groups[0].rows[0][3].text == " / ".join(map(str, matrix))


def test_what_the_protocol_did_not_ask_for_is_left_out() -> None:
    inputs = example_inputs()
    plan = inputs.protocol.analysis.model_copy(update={"families": (), "operating_points": (), "subgroups": ()})
    bare = replace(inputs, protocol=inputs.protocol.model_copy(update={"analysis": plan}), units=())
    empty = with_results(bare, comparisons=(), operating_points=(), subgroups=(), calibrations=())
    ids = section_ids(build_content(empty))
    assert not {"comparisons", "operating-points", "subgroups", "training"} & set(ids)
    assert "calibration" in ids


def test_what_was_asked_for_and_could_not_be_had_is_said_in_one_line() -> None:
    empty = with_results(
        example_inputs(), comparisons=(), operating_points=(), subgroups=(), calibrations=(), macros=(), curves=()
    )
    said = {section.id: section.blocks for section in build_content(empty).sections}
    for name in ("comparisons", "operating-points", "subgroups", "calibration", "macro"):
        assert len(said[name]) == 1
        assert isinstance(said[name][0], Paragraph)


def test_results_of_nothing_still_make_a_report() -> None:
    empty = with_results(
        example_inputs(),
        aurocs=(),
        curves=(),
        macros=(),
        primary=None,
        comparisons=(),
        operating_points=(),
        calibrations=(),
        subgroups=(),
        flow=(),
        exclusions=(),
    )
    content = build_content(replace(empty, units=(), provenance={}))
    assert content.sections[0].id == "summary"


def test_a_flow_is_a_trunk_as_long_as_steps_follow_by_subtraction() -> None:
    steps = (
        FlowStep("c", "manifest", 10, 12, 0, 0, ""),
        FlowStep("c", "readable", 8, 9, 2, 3, "broken"),
        FlowStep("c", "test", 3, 3, 0, 0, ""),
        FlowStep("c", "test, EGFR", 2, 2, 1, 1, "unknown"),
    )
    trunk, branches = trunk_and_branches(steps)
    assert [step.step for step in trunk] == ["manifest", "readable"]
    assert [step.step for step in branches] == ["test", "test, EGFR"]
    assert trunk_and_branches(()) == ((), ())


def test_the_flow_says_how_many_slides_annotations_restricted() -> None:
    inputs = example_inputs()
    flow = build_content(inputs).sections
    assert "Annotations restricted" not in repr(flow)
    steps = (
        FlowStep("c", "with a readable slide", 10, 12, 0, 0, "", annotated=7),
        FlowStep("c", "test patients predicted", 3, 4, 7, 8, "", annotated=0),
    )
    drawn = replace(inputs, results=replace(inputs.results, flow=steps))
    assert "c: 7 of 12 slides (with a readable slide), 0 of 4 slides (test patients predicted)" in repr(
        build_content(drawn)
    )


def test_every_exclusion_is_listed_under_a_pseudonym_unless_ids_are_asked_for() -> None:
    inputs = example_inputs()
    hidden, named = table(inputs, "exclusions"), table(inputs, "exclusions", show_ids=True)
    assert len(shown(hidden)) == len(shown(named)) == len(inputs.results.exclusions)
    assert "TCGA-44" not in repr(hidden)
    assert shown(hidden)[2] == ["patient 3", "slide 3", "slides", "….svs: no such file", ""]
    assert shown(named)[2][1] == "TCGA-44-6142-01Z-00-DX1"
    assert shown(named)[5][1] == "all slides"
    assert "TCGA-44" not in repr(build_content(inputs))


def test_reasons_are_counted_over_patients_and_slides_apart() -> None:
    exclusions = (
        Exclusion("c", "p1", "", "slides", "broken"),
        Exclusion("c", "p1", "s1", "slides", "broken"),
        Exclusion("c", "p1", "s2", "slides", "broken"),
        Exclusion("c", "p2", "s3", "slides", "no tissue"),
    )
    found = table(with_results(example_inputs(), exclusions=exclusions), "exclusion-reasons")
    assert shown(found) == [["slides", "broken", "1", "2"], ["slides", "no tissue", "0", "1"]]


def test_no_exclusion_is_said_in_words() -> None:
    content = build_content(with_results(example_inputs(), exclusions=()))
    flow = next(section for section in content.sections if section.id == "flow")
    assert flow.blocks[-1] == Paragraph("No patient and no slide was excluded.")


def test_tables_and_figures_are_numbered_through_and_named_once() -> None:
    content = build_content(example_inputs(rehearsal=True))
    assert [t.number for t in content.tables] == list(range(1, len(content.tables) + 1))
    assert [f.number for f in content.figures] == list(range(1, len(content.figures) + 1))
    names = [block.id for block in (*content.tables, *content.figures)]
    assert len({t.id for t in content.tables}) == len(content.tables)
    assert len({f.id for f in content.figures}) == len(content.figures)
    assert all(names)


def test_every_figure_has_words_for_those_who_cannot_see_it() -> None:
    for figure in build_content(example_inputs()).figures:
        assert isinstance(figure, Figure)
        assert len(figure.alt) > 40


def test_the_whole_protocol_and_its_methods_are_told() -> None:
    content = build_content(example_inputs())
    listing = next(block for section in content.sections for block in section.blocks if isinstance(block, Listing))
    assert "format: tapfm-eval/protocol/1" in listing.text
    assert "one_sided_alpha: 0.025" in listing.text
    methods = next(section for section in content.sections if section.id == "methods")
    text = " ".join(block.text for block in methods.blocks if isinstance(block, Paragraph))
    for fact in ("tcga-luad", "cptac-luad", "224 px at 0.5 µm", "superiority of tapfm-hoptimus0 to abmil-hoptimus0"):
        assert fact in text
    arms = next(t for t in content.tables if t.id == "arms")
    assert [row[0] for row in shown(arms)] == [arm.id for arm in example_protocol().arms]


def test_the_checklist_points_only_at_sections_that_exist() -> None:
    inputs = example_inputs()
    plan = inputs.protocol.analysis.model_copy(update={"subgroups": ()})
    bare = with_results(replace(inputs, protocol=inputs.protocol.model_copy(update={"analysis": plan})), subgroups=())
    where = {row[0]: row[3] for row in shown(table(bare, "checklist"))}
    assert where["Heterogeneity between subgroups and sites"] == "the protocol asks for none"
    assert where["Calibration with intervals"] == "section 11, Calibration"
    assert where["Ethics approval and consent"] == "authors to complete"


def test_one_target_is_not_averaged_with_itself() -> None:
    one, four = build_content(example_inputs(targets=("EGFR",))), build_content(example_inputs())
    assert "macro" in [section.id for section in four.sections]
    assert "macro" not in [section.id for section in one.sections]
    assert "Macro-average" in repr(four.figures)
    assert "Macro-average" not in repr(one.figures)
