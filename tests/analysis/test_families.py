"""Which arms are compared, when no test is made, and which p values are adjusted together."""

import math
from collections.abc import Callable

import pytest
from analysis_study import TARGETS, Study

from tapfm_eval import statistics
from tapfm_eval.results import Results


def test_every_family_compares_its_arms_on_each_target_and_the_macro(results: Results) -> None:
    keys = {(c.family, c.target, c.split, c.arm_a, c.arm_b) for c in results.comparisons}
    against = {("a", "b"), ("a", "c")}
    assert keys == {
        (family, target, split, *pair)
        for family, pairs in (("against a", against), ("pairs", against | {("b", "c")}))
        for target in (*TARGETS, "macro") for split in ("test", "external") for pair in pairs
    }  # fmt: skip


def test_p_values_are_adjusted_within_family_target_and_cohort(results: Results) -> None:
    chosen = [c for c in results.comparisons if (c.family, c.target, c.split) == ("pairs", "EGFR", "external")]
    assert [c.p_adjusted for c in chosen] == pytest.approx(
        statistics.adjust_p([c.difference.p_value for c in chosen], method="holm")
    )
    assert all(c.p_adjusted >= c.difference.p_value for c in chosen)


@pytest.mark.parametrize(("rare", "tested"), [(4, False), (5, True)])
def test_fewer_than_five_patients_of_a_class_carry_no_test(
    study_with: Callable[..., Study], rare: int, tested: bool
) -> None:
    study = study_with(rare=rare)
    rare_known = sum(row[1] == 1 for row in study.labels["ext"].values())
    assert (rare_known >= 5) == tested
    for comparison in study.results().comparisons:
        if comparison.split == "external" and comparison.target in ("ALK", "macro"):
            assert math.isfinite(comparison.difference.value)
            assert math.isfinite(comparison.difference.p_value) == tested
            assert math.isfinite(comparison.p_adjusted) == tested
            if not tested:
                assert "fewer than 5 patients of a class: no test" in str(comparison.difference.reason)
        elif comparison.split == "external":
            assert math.isfinite(comparison.difference.p_value)


def test_a_comparison_that_carries_no_test_does_not_weigh_on_the_others(study_with: Callable[..., Study]) -> None:
    """Holm over the tests that were made: a NaN is no test."""
    study = study_with(rare=4)
    made = [c for c in study.results().comparisons if c.target == "ALK" and c.split == "external"]
    assert made
    assert all(math.isnan(c.p_adjusted) for c in made)


def test_the_macro_average_leaves_out_targets_without_both_classes(study_with: Callable[..., Study]) -> None:
    study = study_with(rare=0)
    results = study.results()
    external = [m for m in results.macros if m.split == "external"]
    assert {m.targets for m in external} == {("EGFR",)}
    assert {m.left_out for m in external} == {("ALK",)}
    for m in external:
        (alone,) = [r for r in results.aurocs if (r.target, r.arm, r.split) == ("EGFR", m.arm, "external")]
        assert m.macro.value == pytest.approx(alone.auroc.value)
    missing = [r for r in results.aurocs if r.target == "ALK" and r.split == "external"]
    assert all(math.isnan(r.auroc.value) and r.auroc.reason for r in missing)


def test_a_cohort_without_any_usable_target_is_reported_as_not_estimable(study_with: Callable[..., Study]) -> None:
    study = study_with(rare=0)
    frame = study.predictions()
    frame.loc[(frame["cohort"] == "ext") & (frame["target"] == "EGFR") & frame["label"].notna(), "label"] = 0.0
    results = study.results(frame)
    for m in results.macros:
        if m.split == "external":
            assert m.targets == ()
            assert math.isnan(m.macro.value)
            assert m.macro.reason
    for c in results.comparisons:
        if c.split == "external":
            assert math.isnan(c.difference.value)
            assert c.difference.reason
    assert results.primary is not None
    assert results.primary.met is None
    assert "could not be tested" in results.primary.verdict
    for curve in results.curves:
        assert (curve.false_positive_rate == ()) == (curve.split == "external")
