"""The one comparison that a study stands or falls with."""

from collections.abc import Callable

import pytest
from analysis_study import Study

from tapfm_eval.results import Results


def test_superiority_is_shown_where_it_is_and_not_where_it_is_not(study: Study, results: Results) -> None:
    assert results.primary is not None
    assert results.primary.met is True
    assert results.primary.difference.p_value < 0.025
    assert results.primary.difference.lower > 0
    assert results.primary.verdict == "Superiority of a to b for EGFR in ext was shown."
    same = study.results(study.predictions({"a": 1.0, "b": 1.0, "c": 0.0})).primary
    assert same is not None
    assert same.met is False
    assert same.verdict == "Superiority of a to b for EGFR in ext was not shown."


def test_the_primary_test_is_one_sided_in_the_stated_direction(study_with: Callable[..., Study]) -> None:
    study = study_with(analysis={"primary": {"target": "EGFR", "cohort": "ext", "arm": "b", "versus": "a"}})
    primary = study.results().primary
    assert primary is not None
    assert primary.met is False
    assert primary.difference.value < 0
    assert primary.difference.p_value > 0.9


@pytest.mark.parametrize(("margin", "shifts", "met"), [
    (0.2, {"a": 2.0, "b": 2.0, "c": 0.0}, True),
    (0.2, {"a": 0.0, "b": 3.0, "c": 0.0}, False),
    (0.001, {"a": 2.0, "b": 2.0, "c": 0.0}, False),
])  # fmt: skip
def test_non_inferiority_is_judged_against_its_margin(
    study_with: Callable[..., Study], margin: float, shifts: dict[str, float], met: bool
) -> None:
    study = study_with(analysis={"primary": {"target": "EGFR", "cohort": "ext", "arm": "a", "versus": "b",
                                             "hypothesis": {"non_inferiority": {"margin": margin}}}})  # fmt: skip
    primary = study.results(study.predictions(shifts)).primary
    assert primary is not None
    assert (primary.hypothesis, primary.margin, primary.met) == ("non-inferiority", margin, met)
    assert (primary.difference.lower > -margin) == met
    assert f"with a margin of {margin:g} was {'shown' if met else 'not shown'}" in primary.verdict


def test_a_primary_comparison_on_the_development_cohort_is_about_its_test_patients(
    study_with: Callable[..., Study],
) -> None:
    study = study_with(analysis={"primary": {"target": "EGFR", "cohort": "dev", "arm": "a", "versus": "b"}})
    results = study.results()
    primary = results.primary
    assert primary is not None
    (test,) = [r for r in results.aurocs if (r.target, r.arm, r.split) == ("EGFR", "a", "test")]
    assert primary.arm_auroc == test.auroc


def test_too_few_patients_leave_the_primary_comparison_untested(study_with: Callable[..., Study]) -> None:
    study = study_with(rare=4, analysis={"primary": {"target": "ALK", "cohort": "ext", "arm": "a", "versus": "b"}})
    primary = study.results().primary
    assert primary is not None
    assert primary.met is None
    assert "could not be tested: fewer than 5 patients of a class" in primary.verdict
