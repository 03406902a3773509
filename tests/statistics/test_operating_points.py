"""Thresholds and 2 x 2 tables agree with pROC; thresholds are carried unchanged."""

import math

import numpy as np
import pytest
from golden_cases import load
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import (
    compare_operating_points,
    operating_point,
    operating_point_from_counts,
    roc_curve,
    rule_out_rule_in,
    threshold_at,
)

RULES = {
    "sens_ge_0.9": {"at_sensitivity": 0.9},
    "sens_ge_0.95": {"at_sensitivity": 0.95},
    "spec_ge_0.9": {"at_specificity": 0.9},
}
CASES = ["P01", "P03", "P04", "P05", "P06", "P07", "P08", "P09", "P11"]

samples = st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=30).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


def models(name):
    """Each marker of a case with R's numbers, labels unknown where the score is missing."""
    case = load(name)
    for marker, expected in case.expected["models"].items():
        scores = case[marker]
        yield np.where(np.isnan(scores), np.nan, case["y"]), scores, expected


@pytest.mark.parametrize("name", CASES)
def test_thresholds_agree_with_proc(name):
    """coords(r, "best") and the best of coords(r, "all") that reach a target."""
    for labels, scores, expected in models(name):
        for key, rule in RULES.items():
            found, wanted = threshold_at(labels, scores, rule), expected[key]
            assert (found.tp, found.fp, found.tn, found.fn) == pytest.approx(
                tuple(wanted[cell] for cell in ("tp", "fp", "tn", "fn")), abs=1e-6
            )
            assert found.sensitivity == pytest.approx(wanted["sensitivity"], abs=1e-12)
            assert found.specificity == pytest.approx(wanted["specificity"], abs=1e-12)
            assert found.ppv == pytest.approx(wanted["ppv"], abs=1e-12, nan_ok=True)
            assert found.npv == pytest.approx(wanted["npv"], abs=1e-12, nan_ok=True)
            assert found.threshold == pytest.approx(wanted["threshold"], rel=1e-12)
        youden = threshold_at(labels, scores, "youden")
        ties = [(best["sensitivity"], best["specificity"]) for best in expected["youden"]]
        assert any((youden.sensitivity, youden.specificity) == pytest.approx(tie, abs=1e-12) for tie in ties)


@pytest.mark.parametrize("name", CASES)
def test_roc_curve_agrees_with_proc(name):
    for labels, scores, expected in models(name):
        if "roc_curve" not in expected:
            continue
        curve = roc_curve(labels, scores)
        assert curve.sensitivity == pytest.approx(expected["roc_curve"]["sensitivity"], abs=1e-12)
        assert curve.specificity == pytest.approx(expected["roc_curve"]["specificity"], abs=1e-12)
        assert curve.thresholds == pytest.approx(expected["roc_curve"]["threshold"], rel=1e-12)


def test_counts_at_fixed_thresholds_agree_with_r():
    for labels, scores, expected in models("P01"):
        for fixed in expected.get("fixed_thresholds", []):
            found = operating_point(labels, scores, fixed["threshold"])
            assert (found.tp, found.fp, found.tn, found.fn) == tuple(fixed[cell] for cell in ("tp", "fp", "tn", "fn"))


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_table_agrees_with_r(case):
    """P18: accuracy, balanced accuracy, Youden, F1, MCC."""
    expected = load("P18").expected[case]
    found = operating_point_from_counts(*(expected[cell] for cell in ("tp", "fp", "tn", "fn")))
    for name in ("balanced_accuracy", "youden", "f1", "mcc"):
        assert getattr(found, name).value == pytest.approx(expected[name], abs=1e-12)
        assert getattr(found, name).lower < expected[name] < getattr(found, name).upper
    assert found.prevalence.value == pytest.approx(found.prevalence.positives / found.prevalence.n)
    assert found.ppv.lower == pytest.approx(expected["ppv"]["wilson"]["lower"], abs=1e-10)


def test_carried_threshold_gives_the_validation_counts_on_the_validation_patients():
    rng = np.random.default_rng(4)
    labels = np.arange(60) < 20
    scores = rng.normal(labels, 1.0)
    chosen = threshold_at(labels, scores, {"at_npv": 0.9})
    point = operating_point(labels, scores, chosen.threshold)
    assert (point.tp, point.fp, point.tn, point.fn) == (chosen.tp, chosen.fp, chosen.tn, chosen.fn)
    assert point.npv.value >= 0.9


def test_at_npv_rules_out_as_many_as_possible():
    labels, scores = [0, 0, 1, 0, 0, 1, 1], [1, 2, 3, 4, 5, 6, 7]
    found = threshold_at(labels, scores, {"at_npv": 0.8})
    assert (found.tn, found.fn, found.threshold) == (4, 1, 5.5)


def test_at_ppv_takes_the_most_sensitive():
    labels, scores = [0, 0, 1, 0, 1, 1], [1, 2, 3, 4, 5, 6]
    assert threshold_at(labels, scores, {"at_ppv": 0.75}).sensitivity == 1.0
    assert threshold_at(labels, scores, {"at_ppv": 0.9}).threshold == 4.5


def test_unreachable_target_is_nan_with_reason():
    found = threshold_at([0, 1, 0], [0.2, 0.5, 0.9], {"at_ppv": 0.9})
    assert math.isnan(found.threshold)
    assert found.reason == "no threshold reaches at_ppv 0.9"


@pytest.mark.parametrize(
    ("labels", "reason"),
    [([0, 0], "no positives"), ([1, 1], "no negatives"), ([math.nan] * 2, "no row with a known label")],
)
def test_single_class_has_no_threshold(labels, reason):
    found = threshold_at(labels, [0.1, 0.2], "youden")
    assert math.isnan(found.threshold)
    assert found.reason == reason
    point = operating_point(labels, [0.1, 0.2], 0.15)
    assert math.isnan(point.youden.value)
    assert point.youden.reason is not None


def test_threshold_between_neighbouring_floats_keeps_them_apart():
    low = 0.1
    high = np.nextafter(low, 1)
    found = threshold_at([0, 1], [low, high], {"at_sensitivity": 1.0})
    assert low < found.threshold <= high


@pytest.mark.parametrize(
    "rule",
    ["best", {"at_sensitivity": 95}, {"at_sensitivity": 0.9, "at_npv": 0.9}, {}, {"at_auc": 0.9}, {"at_ppv": "x"}],
)
def test_unknown_rules_are_refused(rule):
    with pytest.raises(StatisticsError, match="rule"):
        threshold_at([0, 1], [0.1, 0.2], rule)


def test_a_missing_threshold_is_refused():
    with pytest.raises(StatisticsError, match="threshold"):
        operating_point([0, 1], [0.1, 0.2], math.nan)


def test_faults_of_both_scores_and_thresholds_are_told_together():
    with pytest.raises(StatisticsError) as refused:
        compare_operating_points([0, 1], [1, math.nan], [1, 2, 3], math.nan, "x")
    assert [problem.where for problem in refused.value.problems] == [
        "scores_a", "scores_b", "threshold_a", "threshold_b",
    ]  # fmt: skip


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(StatisticsError, match="1 NaN and 1 infinite"):
        threshold_at([0, 1, 1], [0.1, math.nan, math.inf], "youden")


def test_empty_row_or_perfect_agreement_leaves_mcc_without_interval():
    assert operating_point_from_counts(0, 0, 5, 5).mcc.reason == "a row or column of the 2 x 2 table is empty"
    perfect = operating_point_from_counts(5, 0, 5, 0).mcc
    assert perfect.value == 1.0
    assert perfect.reason is not None


def test_rule_out_rule_in_counts():
    labels = [0, 0, 0, 1, 0, 1, 1, 0, 1, 1]
    scores = [0.05, 0.1, 0.15, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    found = rule_out_rule_in(labels, scores, 0.25, 0.65)
    assert (found.ruled_out, found.indeterminate, found.ruled_in, found.missed, found.false_alarms) == (4, 3, 3, 1, 1)
    assert found.avoided.value == pytest.approx(0.7)
    assert found.avoided.value == pytest.approx(found.avoided_by_rule_out.value + found.avoided_by_rule_in.value)
    assert (found.npv.value, found.ppv.value) == pytest.approx((3 / 4, 2 / 3))
    assert (found.sensitivity.value, found.specificity.value) == pytest.approx((4 / 5, 4 / 5))


def test_crossed_thresholds_are_refused():
    with pytest.raises(StatisticsError, match="Swap"):
        rule_out_rule_in([0, 1], [0.1, 0.9], 0.8, 0.2)


def test_paired_comparison_counts_right_calls():
    labels = np.array([1, 1, 1, 1, 0, 0, 0])
    a = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.9, 0.1])
    b = np.array([0.9, 0.1, 0.2, 0.8, 0.1, 0.1, 0.1])
    found = compare_operating_points(labels, a, b, 0.5, 0.5)
    assert found.sensitivity.value == pytest.approx(1 / 4)
    assert found.specificity.value == pytest.approx(-1 / 3)
    assert (found.sensitivity.n, found.specificity.n) == (4, 3)
    same = compare_operating_points(labels, a, a, 0.5, 0.5)
    assert (same.sensitivity.value, same.sensitivity.p_value) == (0.0, 1.0)


def test_mcc_interval_covers():
    rng = np.random.default_rng(5)
    cells = np.array([0.2, 0.1, 0.6, 0.1])
    a, b, d, c = cells
    truth = (a * d - b * c) / math.sqrt((a + b) * (a + c) * (d + b) * (d + c))
    held = []
    for table in rng.multinomial(100, cells, size=600):
        found = operating_point_from_counts(*map(int, table)).mcc
        held.append(found.lower <= truth <= found.upper)
    assert 0.92 <= np.mean(held) <= 0.98


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    samples, st.floats(0.05, 1.0), st.sampled_from(["at_sensitivity", "at_specificity", "at_npv", "at_ppv", "youden"])
)
def test_chosen_threshold_beats_every_other(rows, target, kind):
    labels, scores = np.array([r[0] for r in rows]), np.array([float(r[1]) for r in rows])
    rule = kind if kind == "youden" else {kind: target}
    found = threshold_at(labels, scores, rule)
    cuts = [-math.inf, *(np.unique(scores)[1:] - 0.5), math.inf]
    tables = [operating_point(labels, scores, cut) for cut in cuts]
    if kind == "youden":
        assert found.sensitivity + found.specificity - 1 == pytest.approx(max(t.youden.value for t in tables))
        return
    reached = {"at_sensitivity": "sensitivity", "at_specificity": "specificity", "at_npv": "npv", "at_ppv": "ppv"}[kind]
    wanted = {"at_sensitivity": "specificity", "at_npv": "specificity"}.get(kind, "sensitivity")
    eligible = [t for t in tables if getattr(t, reached).value >= target - 1e-12]
    if found.reason is not None:
        assert not eligible
    else:
        assert getattr(found, wanted) == pytest.approx(max(getattr(t, wanted).value for t in eligible))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(samples, st.integers(0, 10_000))
def test_row_order_and_shifts_do_not_matter(rows, seed):
    labels, scores = np.array([float(r[0]) for r in rows]), np.array([float(r[1]) for r in rows])
    order = np.random.default_rng(seed).permutation(labels.size)
    first, second = roc_curve(labels, scores), roc_curve(labels[order], scores[order] + 8)
    assert first.tp.tolist() == second.tp.tolist()
    assert (first.thresholds + 8).tolist() == second.thresholds.tolist()


def test_a_rule_that_only_calling_nobody_meets_gives_an_infinite_threshold():
    found = threshold_at([0, 1], [0.9, 0.1], {"at_specificity": 1.0})
    assert (found.threshold, found.sensitivity, found.specificity) == (math.inf, 0.0, 1.0)


def test_a_target_may_be_any_real_number_but_no_truth_value():
    half = threshold_at([0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9], {"at_sensitivity": np.float32(0.5)})
    assert half == threshold_at([0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9], {"at_sensitivity": 0.5})
    with pytest.raises(StatisticsError, match="rule"):
        threshold_at([0, 1], [0.1, 0.3], {"at_sensitivity": True})
