"""Limits of what recalibration and decision curves say, against the statistics that they rest on."""

import pytest
from analysis_study import Study

from tapfm_eval import statistics
from tapfm_eval.analysis import panels_of
from tapfm_eval.cohort.patients import CLIP
from tapfm_eval.results import Results


def test_a_fitted_slope_has_the_limits_of_the_calibration_slope_on_its_patients(study: Study, results: Results) -> None:
    validation = panels_of(study.predictions(), study.protocol)["dev", "validation"]
    fits = [fit for fit in results.recalibrations if fit.reason is None]
    assert len(fits) >= 3
    for fit in fits:
        y, s = validation.known(fit.target, fit.arm), validation.score(fit.arm, fit.target)
        slope = statistics.calibration(y, s, level=0.95, clip=CLIP).slope
        assert fit.slope == pytest.approx(slope.value, rel=1e-4)
        assert (fit.slope_lower, fit.slope_upper) == (slope.lower, slope.upper)
        assert fit.slope_lower < fit.slope < fit.slope_upper


def test_net_benefit_over_treating_all_has_limits_around_it(results: Results) -> None:
    curve = next(c for c in results.decision_curves if (c.target, c.arm, c.split) == ("EGFR", "a", "external"))
    inside = 0
    for value, everybody, lower, upper in zip(
        curve.net_benefit, curve.treat_all, curve.over_all_lower, curve.over_all_upper, strict=True
    ):
        assert lower <= value - everybody <= upper
        inside += lower < upper
    assert inside > 90
