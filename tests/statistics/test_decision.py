"""Decision curves agree with Vickers and Elkin's arithmetic in R; their intervals survive empty cells."""

import math

import numpy as np
import pytest
from golden_cases import load
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import net_benefit


def test_net_benefit_agrees_with_r():
    """P14."""
    case = load("P14")
    wanted = case.expected["thresholds"]
    curve = net_benefit(case["y"], case["p"], [point["threshold"] for point in wanted])
    assert (curve.n, curve.positives) == (case.expected["n"], case.expected["n_pos"])
    for found, point in zip(curve.points, wanted, strict=True):
        assert (found.tp, found.fp, found.treat_none) == (point["tp"], point["fp"], 0.0)
        assert found.model.value == pytest.approx(point["net_benefit"], abs=1e-12)
        assert found.treat_all.value == pytest.approx(point["net_benefit_all"], abs=1e-12)
        assert found.interventions_avoided == pytest.approx(point["net_intervention_avoided_per_patient"], abs=1e-12)
        assert found.standard_error == pytest.approx(point["se_iid_multinomial"], abs=1e-12)
        assert found.standardized == pytest.approx(point["standardized_net_benefit"], abs=1e-12)
        assert found.versus_all.value == pytest.approx(point["net_benefit"] - point["net_benefit_all"], abs=1e-12)


def test_wald_limits_are_the_estimate_and_its_standard_errors():
    case = load("P14")
    point = net_benefit(case["y"], case["p"], [0.2], interval="wald").points[0]
    assert point.model.upper - point.model.value == pytest.approx(1.959963984540054 * point.standard_error)


def test_treating_all_is_treating_all():
    point = net_benefit([0, 1, 0, 1], [0.6, 0.7, 0.8, 0.9], [0.5]).points[0]
    assert (point.versus_all.value, point.versus_all.p_value) == (0.0, 1.0)
    assert point.model.value == point.treat_all.value


@pytest.mark.parametrize("interval", ["score", "wald"])
def test_no_patients_is_nan_with_reason(interval):
    curve = net_benefit([math.nan], [0.4], [0.5], interval=interval)
    assert curve.reason == "no row with a known label"
    assert math.isnan(curve.points[0].model.value)
    assert curve.points[0].versus_all.reason is not None


def test_one_patient_has_no_wald_limits():
    found = net_benefit([1], [0.9], [0.5], interval="wald").points[0]
    assert np.isnan([found.model.lower, found.model.upper]).all()
    assert found.model.reason == found.versus_none.reason == "limits: one patient has no variance"


def test_no_positives_leaves_the_standardized_benefit_undefined_only():
    point = net_benefit([0, 0, 0], [0.1, 0.6, 0.2], [0.5]).points[0]
    assert math.isnan(point.standardized)
    assert point.model.value == pytest.approx(-1 / 3)


@pytest.mark.parametrize("thresholds", [[0.0], [1.0], [math.nan], [[0.2]]])
def test_thresholds_that_are_no_risks_are_refused(thresholds):
    with pytest.raises(StatisticsError, match="thresholds"):
        net_benefit([0, 1], [0.1, 0.9], thresholds)


def test_score_interval_covers_where_wald_does_not():
    """1.25 % positive, threshold .05: against treating all, five expected positives."""
    rng = np.random.default_rng(0)
    prevalence, sensitivity, specificity, threshold = 0.0125, 0.8, 0.8, 0.05
    gain = -prevalence * (1 - sensitivity) + (1 - prevalence) * specificity * threshold / (1 - threshold)
    held = np.zeros(2)
    for _ in range(400):
        labels = (rng.random(400) < prevalence).astype(float)
        called = rng.random(400) < np.where(labels == 1, sensitivity, 1 - specificity)
        for i, interval in enumerate(("score", "wald")):
            found = (
                net_benefit(labels, np.where(called, 0.9, 0.01), [threshold], interval=interval).points[0].versus_all
            )
            held[i] += found.lower <= gain <= found.upper
    assert held[0] / 400 >= 0.92
    assert held[1] / 400 <= 0.85


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=40),
    st.floats(0.01, 0.95),
    st.sampled_from(["score", "wald"]),
)
def test_intervals_contain_their_estimates_and_no_model_beats_the_prevalence(rows, threshold, interval):
    labels, p = [r[0] for r in rows], [r[1] for r in rows]
    point = net_benefit(labels, p, [threshold], interval=interval).points[0]
    for one in (point.model, point.treat_all, point.versus_all, point.versus_none):
        assert math.isnan(one.lower) or one.lower - 1e-12 <= one.value <= one.upper + 1e-12
    assert point.model.value <= np.mean(labels) + 1e-12
    assert point.versus_all.value == pytest.approx(point.model.value - point.treat_all.value, abs=1e-9)
