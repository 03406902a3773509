"""Parts and cohorts that differ by more than chance are found; chance among many comparisons is not called drift."""

import numpy as np
import pandas as pd
import pytest
from audit_studies import Study, found
from scipy import stats

from tapfm_eval.audit.findings import audit_content
from tapfm_eval.audit.tables import category_difference, number_difference, permutation_p, table_test

CODES = ("split-drift", "cohort-shift")


def test_a_clean_study_does_not_drift(study: Study) -> None:
    assert not [finding for finding in study.audit() if finding.code in CODES]


@pytest.mark.parametrize(("column", "value"), [("GENE", "1"), ("sex", "male"), ("mpp", "0.25"), ("stage", "II")])
def test_a_block_that_differs_is_drift_with_interval_and_adjusted_p(study: Study, column: str, value: str) -> None:
    block = study.ours["block"] == "0"
    study.ours.loc[block & (np.arange(len(study.ours)) % 8 < 7), column] = value
    drifted = [f for f in found(study.audit(), "split-drift") if f.severity == "warning"]
    assert [f.where.split(", ")[1] for f in drifted] == [column]
    numbers = drifted[0].numbers
    assert abs(numbers["standardised_difference"]) > 0.5
    assert numbers["lower"] * numbers["upper"] > 0
    assert numbers["adjusted_p"] < 0.05


def test_a_number_drifts_too(study: Study) -> None:
    study.ours.loc[study.ours["block"] == "2", "age"] = "80"
    assert [f.where.split(", ")[1] for f in found(study.audit(), "split-drift")] == ["age"]


def test_any_other_column_drifts_too(study: Study) -> None:
    study.ours["stain_lab"] = ["north" if block == "1" else "south" for block in study.ours["block"]]
    study.ours["pack_years"] = [str(i % 40 + 9 * (block == "2")) for i, block in enumerate(study.ours["block"])]
    drifted = [f for f in found(study.audit_ours(), "split-drift") if f.severity == "warning"]
    assert [f.where.split(", ")[1] for f in drifted] == ["pack_years", "stain_lab"]


@pytest.mark.parametrize(("theirs", "code"), [("1", "cohort-shift"), ("none", None)])
def test_few_numbers_in_one_cohort_and_many_in_another_are_compared_as_numbers(
    study: Study, theirs: str, code: str | None
) -> None:
    study.ours["pack_years"], study.theirs["pack_years"] = [str(i % 50) for i in range(len(study.ours))], theirs
    study.theirs.loc[:3, "pack_years"] = ["0", "2", "", "0"]
    assert {f.code for f in study.audit() if f.where.endswith("pack_years")} == ({code} if code else set())


def test_sites_kept_apart_by_design_are_no_drift_but_in_another_split_they_are(study: Study) -> None:
    assert not found(study.audit(), "split-drift")
    study.scheme = "kfold"
    assert [f.where.split(", ")[1] for f in found(study.audit(), "split-drift")] == ["site"]


def test_random_splits_are_seldom_called_drift(study: Study) -> None:
    rng = np.random.default_rng(3)
    warned = 0
    for _ in range(8):
        study.ours["block"] = rng.permutation(study.ours["block"].to_numpy())
        study.scheme = "site-preserved"  # so that only what the permutation shuffled is tested
        warned += any(f.severity == "warning" for f in found(study.audit(), "split-drift"))
    assert warned <= 1


def test_an_external_cohort_of_another_prevalence_is_a_warning_and_of_another_mix_a_note(study: Study) -> None:
    study.theirs.loc[np.arange(len(study.theirs)) % 3 < 2, "GENE"] = "1"
    study.theirs.loc[np.arange(len(study.theirs)) % 3 < 2, "sex"] = "male"
    shifts = {f.where.split(", ")[1]: f.severity for f in found(study.audit(), "cohort-shift")}
    assert shifts == {"GENE": "warning", "sex": "note"}


def test_the_standardised_difference_of_shares_is_austins() -> None:
    """Austin 2009: (0.5 - 0.2) / sqrt((0.2 * 0.8 + 0.5 * 0.5) / 2) = 0.6626."""
    first = pd.Series(["a"] * 20 + ["b"] * 80)
    second = pd.Series(["a"] * 50 + ["b"] * 50)
    found_one = category_difference("x", "parts", first, second, np.random.default_rng(0))
    assert abs(found_one.smd) == pytest.approx(0.6626, abs=1e-4)
    # Hedges and Olkin: sqrt(200 / 10000 + 0.6626^2 / 400) = 0.1452; 1.96 of it is 0.2845
    assert found_one.upper - found_one.smd == pytest.approx(0.2845, abs=1e-3)


def test_a_target_whose_negatives_nobody_knows_has_no_prevalence_to_differ(study: Study) -> None:
    study.theirs.loc[study.theirs["GENE"] == "0", "GENE"] = ""
    assert not [f for f in found(study.audit(), "cohort-shift") if f.where.endswith("GENE")]
    study.theirs["GENE"] = "0"  # a cohort without a positive has one: 0
    assert [f for f in found(study.audit(), "cohort-shift") if f.where.endswith("GENE")]


def test_groups_that_overlap_in_nothing_differ_completely_and_most_of_all(study: Study) -> None:
    """No spread and different shares or means is the largest difference that there is, not the smallest."""
    rng = np.random.default_rng(0)
    category = category_difference("x", "p", pd.Series(["a", "b"] * 20), pd.Series(["c"] * 20), rng)
    number = number_difference("x", "p", pd.Series([50.0] * 20), pd.Series([70.0] * 20))
    for difference in (category, number):
        assert difference.smd == np.inf
        assert "standardised difference complete; adjusted p" in difference.said
    assert (category.level, category.counts) == ("c", "0 of 40 and 20 of 20")
    assert number_difference("x", "p", pd.Series([50.0] * 20), pd.Series([50.0] * 20)).smd == 0
    study.ours["scanner"] = np.where(study.ours["block"] == "0", "A", np.where(study.ours["age"] == "50", "C", "B"))
    drifted = next(f for f in found(study.audit(), "split-drift") if f.where.endswith("scanner"))
    assert "the largest standardised difference is complete" in drifted.what
    assert audit_content([drifted], {})["findings"][0]["numbers"]["standardised_difference"] is None


def test_a_cohort_of_another_specimen_throughout_differs_completely(study: Study) -> None:
    study.ours["specimen"], study.theirs["specimen"] = "FFPE", "frozen"
    shift = next(f for f in found(study.audit(), "cohort-shift") if f.where.endswith("specimen"))
    assert "standardised difference complete." in shift.what


def test_small_counts_are_tested_exactly() -> None:
    rng = np.random.default_rng(0)
    p, method = table_test(np.array([[3, 1], [1, 3]]), rng)
    assert method == "Fisher's exact test"
    assert p == pytest.approx(0.4857142857)  # the lady tasting tea, two-sided
    p, method = table_test(np.array([[30, 20], [20, 30]]), rng)
    assert method == "chi-squared"
    assert p == pytest.approx(0.0455002639)  # R: chisq.test(matrix(c(30,20,20,30),2), correct=FALSE)


def test_the_permutation_test_agrees_with_fishers_where_both_can_be_done() -> None:
    table = np.array([[12, 5], [3, 9]])
    exact = stats.chi2_contingency(table, correction=False, method=stats.PermutationMethod(rng=1)).pvalue
    assert permutation_p(table, np.random.default_rng(1)) == pytest.approx(exact, abs=0.01)


def test_free_text_of_a_thousand_levels_is_left_untested() -> None:
    table = np.ones((2, 1_001), dtype=np.intp)
    assert np.isnan(table_test(table, np.random.default_rng(0))[0])


def test_a_constant_and_an_empty_group_are_not_tested() -> None:
    rng = np.random.default_rng(0)
    assert np.isnan(table_test(np.array([[5, 0], [7, 0]]), rng)[0])
    assert np.isnan(category_difference("x", "p", pd.Series([], dtype=str), pd.Series(["a"]), rng).p_value)
    assert np.isnan(number_difference("x", "p", pd.Series([1.0]), pd.Series([2.0, 3.0])).p_value)
