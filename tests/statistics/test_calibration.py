"""Calibration agrees with R's glm, confint and rms::val.prob, and gives reasons where a fit has no answer."""

import math

import numpy as np
import pytest
from golden_cases import load
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import apply_recalibration, calibration, fit_recalibration
from tapfm_eval.statistics.logistic import fit_logistic


def case_arrays(name):
    case = load(name)
    rows = case["train"] == 0 if "train" in case.columns else slice(None)
    return case["y"][rows], case["p"][rows], case.expected


@pytest.fixture(scope="module", params=["P12", "P13"])
def fitted(request):
    labels, p, expected = case_arrays(request.param)
    return calibration(labels, p), calibration(labels, p, interval="wald", bins=15), expected


def test_scores_agree_with_r(fitted):
    found, other_bins, expected = fitted
    assert (found.n, found.positives) == (expected["n"], expected["n_pos"])
    assert found.brier.value == pytest.approx(expected["brier"], abs=1e-12)
    assert found.brier_scaled.value == pytest.approx(expected["brier_scaled"], abs=1e-12)
    assert found.log_loss == pytest.approx(expected["log_loss"], abs=1e-12)
    assert found.oe_ratio.value == pytest.approx(expected["oe_ratio"], abs=1e-12)
    assert found.mean_difference.value == pytest.approx(expected["mean_calibration_diff"], abs=1e-12)
    assert found.ece_quantile == pytest.approx(expected["ece_quantile_10"], abs=1e-12)
    assert found.ece_equal_width == pytest.approx(expected["ece_equal_width_10"], abs=1e-12)
    assert other_bins.ece_equal_width == pytest.approx(expected["ece_equal_width_15"], abs=1e-12)
    assert found.spiegelhalter_z == pytest.approx(expected["spiegelhalter_z"], abs=1e-10)
    assert found.spiegelhalter_p == pytest.approx(expected["spiegelhalter_p"], abs=1e-12)


def test_slope_and_intercept_agree_with_r(fitted):
    found, wald, expected = fitted
    slope, large = expected["slope"], expected["calibration_in_the_large_offset"]
    assert found.slope.value == pytest.approx(slope["estimate"], abs=1e-9)
    assert found.slope_se == pytest.approx(slope["se"], abs=1e-9)
    assert (wald.slope.lower, wald.slope.upper) == pytest.approx(tuple(slope["wald95"].values()), abs=1e-8)
    assert (found.slope.lower, found.slope.upper) == pytest.approx(tuple(slope["profile95"].values()), abs=1e-4)
    assert found.intercept_with_slope == pytest.approx(expected["intercept_joint_with_slope"], abs=1e-9)
    assert found.intercept.value == pytest.approx(large["estimate"], abs=1e-9)
    assert found.intercept_se == pytest.approx(large["se"], abs=1e-9)
    assert (found.intercept.lower, found.intercept.upper) == pytest.approx(tuple(large["profile95"].values()), abs=1e-4)


def test_tests_and_indices_agree_with_r(fitted):
    found, _, expected = fitted
    assert found.unreliability.statistic == pytest.approx(expected["unreliability_LR_2df"]["chi2"], abs=1e-9)
    assert found.unreliability.p_value == pytest.approx(expected["unreliability_LR_2df"]["p"], rel=1e-8)
    lemeshow = expected["hosmer_lemeshow_10"]
    assert found.hosmer_lemeshow.statistic == pytest.approx(lemeshow["chi2"], abs=1e-9)
    assert found.hosmer_lemeshow.p_value == pytest.approx(lemeshow["p_df10_external"], rel=1e-9)
    assert found.hosmer_lemeshow_fitted.p_value == pytest.approx(lemeshow["p_df8"], rel=1e-9)
    rms = expected["rms_val_prob"]
    indices = (found.nagelkerke_r2, found.discrimination_d, found.unreliability_u, found.quality_q)
    assert indices == pytest.approx((rms["R2"], rms["D"], rms["U"], rms["Q"]), abs=1e-6)


def test_bins_and_smoothed_curve_agree_with_r(fitted):
    found, _, expected = fitted
    for one, wanted in zip(found.quantile_bins, expected["quantile_bins_10"], strict=True):
        assert one.n == wanted["n"]
        assert one.mean_predicted == pytest.approx(wanted["mean_pred"], abs=1e-12)
        assert one.observed.value == pytest.approx(wanted["obs"], abs=1e-12)
        assert one.observed.lower <= one.observed.value <= one.observed.upper
    lowess = expected["ici_lowess_f2_3"]
    smooth = found.smooth
    distances = (smooth.mean_distance, smooth.distance_90, smooth.largest_distance)
    assert distances == pytest.approx((lowess["Eavg"], lowess["E90"], lowess["Emax"]), abs=1e-8)
    assert (np.diff(smooth.predicted) > 0).all()


@pytest.mark.parametrize(
    ("labels", "p", "reason"),
    [
        ([], [], "no row with a known label"),
        ([math.nan] * 6, [0.1] * 6, "no row with a known label"),
        ([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4], "no positives"),
        ([1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], "no negatives"),
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "positives and negatives are separated: the coefficients are infinite"),
        ([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9], "positives and negatives are separated: the coefficients are infinite"),
        ([0, 1, 0, 1], [0.5] * 4, "the predictions do not vary"),
        ([0, 1, 0, 1], [0.0, 0.4, 0.6, 0.5], "1 probabilities are exactly 0 or 1, their logit is infinite; set clip"),
    ],
)
def test_slope_without_an_answer_is_nan_with_reason(labels, p, reason):
    found = calibration(labels, p)
    assert math.isnan(found.slope.value)
    assert found.slope.reason == reason
    assert math.isnan(found.brier.value) == (not np.isfinite(labels).any())


def test_clip_makes_certain_predictions_estimable():
    labels, p = [0, 1, 0, 1, 1, 0], [0.0, 0.4, 0.6, 0.5, 1.0, 1.0]
    assert calibration(labels, p, clip=1e-3).slope.reason is None


def test_extreme_predictions_give_no_warning():
    labels = np.r_[1, np.zeros(60)]
    for tiny in (1e-300, 1e-12):
        p = np.r_[0.5, np.full(60, tiny)]
        assert calibration(labels, p).intercept.reason is None


def test_probabilities_outside_the_unit_interval_are_refused_with_the_rest():
    with pytest.raises(StatisticsError) as refused:
        calibration([0, 2], [1.2, 0.5], bins=1, clip=0.7)
    assert len(refused.value.problems) == 4


def test_recalibrated_probabilities_are_calibrated_where_they_were_fitted():
    labels, p, _ = case_arrays("P13")
    mended = apply_recalibration(fit_recalibration(labels, p), p)
    found = calibration(labels, mended)
    assert (found.slope.value, found.intercept.value) == pytest.approx((1.0, 0.0), abs=1e-6)
    moved = apply_recalibration(fit_recalibration(labels, p, method="intercept"), p)
    assert moved.mean() == pytest.approx(labels.mean(), abs=1e-7)


def test_recalibration_without_an_answer_is_not_applied():
    fit = fit_recalibration([0, 0, 1], [0.1, 0.2, 0.9])
    assert math.isnan(fit.slope)
    with pytest.raises(StatisticsError, match="separated"):
        apply_recalibration(fit, [0.5])


def test_recalibration_refuses_values_outside_and_keeps_nan():
    fit = fit_recalibration([0, 1, 0, 1], [0.1, 0.3, 0.4, 0.6])
    with pytest.raises(StatisticsError, match="1 outside"):
        apply_recalibration(fit, [1.5, 0.5])
    assert math.isnan(apply_recalibration(fit, [math.nan, 0.5])[0])


def test_whole_floats_are_numbers_of_bins():
    rng = np.random.default_rng(0)
    p = rng.random(60)
    y = (rng.random(60) < p).astype(float)
    assert calibration(y, p, bins=5.0).ece_quantile == calibration(y, p, bins=5).ece_quantile
    for bins in (1, 2.5, 1e308):
        with pytest.raises(StatisticsError, match="bins"):
            calibration(y, p, bins=bins)


def test_slope_interval_covers():
    """Predictions twice too extreme on the logit scale: slope 0.5; 15 to 30 positives of 120."""
    rng = np.random.default_rng(2)
    held = []
    for _ in range(120):
        logits = rng.normal(-2, 1.2, 120)
        labels = rng.random(120) < expit(0.5 * logits - 0.3)
        found = calibration(labels, expit(logits)).slope
        held.append(found.lower <= 0.5 <= found.upper)
    assert np.mean(held) >= 0.9


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(0, 10_000), st.floats(-2, 2), st.floats(0.3, 3))
def test_slope_and_intercept_undo_a_logit_transform(seed, shift, stretch):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, 60)
    labels = rng.random(60) < expit(logits)
    plain, moved = calibration(labels, expit(logits)), calibration(labels, expit(shift + stretch * logits))
    if plain.slope.reason is None:
        assert moved.slope.value * stretch == pytest.approx(plain.slope.value, rel=1e-5, abs=1e-7)
    for one in (moved.slope, moved.intercept, moved.brier, moved.oe_ratio, moved.brier_scaled):
        assert one.reason is not None or one.lower <= one.value <= one.upper


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(0, 10_000))
def test_row_order_does_not_matter_and_classes_mirror(seed):
    rng = np.random.default_rng(seed)
    p = rng.random(50) * 0.98 + 0.01
    labels = (rng.random(50) < p).astype(float)
    order = rng.permutation(50)
    found, shuffled, mirrored = (
        calibration(labels, p),
        calibration(labels[order], p[order]),
        calibration(1 - labels, 1 - p),
    )
    assert shuffled.ece_quantile == pytest.approx(found.ece_quantile, abs=1e-12)
    assert shuffled.slope.value == pytest.approx(found.slope.value, abs=1e-6, nan_ok=True)
    assert mirrored.brier.value == pytest.approx(found.brier.value)
    assert mirrored.intercept.value == pytest.approx(-found.intercept.value, abs=1e-5)


def test_confident_discrete_predictions_get_the_intercept_that_balances_the_counts():
    rng = np.random.default_rng(0)
    y = (rng.random(200) < 0.2) * 1.0
    p = np.where(rng.random(200) < 0.8, y, 1 - y)
    fit = fit_recalibration(y, p, method="intercept")
    assert fit.reason is None
    assert apply_recalibration(fit, p).sum() == pytest.approx(y.sum(), abs=1e-6)
    found = calibration(y, p, clip=1e-6)
    assert found.intercept.value == pytest.approx(fit.intercept, abs=1e-9)
    assert found.intercept.lower < found.intercept.value < found.intercept.upper


def test_a_fit_that_stops_short_of_the_maximum_is_not_estimable():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(200)
    design = np.column_stack([np.ones(200), x])
    positive = rng.random(200) < 0.5
    offset = np.where(rng.random(200) < 0.5, 30.0, -30.0)  # Newton steps from here run away
    fit = fit_logistic(design, positive, offset=offset)
    assert fit.reason == "the fit did not converge"
    assert np.isnan(fit.coefficients).all()
