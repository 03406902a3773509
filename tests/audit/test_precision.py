"""Too few patients stop a study, or are said before a GPU is booked."""

import math

import numpy as np
import pytest
from audit_studies import Study, found, one

from tapfm_eval.audit.precision import expected_width
from tapfm_eval.statistics import expected_interval

CODES = ("selection-too-few", "primary-not-estimable", "not-estimable", "wide-interval", "expected-precision")


def rare(study: Study, positives: int, where: str = "ours") -> None:
    table = getattr(study, where)
    table["GENE"] = "0"
    table.loc[np.linspace(0, len(table) - 1, positives).astype(int), "GENE"] = "1"


def test_a_clean_study_says_what_precision_to_expect_and_nothing_else(study: Study) -> None:
    findings = study.audit()
    assert {finding.code for finding in findings} == {"expected-precision"}
    assert not [finding for finding in findings if finding.code in CODES[:-1]]
    assert all(0 < value < 0.3 for f in findings for name, value in f.numbers.items() if name.endswith("width"))


def test_selection_on_a_target_with_too_few_of_a_class_is_an_error(study: Study) -> None:
    rare(study, 3)
    finding = one(study.audit(), "selection-too-few")
    assert finding.severity == "error"
    assert finding.numbers["fewest"] == 1
    study.protocol = {"selection": {"min_per_class": 1}}
    assert not found(study.audit(), "selection-too-few")


@pytest.mark.parametrize(("positives", "code"), [(0, "not-estimable"), (4, "not-estimable"), (6, "wide-interval")])
def test_few_patients_of_a_class_outside_are_a_warning(study: Study, positives: int, code: str) -> None:
    rare(study, positives, "theirs")
    finding = one(study.audit(), code)
    assert finding.severity == "warning"
    assert finding.numbers["positives"] == positives
    assert math.isnan(finding.numbers["width"]) == (positives == 0)


def test_a_primary_endpoint_on_too_few_is_a_warning_and_on_none_an_error(study: Study) -> None:
    rare(study, 4, "theirs")
    arms = [{"id": name, "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"} for name in "ab"]
    primary = {"target": "GENE", "cohort": "theirs", "arm": "a", "versus": "b"}
    study.protocol = {"arms": arms, "analysis": {"primary": primary}}
    assert one(study.audit(), "primary-not-estimable").severity == "warning"
    rare(study, 0, "theirs")
    assert one(study.audit(), "primary-not-estimable").severity == "error"
    study.protocol["analysis"] = {"primary": {**primary, "target": "OTHER"}}
    assert not found(study.audit(), "primary-not-estimable")
    study.theirs = study.theirs.drop(columns="OTHER")
    assert one(study.audit(), "primary-not-estimable").numbers == {"positives": 0, "negatives": 0}


@pytest.mark.parametrize(("positives", "negatives"), [(10, 85), (60, 400)])
def test_the_expected_width_is_that_of_simulated_studies(positives: int, negatives: int) -> None:
    simulated = expected_interval(0.8, positives, negatives, rng=np.random.default_rng(1), replicates=200)
    assert expected_width(positives, negatives, 0.95) == pytest.approx(simulated.width, rel=0.12)
