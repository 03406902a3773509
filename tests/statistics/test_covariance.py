"""The covariance over arms x targets, contrasts of it, and heterogeneity tests."""

import numpy as np
import pytest
from golden_cases import load
from scipy.stats import chi2
from scipy.stats import f as fisher
from slow_twin import covariance as slow_covariance
from slow_twin import obuchowski

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import (
    auroc_covariance,
    auroc_heterogeneity,
    compare_auroc,
    contrast,
    heterogeneity,
)
from tapfm_eval.statistics.covariance import spread


def multilabel(case):
    """Labels (n, 4) and scores (2, n, 4) of the multilabel case."""
    labels = np.stack([case[f"y_L{target}"] for target in range(1, 5)], axis=1)
    scores = np.stack([np.stack([case[f"{arm}_L{target}"] for target in range(1, 5)], axis=1) for arm in ("m1", "m2")])
    return labels, scores


def sample(n=120, arms=3, targets=2, seed=0, missing=0.15):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 1)) + rng.standard_normal((n, targets))
    truth = latent > 0.8
    labels = np.where(rng.random(truth.shape) < missing, np.nan, truth)
    scores = truth + rng.standard_normal((n, 1)) + rng.standard_normal((arms, n, targets))
    return labels, np.round(scores, 1)


def test_covariance_equals_r_in_its_order():
    """R: crossprod of structural components; its diagonal and same-label blocks equal pROC's var() and cov()."""
    case = load("P16")
    found = auroc_covariance(*multilabel(case))
    assert found.aurocs.reshape(-1) == pytest.approx(list(case.expected["auc"].values()), abs=1e-12)
    assert found.covariance == pytest.approx(np.array(case.expected["covariance"]), abs=1e-14)
    assert found.positives == tuple(case.expected["n_pos"].values())
    observed = tuple(p + n for p, n in zip(found.positives, found.negatives, strict=True))
    assert observed == tuple(case.expected["n_observed"].values())
    assert (found.patients, found.n) == (300, sum(observed))


@pytest.mark.parametrize("name", ["P01", "P03", "P04", "P05", "P06", "P07", "P11"])
def test_covariance_of_two_arms_equals_proc(name):
    """R: cov(r1, r2, method = "delong"), var(r1), var(r2)."""
    case = load(name)
    expected = case.expected["pairs"][0]
    scores = np.stack([case[expected["model1"]], case[expected["model2"]]])[:, :, None]
    found = auroc_covariance(case["y"][:, None], scores)
    reference = [[expected["var1"], expected["cov12"]], [expected["cov12"], expected["var2"]]]
    assert found.covariance == pytest.approx(np.array(reference), abs=1e-12)


def test_covariance_equals_the_slow_twin():
    labels, scores = sample()
    assert auroc_covariance(labels, scores).covariance == pytest.approx(slow_covariance(labels, scores), abs=1e-15)


def test_one_row_a_patient_makes_clusters_immaterial():
    labels, scores = sample()
    plain = auroc_covariance(labels, scores)
    clustered = auroc_covariance(labels, scores, clusters=np.arange(120) * 7 % 120)
    assert clustered.covariance == pytest.approx(plain.covariance, abs=1e-15)


def test_clustered_covariance_has_obuchowski_on_its_diagonal_and_in_paired_cells():
    labels, scores = sample(missing=0.0)
    patients = np.random.default_rng(2).integers(0, 40, 120)
    found = auroc_covariance(labels, scores, clusters=patients)
    for arm in range(3):
        for target in range(2):
            _, variance = obuchowski(labels[:, target], scores[arm, :, target], patients)
            place = arm * 2 + target
            assert found.covariance[place, place] == pytest.approx(variance, rel=1e-12)
    case = load("P17")
    two = auroc_covariance(case["y"][:, None], np.stack([case["s1"], case["s2"]])[:, :, None], clusters=case["patient"])
    assert two.covariance[0, 1] == pytest.approx(case.expected["paired_difference"]["cov"], abs=1e-12)


@pytest.mark.parametrize("grouping", ["none", "clusters", "strata"])
def test_spread_of_any_contrast_is_the_quadratic_form(grouping):
    labels, scores = sample()
    groups = np.random.default_rng(3).integers(0, 30 if grouping == "clusters" else 4, 120)
    options = {} if grouping == "none" else {grouping: groups}
    found = auroc_covariance(labels, scores, **options)
    weights = np.random.default_rng(4).standard_normal((3, 2))
    flat = weights.reshape(-1)
    one = spread(found, weights)
    assert one.value == pytest.approx(flat @ found.aurocs.reshape(-1), rel=1e-12)
    assert one.variance == pytest.approx(flat @ found.covariance @ flat, rel=1e-10)
    assert np.linalg.eigvalsh(found.covariance).min() > -1e-12


def test_a_single_target_contrast_is_the_paired_comparison():
    labels, scores = sample()
    found = contrast(auroc_covariance(labels, scores), [[1, 0], [0, 0], [-1, 0]])
    twin = compare_auroc(labels[:, 0], scores[0, :, 0], scores[2, :, 0])
    for field in ("value", "lower", "upper", "statistic", "df", "p_value"):
        assert getattr(found, field) == pytest.approx(getattr(twin, field), rel=1e-10)


def test_a_target_given_twice_earns_no_degrees_of_freedom():
    labels, scores = sample(targets=1)
    twice = auroc_covariance(np.repeat(labels, 2, axis=1), np.repeat(scores, 2, axis=2))
    once = auroc_covariance(labels, scores)
    doubled, single = spread(twice, [[0.5, 0.5], [-0.5, -0.5], [0, 0]]), spread(once, [[1], [-1], [0]])
    assert (doubled.variance, doubled.df) == pytest.approx((single.variance, single.df), rel=1e-12)


def test_rows_that_repeat_a_patient_earn_no_degrees_of_freedom():
    labels, scores = sample(targets=1, missing=0.0)
    once = spread(auroc_covariance(labels, scores), [[1], [-1], [0]])
    repeated = auroc_covariance(
        np.repeat(labels, 3, axis=0), np.repeat(scores, 3, axis=1), clusters=np.repeat(np.arange(120), 3)
    )
    again = spread(repeated, [[1], [-1], [0]])
    assert (again.value, again.variance, again.df) == pytest.approx((once.value, once.variance, once.df), rel=1e-12)


def test_unestimable_targets_are_named_and_leave_the_others_alone():
    labels, scores = sample()
    labels[:, 1] = np.where(labels[:, 1] == 1, np.nan, labels[:, 1])
    found = auroc_covariance(labels, scores)
    assert found.reasons == (None, "no positives")
    assert np.isnan(found.aurocs[:, 1]).all()
    kept = np.isfinite(np.diag(found.covariance)).reshape(3, 2)
    assert kept[:, 0].all()
    assert not kept[:, 1].any()
    assert contrast(found, [[1, 0], [-1, 0], [0, 0]]).reason is None
    assert contrast(found, [[1, 1], [-1, -1], [0, 0]]).reason == "target 1: no positives"


def test_identical_arms_never_differ():
    labels, scores = sample()
    found = contrast(auroc_covariance(labels, scores[[0, 0, 1]]), [[0.3, 0.7], [-0.3, -0.7], [0, 0]])
    assert (found.value, found.p_value, found.lower, found.upper) == (0.0, 1.0, 0.0, 0.0)


def test_an_empty_contrast_is_zero():
    labels, scores = sample()
    assert contrast(auroc_covariance(labels, scores), np.zeros((3, 2))).p_value == 1.0


def test_heterogeneity_with_independent_groups_is_cochrans_q():
    """R: metafor::rma(yi, vi, method = "FE")$QE."""
    case = load("P20")
    groups = case.expected["groups"]
    found = heterogeneity([one["auc"] for one in groups], np.diag([one["var"] for one in groups]))
    expected = case.expected["cochran_Q"]
    assert (found.statistic, found.df, found.p_value) == pytest.approx(
        (expected["Q"], expected["df"], expected["p"]), abs=1e-9
    )


def test_heterogeneity_of_two_components_is_the_squared_z():
    labels, scores = sample()
    covariance = auroc_covariance(labels, scores)
    z = contrast(covariance, [[1, 0], [-1, 0], [0, 0]], test="z")
    found = auroc_heterogeneity(covariance, [(0, 0), (1, 0)])
    assert found.statistic == pytest.approx(z.statistic**2, rel=1e-10)
    assert found.p_value == pytest.approx(z.p_value, rel=1e-9)


def test_heterogeneity_over_three_arms_follows_wald_and_f():
    labels, scores = sample()
    covariance = auroc_covariance(labels, scores)
    index = [0, 2, 4]
    contrasts = np.array([[1, -1, 0], [1, 0, -1]])
    difference = contrasts @ covariance.aurocs[:, 0]
    wald = difference @ np.linalg.solve(
        contrasts @ covariance.covariance[np.ix_(index, index)] @ contrasts.T, difference
    )
    components = [(arm, 0) for arm in range(3)]
    found = auroc_heterogeneity(covariance, components)
    assert (found.statistic, found.df) == (pytest.approx(wald, rel=1e-10), 2)
    assert found.p_value == pytest.approx(chi2.sf(wald, 2), rel=1e-9)
    by_f = auroc_heterogeneity(covariance, components, test="f")
    df = min(covariance.positives[0], covariance.negatives[0]) - 1
    assert (by_f.df, by_f.df_denominator) == (2, df - 1)
    assert by_f.statistic == pytest.approx((df - 1) / (2 * df) * wald, rel=1e-10)
    assert by_f.p_value == pytest.approx(fisher.sf(by_f.statistic, 2, df - 1), rel=1e-9)
    assert by_f.p_value > found.p_value


def test_components_may_be_whole_floats():
    labels, scores = sample()
    aurocs = auroc_covariance(labels, scores)
    expected = auroc_heterogeneity(aurocs, [(0, 0), (2, 1)])
    for components in ([(0.0, 0), (2.0, 1)], np.array([[0.0, 0.0], [2.0, 1.0]])):
        assert auroc_heterogeneity(aurocs, components) == expected


def test_heterogeneity_refuses_what_is_no_covariance():
    for estimates, covariance, words in (
        ([np.inf, 0.8], np.eye(2), "finite numbers or NaN"),
        ([0.7, 0.8], [[1.0, 0.0], [0.0, np.inf]], "finite numbers or NaN"),
        ([0.7, 0.8], [[1.0, 0.5], [0.0, 1.0]], "covariance: expected a symmetric matrix"),
    ):
        with pytest.raises(StatisticsError, match=words):
            heterogeneity(estimates, covariance)
    found = heterogeneity([0.7, 0.8], [[1.0, 2.0], [2.0, 1.0]])
    assert np.isnan(found.p_value)
    assert found.reason == "the covariance gives a contrast a negative variance"


def test_heterogeneity_at_its_edges():
    labels, scores = sample()
    same = auroc_heterogeneity(auroc_covariance(labels, scores[[0, 0, 0]]), [(0, 0), (1, 0), (2, 0)])
    assert (same.statistic, same.df, same.p_value) == (0.0, 0.0, 1.0)
    two_of_three = auroc_heterogeneity(auroc_covariance(labels, scores[[0, 0, 1]]), [(0, 0), (1, 0), (2, 0)])
    assert two_of_three.df == 1
    impossible = heterogeneity([0.5, 1.0], np.zeros((2, 2)))
    assert np.isnan(impossible.p_value)
    assert "no sampling variance" in impossible.reason
    assert heterogeneity([0.5, np.nan], np.eye(2)).reason == "an estimate or its variance is not estimable"
    assert "3 contrasts need more than 2" in heterogeneity([0.5, 0.6, 0.7, 0.8], np.eye(4), df=2, test="f").reason
    one_positive = auroc_covariance([[1], [0], [0]], np.arange(6).reshape(2, 3, 1))
    assert auroc_heterogeneity(one_positive, [(0, 0), (1, 0)], test="f").reason.startswith("a target has fewer")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda y, s: auroc_covariance(y, s[0]), "scores: expected shape (arms, n, targets)"),
        (lambda y, s: auroc_covariance(y, s[:, :, :1]), "scores[2]: expected shape (120, 2) as labels"),
        (lambda y, s: auroc_covariance(y[:, 0], s), "labels: expected shape (n, targets)"),
        (lambda y, s: auroc_covariance(y, np.where(s > 2, np.inf, s)), "infinite among"),
        (lambda y, s: contrast(auroc_covariance(y, s), [1, -1, 0]), "weights: expected finite weights of shape (3, 2)"),
        (lambda y, s: auroc_heterogeneity(auroc_covariance(y, s), [(0, 0), (3, 0)]), "components: expected"),
        (lambda y, s: auroc_heterogeneity(auroc_covariance(y, s), [(0, 0)]), "K of 2 or more"),
        (lambda y, s: heterogeneity([0.5, 0.6], np.eye(2), test="f"), "df: expected a positive number"),
        (lambda y, s: heterogeneity([0.5, 0.6], np.eye(2), test="wald"), "test: expected one of chi2, f"),
    ],
)
def test_misuse_is_refused_by_name(call, words):
    with pytest.raises(StatisticsError) as caught:
        call(*sample())
    assert words in str(caught.value)
