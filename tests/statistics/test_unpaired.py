"""Two groups of different patients: bootstrap and permutation of the difference of their AUROCs."""

from itertools import combinations

import numpy as np
import pytest
from golden_cases import load
from scipy.special import ndtri
from slow_twin import pairs

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import auroc_variance, compare_auroc_unpaired


def groups_of(positives=(8, 20), negatives=(40, 60), seed=0, shift=0.0):
    """Labels and scores of both groups; those of B lie `shift` higher."""
    rng = np.random.default_rng(seed)
    arrays = []
    for index, (m, n) in enumerate(zip(positives, negatives, strict=True)):
        labels = np.repeat([1.0, 0.0], [m, n])
        arrays += [labels, rng.standard_normal(m + n) + (1.6 - 0.9 * index) * labels + shift * index]
    return arrays


def ratio_of(positives_a, negatives_a, positives_b, negatives_b):
    """Difference / DeLong standard error from all pairs."""
    value, variance = 0.0, 0.0
    for sign, positives, negatives in ((1, positives_a, negatives_a), (-1, positives_b, negatives_b)):
        labels = np.repeat([1.0, 0.0], [len(positives), len(negatives)])
        v10, v01 = pairs(labels, np.concatenate([positives, negatives]))
        value += sign * v10.mean()
        variance += v10.var(ddof=1) / v10.size + v01.var(ddof=1) / v01.size
    return value / np.sqrt(variance) if variance > 0 else np.copysign(np.inf, value) if value else 0.0


def test_permutation_p_is_the_share_of_all_deals_as_extreme():
    """Four positives and four negatives in two groups of two and two: all 36 deals are listed."""
    positives, negatives = np.array([0.3, 2.0, 2.5, 4.0]), np.array([-1.0, 0.1, 1.5, 2.2])
    found = compare_auroc_unpaired(
        [1, 1, 0, 0], [0.3, 2.0, 1.5, 2.2], [1, 1, 0, 0], [2.5, 4.0, -1.0, 0.1],
        method="permutation", replicates=20_000,
    )  # fmt: skip
    observed = ratio_of([0.3, 2.0], [1.5, 2.2], [2.5, 4.0], [-1.0, 0.1])
    ratios = []
    for own in combinations(range(4), 2):
        for others in combinations(range(4), 2):
            rest, left = np.delete(positives, own), np.delete(negatives, others)
            ratios.append(ratio_of(positives[list(own)], negatives[list(others)], rest, left))
    expected = np.mean(np.abs(ratios) >= abs(observed) - 1e-9)
    assert 0 < expected < 1
    assert found.p_value == pytest.approx(expected, abs=0.012)


def test_permutation_keeps_value_interval_and_statistic_of_the_test_asked_for():
    arrays = groups_of()
    for test in ("t", "satterthwaite", "z"):
        closed = compare_auroc_unpaired(*arrays, test=test)
        found = compare_auroc_unpaired(*arrays, test=test, method="permutation", replicates=50)
        fields = ("value", "lower", "upper", "statistic", "df", "n", "positives", "clusters", "reason")
        assert all(getattr(found, field) == getattr(closed, field) for field in fields)
        assert found.method.endswith(f"interval: {closed.method}")
        assert 0 < found.p_value <= 1


def test_one_sided_permutations_split_the_two_sided_one():
    arrays = groups_of(seed=3)
    better, worse, either = (
        compare_auroc_unpaired(*arrays, method="permutation", hypothesis=hypothesis, replicates=999)
        for hypothesis in ("superiority", "inferiority", "two-sided")
    )
    assert better.value > 0
    assert better.p_value < either.p_value < worse.p_value
    assert better.p_value + worse.p_value == pytest.approx(1.0, abs=0.01)


def test_one_positive_in_a_group_has_a_permutation_test_but_no_other():
    arrays = groups_of(positives=(1, 6), seed=1)
    assert np.isnan(compare_auroc_unpaired(*arrays).p_value)
    booted = compare_auroc_unpaired(*arrays, method="bootstrap", replicates=50)
    assert np.isnan([booted.lower, booted.upper, booted.p_value]).all()
    assert "two patients of each class" in booted.reason
    assert 0 < compare_auroc_unpaired(*arrays, method="permutation", replicates=199).p_value <= 1


def test_bootstrap_draws_each_group_by_itself():
    """Its standard deviation is that of independent AUROCs."""
    arrays = groups_of(positives=(40, 50), negatives=(80, 90))
    found = compare_auroc_unpaired(*arrays, method="bootstrap", replicates=4000)
    variance = sum(auroc_variance(*arrays[i : i + 2]).variance for i in (0, 2))
    assert found.value / found.statistic == pytest.approx(np.sqrt(variance), rel=0.04)
    closed = compare_auroc_unpaired(*arrays, test="z")
    assert (found.lower, found.upper) == pytest.approx((closed.lower, closed.upper), abs=0.015)
    assert found.p_value == pytest.approx(closed.p_value, abs=0.02)
    margin = compare_auroc_unpaired(*arrays, method="bootstrap", hypothesis="non-inferiority", margin=0.05)
    assert margin.statistic > found.statistic


@pytest.mark.parametrize("marker", ["s100b", "ndka"])
def test_bootstrap_agrees_with_proc(marker):
    """R: roc.test(roc_female, roc_male, method = "bootstrap", boot.n = 10000)."""
    case = load("P02")
    groups = [(case["y"][own], case[marker][own]) for own in (case["gender"] == name for name in ("Female", "Male"))]
    reference = case.expected[marker]["bootstrap_unpaired"]
    found = compare_auroc_unpaired(*groups[0], *groups[1], method="bootstrap", replicates=8000)
    assert found.value == pytest.approx(reference["diff"], abs=1e-12)
    assert found.statistic == pytest.approx(reference["statistic"], rel=0.03)
    assert found.p_value == pytest.approx(reference["p_value"], abs=0.02)


def test_bootstrap_respects_patients_and_strata():
    arrays = groups_of(positives=(20, 20), negatives=(40, 40))
    clusters, strata = np.repeat(np.arange(30), 2), np.arange(60) // 2 % 3
    options = {"clusters_a": clusters, "clusters_b": clusters, "strata_a": strata, "strata_b": strata}
    plain = compare_auroc_unpaired(*arrays, method="bootstrap", replicates=200, **options)
    shifted = [arrays[0], arrays[1] + 50 * strata, arrays[2], arrays[3] + 50 * strata]
    assert compare_auroc_unpaired(*shifted, method="bootstrap", replicates=200, **options) == plain
    assert plain.clusters == 60


@pytest.mark.parametrize("method", ["bootstrap", "permutation"])
def test_the_same_generator_gives_the_same_result_and_none_is_seed_0(method):
    arrays = groups_of(seed=2)
    one, other, seeded, another = (
        compare_auroc_unpaired(*arrays, method=method, replicates=99, rng=rng)
        for rng in (None, None, np.random.default_rng(0), np.random.default_rng(1))
    )
    assert one == other == seeded
    assert another.p_value != one.p_value


@pytest.mark.parametrize("method", ["bootstrap", "permutation"])
def test_edges_are_told_and_never_zero(method):
    labels = np.repeat([1.0, 0.0], 10)
    perfect = compare_auroc_unpaired(labels, labels, labels, labels, method=method, replicates=50)
    assert (perfect.value, perfect.p_value) == (0.0, 1.0)
    assert np.isnan([perfect.lower, perfect.upper]).all()
    assert "no sampling variance" in perfect.reason
    absent = compare_auroc_unpaired(labels, labels, np.zeros(5), np.arange(5), method=method, replicates=50)
    assert np.isnan([absent.value, absent.p_value]).all()
    assert absent.reason == "B: no positives"
    assert absent.method == perfect.method


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "wald"}, "method: expected one of delong, bootstrap, permutation"),
        ({"method": "permutation", "hypothesis": "equivalence", "margin": 0.1}, "'bootstrap' for equivalence"),
        ({"method": "permutation", "clusters_a": [0, 0, 1]}, "no clusters and no strata for 'permutation'"),
        ({"method": "bootstrap", "rng": 3}, "rng: expected a numpy Generator"),
        ({"method": "bootstrap", "replicates": 1}, "replicates: expected a whole number, 2 or more"),
    ],
)
def test_misuse_is_refused_by_name(options, words):
    with pytest.raises(StatisticsError) as caught:
        compare_auroc_unpaired([0, 1, 1], [1, 2, 3], [0, 1, 1], [3, 2, 1], **options)
    assert words in str(caught.value)


def test_permutation_keeps_its_level_where_one_group_has_few_positives():
    """5 against 50 positives of 200, scores of B shifted: the t and z tests reject in 9 to 16 %."""
    rng = np.random.default_rng(8)
    labels = [(np.arange(200) < m).astype(float) for m in (5, 50)]
    rejected = np.zeros(2)
    for _ in range(200):
        a, b = (rng.standard_normal(200) + np.sqrt(2.0) * ndtri(0.85) * one for one in labels)
        for index, method in enumerate(("permutation", "delong")):
            found = compare_auroc_unpaired(labels[0], a, labels[1], b + 1.0, method=method, rng=rng, replicates=59)
            rejected[index] += found.p_value < 0.05
    assert rejected[0] / 200 < 0.05 + 3 * 0.0154
    assert rejected[1] / 200 > 0.09  # the run can fail
