"""Two thresholds together divide the patients in three, and nobody is counted twice."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from analysis_study import ARMS, Study

from tapfm_eval.analysis import panels_of
from tapfm_eval.analysis.triage import triage
from tapfm_eval.results import Results


def test_the_zones_are_those_of_the_patients_own_scores(study: Study, results: Results) -> None:
    panels = panels_of(study.predictions(), study.protocol)
    known = [zone for zone in results.triage if not math.isnan(zone.ruled_out.value)]
    assert {(zone.rule_out, zone.rule_in) for zone in results.triage} == {("sensitivity 0.9", "specificity 0.9")}
    assert len(known) > 3
    for zone in known:
        panel = panels[zone.cohort, zone.split]
        y, s = panel.known(zone.target, zone.arm), panel.score(zone.arm, zone.target)
        y, s = y[~np.isnan(y)], s[~np.isnan(y)]
        below, above = s < zone.lower, s >= zone.upper
        assert not (below & above).any()
        assert (zone.n, zone.positives) == (len(y), int(y.sum()))
        assert (zone.ruled_out.positives, zone.ruled_in.positives) == (below.sum(), above.sum())
        assert (zone.missed.positives, zone.missed.n) == (y[below].sum(), below.sum())
        assert (zone.confirmed.positives, zone.confirmed.n) == (y[above].sum(), above.sum())
        assert zone.left.positives == (~below & ~above).sum()


def test_thresholds_that_cross_decide_nobody_together(study: Study, results: Results) -> None:
    low = [p for p in results.operating_points if p.rule == "sensitivity 0.9"]
    crossed = [replace(p, threshold=0.9) for p in low]
    crossed += [replace(p, threshold=0.1) for p in results.operating_points if p.rule == "specificity 0.9"]
    zones = list(triage(crossed, study.protocol))
    assert len(zones) == len(low)
    for zone in zones:
        assert all(math.isnan(e.value) for e in (zone.ruled_out, zone.missed, zone.ruled_in, zone.left))
        assert zone.ruled_out.reason == "the thresholds cross: each rule alone decides every patient"


def test_a_missing_threshold_says_why(study: Study, results: Results) -> None:
    points = [replace(p, threshold=math.nan) if p.rule == "specificity 0.9" else p for p in results.operating_points]
    assert {zone.ruled_in.reason for zone in triage(points, study.protocol)} == {"no threshold for specificity 0.9"}


def test_one_kind_of_rule_alone_makes_no_triage(study_with: Callable[..., Study]) -> None:
    study = study_with(analysis={"operating_points": [{"at_sensitivity": 0.9}, {"at_npv": 0.95}, "youden"]})
    points = study.results().operating_points
    assert {point.arm for point in points} == set(ARMS)
    assert list(triage(points, study.protocol)) == []
