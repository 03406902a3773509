"""Patients, slides and sites on two sides of a border are found, whatever their ids were rewritten to."""

import pandas as pd
import pytest
from audit_studies import Study, found, one, three_folds

CODES = (
    "patient-in-two-parts", "patient-in-two-cohorts", "patient-two-ids", "slide-names-other-patient",
    "slide-in-two-cohorts", "slide-of-two-patients", "slide-twice", "slide-same-name", "site-on-two-sides",
    "external-site-in-development", "patients-outside-split", "not-tested-once",
)  # fmt: skip


def test_a_clean_study_has_no_leakage(study: Study) -> None:
    assert not [finding for finding in study.audit() if finding.code in CODES]


def test_a_patient_of_both_cohorts_is_an_error_with_its_rows(study: Study) -> None:
    study.theirs.loc[5, "patient_id"] = study.ours.loc[7, "patient_id"]
    finding = one(study.audit(), "patient-in-two-cohorts")
    assert finding.severity == "error"
    assert finding.numbers == {"patients": 1}
    assert "row 9" in finding.evidence[0]
    assert "row 7" in finding.evidence[0]
    assert "P0007" not in finding.what


def test_the_same_id_in_both_cohorts_is_found_though_slides_bear_barcodes_in_one(study: Study) -> None:
    study.ours.loc[7, ["slide_id", "path"]] = ["TCGA-05-4244-01Z-00-DX1", "a.svs"]
    study.theirs.loc[5, "patient_id"] = study.ours.loc[7, "patient_id"]
    assert one(study.audit(), "patient-in-two-cohorts").numbers == {"patients": 1}


@pytest.mark.parametrize("column", ["patient_id", "slide_id", "path"])
def test_a_patient_of_both_cohorts_is_found_by_barcode_when_ids_were_rewritten(study: Study, column: str) -> None:
    study.ours.loc[7, ["patient_id", "slide_id", "path"]] = ["TCGA-05-4244", "TCGA-05-4244-01Z-00-DX1", "a.svs"]
    ending = ".svs" if column == "path" else ""
    study.theirs.loc[5, column] = f"tcga_05_4244_x{ending}"
    assert one(study.audit(), "patient-in-two-cohorts").evidence[0].startswith("TCGA-05-4244")
    study.theirs.loc[5, column] = f"tcga_05_4245_x{ending}"
    assert not found(study.audit(), "patient-in-two-cohorts")


def test_a_patient_in_two_parts_of_a_fold_is_an_error(study: Study) -> None:
    split = pd.DataFrame(
        [(p, int(b), part) for p, b, part in zip(study.ours.patient_id, study.ours.block, ["train"] * 999)],  # noqa: B905
        columns=["patient_id", "fold", "split"],
    )
    split["split"] = split["fold"].map({0: "test", 1: "validation", 2: "train"})
    split["fold"] = 0
    study.split = split
    assert not found(study.audit(), "patient-in-two-parts")
    study.split = pd.concat([split, pd.DataFrame([("P0000", 0, "train")], columns=split.columns)])
    finding = one(study.audit(), "patient-in-two-parts")
    assert finding.severity == "error"
    assert "P0000" in finding.evidence[0]
    assert finding.rows


def test_a_patient_under_two_ids_in_two_parts_is_an_error_and_in_one_part_a_warning(study: Study) -> None:
    first, last = study.ours.index[0], study.ours.index[-1]
    study.ours.loc[last, ["patient_id", "slide_id", "path"]] = ["p.0000", "other", "other.svs"]
    study.ours.loc[first, ["patient_id"]] = ["P-0000"]
    assert one(study.audit(), "patient-in-two-parts").severity == "error"
    study.ours.loc[last, "block"] = study.ours.loc[first, "block"]
    study.ours.loc[last, "site"] = study.ours.loc[first, "site"]
    findings = study.audit()
    assert not found(findings, "patient-in-two-parts")
    assert one(findings, "patient-two-ids").severity == "warning"


def test_labelled_patients_without_a_place_in_the_split_are_counted(study: Study) -> None:
    full = three_folds(study.ours)
    study.split = full[~full["patient_id"].isin(["P0001", "P0002"])]
    assert one(study.audit(), "patients-outside-split").numbers == {"patients": 2}


def test_a_slide_named_after_another_patient_is_an_error_by_barcode(study: Study) -> None:
    columns = ["patient_id", "slide_id", "path"]
    study.ours.loc[0, columns] = ["TCGA-05-4244", "TCGA-05-4244-01Z-00-DX1", "TCGA-05-4244-01Z-00-DX1.svs"]
    assert not found(study.audit(), "slide-names-other-patient")
    study.ours.loc[0, columns] = ["TCGA-05-4244", "TCGA-05-4245-01Z-00-DX1", "TCGA-05-4245-01Z-00-DX1.svs"]
    finding = one(study.audit(), "slide-names-other-patient")
    assert finding.severity == "error"
    assert finding.rows == (2,)


def test_a_slide_named_after_another_patient_of_the_cohort_is_a_warning(study: Study) -> None:
    study.ours.loc[3, "slide_id"] = "P0009_2"
    finding = one(study.audit(), "slide-names-other-patient")
    assert finding.severity == "warning"
    assert "P0009" in finding.evidence[0]


def test_a_slide_named_after_an_excluded_patient_whose_id_begins_alike_is_a_warning(study: Study) -> None:
    study.ours["exclude"] = ""
    study.ours.loc[9, ["patient_id", "slide_id", "path", "exclude"]] = ["P0003-2", "", "", "withdrew consent"]
    assert not found(study.audit(), "slide-names-other-patient")
    study.ours.loc[3, ["slide_id", "path"]] = ["P0003-2-a", "P0003-2-a.svs"]
    finding = one(study.audit(), "slide-names-other-patient")
    assert finding.rows == (5,)
    assert finding.evidence == ("row 5: P0003-2-a of P0003 (P0003-2-a.svs): named after P0003-2",)


def test_slides_named_by_a_scheme_of_their_own_are_no_contradiction(study: Study) -> None:
    study.ours["slide_id"] = [f"scan-{i}" for i in range(len(study.ours))]
    assert not found(study.audit(), "slide-names-other-patient")


@pytest.mark.parametrize("column", ["slide_id", "md5", "gdc_file_id"])
def test_a_slide_in_two_cohorts_is_an_error(study: Study, column: str) -> None:
    value = {"slide_id": "same", "md5": "0" * 32, "gdc_file_id": "0b3cff7b-bbe2-40ab-aee6-cb0554940eaa"}[column]
    for table in (study.ours, study.theirs):
        if column not in table:
            table[column] = ""
        table.loc[4, column] = value
    finding = one(study.audit(), "slide-in-two-cohorts")
    assert finding.severity == "error"
    assert column.split("_")[0] in finding.evidence[0].casefold()
    study.theirs.loc[4, column] = value.replace("0", "1").replace("same", "other")
    assert not found(study.audit(), "slide-in-two-cohorts")


def test_a_slide_under_two_patients_is_an_error_and_twice_for_one_a_warning(study: Study) -> None:
    study.ours["md5"] = [f"{i:032x}" for i in range(len(study.ours))]
    study.ours.loc[1, "md5"] = study.ours.loc[0, "md5"]
    assert one(study.audit(), "slide-of-two-patients").rows == (2, 3)
    again = study.ours.loc[[0]].assign(slide_id="P0000_2", path="P0000_2.svs")
    study.ours = pd.concat([study.ours.drop(index=1), again], ignore_index=True)
    findings = study.audit()
    assert not found(findings, "slide-of-two-patients")
    assert one(findings, "slide-twice").severity == "warning"


def test_one_file_name_in_two_folders_is_a_warning(study: Study) -> None:
    study.ours.loc[0, "path"], study.ours.loc[9, "path"] = "a/scan.svs", "b/scan.SVS"
    assert one(study.audit(), "slide-same-name").severity == "warning"


def test_a_site_on_two_sides_breaks_the_promise_of_a_site_preserved_split(study: Study) -> None:
    study.ours.loc[0, "site"] = study.ours["site"].iloc[-1]
    finding = one(study.audit(), "site-on-two-sides")
    assert finding.severity == "error"
    study.scheme = "kfold"
    assert one(study.audit(), "site-on-two-sides").severity == "note"


def test_an_external_site_that_is_in_development_too_is_a_warning(study: Study) -> None:
    study.theirs.loc[:3, "site"] = "p-SITE0"
    finding = one(study.audit(), "external-site-in-development")
    assert finding.numbers == {"sites": 1, "patients": 4}


@pytest.mark.parametrize("scheme", ["site-preserved", "kfold"])
@pytest.mark.parametrize("lacking", ["some", "all", "column"])
def test_a_site_that_nobody_knows_keeps_no_promise(study: Study, lacking: str, scheme: str) -> None:
    study.scheme = scheme
    if lacking == "column":
        study.ours = study.ours.drop(columns="site")
    else:
        study.ours.loc[: 59 if lacking == "some" else len(study.ours), "site"] = ""
    finding = one(study.audit_ours(), "site-on-two-sides")
    assert finding.severity == ("error" if scheme == "site-preserved" else "note")
    assert finding.numbers["unknown"] == (60 if lacking == "some" else len(study.ours))


@pytest.mark.parametrize("ours", [True, False])
def test_external_sites_that_nobody_knows_are_noted(study: Study, ours: bool) -> None:
    study.scheme = "kfold"
    table = study.ours if ours else study.theirs
    table["site"] = ""
    finding = one(study.audit(), "external-site-in-development")
    assert finding.severity == "note"
    assert "the sites of " + ("ours" if ours else "theirs") in finding.what


def test_an_external_site_is_known_by_its_name_too(study: Study) -> None:
    study.ours["site_name"] = study.ours["site"].map(lambda code: f"Hospital {code}")
    study.theirs.loc[:3, "site"] = "hospital p-site0"
    assert one(study.audit(), "external-site-in-development").numbers == {"sites": 1, "patients": 4}


def test_folds_that_do_not_test_every_patient_once_are_found(study: Study) -> None:
    folds = three_folds(study.ours)
    third = len(study.ours) // 3
    study.split = pd.concat([folds[folds["fold"] != 1], folds[folds["fold"] == 0].assign(fold=1)])
    finding = one(study.audit(), "not-tested-once")
    assert finding.severity == "error"
    assert finding.numbers == {"never": third, "more_than_once": third, "missing": 0}
    study.split = folds[(folds["patient_id"] != "P0005") | (folds["fold"] != 2)]
    finding = one(study.audit(), "not-tested-once")
    assert finding.severity == "warning"
    assert finding.numbers == {"never": 0, "more_than_once": 0, "missing": 1}
    study.scheme = "imported from CLAM"  # may leave patients out, but not test one twice
    assert not found(study.audit(), "not-tested-once")
    study.split = pd.concat([folds[folds["fold"] != 1], folds[folds["fold"] == 0].assign(fold=1)])
    assert one(study.audit(), "not-tested-once").severity == "error"
    assert not found(study.audit(), "study-refused")


def test_excluded_rows_share_nothing(study: Study) -> None:
    study.theirs["exclude"] = ""
    study.theirs.loc[5, ["patient_id", "exclude"]] = [study.ours.loc[7, "patient_id"], "in our cohort"]
    assert not found(study.audit(), "patient-in-two-cohorts")
