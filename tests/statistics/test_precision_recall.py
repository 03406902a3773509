"""Average precision agrees with R and scikit-learn; its interval is honest with few positives."""

import math

import numpy as np
import pytest
from golden_cases import load
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import average_precision, precision_recall_curve
from tapfm_eval.statistics.precision_recall import METHODS

samples = st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=30).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


def slow_average_precision(labels, scores):
    """Sum over distinct thresholds of precision times gain in recall."""
    total, before = 0.0, 0.0
    for cut in sorted(set(scores), reverse=True):
        called = scores >= cut
        recall = labels[called].sum() / labels.sum()
        total += (recall - before) * labels[called].mean()
        before = recall
    return total


def test_estimate_and_closed_forms_agree_with_r():
    """P21; Boyd, Eng and Page's logit interval."""
    case = load("P21")
    expected, found = case.expected, average_precision(case["y"], case["s"], method="logit")
    assert found.value == pytest.approx(expected["average_precision_step"], abs=1e-12)
    assert (found.n, found.positives) == (expected["n"], expected["n_pos"])
    boyd = expected["ci95_logit_boyd2013"]
    assert (found.lower, found.upper) == pytest.approx((boyd["lower"], boyd["upper"]), abs=1e-10)
    curve = precision_recall_curve(case["y"], case["s"])
    assert curve.prevalence.value == pytest.approx(expected["prevalence_baseline"])
    assert curve.precision[-1] == pytest.approx(expected["prevalence_baseline"])
    assert curve.recall[-1] == 1.0


def test_percentile_bootstrap_agrees_with_r_within_its_noise():
    case = load("P21")
    found = average_precision(case["y"], case["s"], method="bootstrap", replicates=4000)
    wanted = case.expected["ci95_stratified_bootstrap_percentile"]
    assert (found.lower, found.upper) == pytest.approx((wanted["lower"], wanted["upper"]), abs=0.012)


def test_estimate_is_that_of_scikit_learn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.2
    scores = np.round(rng.normal(labels), 1)
    found = average_precision(labels, scores, method="binomial")
    assert found.value == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_auto_names_itself_and_is_the_envelope_with_few_positives():
    case = load("P21")
    auto, binomial, logit = (
        average_precision(case["y"], case["s"], method=m) for m in ("auto", "binomial", "bootstrap-logit")
    )
    assert auto.method == "auto: envelope, 2000 replicates (small sample)"
    assert (auto.lower, auto.upper) == (min(binomial.lower, logit.lower), max(binomial.upper, logit.upper))
    many = average_precision(np.arange(200) < 120, np.random.default_rng(1).normal(np.arange(200) < 120), replicates=50)
    assert many.method == "auto: bootstrap-logit, 50 replicates"


def test_one_positive_or_separation_fall_back_to_the_binomial_limits():
    one = average_precision([1, 0, 0, 0], [3, 4, 2, 1])
    assert one.method.endswith("[binomial stands in for bootstrap-logit]")
    assert (one.value, one.reason) == (0.5, None)
    apart = average_precision([1] * 4 + [0] * 9, [2.0] * 4 + [1.0] * 9)
    assert (apart.value, apart.upper) == (1.0, 1.0)
    assert 0.4 < apart.lower < 0.6
    for method in ("bootstrap", "bootstrap-logit"):
        strict = average_precision([1, 0, 0, 0], [3, 4, 2, 1], method=method)
        assert math.isnan(strict.lower)
        assert strict.reason == "limits: one positive patient"
    assert average_precision([1, 1, 0], [3, 3, 1], method="logit").reason is not None


@pytest.mark.parametrize("method", METHODS)
def test_absent_classes_are_nan_with_reason(method):
    assert average_precision([0, 0], [1, 2], method=method).reason == "no positives"
    assert average_precision([math.nan] * 2, [1, 2], method=method).reason == "no row with a known label"
    only = average_precision([1, 1], [1, 2], method=method)
    assert only.value == 1.0
    assert math.isnan(only.lower)
    assert only.reason.startswith("limits: no negatives")
    assert math.isnan(precision_recall_curve([0, 0], [1, 2]).recall[0])


def test_constant_scores_give_the_prevalence():
    found = average_precision([1] * 5 + [0] * 15, np.ones(20))
    assert found.value == pytest.approx(0.25)
    assert average_precision([1] * 5 + [0] * 15, np.ones(20), method="bootstrap").reason is not None


def test_same_generator_same_limits_and_none_is_seed_zero():
    case = load("P21")
    first, second = (average_precision(case["y"], case["s"], rng=np.random.default_rng(0)) for _ in range(2))
    assert first == second == average_precision(case["y"], case["s"])


def test_patients_not_rows_are_resampled():
    """Ten copies of each patient's row leave the patients' limits as they were."""
    rng = np.random.default_rng(2)
    labels = np.repeat([1.0, 0.0], [15, 60])
    scores, patients = rng.normal(labels), np.arange(75)
    single = average_precision(labels, scores, clusters=patients)
    copied = average_precision(np.tile(labels, 10), np.tile(scores, 10), clusters=np.tile(patients, 10))
    naive = average_precision(np.tile(labels, 10), np.tile(scores, 10))
    assert (copied.value, copied.clusters, copied.positives) == (pytest.approx(single.value), 75, 150)
    assert (copied.lower, copied.upper) == pytest.approx((single.lower, single.upper), abs=1e-9)
    assert naive.upper - naive.lower < 0.6 * (single.upper - single.lower)


def test_a_patient_with_both_labels_is_resampled_whole():
    labels, scores = [1, 0, 1, 0, 0, 0], [3.0, 2.0, 1.5, 1.0, 0.5, 2.5]
    found = average_precision(labels, scores, clusters=["a", "a", "b", "c", "d", "d"])
    assert found.clusters == 4
    assert found.lower < found.value < found.upper


def test_default_covers_with_five_positives():
    """Binormal, AUROC .85, 5 of 400 positive: the true average precision is 0.128."""
    rng = np.random.default_rng(3)
    labels = np.arange(400) < 5
    held = {"auto": 0, "bootstrap": 0}
    for _ in range(150):
        scores = rng.normal(labels * math.sqrt(2) * 1.0364334)
        for method in held:
            found = average_precision(labels, scores, method=method, rng=rng, replicates=150)
            held[method] += found.lower <= 0.128 <= found.upper
    assert held["auto"] / 150 >= 0.93
    assert held["bootstrap"] < held["auto"]


def test_too_few_replicates_and_unknown_methods_are_refused():
    with pytest.raises(StatisticsError, match="replicates"):
        average_precision([0, 1], [1, 2], replicates=1)
    with pytest.raises(StatisticsError, match="method"):
        average_precision([0, 1], [1, 2], method="percentile")


@settings(max_examples=50, derandomize=True, deadline=None)
@given(samples, st.integers(0, 10_000))
def test_estimate_is_the_slow_one_whatever_the_scale_and_order(rows, seed):
    labels, scores = np.array([float(r[0]) for r in rows]), np.array([float(r[1]) for r in rows])
    order = np.random.default_rng(seed).permutation(labels.size)
    found = average_precision(labels, scores, method="binomial")
    assert found.value == pytest.approx(slow_average_precision(labels, scores), abs=1e-12)
    moved = average_precision(labels[order], np.exp(scores[order]), method="binomial")
    assert moved.value == pytest.approx(found.value, abs=1e-12)
    assert found.lower - 1e-12 <= found.value <= found.upper + 1e-12
    auto = average_precision(labels, scores, replicates=20)
    assert auto.lower - 1e-9 <= auto.value <= auto.upper + 1e-9
