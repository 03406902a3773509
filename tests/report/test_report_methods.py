"""The methods text is true for every option that a protocol may take."""

from dataclasses import replace
from typing import Any

import pytest
from example import example_inputs, with_results

from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.report.blocks import Paragraph, Table
from tapfm_eval.report.content import build_content
from tapfm_eval.report.inputs import ReportInputs


def changed(inputs: ReportInputs, **changes: Any) -> ReportInputs:
    content = inputs.protocol.model_dump(mode="json", exclude_none=True)
    analysis = {**content["analysis"], **changes.pop("analysis", {})}
    return replace(inputs, protocol=Protocol.model_validate({**content, "analysis": analysis, **changes}))


def methods(inputs: ReportInputs) -> str:
    section = next(section for section in build_content(inputs).sections if section.id == "methods")
    return " ".join(block.text for block in section.blocks if isinstance(block, Paragraph))


def arm(**changes: Any) -> dict[str, Any]:
    return {"id": "one", "backbone": "uni", "aggregator": "abmil", "adapt": "frozen", **changes}


def alone(**changes: Any) -> ReportInputs:
    """A study of one arm on one target."""
    inputs = example_inputs()
    without = with_results(replace(inputs, units=()), primary=None, comparisons=())
    return changed(
        without, arms=[arm(**changes)], targets={"EGFR": {}}, analysis={"primary": None, "families": []},
        rehearsal={"planted": {}},
    )  # fmt: skip


def test_annotated_regions_are_told_with_their_classes_and_what_happens_without() -> None:
    plain, inputs = methods(example_inputs()), example_inputs()
    any_class = methods(changed(inputs, tiles={"regions": "annotations"}))
    classes = methods(changed(inputs, tiles={"regions": {"classes": ["Tumor", "Stroma"]}}))
    assert "annotation" not in plain
    assert "Where a slide had annotations, only tiles whose centre lies inside one were kept" in any_class
    assert "Where a slide had annotations of “Tumor” and “Stroma”, only tiles" in classes
    assert "slides without an annotation file kept all their tissue" in classes


def test_cohorts_that_came_as_features_of_another_tool_are_named() -> None:
    inputs = example_inputs()
    some = methods(replace(inputs, provenance={"hashes (sha256)": {"features cptac-luad": "0" * 64}}))
    names = dict.fromkeys(("features cptac-luad", "features tcga-luad"), "0" * 64)
    every = methods(replace(inputs, provenance={"hashes (sha256)": names}))
    assert "In place of slides of cptac-luad, tile features of another tool were given." in some
    assert "Otsu" in some
    assert "No slide was read" in every
    assert "Otsu" not in every


@pytest.mark.parametrize(("adapt", "said", "shown"), [
    ("frozen", "All backbones stayed frozen and described each tile once", "frozen"),
    ({"lora": {"rank": 4, "alpha": 16}}, "LoRA trains low-rank additions", "LoRA, rank 4, alpha 16"),
    ({"last_blocks": 3}, "those before them stay as published", "last 3 blocks"),
    ("full", "Aggregator and backbone have an optimizer each", "all blocks"),
])  # fmt: skip
def test_each_way_of_adapting_is_told_where_it_occurs_and_not_elsewhere(adapt: Any, said: str, shown: str) -> None:
    inputs = alone(adapt=adapt)
    text = methods(inputs)
    assert said in text
    for other in ("LoRA trains", "those before them", "stayed frozen", "flipped", "an optimizer each"):
        wanted = {"LoRA trains": isinstance(adapt, dict) and "lora" in adapt,
                  "those before them": isinstance(adapt, dict) and "last_blocks" in adapt,
                  "stayed frozen": adapt == "frozen", "flipped": adapt != "frozen",
                  "an optimizer each": adapt != "frozen"}  # fmt: skip
        assert (other in text) == wanted[other]
    (arms,) = [b for s in build_content(inputs).sections for b in s.blocks if isinstance(b, Table) and b.id == "arms"]
    assert arms.groups[0].rows[0][3].text == shown


def test_one_arm_on_one_target_is_not_told_as_a_comparison() -> None:
    text = methods(alone())
    assert "One arm was trained" in text
    assert "The target was EGFR, mutated or not." in text
    assert "highest AUROC on validation patients" in text
    for wrong in ("arms were compared", "paired DeLong", "macro-average", "primary endpoint", "Family"):
        assert wrong not in text


def test_folds_seeds_and_stopping_are_told_as_they_were() -> None:
    inputs = example_inputs()
    units = tuple(replace(unit, fold=fold) for unit in inputs.units for fold in range(5))
    text = methods(changed(replace(inputs, units=units), seeds=[1, 2], failures={"policy": "stop"}))
    assert "in 5 folds of training, validation and test patients" in text
    assert "with each of the seeds 1 and 2" in text
    assert "means of logits over all folds and seeds of an arm" in text
    assert "stopped the study" in text
    assert "were excluded" not in text


def test_a_second_look_is_told_in_status_summary_and_methods() -> None:
    looked = ("2026-01-02T03:04:05+00:00, run aaa (all units)", "2026-02-03T04:05:06+00:00, run bbb (all units)")
    content = build_content(replace(example_inputs(), looks=looked))
    assert content.status == "Complete; test patients were looked at 2 times under this version"
    first = content.sections[0].blocks[0]
    assert isinstance(first, Paragraph)
    assert first.tone == "warning"
    assert all(look in first.text for look in looked)
    assert "predicted 2 times under this version" in methods(replace(example_inputs(), looks=looked))
    once = build_content(replace(example_inputs(), looks=looked[:1]))
    assert once.status == "Complete"
