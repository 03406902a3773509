"""Differences of AUROCs: agreement with pROC, each hypothesis' rule, few positives, and identical models."""

import numpy as np
import pytest
from golden_cases import load
from scipy.stats import t as student
from slow_twin import pairs

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import (
    auroc,
    auroc_variance,
    compare_auroc,
    compare_auroc_unpaired,
    equivalence,
    non_inferiority,
    superiority,
)

CASES = [
    ("P01", 0),
    ("P01", 1),
    ("P01", 2),
    *((name, 0) for name in ("P03", "P04", "P05", "P06", "P07", "P08", "P09", "P11")),
]


def pair_of(name, index):
    """Labels, both scores, expected values; complete cases as in R."""
    case = load(name)
    expected = case.expected["pairs"][index]
    a, b = case[expected["model1"]], case[expected["model2"]]
    kept = ~(np.isnan(a) | np.isnan(b) | np.isnan(case["y"]))
    return case["y"][kept], a[kept], b[kept], expected


def sample(positives=12, negatives=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([1.0, 0.0], [positives, negatives])
    shared = rng.standard_normal(labels.size)
    first, second = (shared + rng.standard_normal(labels.size) + effect * labels for effect in (1.5, 1.0))
    return labels, first, second


@pytest.mark.parametrize(("name", "index"), CASES)
def test_paired_z_test_equals_proc(name, index):
    """R: roc.test(r1, r2, method = "delong", paired = TRUE, alternative = ...)."""
    labels, a, b, expected = pair_of(name, index)
    for hypothesis, key in (
        ("two-sided", "delong_paired_two_sided"),
        ("superiority", "delong_paired_greater"),
        ("inferiority", "delong_paired_less"),
    ):
        reference = expected[key]
        found = compare_auroc(labels, a, b, test="z", hypothesis=hypothesis)
        assert (found.value, found.statistic) == pytest.approx((reference["diff"], reference["statistic"]), abs=1e-9)
        assert found.p_value == pytest.approx(reference["p_value"], abs=1e-10)
        limits = reference["diff_ci95"]
        assert (found.lower, found.upper) == pytest.approx((limits["lower"], limits["upper"]), abs=1e-10)
        assert (found.df, found.n) == (np.inf, expected["n_complete"])


@pytest.mark.parametrize(("name", "index"), CASES)
def test_margins_equal_r(name, index):
    """R: pnorm((d + margin)/se, lower.tail = FALSE); the larger p of the two one-sided tests."""
    labels, a, b, expected = pair_of(name, index)
    for reference, tost in zip(expected["noninferiority_auc1_vs_auc2"], expected["equivalence_tost"], strict=True):
        found = non_inferiority(labels, a, b, margin=reference["margin"], test="z")
        assert (found.statistic, found.p_value) == pytest.approx((reference["z"], reference["p_one_sided"]), abs=1e-9)
        assert found.lower == pytest.approx(reference["lower97.5_one_sided"], abs=1e-10)
        at_five = non_inferiority(labels, a, b, margin=reference["margin"], alpha=0.05, test="z")
        assert at_five.lower == pytest.approx(reference["lower95_one_sided"], abs=1e-10)
        assert equivalence(labels, a, b, margin=tost["margin"], test="z").p_value == pytest.approx(tost["p"], abs=1e-10)


@pytest.mark.parametrize(("name", "index"), CASES)
def test_pairs_treated_as_independent_equal_proc(name, index):
    """R: roc.test(r1, r2, method = "delong", paired = FALSE): Student's t with Welch's df."""
    labels, a, b, expected = pair_of(name, index)
    reference = expected["delong_unpaired_treated_as_independent"]
    found = compare_auroc(labels, a, b, paired=False)
    twin = compare_auroc_unpaired(labels, a, labels, b)
    for one in (found, twin):
        assert (one.statistic, one.df) == pytest.approx((reference["statistic"], reference["df"]), rel=1e-9)
        assert one.p_value == pytest.approx(reference["p_value"], abs=1e-10)


@pytest.mark.parametrize("marker", ["s100b", "ndka"])
def test_two_groups_of_patients_equal_proc(marker):
    case = load("P02")
    expected = case.expected[marker]
    groups = [(case["y"][own], case[marker][own]) for own in (case["gender"] == name for name in ("Female", "Male"))]
    found = compare_auroc_unpaired(*groups[0], *groups[1])
    reference = expected["delong_unpaired"]
    assert (found.statistic, found.df, found.p_value) == pytest.approx(
        (reference["statistic"], reference["df"], reference["p_value"]), abs=1e-8
    )
    by_z = compare_auroc_unpaired(*groups[0], *groups[1], test="z")
    limits = expected["z_version"]["ci95"]
    assert (by_z.p_value, by_z.lower, by_z.upper) == pytest.approx(
        (expected["z_version"]["p"], limits["lower"], limits["upper"]), abs=1e-10
    )


def test_subgroup_pairs_equal_proc():
    case = load("P20")
    for reference in case.expected["pairwise_unpaired_delong"]:
        groups = [case["group"] == reference[key] for key in ("g1", "g2")]
        arrays = [array for own in groups for array in (case["y"][own], case["s"][own])]
        found = compare_auroc_unpaired(*arrays)
        assert (found.statistic, found.df, found.p_value) == pytest.approx(
            (reference["statistic"], reference["df"], reference["p_value"]), abs=1e-8
        )


def test_paired_clustered_difference_equals_obuchowski():
    case = load("P17")
    expected = case.expected["paired_difference"]
    found = compare_auroc(case["y"], case["s1"], case["s2"], clusters=case["patient"], test="z")
    limits = expected["ci95"]
    assert (found.value, found.statistic, found.p_value, found.lower, found.upper) == pytest.approx(
        (expected["diff"], expected["z"], expected["p"], limits["lower"], limits["upper"]), abs=1e-10
    )
    assert found.clusters == 120


@pytest.mark.parametrize("name", ["P01", "P03"])
def test_bootstrap_test_agrees_with_proc(name):
    """R: roc.test(r1, r2, method = "bootstrap", boot.n = 10000, paired = TRUE)."""
    labels, a, b, expected = pair_of(name, 0)
    reference = expected["bootstrap_paired"]
    found = compare_auroc(labels, a, b, method="bootstrap", rng=np.random.default_rng(2), replicates=4000)
    assert found.statistic == pytest.approx(reference["statistic"], rel=0.03)
    assert found.p_value == pytest.approx(reference["p_value"], abs=0.02)


def test_t_test_has_the_degrees_of_freedom_of_both_parts():
    labels, first, second = sample(5, 40)
    (v10_a, v01_a), (v10_b, v01_b) = pairs(labels, first), pairs(labels, second)
    a, b = (v10_a - v10_b).var(ddof=1) / 5, (v01_a - v01_b).var(ddof=1) / 40
    df = (a + b) ** 2 / (a**2 / 4 + b**2 / 39)
    found = compare_auroc(labels, first, second)
    assert found.df == pytest.approx(df, rel=1e-12)
    assert found.statistic == pytest.approx(found.value / np.sqrt(a + b), rel=1e-12)
    assert found.p_value == pytest.approx(2 * student.sf(abs(found.statistic), df), rel=1e-9)
    assert found.upper - found.value == pytest.approx(student.ppf(0.975, df) * np.sqrt(a + b), rel=1e-9)
    z = compare_auroc(labels, first, second, test="z")
    assert z.statistic == found.statistic
    assert z.p_value < found.p_value


def test_unpaired_satterthwaite_uses_both_classes_of_both_groups():
    labels, first, second = sample(4, 60)
    parts = [auroc_variance(labels, scores) for scores in (first, second)]
    found = compare_auroc_unpaired(labels, first, labels, second, test="satterthwaite")
    total = sum(part.variance for part in parts)
    assert found.df == pytest.approx(total**2 / sum(part.variance**2 / part.df for part in parts), rel=1e-12)
    assert found.df < compare_auroc_unpaired(labels, first, labels, second).df


@pytest.mark.parametrize("hypothesis", ["superiority", "non-inferiority"])
def test_one_sided_decision_is_that_of_the_lower_limit(hypothesis):
    for seed in range(20):
        labels, first, second = sample(8, 40, seed)
        if hypothesis == "superiority":
            found, margin = superiority(labels, first, second, alpha=0.1), 0.0
        else:
            found, margin = non_inferiority(labels, first, second, margin=0.05, alpha=0.1), 0.05
        assert (found.p_value < 0.1) == (found.lower > -margin)
        assert found.level == pytest.approx(0.8)
        assert hypothesis in found.method


def test_equivalence_decision_is_that_of_both_limits():
    decisions = set()
    for seed in range(20):
        labels, first, second = sample(60, 90, seed)
        found = equivalence(labels, first, second, margin=0.15)
        decisions.add(found.p_value < 0.05)
        assert (found.p_value < 0.05) == (found.lower > -0.15 and found.upper < 0.15)
    assert decisions == {True, False}


@pytest.mark.parametrize("method", ["delong", "bootstrap", "permutation"])
@pytest.mark.parametrize("test", ["t", "z"])
def test_identical_models_have_p_of_one(method, test):
    labels, first, _ = sample()
    found = compare_auroc(labels, first, np.exp(first), method=method, test=test, rng=np.random.default_rng(0))
    assert (found.value, found.lower, found.upper, found.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert found.reason is None


def test_identical_models_give_no_evidence_about_a_margin():
    labels, first, _ = sample()
    found = non_inferiority(labels, first, first, margin=0.05)
    assert np.isnan(found.p_value)
    assert "no sampling variance" in found.reason


def test_two_perfect_models_have_p_of_one_and_an_interval_only_as_proc():
    labels = np.repeat([0.0, 1.0], 10)
    rng = np.random.default_rng(1)
    first, second = labels + 0.1 * rng.random(20), labels + 0.1 * rng.random(20)
    by_t, by_z = (compare_auroc(labels, first, second, test=test) for test in ("t", "z"))
    assert (by_t.value, by_t.p_value) == (0.0, 1.0)
    assert np.isnan([by_t.lower, by_t.upper]).all()
    assert by_t.reason is not None
    assert (by_z.p_value, by_z.lower, by_z.upper, by_z.statistic) == (1.0, 0.0, 0.0, 0.0)
    unpaired = compare_auroc_unpaired(labels, first, labels, second)
    assert unpaired.p_value == 1.0


def test_a_difference_without_variance_is_not_estimable():
    labels = np.repeat([0.0, 1.0], 10)
    for compare in (
        lambda: compare_auroc(labels, labels, np.zeros(20)),
        lambda: compare_auroc_unpaired(labels, labels, labels, np.zeros(20)),
        lambda: compare_auroc(labels, labels, np.zeros(20), method="bootstrap", rng=np.random.default_rng(0)),
    ):
        found = compare()
        assert found.value == 0.5
        assert np.isnan([found.lower, found.upper, found.p_value, found.statistic]).all()
        assert found.reason


def test_one_positive_has_a_difference_and_a_permutation_test_but_no_delong_test():
    labels = np.array([1.0] + [0.0] * 9)
    first, second = np.arange(10)[::-1], np.array([5.5, 9, 8, 7, 6, 5, 4, 3, 2, 1])
    found = compare_auroc(labels, first, second)
    assert found.value == pytest.approx(4 / 9)
    assert np.isnan(found.p_value)
    assert found.reason == "the variance needs two positive patients"
    permuted = compare_auroc(labels, first, second, method="permutation", rng=np.random.default_rng(0))
    assert 0 < permuted.p_value <= 1
    unpaired = compare_auroc_unpaired(labels, first, labels, second)
    assert unpaired.reason.startswith("A: the variance needs")


def test_a_missing_class_leaves_nothing_estimable():
    found = compare_auroc([0, 0, 0], [1, 2, 3], [3, 2, 1], method="bootstrap", rng=np.random.default_rng(0))
    assert np.isnan([found.value, found.lower, found.p_value]).all()
    assert found.reason == "no positives"


def test_permutation_p_is_the_share_of_exchanges_as_extreme():
    """Three patients, so all 8 equally likely exchanges can be listed."""
    labels, first, second = np.array([1.0, 0.0, 0.0]), np.array([3.0, 1.0, 2.0]), np.array([1.0, 3.0, 2.0])
    found = compare_auroc(labels, first, second, method="permutation", rng=np.random.default_rng(0), replicates=20_000)
    ranks = np.array([[3, 1, 2], [1, 3, 2]])
    extreme = 0
    for exchange in range(8):
        swap = np.array([exchange >> i & 1 for i in range(3)], dtype=bool)
        a, b = np.where(swap, ranks[1], ranks[0]), np.where(swap, ranks[0], ranks[1])
        difference = pairs(labels, a)[0].mean() - pairs(labels, b)[0].mean()
        extreme += abs(difference) >= 1 - 1e-9
    assert found.p_value == pytest.approx(extreme / 8, abs=0.01)


def test_permutation_does_not_mind_different_scales():
    labels, first, second = sample(6, 40)
    found, rescaled = (
        compare_auroc(labels, first, other, method="permutation", rng=np.random.default_rng(3), replicates=500)
        for other in (second, 1000 + np.exp(second))
    )
    assert found.p_value == rescaled.p_value


def test_resampling_respects_patients_and_strata():
    labels, first, second = sample(30, 60)
    clusters = np.repeat(np.arange(45), 2)
    strata = np.concatenate([np.arange(30) // 2 % 3, np.arange(60) // 2 % 3])
    shifted = [scores + 50 * strata for scores in (first, second)]
    for method in ("bootstrap", "permutation"):
        plain, moved = (
            compare_auroc(
                labels,
                *arms,
                method=method,
                clusters=clusters,
                strata=strata,
                rng=np.random.default_rng(7),
                replicates=400,
            )
            for arms in ((first, second), shifted)
        )
        assert plain == moved
        assert plain.clusters == 45


def test_strata_are_compared_within():
    labels, first, second = sample(20, 60)
    strata = np.arange(80) % 4
    found = compare_auroc(labels, first, second + 9 * strata, strata=strata)
    singles = [auroc(labels, scores, strata=strata).value for scores in (first, second)]
    assert found.value == pytest.approx(singles[0] - singles[1], abs=1e-12)
    assert "within 4 strata" in found.method


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test": "wald"}, "test: expected one of t, z"),
        ({"hypothesis": "better"}, "hypothesis: expected one of two-sided"),
        ({"hypothesis": "non-inferiority"}, "margin: expected a number in (0, 1)"),
        ({"hypothesis": "equivalence", "margin": -0.1}, "margin: expected a number in (0, 1)"),
        ({"margin": 0.1}, "margin: expected none"),
        ({"method": "bootstrap", "rng": "seed"}, "rng: expected a numpy Generator"),
        ({"paired": "yes"}, "paired: expected True or False"),
        ({"method": "bootstrap", "paired": False}, "method: expected 'delong' with paired=False"),
        ({"method": "permutation", "hypothesis": "equivalence", "margin": 0.1}, "method: expected 'delong' or"),
        ({"level": 1.0}, "level: expected a number between 0 and 1"),
    ],
)
def test_misuse_is_refused_by_name(options, words):
    with pytest.raises(StatisticsError) as caught:
        compare_auroc([0, 1, 1], [1, 2, 3], [3, 2, 1], **options)
    assert words in str(caught.value)


def test_faults_of_unpaired_groups_carry_their_names():
    with pytest.raises(StatisticsError, match="scores_b: expected shape"):
        compare_auroc_unpaired([0, 1], [1, 2], [0, 1], [1, 2, 3])
    with pytest.raises(StatisticsError, match="labels_a: expected 0, 1 or NaN"):
        compare_auroc_unpaired([0, 7], [1, 2], [0, 1], [1, 2])


def test_bootstrap_of_one_positive_decides_nothing():
    labels = np.array([1.0] + [0.0] * 9)
    first, second = np.arange(10)[::-1], np.array([5.5, 9, 8, 7, 6, 5, 4, 3, 2, 1])
    found = compare_auroc(labels, first, second, method="bootstrap", replicates=100)
    assert found.value == pytest.approx(4 / 9)
    assert np.isnan([found.lower, found.upper, found.p_value]).all()
    assert "two patients of each class" in found.reason


@pytest.mark.parametrize("method", ["delong", "bootstrap", "permutation", "mover"])
def test_two_perfect_scores_have_p_of_one_by_every_method(method):
    labels = np.repeat([1.0, 0.0], [8, 22])
    found = compare_auroc(labels, labels, 2 * labels + np.arange(30) / 1e3, method=method, replicates=50)
    assert (found.value, found.p_value) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("delong", "paired DeLong, Satterthwaite t; superiority, one-sided"),
        ("bootstrap", "paired bootstrap (stratified percentile, 50 replicates); superiority, one-sided"),
        (
            "permutation",
            "permutation test (ranks exchanged within patients, 50 replicates); superiority, one-sided; interval: "
            "paired DeLong, Satterthwaite t; superiority, one-sided",
        ),
        ("mover", "paired MOVER of the arms' own auto limits; superiority, one-sided"),
    ],
)
def test_a_result_names_the_method_asked_for_also_where_there_is_nothing_to_estimate(method, name):
    labels, first, second = sample()
    for labelled, other in ((labels, second), (labels, first), (0 * labels, second)):
        found = compare_auroc(labelled, first, other, method=method, hypothesis="superiority", replicates=50)
        assert found.method == name


def test_a_generator_does_not_turn_delong_into_a_permutation_test():
    labels, first, second = sample()
    assert compare_auroc(labels, first, second, rng=np.random.default_rng(0)) == compare_auroc(labels, first, second)
