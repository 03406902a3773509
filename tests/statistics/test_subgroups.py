"""Subgroup AUROCs and their heterogeneity agree with pROC and metafor."""

import math

import numpy as np
import pytest
from golden_cases import load
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import auroc, auroc_variance, stratified_auroc, subgroup_auroc


def test_levels_and_heterogeneity_agree_with_r():
    """pROC per level; metafor::rma(method = "FE" and "DL"): P20."""
    case = load("P20")
    found, expected = subgroup_auroc(case["y"], case["s"], case["group"]), case.expected
    for one, wanted in zip(found.levels, expected["groups"], strict=True):
        assert (one.name, one.auroc.n, one.auroc.positives) == (wanted["group"], wanted["n"], wanted["n_pos"])
        assert one.auroc.value == pytest.approx(wanted["auc"], abs=1e-12)
        assert one.variance == pytest.approx(wanted["var"], abs=1e-12)
    q, pooled = expected["cochran_Q"], found.pooled
    assert (found.cochran_q.statistic, found.cochran_q.df) == pytest.approx((q["Q"], q["df"]), abs=1e-10)
    assert found.cochran_q.p_value == pytest.approx(q["p"], abs=1e-12)
    assert (100 * pooled.i2, pooled.tau2) == pytest.approx((q["I2_percent_DL"], q["tau2_DL"]), abs=1e-9)
    assert (pooled.fixed.value, pooled.random.value) == pytest.approx((q["pooled_FE"], q["pooled_DL"]), abs=1e-12)
    z = 1.959963984540054
    errors = ((pooled.fixed.upper - pooled.fixed.value) / z, (pooled.random.upper - pooled.random.value) / z)
    assert errors == pytest.approx((q["pooled_FE_se"], q["pooled_DL_se"]), abs=1e-12)
    on_logit = expected["cochran_Q_logit_scale"]
    assert found.cochran_q_logit.statistic == pytest.approx(on_logit["Q"], abs=1e-10)
    assert found.cochran_q_logit.p_value == pytest.approx(on_logit["p"], abs=1e-12)
    for pair, wanted in zip(found.pairs, expected["pairwise_unpaired_delong"], strict=True):
        assert (pair.first, pair.second) == (wanted["g1"], wanted["g2"])
        assert pair.comparison.statistic == pytest.approx(wanted["statistic"], abs=1e-10)
        assert pair.comparison.df == pytest.approx(wanted["df"], abs=1e-8)
        assert pair.comparison.p_value == pytest.approx(wanted["p_value"], abs=1e-10)


def test_small_levels_keep_their_interval_and_enter_no_test():
    rng = np.random.default_rng(0)
    labels = np.r_[np.repeat([1.0, 0.0], [20, 40]), np.repeat([1.0, 0.0], [20, 40]), 1.0, np.zeros(10)]
    groups = np.repeat(["a", "b", "tiny"], [60, 60, 11])
    found = subgroup_auroc(labels, rng.normal(labels), groups)
    tiny = found.levels[2]
    assert (tiny.tested, tiny.auroc.reason) == (False, None)
    assert tiny.auroc.lower < tiny.auroc.upper
    assert found.heterogeneity.df == 1
    assert [(pair.first, pair.second) for pair in found.pairs] == [("a", "b")]


def test_a_single_level_has_no_heterogeneity():
    rng = np.random.default_rng(0)
    labels = np.repeat([1.0, 0.0], [20, 40])
    found = subgroup_auroc(labels, rng.normal(labels), ["x"] * 60)
    assert math.isnan(found.heterogeneity.p_value)
    assert found.heterogeneity.reason == "1 of the levels large enough to be tested, two are needed"
    assert found.pooled.fixed.reason is not None


def test_a_separated_level_leaves_the_test_without_an_answer():
    rng = np.random.default_rng(0)
    labels = np.tile(np.repeat([1.0, 0.0], [10, 20]), 2)
    scores = np.where(np.arange(60) < 30, labels, rng.normal(labels))
    found = subgroup_auroc(labels, scores, np.repeat([1, 2], 30))
    assert found.levels[0].auroc.value == 1.0
    assert found.heterogeneity.reason == "a level's AUROC has no variance"


def test_single_class_level_is_nan_with_reason():
    found = subgroup_auroc([0, 0, 1, 0], [1, 2, 3, 4], ["a", "a", "b", "b"])
    assert math.isnan(found.levels[0].auroc.value)
    assert found.levels[0].auroc.reason == "no positives"


def test_missing_levels_are_counted_and_left_out():
    labels, scores = [0, 1, 0, 1, math.nan], [1, 2, 3, 4, 5]
    found = subgroup_auroc(labels, scores, np.array(["a", "a", None, "", None], dtype=object))
    assert [one.name for one in found.levels] == ["a"]
    assert found.missing == 2
    assert subgroup_auroc(labels, scores, [1.0, 1.0, math.nan, 2.0, math.nan]).missing == 1


def test_numeric_levels_are_ordered_by_size():
    assert [one.name for one in subgroup_auroc([0, 1] * 2, [1, 2] * 2, [10, 10, 9, 9]).levels] == ["9", "10"]


@pytest.mark.parametrize(
    ("levels", "names"),
    [
        ([20240115, 20240116], ["20240115", "20240116"]),
        ([1234567.0, 1234568.0], ["1234567", "1234568"]),
        ([0.1234567, 0.1234568], ["0.1234567", "0.1234568"]),
        (np.array([0.5, 1e300], dtype=np.float64), ["0.5", "1e+300"]),
        (np.array([0.1, 2], dtype=np.float32), ["0.1", "2"]),
    ],
)
def test_different_numbers_are_different_names(levels, names):
    groups = np.tile(levels, 4)
    labels, scores = [0, 0, 1, 1] * 2, np.arange(8.0)
    found = subgroup_auroc(labels, scores, groups, min_per_class=2)
    assert [one.name for one in found.levels] == names
    assert [(pair.first, pair.second) for pair in found.pairs] == [tuple(names)]
    assert [one.name for one in stratified_auroc(labels, scores, groups).strata] == names


def test_a_patient_in_two_levels_is_refused():
    with pytest.raises(StatisticsError, match="1 patients in several"):
        subgroup_auroc([0, 1, 0, 1], [1, 2, 3, 4], ["a", "a", "b", "b"], clusters=[1, 2, 1, 3])


def test_malformed_arguments_are_refused():
    with pytest.raises(StatisticsError, match="groups"):
        subgroup_auroc([0, 1], [1, 2], ["a"])
    with pytest.raises(StatisticsError, match="min_per_class"):
        subgroup_auroc([0, 1], [1, 2], ["a", "a"], min_per_class=1)
    with pytest.raises(StatisticsError, match="method"):
        subgroup_auroc([0, 1], [1, 2], ["a", "a"], method="bootstrap")


def test_type_i_error_of_the_reported_test_holds_with_small_levels():
    rng = np.random.default_rng(1)
    labels = np.concatenate([np.repeat([1.0, 0.0], level) for level in ((8, 60), (12, 60), (30, 60))])
    groups = np.repeat([0, 1, 2], [68, 72, 90])
    p = [subgroup_auroc(labels, rng.normal(1.2 * labels), groups).heterogeneity.p_value for _ in range(150)]
    assert np.mean(np.array(p) < 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)


def folded(rng):
    """Three levels of 8, 12 and 30 positives, dealt to five folds that score on scales of their own."""
    labels = np.concatenate([np.repeat([1.0, 0.0], level) for level in ((8, 60), (12, 60), (30, 60))])
    groups, folds = np.repeat([0, 1, 2], [68, 72, 90]), np.empty(230, dtype=int)
    for members in (np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)):
        folds[rng.permutation(members)] = np.arange(members.size) % 5
    return labels, rng.normal(1.8 * labels) + 3 * rng.normal(size=5)[folds], groups, folds


def test_levels_over_strata_are_aurocs_within_strata():
    labels, scores, groups, folds = folded(np.random.default_rng(2))
    found = subgroup_auroc(labels, scores, groups, strata=folds)
    for level, one in enumerate(found.levels):
        rows = groups == level
        assert one.auroc == auroc(labels[rows], scores[rows], strata=folds[rows])
        assert one.variance == auroc_variance(labels[rows], scores[rows], strata=folds[rows]).variance
    assert found.heterogeneity.method == "Welch F on the logit scale"
    assert "within 3 strata (2 without both classes left out)" in found.pairs[0].comparison.method


def test_one_stratum_changes_nothing():
    labels, scores, groups, _ = folded(np.random.default_rng(3))
    assert subgroup_auroc(labels, scores, groups, strata=["x"] * 230) == subgroup_auroc(labels, scores, groups)


def test_type_i_error_over_strata_is_that_of_the_test_and_not_of_q():
    rng = np.random.default_rng(4)
    found = [subgroup_auroc(*data[:3], strata=data[3]) for data in (folded(rng) for _ in range(200))]
    rejected = np.mean([one.heterogeneity.p_value < 0.05 for one in found])
    assert rejected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert rejected < np.mean([one.cochran_q.p_value < 0.05 for one in found])


def test_a_level_without_variance_within_strata_is_not_tested():
    """Five positives in five strata: nothing to take a variance from; the other levels are tested all the same."""
    labels, scores, groups, folds = folded(np.random.default_rng(5))
    alone = np.r_[np.ones(5), np.zeros(10)]
    found = subgroup_auroc(
        np.r_[labels, alone], np.r_[scores, np.arange(15.0) % 4], np.r_[groups, np.full(15, 9)],
        strata=np.r_[folds, np.arange(15) % 5],
    )  # fmt: skip
    assert [one.tested for one in found.levels] == [True, True, True, False]
    assert found.heterogeneity == subgroup_auroc(labels, scores, groups, strata=folds).heterogeneity


@settings(max_examples=12, derandomize=True, deadline=None)
@given(st.integers(0, 10_000))
def test_relabelled_levels_and_row_order_change_nothing(seed):
    rng = np.random.default_rng(seed)
    labels = np.tile(np.repeat([1.0, 0.0], [8, 12]), 3)
    scores, groups = rng.normal(labels), np.repeat(["a", "b", "c"], 20)
    order = rng.permutation(60)
    renamed = np.array([{"a": "z", "b": "y", "c": "x"}[name] for name in groups])
    found, other = subgroup_auroc(labels, scores, groups), subgroup_auroc(labels[order], scores[order], renamed[order])
    assert other.heterogeneity.statistic == pytest.approx(found.heterogeneity.statistic, rel=1e-9)
    assert [one.auroc.value for one in other.levels] == [one.auroc.value for one in found.levels][::-1]
    assert found.levels[0].auroc == auroc(labels[:20], scores[:20])


class NoTruth:
    """As pandas' NA: a comparison with it has no truth value."""

    def __eq__(self, other):
        return self

    __ne__ = __eq__
    __hash__ = None

    def __bool__(self):
        raise TypeError


@pytest.mark.parametrize("hole", [None, math.nan, "", NoTruth()])
def test_a_missing_level_in_a_list_of_names_is_counted_and_no_level(hole):
    found = subgroup_auroc([0, 1, 0, 1, 0], [1, 2, 3, 4, 5], ["a", "a", np.str_("b"), "b", hole])
    assert [one.name for one in found.levels] == ["a", "b"]
    assert found.missing == 1
