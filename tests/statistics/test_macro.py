"""Macro and micro AUROC and their comparison."""

import numpy as np
import pytest
from golden_cases import load
from test_covariance import multilabel, sample

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import (
    auroc,
    auroc_covariance,
    auroc_variance,
    compare_auroc,
    compare_macro_auroc,
    contrast,
    macro_auroc,
    micro_auroc,
)
from tapfm_eval.statistics.estimate import METHODS


@pytest.mark.parametrize(("arm", "name"), [(0, "m1"), (1, "m2")])
def test_macro_from_the_joint_covariance_equals_r(arm, name):
    case = load("P16")
    labels, scores = multilabel(case)
    expected = case.expected["macro"][name]
    for method, key in (("delong", "ci95_plain"), ("delong-logit", "ci95_logit")):
        found = macro_auroc(labels, scores[arm], method=method)
        limits = expected[key]
        assert (found.value, found.lower, found.upper) == pytest.approx(
            (expected["auc"], limits["lower"], limits["upper"]), abs=1e-10
        )
    assert found.n == sum(case.expected["n_observed"].values())
    assert found.positives == sum(case.expected["n_pos"].values())
    assert found.clusters == 300


def test_difference_of_macros_equals_r():
    case = load("P16")
    labels, scores = multilabel(case)
    expected = case.expected["macro_difference"]
    found = compare_macro_auroc(labels, *scores, test="z")
    limits = expected["ci95"]
    assert (found.value, found.statistic, found.p_value, found.lower, found.upper) == pytest.approx(
        (expected["diff"], expected["z"], expected["p"], limits["lower"], limits["upper"]), abs=1e-9
    )
    by_t = compare_macro_auroc(labels, *scores)
    assert 14 < by_t.df < 299
    assert by_t.statistic == found.statistic


@pytest.mark.parametrize(("arm", "name"), [(0, "m1"), (1, "m2")])
def test_micro_equals_obuchowski_in_r(arm, name):
    case = load("P16")
    labels, scores = multilabel(case)
    expected = case.expected["micro"][name]
    rows = labels.size
    found = auroc_variance(labels.reshape(rows), scores[arm].reshape(rows), clusters=np.repeat(case["patient"], 4))
    assert (found.auroc, found.variance) == pytest.approx(
        (expected["auc"], expected["var_clustered_obuchowski"]), abs=1e-12
    )
    by_name = micro_auroc(labels, scores[arm], method="delong")
    assert by_name.value == pytest.approx(expected["auc"], abs=1e-12)
    half = (by_name.upper - by_name.lower) / 2
    assert half == pytest.approx(1.959963984540054 * expected["se_clustered"], rel=1e-10)
    assert by_name.clusters == 300


@pytest.mark.parametrize(("arm", "name"), [(0, "m1"), (1, "m2")])
def test_patient_bootstrap_has_the_standard_error_of_r(arm, name):
    case = load("P16")
    labels, scores = multilabel(case)
    expected = case.expected["patient_bootstrap_check"]["macro_se"][name]
    found = macro_auroc(labels, scores[arm], method="bootstrap", rng=np.random.default_rng(1), replicates=3000)
    normal = 2 * 1.959963984540054
    assert (found.upper - found.lower) / normal == pytest.approx(expected, rel=0.05)
    assert found.value == pytest.approx(case.expected["macro"][name]["auc"], abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_one_target_is_the_plain_auroc(method):
    labels, scores = sample(targets=1)
    macro, micro = (rule(labels, scores[0], method=method) for rule in (macro_auroc, micro_auroc))
    plain = auroc(labels[:, 0], scores[0, :, 0], method=method)
    for found in (macro, micro):
        assert (found.value, found.lower, found.upper) == pytest.approx(
            (plain.value, plain.lower, plain.upper), abs=1e-12
        )
    assert macro.method == plain.method
    assert (macro.n, macro.positives) == (plain.n, plain.positives)


def test_mover_joins_the_targets_own_limits_with_their_correlation():
    labels, scores = sample(targets=3)
    singles = [auroc(labels[:, target], scores[0, :, target]) for target in range(3)]
    covariance = auroc_covariance(labels, scores[:1]).covariance
    error = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(error, error)
    found = macro_auroc(labels, scores[0])
    assert found.value == pytest.approx(np.mean([one.value for one in singles]), abs=1e-12)
    for limit, ends in (
        (found.value - found.lower, [one.value - one.lower for one in singles]),
        (found.upper - found.value, [one.upper - one.value for one in singles]),
    ):
        assert limit == pytest.approx(np.sqrt(np.array(ends) @ correlation @ np.array(ends)) / 3, rel=1e-10)


def test_auto_tells_how_many_targets_are_small():
    case = load("P16")
    labels, scores = multilabel(case)
    assert macro_auroc(labels, scores[0]).method == "auto: MOVER of 2 envelope and 2 logit-t limits (small sample)"
    assert macro_auroc(labels[:, :2], scores[0][:, :2]).method == "auto: MOVER of 2 logit-t limits"
    assert macro_auroc(labels, scores[0], method="logit-t").method == "MOVER of logit-t limits"


def test_a_target_without_estimable_correlation_widens_the_interval():
    labels, scores = sample(targets=2, missing=0.0)
    perfect = scores[0].copy()
    perfect[:, 1] = labels[:, 1]
    found = macro_auroc(labels, perfect)
    singles = [auroc(labels[:, target], perfect[:, target]) for target in range(2)]
    assert found.lower == pytest.approx(found.value - sum(one.value - one.lower for one in singles) / 2, abs=1e-12)
    lone = labels.copy()
    lone[np.flatnonzero(lone[:, 1] == 1)[1:], 1] = np.nan
    one_positive = macro_auroc(lone, scores[0])
    assert one_positive.lower < one_positive.value < one_positive.upper
    plain = macro_auroc(lone, scores[0], method="delong")
    assert np.isnan(plain.lower)
    assert plain.reason == "target 1: the variance needs two positive patients"


def test_a_target_without_a_class_is_never_dropped_from_the_mean():
    labels, scores = sample(targets=3)
    labels[:, 2] = np.nan
    for method in ("auto", "delong", "bootstrap"):
        found = macro_auroc(labels, scores[0], method=method, rng=np.random.default_rng(0))
        assert np.isnan([found.value, found.lower, found.upper]).all()
        assert found.reason == "target 2: no known labels"
    compared = compare_macro_auroc(labels, scores[0], scores[1])
    assert np.isnan([compared.value, compared.p_value]).all()
    assert compared.reason == "target 2: no known labels"


def test_perfect_targets_have_no_logit_limits_but_default_ones():
    labels = np.tile([[0.0, 0.0], [1.0, 1.0]], (10, 1))
    by_logit = macro_auroc(labels, labels, method="delong-logit")
    assert np.isnan(by_logit.lower)
    assert "logit" in by_logit.reason
    found = macro_auroc(labels, labels)
    assert (found.value, found.upper) == (1.0, 1.0)
    assert 0.5 < found.lower < 1.0


def test_identical_arms_have_p_of_one():
    labels, scores = sample()
    found = compare_macro_auroc(labels, scores[0], np.exp(scores[0]))
    assert (found.value, found.lower, found.upper, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_one_target_comparison_is_the_paired_one_for_every_hypothesis():
    labels, scores = sample(targets=1)
    for options in ({}, {"hypothesis": "superiority"}, {"hypothesis": "non-inferiority", "margin": 0.1, "test": "z"}):
        macro = compare_macro_auroc(labels, scores[0], scores[1], **options)
        plain = compare_auroc(labels[:, 0], scores[0, :, 0], scores[1, :, 0], **options)
        assert (macro.p_value, macro.lower, macro.df) == pytest.approx((plain.p_value, plain.lower, plain.df), rel=1e-9)


def test_strata_and_clusters_reach_every_entry_point():
    labels, scores = sample(n=160)
    patients, folds = np.arange(160) // 2, np.arange(160) // 2 % 4
    shifted = scores + 9 * folds[None, :, None]
    for rule in (macro_auroc, micro_auroc):
        for method in ("auto", "bootstrap"):
            plain, moved = (
                rule(
                    labels,
                    one,
                    method=method,
                    clusters=patients,
                    strata=folds,
                    rng=np.random.default_rng(2),
                    replicates=50,
                )
                for one in (scores[0], shifted[0])
            )
            assert (plain.lower, plain.upper) == pytest.approx((moved.lower, moved.upper), abs=1e-12)
            assert plain.clusters == 80
            assert "within 4 strata" in plain.method
    labelled = int((~np.isnan(labels)).any(axis=1).sum())
    assert compare_macro_auroc(labels, *shifted[:2], strata=folds).clusters == labelled


def test_bootstrap_draws_again_when_a_rare_target_loses_its_class():
    rng = np.random.default_rng(8)
    labels = (rng.random((40, 2)) < 0.4).astype(float)
    labels[:, 1] = 0.0
    labels[:2, 1] = 1.0  # lost in about 13 % of plain resamples
    found = macro_auroc(labels, rng.random((40, 2)), method="bootstrap", rng=rng, replicates=300)
    assert 0 <= found.lower < found.upper <= 1


@pytest.mark.parametrize("rule", [macro_auroc, micro_auroc])
def test_misuse_is_refused_by_name(rule):
    labels, scores = sample()
    for call, words in (
        (lambda: rule(labels, scores[0], method="bootstrap", rng=1), "rng: expected"),
        (lambda: rule(labels, scores[0], method="mean"), "method: expected one of auto"),
        (lambda: rule(labels[:, 0], scores[0, :, 0]), "labels: expected shape (n, targets)"),
        (lambda: rule(labels, scores[0][:, :1]), "scores: expected shape (120, 2) as labels"),
    ):
        with pytest.raises(StatisticsError) as caught:
            call()
        assert words in str(caught.value)


def test_micro_auroc_of_no_rows_is_not_estimable():
    found = micro_auroc(np.empty((0, 2)), np.empty((0, 2)))
    assert np.isnan([found.value, found.lower, found.upper]).all()
    assert found.reason


def test_resampling_gives_up_where_hardly_any_sample_keeps_every_class():
    labels = np.zeros((120, 50))
    labels[np.arange(100), np.arange(100) // 2] = 1.0  # fifty targets of two positives each: .87 ** 50 keep all
    found = macro_auroc(labels, np.random.default_rng(0).random((120, 50)), method="bootstrap", replicates=50)
    assert np.isnan([found.lower, found.upper]).all()
    assert found.reason == "limits: hardly any resample keeps both classes of every target"


def test_the_bootstrap_gives_no_limits_where_a_target_has_one_patient_of_a_class():
    """A single positive is in every resample: the interval would cover 28 % of the time."""
    labels, scores = sample(targets=2, missing=0.0)
    labels[:, 1] = np.arange(labels.shape[0]) == 0
    found = macro_auroc(labels, scores[0], method="bootstrap", replicates=50)
    assert 0 < found.value < 1
    assert np.isnan([found.lower, found.upper]).all()
    assert found.reason == "limits: the bootstrap needs two patients of each class, target 1 has one"
    assert found.method == "bootstrap (stratified percentile, 50 replicates)"
    alone, plain = (
        macro_auroc(labels[:, 1:], scores[0][:, 1:], method="bootstrap"),
        auroc(labels[:, 1], scores[0, :, 1], method="bootstrap"),
    )
    assert (alone.reason, alone.method) == (plain.reason, plain.method)


def test_strata_are_told_only_where_there_are_some_and_of_one_target():
    labels, scores = sample(targets=2, missing=0.0)
    labels[:, 1] = 0.0  # a target without positives has no stratum with both classes, and no strata either
    for found in (macro_auroc(labels, scores[0]), compare_macro_auroc(labels, *scores[:2])):
        assert "strata" not in found.method
    folds = np.arange(labels.shape[0]) % 5
    labels[:, 1] = (folds == 2) & (labels[:, 0] == 1)
    found = macro_auroc(labels, scores[0], strata=folds)
    assert found.method.endswith(", within 1 stratum (4 without both classes left out)")


def test_weights_off_by_rounding_make_no_difference_of_identical_arms():
    labels, scores = sample(targets=1)
    aurocs = auroc_covariance(labels, np.stack([scores[0], scores[0]]))
    found = contrast(aurocs, [[0.1 + 0.2], [-0.3]])
    assert (found.value, found.p_value) == (0.0, 1.0)
