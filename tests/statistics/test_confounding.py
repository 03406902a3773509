"""Confounded scores are unmasked within strata; covariates alone and added value behave as they must."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import added_value, adjusted_auroc, auroc, covariate_auroc, stratified_auroc


def confounded(seed=0, n=600):
    """Smoking drives both the label and the score; within smokers and never-smokers the score is noise."""
    rng = np.random.default_rng(seed)
    smoker = rng.random(n) < 0.4
    labels = (rng.random(n) < np.where(smoker, 0.5, 0.1)).astype(float)
    return labels, rng.normal(2.0 * smoker), smoker, rng


def slow_adjusted(labels, scores, strata):
    """Mean over positives of the share of negatives of their stratum that they outscore, ties one half."""
    placed = []
    for label, score, stratum in zip(labels, scores, strata, strict=True):
        rivals = scores[(labels == 0) & (strata == stratum)]
        if label == 1 and rivals.size:
            placed.append(np.mean((score > rivals) + 0.5 * (score == rivals)))
    return np.mean(placed)


def test_confounding_vanishes_within_strata():
    labels, scores, smoker, _ = confounded()
    found = stratified_auroc(labels, scores, smoker)
    assert found.crude.lower > 0.6
    for one in (found.within, found.adjusted, *(stratum.auroc for stratum in found.strata)):
        assert one.lower < 0.5 < one.upper
    assert [stratum.name for stratum in found.strata] == ["False", "True"]


def test_adjusted_auroc_is_the_mean_placement_of_positives():
    rng = np.random.default_rng(1)
    labels = (rng.random(80) < 0.4).astype(float)
    strata, scores = rng.integers(0, 5, 80), rng.integers(0, 6, 80) + labels
    found = adjusted_auroc(labels, scores, {"site": strata.astype(str)})
    assert found.value == pytest.approx(slow_adjusted(labels, scores, strata), abs=1e-12)


def test_one_stratum_is_the_plain_auroc():
    rng = np.random.default_rng(2)
    labels = np.repeat([1.0, 0.0], [40, 60])
    scores = rng.normal(labels)
    found, plain = adjusted_auroc(labels, scores, {"site": ["x"] * 100}), auroc(labels, scores)
    assert (found.value, found.lower, found.upper) == pytest.approx((plain.value, plain.lower, plain.upper), abs=1e-10)
    assert found.method.endswith("logit-t")


def test_regression_takes_off_a_continuous_covariate():
    rng = np.random.default_rng(3)
    age = rng.normal(60, 10, 800)
    labels = (rng.random(800) < 1 / (1 + np.exp(-(age - 62) / 5))).astype(float)
    scores = 0.3 * age + rng.normal(0, 1, 800) + 1.0 * labels
    crude, found = auroc(labels, scores), adjusted_auroc(labels, scores, {"age": age}, method="regression")
    assert crude.lower > 0.85
    assert found.lower < 0.7602 < found.upper  # Phi(1 / sqrt 2)


def test_strata_without_both_classes_are_left_out_and_said_so():
    labels, scores = np.array([1.0, 0, 0, 1, 1, 0]), np.array([2.0, 1, 3, 5, 6, 0])
    found = adjusted_auroc(labels, scores, {"site": ["a", "a", "a", "b", "b", "c"]})
    assert found.value == 0.5
    assert "3 patients in strata without both classes left out" in found.method
    nothing = adjusted_auroc(labels, scores, {"site": list("aabbcc"), "row": list("uvwxyz")})
    assert math.isnan(nothing.value)
    assert nothing.reason == "no stratum has both classes"


def test_missing_strata_are_counted():
    found = stratified_auroc([0, 1, 0, 1], [1, 2, 3, 4], [0, 0, math.nan, 1])
    assert found.missing == 2 - 1
    assert found.crude.n == 3


def test_site_alone_tells_what_the_site_tells():
    labels, _, smoker, rng = confounded(n=900)
    alone = covariate_auroc(labels, {"smoking": smoker}, rng=rng)
    direct = auroc(labels, smoker)
    assert alone.value == pytest.approx(direct.value, abs=0.03)
    noise = covariate_auroc(labels, {"noise": rng.normal(size=900)}, rng=rng)
    assert noise.lower < 0.5 < noise.upper
    assert alone.method.startswith("5-fold cross-validated ridge logistic regression; ")


def test_same_generator_same_folds():
    labels, scores, smoker, _ = confounded()
    first, second = (
        covariate_auroc(labels, {"s": smoker, "x": scores}, rng=np.random.default_rng(5)) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0, 0, 0, 0], "no positives"),
        ([1, 0, 0, 0], "cross-validation needs two patients of each class"),
        ([math.nan] * 4, "no row with a known label"),
    ],
)
def test_covariates_alone_need_two_of_each_class(labels, reason):
    found = covariate_auroc(labels, {"x": [1.0, 2, 3, 4]}, rng=np.random.default_rng(0))
    assert math.isnan(found.value)
    assert found.reason == reason
    constant = covariate_auroc([0, 1] * 4, {"x": ["a"] * 8}, rng=np.random.default_rng(0))
    assert constant.reason == "no covariate varies"


def test_score_that_only_repeats_the_covariate_adds_nothing():
    labels, scores, smoker, _ = confounded()
    repeated = added_value(labels, scores, {"smoking": smoker}, scale="identity")
    assert repeated.test.p_value > 0.01
    telling = added_value(labels, scores + labels, {"smoking": smoker}, scale="identity")
    assert telling.test.p_value < 1e-6
    assert telling.log_odds.lower > 0
    assert telling.covariates == ("smoking",)


def test_likelihood_ratio_is_that_of_the_two_models():
    """Against statsmodels' Logit."""
    from statsmodels.discrete.discrete_model import Logit

    labels, scores, smoker, _ = confounded(n=200)
    scores = scores + 0.3 * labels
    found = added_value(labels, scores, {"smoking": smoker}, scale="identity")
    small = np.column_stack([np.ones(200), smoker])
    difference = Logit(labels, np.column_stack([small, scores])).fit(disp=0).llf - Logit(labels, small).fit(disp=0).llf
    assert found.test.statistic == pytest.approx(2 * difference, abs=1e-8)


@pytest.mark.parametrize(
    ("labels", "scores", "covariate", "reason"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [1.0, 2, 1, 2], "positives and negatives are separated"),
        ([0, 1, 0, 1], [0.2, 0.8, 0.8, 0.2], ["a", "b", "b", "a"], "the columns are collinear or constant"),
        ([0, 1, 0, 1], [0.5] * 4, ["a", "b", "b", "a"], "the scores do not vary"),
        ([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4], ["a", "b", "b", "a"], "no positives"),
    ],
)  # fmt: skip
def test_added_value_without_an_answer_is_nan_with_reason(labels, scores, covariate, reason):
    found = added_value(labels, scores, {"x": covariate})
    assert math.isnan(found.test.p_value)
    assert found.test.reason == found.log_odds.reason
    assert found.test.reason.startswith(reason)


def test_missing_covariates_and_scores_outside_are_refused():
    with pytest.raises(StatisticsError, match="1 missing"):
        adjusted_auroc([0, 1], [0.1, 0.2], {"site": ["a", None]})
    with pytest.raises(StatisticsError, match="at least one"):
        adjusted_auroc([0, 1], [0.1, 0.2], {})
    with pytest.raises(StatisticsError, match="infinite"):
        covariate_auroc([0, 1], {"x": [1.0, math.inf]}, rng=np.random.default_rng(0))
    with pytest.raises(StatisticsError, match=r"\[0, 1\]"):
        added_value([0, 1], [0.1, 2.2], {"site": ["a", "b"]})
    with pytest.raises(StatisticsError, match="folds"):
        covariate_auroc([0, 1], {"x": [1.0, 2.0]}, rng=np.random.default_rng(0), folds=1)


def test_regression_with_few_negatives_is_refused_by_reason():
    found = adjusted_auroc([0] * 10 + [1], np.arange(11.0), {"age": np.arange(11.0)}, method="regression")
    assert found.reason == "10 negatives, the regression needs 20"


@settings(max_examples=12, derandomize=True, deadline=None)
@given(st.integers(0, 10_000))
def test_shifting_a_whole_stratum_changes_nothing_within_it(seed):
    rng = np.random.default_rng(seed)
    labels = np.tile([1.0, 1, 0, 0, 0], 6)
    strata, scores = rng.integers(0, 3, 30), rng.normal(labels)
    found = stratified_auroc(labels, scores, strata)
    moved = stratified_auroc(labels, scores + 10.0 * strata, strata)
    assert moved.adjusted.value == pytest.approx(found.adjusted.value, abs=1e-12, nan_ok=True)
    assert moved.within.value == pytest.approx(found.within.value, abs=1e-12, nan_ok=True)
    assert found.adjusted.reason is not None or found.adjusted.lower <= found.adjusted.value <= found.adjusted.upper


@pytest.mark.parametrize("constant", [1.0, 0.3, 123.456])
def test_a_constant_covariate_counts_for_nothing(constant):
    """The standard deviation of 200 times 0.3 is 6e-17, not 0."""
    labels, scores, smoker, _ = confounded(n=200)
    alone = covariate_auroc(labels, {"x": np.full(200, constant)}, rng=np.random.default_rng(0))
    assert math.isnan(alone.value)
    assert alone.reason == "no covariate varies"
    with_it, without = (
        added_value(labels, scores, covariates, scale="identity")
        for covariates in ({"smoking": smoker, "x": np.full(200, constant)}, {"smoking": smoker})
    )
    assert with_it.test.statistic == without.test.statistic
    flat = added_value(labels, np.full(200, constant), {"smoking": smoker}, scale="identity")
    assert flat.test.reason == "the scores do not vary"


def test_regression_does_not_mind_where_scores_lie():
    rng = np.random.default_rng(6)
    age, labels = rng.normal(60, 10, 400), (rng.random(400) < 0.4).astype(float)
    scores = rng.integers(0, 2**20, 400) / 2**20 + 0.25 * labels  # so that the offset below loses no bit
    near, far = (
        adjusted_auroc(labels, offset + scores, {"age": age}, method="regression") for offset in (0.0, 2.0**31)
    )
    assert far.value == pytest.approx(near.value, abs=1e-9)


def test_risks_near_certainty_leave_no_warning_behind(recwarn):
    """statsmodels warns of a singular matrix, and sees to it that this is printed."""
    labels, p = np.array([1.0, 0, 0, 0, 1]), np.array([1e-9, 1e-17, 1 - 1e-9, 0.5, 1 - 1e-9])
    found = added_value(labels, p, {"g": 2 * p})
    assert found.test.reason == "the fit did not converge"
    assert not recwarn.list


def test_covariates_may_have_any_names():
    labels, scores, smoker, _ = confounded(n=200)
    assert added_value(labels, scores, {1: smoker}, scale="identity").test.method.endswith("added to 1")
