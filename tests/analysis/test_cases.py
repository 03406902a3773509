"""Which slides are shown follows from scores and labels alone, and nobody can pick them."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from analysis_study import Study

from tapfm_eval.analysis import panels_of, shown_cases
from tapfm_eval.results import Results


def test_right_calls_are_the_middle_and_wrong_calls_the_gravest_of_their_group(study: Study, results: Results) -> None:
    panel = panels_of(study.predictions(), study.protocol)["ext", "external"]
    assert {case.target for case in results.cases} == {"EGFR", "ALK"}
    for case in results.cases:
        assert (case.rule, case.arm, case.cohort, case.split) == ("Youden", "a", "ext", "external")
        y, s = panel.known(case.target, "a"), panel.score("a", case.target)
        mutated, called = case.call in ("true positive", "false negative"), case.call.endswith("positive")
        group = (y == mutated) & ((s >= case.threshold) == called)
        scores = np.sort(s[group])
        wanted = {
            "true positive": scores[(len(scores) - 1) // 2], "true negative": scores[(len(scores) - 1) // 2],
            "false positive": scores[-1], "false negative": scores[0],
        }[case.call]  # fmt: skip
        assert case.score == wanted
        assert case.alike == len(scores)
        assert panel.scores["a"][panel.patients.index(case.patient_id), panel.column(case.target)] == case.score
        assert case.slide_id == f"{case.patient_id}-1"


def test_they_are_the_primary_comparison_s_patients_and_its_target_comes_first(
    study_with: Callable[..., Study],
) -> None:
    study = study_with(analysis={"primary": {"target": "ALK", "cohort": "dev", "arm": "b", "versus": "a"}})
    found = shown_cases(study.protocol, study.predictions(), study.cohorts)
    assert {(case.arm, case.cohort, case.split) for case in found} == {("b", "dev", "test")}
    assert list(dict.fromkeys(case.target for case in found)) == ["ALK", "EGFR"]


def test_the_first_rule_stands_in_for_youden_and_without_any_nobody_is_shown(study_with: Callable[..., Study]) -> None:
    study = study_with(analysis={"operating_points": [{"at_specificity": 0.9}, {"at_sensitivity": 0.9}]})
    found = shown_cases(study.protocol, study.predictions(), study.cohorts)
    assert {case.rule for case in found} == {"specificity 0.9"}
    bare = study.protocol.analysis.model_copy(update={"operating_points": ()})
    without = study.protocol.model_copy(update={"analysis": bare})
    assert shown_cases(without, study.predictions(), study.cohorts) == ()


def test_of_several_slides_the_one_is_shown_that_speaks_most_for_the_call(study: Study) -> None:
    frame = study.predictions()
    outside = frame["cohort"] == "ext"
    second = frame[outside].copy()
    second["slide_id"] = second["patient_id"] + "-0"
    second["score"] = second["score"] / 2
    found = shown_cases(study.protocol, pd.concat([frame, second]), study.cohorts)
    assert {case.call.endswith("positive") for case in found} == {True, False}
    for case in found:
        assert case.slide_id == case.patient_id + ("-1" if case.call.endswith("positive") else "-0")


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_the_rows_changes_no_choice(study: Study, results: Results, seed: int) -> None:
    shuffled = study.predictions().sample(frac=1, random_state=seed)
    assert shown_cases(study.protocol, shuffled, study.cohorts) == results.cases
