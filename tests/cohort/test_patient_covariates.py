"""A covariate has one value a patient; rows that differ are recorded."""

import pytest

from tapfm_eval.cohort.covariates import CovariateConflict, patient_covariates, scan_resolution


@pytest.mark.parametrize(
    ("mpp", "name"),
    [(0.2277, "0.25"), (0.19448, "0.25"), (0.2527, "0.25"), (0.499, "0.5"), (0.5005, "0.5"), (1.01, "1")],
)
def test_the_scan_resolution_is_the_nearest_usual_one(mpp, name):
    assert scan_resolution(mpp) == name


def test_scan_resolution_of_an_unknown_scale_is_unknown():
    assert scan_resolution(float("nan")) == ""


def test_slides_of_a_patient_may_differ_in_the_scan_but_not_in_the_patient(manifest_of):
    manifest = manifest_of(
        "patient_id,slide_id,scanner,mpp,sex,age,colour\n"
        "B,2,GT450,0.5,male,61,red\nB,1,AT2,0.25,male,,blue\nA,3,AT2,0.252,,50,\nA,4,,0.2456,female,50,green\n"
    )
    covariates = patient_covariates(manifest.table, frozenset())
    assert covariates.table.to_dict("index") == {
        "A": {"scanner": "AT2", "mpp": "0.25", "sex": "female", "age": 50.0, "colour": "green"},
        "B": {"scanner": "mixed", "mpp": "mixed", "sex": "male", "age": 61.0, "colour": "blue"},
    }
    assert covariates.conflicts == (CovariateConflict("B", "colour", ("blue", "red"), (2, 3)),)


def test_row_order_never_matters(manifest_of):
    rows = ["A,1,red\n", "A,2,blue\n", "B,3,\n"]
    one = patient_covariates(manifest_of("patient_id,slide_id,colour\n" + "".join(rows)).table)
    two = patient_covariates(manifest_of("patient_id,slide_id,colour\n" + "".join(reversed(rows))).table)
    assert one.table.equals(two.table)


def test_bookkeeping_and_labels_are_no_covariates(manifest_of):
    manifest = manifest_of("patient_id,slide_id,path,md5,EGFR,sex\nA,1,a.svs,,1,male\n")
    assert list(patient_covariates(manifest.table, frozenset({"EGFR"})).table.columns) == ["sex"]
