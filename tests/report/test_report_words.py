"""Wordings and numbers that a reader would stumble over, looked for in everything that a report says."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace

import pytest
from example import example_inputs
from golden_study import golden_inputs

from tapfm_eval.audit.findings import Finding
from tapfm_eval.report.blocks import Bullets, Content, Table, as_shown
from tapfm_eval.report.content import build_content
from tapfm_eval.report.drawings import CurveGrid
from tapfm_eval.report.figures import draw
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.report.published import published_note
from tapfm_eval.statistics.records import Estimate

INPUTS = (golden_inputs, example_inputs, lambda: example_inputs(rehearsal=True))


def texts(item: object) -> Iterator[str]:
    """Everything said: the strings of all blocks, cells as shown."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, list | tuple):
        for part in item:
            yield from texts(part)
    elif is_dataclass(item):
        for field in fields(item):
            if field.name not in ("id", "values", "names", "whole", "text" if type(item).__name__ == "Listing" else ""):
                yield from texts(getattr(item, field.name))


def section_text(content: Content, name: str) -> str:
    return " ".join(texts(next(section for section in content.sections if section.id == name)))


def table(content: Content, name: str) -> Table:
    return next(table for table in content.tables if table.id == name)


@pytest.mark.parametrize("inputs", INPUTS)
def test_every_minus_is_one_and_every_per_cent_is_set_alike(inputs: "type[ReportInputs]") -> None:
    content = build_content(inputs())
    said = [text for section in content.sections if section.id != "provenance" for text in texts(section)]
    drawn = [text for f in content.figures for text in re.findall(r">([^<]*)<", draw(f.drawing)) if "data:" not in text]
    for text in (*said, *drawn):
        assert not re.search(r"(?<![\w-])-\d", text), text
        assert not re.search(r"\d %", text), text


def test_the_forest_of_average_precision_is_headed_by_its_name() -> None:
    for figure in build_content(golden_inputs()).figures:
        if figure.id.startswith("average-precision"):
            assert figure.drawing.headers[2] == "Average precision (95% CI)"  # type: ignore[union-attr]


def test_averages_count_patients_and_not_pairs_of_patient_and_target() -> None:
    content = build_content(golden_inputs())
    rows = [row for group in table(content, "comparisons-1").groups for row in group.rows]
    macro = {row[2].text for row in rows if row[0].text == "Macro-average"}
    assert macro == {"60 patients", "70 patients"} or all(re.fullmatch(r"\d+ patients", text) for text in macro)
    assert macro
    assert all(" / " in row[2].text for row in rows if row[0].text != "Macro-average")


def test_a_published_figure_that_the_paper_does_not_print_is_said_to_be_derived() -> None:
    protocol = example_inputs().protocol
    plan = protocol.cohorts[protocol.development]
    own = protocol.model_copy(update={"cohorts": {**protocol.cohorts, "own-luad": plan.model_copy()}})
    for name in list(own.cohorts):
        if name == protocol.development:
            del own.cohorts[name]
    assert own.development == "own-luad"
    assert "follows from the paper's macro AUROC" in published_note(own)
    assert "follows from" not in published_note(protocol)  # in TCGA nothing is derived


def test_thresholds_over_folds_claim_nothing_about_one_part() -> None:
    inputs = example_inputs()
    content = build_content(replace(inputs, units=(*inputs.units, *(replace(u, fold=1) for u in inputs.units))))
    text = section_text(content, "operating-points")
    assert "on the out-of-fold scores of all 2 folds together." in text
    assert "too few positives" not in text
    assert "no model was trained" not in text  # each of them trained the models of other folds


def test_recalibration_is_told_of_one_fold_or_of_several() -> None:
    inputs = example_inputs()
    several = replace(inputs, units=(*inputs.units, *(replace(u, fold=1) for u in inputs.units)))
    assert "fold" not in table(build_content(inputs), "recalibration").note
    note = table(build_content(several), "recalibration").note
    assert note.endswith("Fitted on the out-of-fold scores of all 2 folds together.")


def exposure(code: str, cohort: str) -> Finding:
    return Finding(code, "warning", f"cohorts.{cohort}", "what", (), "remedy")


def test_the_summary_claims_no_more_of_unseen_patients_than_the_audit_knows_of_backbones() -> None:
    inputs = example_inputs()
    plain = section_text(build_content(inputs), "summary")
    assert "patients not used in training or selection" in plain
    assert "backbone" not in plain
    findings = (exposure("backbone-saw-cohort", "tcga-luad"), exposure("backbone-undisclosed", "tcga-luad"),
                exposure("backbone-undisclosed", "cptac-luad"))  # fmt: skip
    told = section_text(build_content(replace(inputs, findings=findings)), "summary")
    said = "slides of tcga-luad (a backbone was pretrained on such) and cptac-luad (unknown) were new to every backbone"
    assert said in told
    rehearsed = replace(example_inputs(rehearsal=True), findings=findings)
    assert "were new to every backbone" not in section_text(build_content(rehearsed), "summary")


def test_the_recipe_is_kumars_and_departures_are_the_protocols() -> None:
    text = section_text(build_content(example_inputs()), "methods")
    assert "(AdamW, cosine schedule with warm restarts, one slide a step) with the departures that the protocol" in text
    assert "The models were tested externally on patients of cptac-luad" in text


def test_a_difference_that_was_not_shown_is_not_called_equality() -> None:
    inputs = example_inputs()
    assert inputs.results.primary is not None
    results = replace(inputs.results, primary=replace(inputs.results.primary, met=False))
    text = section_text(build_content(replace(inputs, results=results)), "summary")
    assert "a difference that was not shown may be there all the same" in text


def test_brier_scores_have_the_decimals_that_their_intervals_carry() -> None:
    inputs = golden_inputs()

    def shown(lower: float, upper: float) -> str:
        wide = Estimate(0.1021, lower, upper, 0.95, "m", 24, 3, 24)
        changed = tuple(replace(c, brier=wide) for c in inputs.results.calibrations)
        content = build_content(replace(inputs, results=replace(inputs.results, calibrations=changed)))
        return table(content, "calibration").groups[0].rows[0][6].text

    assert shown(0.041, 0.162) == "0.10 (0.04–0.16)"
    assert shown(0.0921, 0.1121) == "0.102 (0.092–0.112)"


def test_net_benefit_has_the_decimals_that_its_intervals_carry() -> None:
    inputs = golden_inputs()

    def shown(half: float) -> str:
        changed = tuple(
            replace(c, lower=tuple(v - half for v in c.net_benefit), upper=tuple(v + half for v in c.net_benefit))
            for c in inputs.results.decision_curves
        )
        content = build_content(replace(inputs, results=replace(inputs.results, decision_curves=changed)))
        return table(content, "net-benefit").groups[0].rows[0][3].text

    assert re.fullmatch(r"−?0\.\d\d \(.*\)", shown(0.1))
    assert re.fullmatch(r"−?0\.\d{3} \(.*\)", shown(0.01))


def test_scores_of_the_slides_shown_are_written_alike_in_table_and_figure() -> None:
    content = build_content(example_inputs())
    told = " ".join(figure.alt for figure in content.figures if figure.id.startswith("heatmaps"))
    rows = [row for group in table(content, "cases").groups for row in group.rows]
    assert rows
    for row in rows:
        assert f"score {row[4].text}, threshold {row[5].text};" in told or "not shown" in told


def test_the_checklist_says_which_section_and_leaves_the_availability_of_code_to_a_human() -> None:
    content = build_content(example_inputs())
    numbers = {section.title: number for number, section in enumerate(content.sections, 1)}
    answered, left = table(content, "checklist").groups
    for row in answered.rows:
        if row[3].text.startswith("section "):
            number, _, title = row[3].text.removeprefix("section ").partition(", ")
            assert numbers[title] == int(number)
    assert not any("18f" in row[1].text for row in answered.rows)
    assert [row[0].text for row in left.rows if "18f" in row[1].text] == [
        "Availability of data, analytical code and trained models"
    ]


def test_covariates_that_were_not_looked_at_are_named_with_their_reasons() -> None:
    """The golden study records site, sex, age, stage and smoking; nothing varies or is recorded of the others."""
    text = section_text(build_content(golden_inputs()), "confounding")
    assert "Not looked at, and so not ruled out" in text
    assert "home · test. country, scanner, scan, µm/px, specimen: not recorded." in text


def test_a_study_without_any_covariate_says_so() -> None:
    inputs = golden_inputs()
    results = replace(inputs.results, controls=(), stratified=(), added_values=())
    text = section_text(build_content(replace(inputs, results=results)), "confounding")
    assert "not recorded" in text


def test_the_heterogeneity_of_a_covariate_stands_once_for_each_target() -> None:
    for group in table(build_content(golden_inputs()), "subgroups").groups:
        for target in {row[0].text for row in group.rows}:
            shown = [row[6].text for row in group.rows if row[0].text == target]
            assert shown[0] != ""
            assert set(shown[1:]) <= {""}


def test_subgroups_say_which_levels_were_tested_and_how() -> None:
    inputs = golden_inputs()
    content = build_content(inputs)
    found = table(content, "subgroups")
    said = [(row[2].text, row[3].text) for group in found.groups for row in group.rows]
    assert sorted(said) == sorted((r.level, "yes" if r.tested else "no") for r in inputs.results.subgroups)
    assert {tested for _, tested in said} == {"yes", "no"}
    tested = "that of the known levels with at least 5 patients of each class"
    assert f"{tested}, by Welch’s F test of their AUROCs on the logit scale" in found.note
    assert any(f"Heterogeneity is {tested}." in f.caption for f in content.figures if f.id.startswith("subgroups-"))
    assert "by Welch’s F test" in section_text(content, "methods")


@pytest.mark.parametrize("inputs", INPUTS)
def test_captions_of_several_sentences_end_with_a_full_stop_and_those_of_one_phrase_without(
    inputs: "type[ReportInputs]",
) -> None:
    content = build_content(inputs())
    for block in (*content.tables, *content.figures):
        assert (". " in block.caption) == block.caption.endswith("."), block.caption


@pytest.mark.parametrize("inputs", INPUTS)
def test_no_two_columns_of_a_table_have_one_name(inputs: "type[ReportInputs]") -> None:
    for found in map(as_shown, build_content(inputs()).tables):
        headers = [column.header for column in found.columns if column.header != "SMD"]  # one beside each part
        assert len(set(headers)) == len(headers), (found.id, headers)


def test_alternative_texts_say_what_is_seen() -> None:
    inputs = example_inputs()
    alts = {figure.id: figure.alt for figure in build_content(inputs).figures}
    lead = next(r for r in inputs.results.aurocs if (r.target, r.split) == ("EGFR", "external"))
    assert f"EGFR: tapfm-hoptimus0 {lead.auroc.value:.2f}, " in alts["roc-cptac-luad-external"]
    assert re.search(
        r"Mean distance from the diagonal: EGFR, scores as they are: 0\.\d\d", alts["reliability-tcga-luad-test"]
    )
    assert re.search(r"EGFR (between \d+% and \d+%|nowhere)", alts["decision-tcga-luad-test"])
    unit = inputs.units[0]
    assert f"{unit.arm}: {unit.selected_epoch} of {unit.epochs}" in alts["training-loss"]


def test_what_the_methods_use_is_among_the_references() -> None:
    text = section_text(build_content(example_inputs()), "methods")
    assert "doi:10.1002/sim.3095" in text  # MOVER, by which macro intervals are joined
    assert "paper 335-2012" in text  # differences over several levels
    assert "arXiv:2106.09685" in text  # an arm of the example is adapted by LoRA


def test_slopes_of_recalibration_and_tests_avoided_have_intervals() -> None:
    content = build_content(golden_inputs())
    fits = [row[4].text for group in table(content, "recalibration").groups for row in group.rows]
    avoided = [row[5].text for group in table(content, "net-benefit").groups for row in group.rows]
    for texts_of in (fits, avoided):
        assert sum(bool(re.fullmatch(r"−?[\d.]+ \(.+\)", text)) for text in texts_of) > len(texts_of) / 2
        assert all(text == "–" or "(" in text for text in texts_of)


@pytest.mark.parametrize(("of", "said"), [("GPU", "what tensors took of the GPU"), ("process", "main memory")])
def test_the_memory_of_an_arm_says_what_was_measured(of: str, said: str) -> None:
    inputs = example_inputs()
    units = tuple(replace(unit, memory_of=of) for unit in inputs.units)
    assert said in table(build_content(replace(inputs, units=units)), "training").note
    unknown = tuple(replace(unit, peak_memory_mb=float("nan")) for unit in units)
    note = table(build_content(replace(inputs, units=unknown)), "training").note
    assert "Memory could not be measured for each unit." in note


@pytest.mark.parametrize(("margin", "met", "said"), [
    (None, True, []),
    (None, False, ["do alike: a difference that was not shown may be there all the same."]),
    (0.05, True, ["or as good: what was shown is that it is not worse by 0.05 or more."]),
    (0.05, False, ["non-inferiority that was not shown is no inferiority shown."]),
])  # fmt: skip
def test_the_limits_are_those_of_the_hypothesis_that_was_tested(
    margin: float | None, met: bool, said: list[str]
) -> None:
    inputs = example_inputs()
    assert inputs.results.primary is not None
    primary = replace(inputs.results.primary, margin=margin, met=met)
    content = build_content(replace(inputs, results=replace(inputs.results, primary=primary)))
    (limits,) = (block.items for block in content.sections[0].blocks if isinstance(block, Bullets))
    about = [line for line in limits if primary.arm in line]
    assert [line.endswith(end) for line, end in zip(about, said, strict=True)] == [True] * len(said)


def test_label_smoothing_is_said_not_to_be_undone_where_there_is_any() -> None:
    inputs = example_inputs()
    for of in (section_text(build_content(inputs), "methods"), table(build_content(inputs), "calibration").note):
        assert "Label smoothing (up to 0.1) is not undone" in of
    training = inputs.protocol.training.model_copy(update={"label_smoothing": 0.0})
    plain = inputs.protocol.model_copy(update={"training": training})
    without = build_content(replace(inputs, protocol=plain))
    for of in (section_text(without, "methods"), table(without, "calibration").note):
        assert "smoothing (" not in of
    assert "probabilities at that prevalence" not in section_text(build_content(inputs), "methods")


def test_strata_say_who_was_compared_within_them_and_overclaim_nothing() -> None:
    inputs = golden_inputs()
    found = table(build_content(inputs), "stratified")
    cells = [row[5].values for group in found.groups for row in group.rows]
    assert sorted(cells) == sorted((r.within.positives, r.within.n) for r in inputs.results.stratified)
    assert any(row[5].text != row[2].text for group in found.groups for row in group.rows)
    assert "may be what the stratum explains" in found.note


def test_a_decision_curve_that_dips_below_its_panel_comes_back() -> None:
    inputs = golden_inputs()
    risks = (0.1, 0.2, 0.3, 0.4, 0.5)
    curves = tuple(
        replace(c, thresholds=risks, net_benefit=(0.3, 0.1, -0.4, 0.1, 0.05), lower=(0.0,) * 5, upper=(0.1,) * 5,
                treat_all=(0.2, 0.1, -0.5, -0.9, -1.4))
        for c in inputs.results.decision_curves
    )  # fmt: skip
    content = build_content(replace(inputs, results=replace(inputs.results, decision_curves=curves)))
    figure = next(figure for figure in content.figures if figure.id == "decision-away-external")
    assert isinstance(figure.drawing, CurveGrid)
    assert "cut off below minus a quarter of its top" in figure.caption
    for panel in figure.drawing.panels:
        assert panel.limits is not None
        bottom = panel.limits[1][0]
        arm = [curve for curve in panel.curves if curve.style == 0]
        assert [curve.x[-1] for curve in arm[1::2]] == [0.5] * len(arm[1::2])
        first, second = arm[:2]
        assert (first.x[:2], second.x[1:]) == ((0.1, 0.2), (0.4, 0.5))
        assert (first.y[-1], second.y[0]) == (pytest.approx(bottom), pytest.approx(bottom))
        assert 0.2 < first.x[-1] < 0.3 < second.x[0] < 0.4
        (everybody,) = (curve for curve in panel.curves if curve.dashed)
        assert everybody.y[-1] == pytest.approx(bottom)


def test_events_of_the_negative_control_are_not_called_mutated() -> None:
    for rehearsal in (True, False):
        content = build_content(example_inputs(rehearsal=rehearsal))
        for name in ("summary", "auroc"):
            assert ("Those of NULL are patients with a permuted label" in table(content, name).note) == rehearsal


def test_the_methods_name_the_level_of_the_primary_interval_and_how_bands_are_made() -> None:
    inputs = example_inputs()
    primary = inputs.protocol.analysis.primary
    assert primary is not None
    plan = inputs.protocol.analysis.model_copy(update={"primary": primary.model_copy(update={"one_sided_alpha": 0.05})})
    text = section_text(
        build_content(replace(inputs, protocol=inputs.protocol.model_copy(update={"analysis": plan}))), "methods"
    )
    assert "at one-sided 0.05, with an interval two-sided at 90%" in text
    assert "sensitivities there from their Jeffreys posterior" in text
    assert "doi:10.2307/2533958" in text  # Obuchowski, by whom micro AUROCs are clustered
