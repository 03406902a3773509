"""The paper's figures stand beside the same model, task and kind of cohort, and nowhere else."""

from dataclasses import replace
from typing import Any

import pytest
from example import example_inputs

from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.report.published import published_macro, published_value
from tapfm_eval.results import AurocResult, MacroResult

PAPER_ARM = {"id": "one", "backbone": "h-optimus-0", "aggregator": "tapfm", "adapt": "full", "tiles_per_slide": 75}
FOUR = ("EGFR", "KRAS", "MET", "ALK")


def protocol(*targets: str, **arm: Any) -> Protocol:
    content = example_inputs().protocol.model_dump(mode="json", exclude_none=True)
    content["arms"], content["targets"] = [{**PAPER_ARM, **arm}], {target: {} for target in targets}
    content["analysis"] = {}
    content["rehearsal"] = {}
    return Protocol.model_validate(content)


def macro(cohort: str, split: str, *targets: str) -> MacroResult:
    result = example_inputs().results.macros[0]
    return replace(result, arm="one", cohort=cohort, split=split, targets=targets)  # type: ignore[arg-type]


def auroc(cohort: str, split: str, target: str) -> AurocResult:
    result = example_inputs().results.aurocs[0]
    return replace(result, arm="one", cohort=cohort, split=split, target=target)  # type: ignore[arg-type]


def test_the_macro_figure_is_of_four_targets_on_the_paper_s_kind_of_test_patients() -> None:
    paper = protocol(*FOUR)
    assert published_macro(paper, macro("own-luad", "test", *FOUR)) == 0.8510
    assert published_macro(paper, macro("own-luad", "test", *FOUR[::-1])) == 0.8510
    assert published_macro(paper, macro("own-luad", "validation", *FOUR)) is None
    assert published_macro(paper, macro("own-luad", "test", *FOUR[:3])) is None
    assert published_macro(paper, macro("own-blca", "test", *FOUR)) is None
    assert published_macro(paper, macro("tcga-luad", "external", *FOUR)) is None
    assert published_macro(protocol(*FOUR, adapt="frozen"), macro("own-luad", "test", *FOUR)) is None


@pytest.mark.parametrize(("targets", "cohort", "split", "target", "value"), [
    (("EGFR",), "tcga-luad", "external", "EGFR", 0.8553),
    (("EGFR",), "own-luad", "test", "EGFR", 0.8491),
    (FOUR, "own-luad", "test", "EGFR", 0.8765),
    (FOUR, "own-luad", "test", "ALK", 0.8702),
    (FOUR, "tcga-luad", "external", "EGFR", 0.8553),
    (FOUR, "tcga-luad", "external", "KRAS", None),
    (("FGFR3",), "tcga-blca", "external", "FGFR3", 0.9021),
    (("EGFR",), "cptac-luad", "external", "EGFR", None),
    (("EGFR",), "own-luad", "validation", "EGFR", None),
    (("EGFR",), "elsewhere-luad", "external", "EGFR", None),
])  # fmt: skip
def test_a_figure_of_the_paper(targets: tuple[str, ...], cohort: str, split: str, target: str, value: float) -> None:
    assert published_value(protocol(*targets), auroc(cohort, split, target)) == value
