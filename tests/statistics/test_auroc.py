"""One AUROC: agreement with pROC, the slow twin, each interval's rule, and what happens at the edges."""

import dataclasses
import json

import numpy as np
import pytest
from golden_cases import load
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student
from slow_twin import delong, obuchowski, stratified

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import (
    auroc,
    auroc_variance,
    mcnemar,
    operating_point_from_counts,
    predictive_values,
    proportion,
    threshold_at,
)

CASES = [
    (case, marker)
    for case, markers in {
        "P01": ("s100b", "ndka", "wfns"),
        **dict.fromkeys(("P03", "P04", "P05", "P06", "P07", "P08", "P09", "P11"), ("s1", "s2")),
    }.items()
    for marker in markers
]
METHODS = ("auto", "delong", "delong-logit", "logit-t", "newcombe5", "envelope", "bootstrap")


def sample(positives=12, negatives=80, seed=0, digits=1):
    """Labels, scores with ties."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([1.0, 0.0], [positives, negatives])
    return labels, np.round(rng.standard_normal(labels.size) + labels, digits)


@pytest.mark.parametrize(("name", "marker"), CASES)
def test_auroc_variance_and_delong_intervals_equal_proc(name, marker):
    """R: r <- roc(y, s, levels = c(0, 1), direction = "<"); ci.auc(r, method = "delong"); var(r)."""
    case = load(name)
    expected = case.expected["models"][marker]
    seen = ~np.isnan(case[marker])  # pROC drops rows without a score; here that is the caller's decision
    labels, scores = case["y"][seen], case[marker][seen]
    found = auroc_variance(labels, scores)
    assert found.auroc == pytest.approx(expected["auc"], abs=1e-12)
    assert found.variance == pytest.approx(expected["delong_var"], abs=1e-12)
    assert (found.positives, found.negatives) == (expected["n_pos"], expected["n_neg"])
    for level in (90, 95, 99):
        interval = auroc(labels, scores, method="delong", level=level / 100)
        limits = expected[f"ci{level}_delong"]
        assert (interval.lower, interval.upper) == pytest.approx((limits["lower"], limits["upper"]), abs=1e-10)
    on_logit = auroc(labels, scores, method="delong-logit")
    limits = expected["ci95_logit"]
    assert (on_logit.lower, on_logit.upper) == pytest.approx((limits["lower"], limits["upper"]), abs=1e-10, nan_ok=True)
    assert (on_logit.reason is None) == (not np.isnan(limits["lower"]))


@pytest.mark.parametrize(("name", "marker"), [("P01", "s100b"), ("P03", "s1"), ("P03", "s2")])
def test_bootstrap_interval_agrees_with_proc_and_keeps_the_estimate(name, marker):
    """R: ci.auc(r, method = "bootstrap", boot.n = 10000, boot.stratified = TRUE)."""
    case = load(name)
    expected = case.expected["models"][marker]
    limits = expected["ci95_bootstrap_stratified_percentile"]
    found = auroc(case["y"], case[marker], method="bootstrap", rng=np.random.default_rng(1), replicates=5000)
    assert (found.lower, found.upper) == pytest.approx((limits["lower"], limits["upper"]), abs=0.01)
    assert found.value == pytest.approx(expected["auc"], abs=1e-12)


def test_subgroups_equal_proc():
    case = load("P20")
    for expected in case.expected["groups"]:
        own = case["group"] == expected["group"]
        found = auroc_variance(case["y"][own], case["s"][own])
        assert (found.auroc, found.variance) == pytest.approx((expected["auc"], expected["var"]), abs=1e-12)


@pytest.mark.parametrize("marker", ["s1", "s2"])
def test_clustered_variance_equals_obuchowski(marker):
    """R: obuchowski(y, s, patient), made by the formula of the paper; S10 and S01 too."""
    case = load("P17")
    expected = case.expected["models"][marker]
    found = auroc_variance(case["y"], case[marker], clusters=case["patient"])
    assert found.auroc == pytest.approx(expected["auc"], abs=1e-12)
    assert found.variance == pytest.approx(expected["var"], abs=1e-12)
    assert found.positive_part * expected["M"] == pytest.approx(expected["S10"], abs=1e-12)
    assert found.negative_part * expected["N"] == pytest.approx(expected["S01"], abs=1e-12)
    counts = (found.patients, found.positive_patients, found.negative_patients)
    assert counts == (expected["n_clusters"], expected["n_clusters_pos"], expected["n_clusters_neg"])
    for method, key in (("delong", "ci95_plain"), ("delong-logit", "ci95_logit")):
        interval = auroc(case["y"], case[marker], clusters=case["patient"], method=method)
        limits = expected[key]
        assert (interval.lower, interval.upper) == pytest.approx((limits["lower"], limits["upper"]), abs=1e-10)
        assert (interval.n, interval.positives, interval.clusters) == (250, 78, 120)
    naive = auroc_variance(case["y"], case[marker])
    assert np.sqrt(naive.variance) == pytest.approx(case.expected["naive_delong_se"][marker], abs=1e-12)


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_parts_equal_the_slow_twin(digits):
    labels, scores = sample(digits=digits)
    found = auroc_variance(labels, scores)
    value, a, b = delong(labels, scores)
    assert (found.auroc, found.positive_part, found.negative_part) == pytest.approx((value, a, b), rel=1e-12)
    assert found.df == pytest.approx((a + b) ** 2 / (a**2 / 11 + b**2 / 79), rel=1e-12)


def test_patients_holding_both_labels_equal_the_slow_twin():
    labels, scores = sample(30, 60)
    patients = np.random.default_rng(3).integers(0, 25, labels.size)
    found = auroc_variance(labels, scores, clusters=patients)
    assert (found.auroc, found.variance) == pytest.approx(obuchowski(labels, scores, patients), rel=1e-12)
    assert found.cross_part != 0
    assert found.variance == pytest.approx(found.positive_part + found.negative_part + found.cross_part, rel=1e-12)


def test_strata_give_the_pair_weighted_mean_of_their_aurocs():
    labels, scores = sample(30, 120)
    strata = np.random.default_rng(4).integers(0, 5, labels.size)
    found = auroc_variance(labels, scores, strata=strata)
    assert (found.auroc, found.variance) == pytest.approx(stratified(labels, scores, strata), rel=1e-12)
    shifted = auroc_variance(labels, scores + 100 * strata, strata=strata)
    assert (shifted.auroc, shifted.variance) == pytest.approx((found.auroc, found.variance), rel=1e-12)
    assert auroc(labels, scores, strata=strata).method.endswith(", within 5 strata")


def test_one_stratum_and_single_row_clusters_change_nothing():
    labels, scores = sample()
    plain = auroc_variance(labels, scores)
    for options in (
        {"strata": np.full(labels.size, 7)},
        {"clusters": np.arange(labels.size)[::-1]},
        {"clusters": [f"patient {i}" for i in range(labels.size)], "strata": np.zeros(labels.size)},
    ):
        found = auroc_variance(labels, scores, **options)
        assert (found.auroc, found.variance, found.df) == pytest.approx(
            (plain.auroc, plain.variance, plain.df), rel=1e-12
        )
        assert auroc(labels, scores, **options).method == auroc(labels, scores).method


def test_strata_without_both_classes_are_left_out_and_told():
    labels, scores = sample(10, 40)
    alone = np.concatenate([labels, np.zeros(5)]), np.concatenate([scores, np.full(5, 99.0)])
    strata = np.repeat([0, 1], [50, 5])
    found = auroc(*alone, strata=strata)
    assert found.value == auroc(labels, scores).value
    assert found.n == 50
    assert "1 without both classes left out" in found.method


def test_logit_t_follows_its_formula():
    labels, scores = sample(25, 80)
    value, a, b = delong(labels, scores)
    df = (a + b) ** 2 / (a**2 / 24 + b**2 / 79)
    half = student.ppf(0.95, df) * np.sqrt(a + b) / (value * (1 - value))
    found = auroc(labels, scores, method="logit-t", level=0.9)
    assert (found.lower, found.upper) == pytest.approx((expit(logit(value) - half), expit(logit(value) + half)))


@pytest.mark.parametrize(("positives", "seed"), [(1, 0), (3, 1), (12, 2)])
def test_newcombe_limits_solve_their_equation(positives, seed):
    """|A - theta| = z sqrt(V(theta)), V with both class sizes less 1 replaced by (m + n)/2 - 1."""
    labels, scores = sample(positives, 80, seed)
    found = auroc(labels, scores, method="newcombe5")
    z, m, n = norm.ppf(0.975), positives, 80
    for theta in (found.lower, found.upper):
        big_n = (m + n) / 2 - 1
        spread = 1 + big_n * (1 - theta) / (2 - theta) + big_n * theta / (1 + theta)
        assert abs(found.value - theta) == pytest.approx(z * np.sqrt(theta * (1 - theta) * spread / (m * n)), rel=1e-9)


def test_envelope_takes_the_outer_limits():
    labels, scores = sample(6, 80)
    by = {method: auroc(labels, scores, method=method) for method in ("logit-t", "newcombe5", "envelope")}
    assert by["envelope"].lower == min(by["logit-t"].lower, by["newcombe5"].lower)
    assert by["envelope"].upper == max(by["logit-t"].upper, by["newcombe5"].upper)


@pytest.mark.parametrize(
    ("positives", "shift", "name"),
    [
        (19, 0.5, "auto: envelope (small sample)"),
        (20, 0.5, "auto: logit-t"),
        (40, 3.0, "auto: envelope (small sample)"),
    ],
)
def test_auto_names_the_rule_it_chose(positives, shift, name):
    rng = np.random.default_rng(5)
    labels = np.repeat([1.0, 0.0], [positives, 200])
    scores = rng.standard_normal(labels.size) + shift * labels
    found = auroc(labels, scores)
    assert found.method == name
    twin = auroc(labels, scores, method="envelope" if "envelope" in name else "logit-t")
    assert (found.lower, found.upper) == (twin.lower, twin.upper)


def test_auto_counts_patients_and_not_slides():
    labels, scores = sample(40, 80)
    assert auroc(labels, scores).method == "auto: logit-t"
    patients = np.concatenate([np.arange(40) // 4, 100 + np.arange(80)])
    assert auroc(labels, scores, clusters=patients).method == "auto: envelope (small sample)"


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_class_is_not_estimable_and_says_why(method):
    for labels, reason in (
        ([0, 0, 0], "no positives"),
        ([1, 1, 1], "no negatives"),
        ([np.nan] * 3, "no known labels"),
        ([], "no known labels"),
    ):
        scores = np.arange(len(labels))
        found = auroc(labels, scores, method=method, rng=np.random.default_rng(0))
        assert np.isnan([found.value, found.lower, found.upper]).all()
        assert found.reason == reason
    folds = auroc([1, 1, 0, 0], [1, 2, 3, 4], strata=[0, 0, 1, 1])
    assert folds.reason == "no stratum has both classes"


def test_one_positive_has_an_auroc_but_no_delong_variance():
    labels, scores = [1, 0, 0, 0, 0, 0], [3.5, 1, 2, 3, 4, 5]
    for method in ("delong", "delong-logit"):
        found = auroc(labels, scores, method=method)
        assert found.value == pytest.approx(0.6)
        assert np.isnan([found.lower, found.upper]).all()
        assert found.reason == "the variance needs two positive patients"
    by_score = auroc(labels, scores, method="newcombe5")
    for method in ("auto", "envelope", "logit-t"):
        found = auroc(labels, scores, method=method)
        assert (found.lower, found.upper, found.reason) == (by_score.lower, by_score.upper, None)
        assert "newcombe5 stands in for logit-t: one patient of a class" in found.method


def test_perfect_separation_has_the_score_interval_by_default():
    case = load("P05")
    found = auroc(case["y"], case["s1"])
    assert (found.value, found.upper, found.reason) == (1.0, 1.0, None)
    assert 0.85 < found.lower < 0.95
    mirrored = auroc(case["y"], -case["s1"])
    assert (mirrored.value, mirrored.lower) == (0.0, 0.0)
    assert mirrored.upper == pytest.approx(1 - found.lower, abs=1e-12)


def test_constant_scores_give_one_half_with_the_score_interval():
    found = auroc([0, 1] * 20, [0.3] * 40)
    assert found.value == 0.5
    assert found.lower < 0.4 < 0.6 < found.upper
    assert "variance 0" in found.method


def test_scores_closer_than_float32_can_tell_are_not_tied():
    assert auroc([0, 1], [1.0, 1.0 + 1e-12]).value == 1.0


def test_unknown_labels_are_dropped_with_whatever_score_they_have():
    labels, scores = sample()
    longer = np.append(labels, np.nan), np.append(scores, np.nan)
    assert auroc(*longer) == auroc(labels, scores)


def test_faults_at_the_border_are_all_listed_with_counts():
    with pytest.raises(StatisticsError) as caught:
        auroc([0, 1, 2, 1], [0.1, np.nan, np.inf, np.nan], level=95, clusters=[1, 2], strata=[1.0, np.nan, 1, 1])
    text = str(caught.value)
    assert "labels: expected 0, 1 or NaN (unknown), got 1 of 4 values that are not (such as 2)" in text
    assert "scores: expected finite scores, got 2 NaN and 1 infinite among 4 scores" in text
    assert "clusters: expected shape (4,), got shape (2,)" in text
    assert "strata: expected a group for every row, got 1 missing or empty" in text
    assert "level: expected a number between 0 and 1, got 95" in text


@pytest.mark.parametrize(
    ("labels", "scores", "options", "words"),
    [
        ([0, 1], [0.1], {}, "scores: expected shape (2,)"),
        ([[0, 1]], [[0.1, 0.2]], {}, "labels: expected shape (n,)"),
        (["wt", "mut"], [0.1, 0.2], {}, "labels: expected numbers"),
        ([0, [1]], [0.1, 0.2], {}, "labels: expected a rectangular array"),
        ([0, 1], [0.1, object()], {}, "scores: expected numbers"),
        ([0, 1], [0.1, 0.2], {"method": "DeLong"}, "method: expected one of auto, delong"),
        ([0, 1], [0.1, 0.2], {"method": "bootstrap", "rng": 3}, "rng: expected a numpy Generator"),
        (
            [0, 1],
            [0.1, 0.2],
            {"method": "bootstrap", "replicates": 20.5},
            "replicates: expected a whole number, 2 or more",
        ),
        (
            [0, 1],
            [0.1, 0.2],
            {"clusters": np.array(["a", None], dtype=object)},
            "clusters: expected a group for every row, got 1",
        ),
        ([0, 1], [0.1, 0.2], {"clusters": ["a", float("nan")]}, "clusters: expected a group for every row, got 1"),
        ([0, 1], [0.1, 0.2], {"strata": ["", ""]}, "strata: expected a group for every row, got 2 missing or empty"),
        ([0, 1], [0.1, 0.2], {"clusters": ["a", 1]}, "clusters: expected group names of one type"),
        (
            [0, 1],
            [0.1, 0.2],
            {"method": "bootstrap", "rng": np.random.default_rng(0), "replicates": 1},
            "replicates: expected a whole number, 2 or more",
        ),
    ],
)
def test_misuse_is_refused_by_name(labels, scores, options, words):
    with pytest.raises(StatisticsError) as caught:
        auroc(labels, scores, **options)
    assert words in str(caught.value)


def test_infinite_scores_are_refused_as_in_proc():
    case = load("P10")
    for marker in ("s1", "s2"):
        assert "error" in case.expected[f"proc_{marker}"]
        with pytest.raises(StatisticsError, match="1 infinite among 100"):
            auroc(case["y"], case[marker])
    # the ranks themselves are well defined: any larger finite number gives R's brute-force value
    finite = np.clip(case["s1"], -1e6, 1e6)
    found = auroc_variance(case["y"], finite)
    brute = case.expected["brute_force"]["s1"]
    assert (found.auroc, found.variance) == pytest.approx((brute["auc"], brute["var"]), abs=1e-12)


def test_bootstrap_without_a_generator_takes_seed_0():
    labels, scores = np.repeat([0, 1], 12), np.random.default_rng(3).random(24)
    own = auroc(labels, scores, method="bootstrap", replicates=100)
    assert own == auroc(labels, scores, method="bootstrap", rng=np.random.default_rng(0), replicates=100)
    assert own.lower < own.value < own.upper


def test_bootstrap_that_cannot_vary_has_no_limits():
    for labels, scores, words in (
        ([0, 0, 0, 1], [1, 2, 4, 3], "needs two patients of each class"),
        ([0, 0, 1, 1], [1, 2, 3, 4], "shows no variance"),
    ):
        found = auroc(labels, scores, method="bootstrap", replicates=50)
        assert np.isnan([found.lower, found.upper]).all()
        assert not np.isnan(found.value)
        assert words in found.reason


def test_records_of_numpy_counts_can_be_written_as_json():
    for record in (
        proportion(np.int64(3), np.int64(9), level=np.float32(0.5)),
        mcnemar(*np.array([5, 3, 2, 9])),
        predictive_values(*np.array([9, 3, 20, 2]), np.float32(0.25)),
        operating_point_from_counts(*np.array([9, 3, 20, 2])),
        threshold_at(np.array([0, 0, 1, 1]), np.arange(4.0), {"at_sensitivity": np.float32(0.5)}),
        auroc_variance(np.array([0, 0, 1, 1]), np.array([1, 3, 2, 4])),
        auroc(np.array([0, 0, 1, 1]), np.array([1, 3, 2, 4]), clusters=["a", "b", "c", "c"]),
    ):
        assert json.loads(json.dumps(dataclasses.asdict(record)))
