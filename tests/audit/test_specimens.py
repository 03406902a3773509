"""Slides that do not belong among the others are found by column, by name and by barcode."""

import pytest
from audit_studies import Study, found, one

CODES = ("frozen-mixed-in", "not-h-and-e", "not-tumour", "not-primary-tumour")


def test_a_clean_study_has_nothing_else_mixed_in(study: Study) -> None:
    for table in (study.ours, study.theirs):
        table["specimen"], table["stain"], table["sample_type"] = "FFPE", "H&E", "primary"
    assert not [finding for finding in study.audit() if finding.code in CODES]


@pytest.mark.parametrize(
    ("column", "value", "code", "severity"),
    [
        ("specimen", "fresh frozen", "frozen-mixed-in", "warning"),
        ("slide_id", "TCGA-05-4244-01A-01-TS1", "frozen-mixed-in", "warning"),
        ("stain", "PD-L1", "not-h-and-e", "error"),
        ("slide_id", "P0000_TTF1", "not-h-and-e", "warning"),
        ("sample_type", "adjacent normal", "not-tumour", "error"),
        ("slide_id", "TCGA-05-4244-11A-01-DX1", "not-tumour", "error"),
        ("slide_id", "TCGA-05-4244-02A-01-DX1", "not-primary-tumour", "warning"),
        ("specimen", "lymph node metastasis", "not-primary-tumour", "warning"),
    ],
)
def test_what_does_not_belong_is_found_with_its_row(
    study: Study, column: str, value: str, code: str, severity: str
) -> None:
    if column not in study.ours:
        study.ours[column] = ""
    study.ours.loc[3, column] = value
    if value.startswith("TCGA"):
        study.ours.loc[3, "patient_id"] = value[:12]
    finding = one(study.audit(), code)
    assert finding.rows == (5,)
    assert finding.severity == severity


@pytest.mark.parametrize("stain", [
    "H&E", "HE", "h and e", "H+E", "Hematoxylin and Eosin", "HES", "H.E.",
    "H&E stain", "Hematoxylin and eosin stain", "H/E", "HE (40x)", "h. & e.",
])  # fmt: skip
def test_spellings_of_h_and_e_are_known(study: Study, stain: str) -> None:
    study.ours["stain"] = stain
    assert not found(study.audit(), "not-h-and-e")


@pytest.mark.parametrize(
    "stain", ["PAS", "Masson trichrome", "the", "HER2", "PHH3 e", "CHE", "PD-L1, H&E counterstain"]
)
def test_other_stains_are_no_h_and_e(study: Study, stain: str) -> None:
    study.ours.loc[:, "stain"] = "H&E"
    study.ours.loc[3, "stain"] = stain
    assert one(study.audit_ours(), "not-h-and-e").rows == (5,)


@pytest.mark.parametrize(
    "told", ["abnormal tissue", "non-frozen", "not frozen", "nonfrozen FFPE", "paranormal", "refreshed", "no normal"]
)
def test_words_that_only_contain_or_deny_another_specimen_are_none(study: Study, told: str) -> None:
    study.ours["specimen"] = "FFPE"
    study.ours.loc[3, "specimen"] = told
    assert not [f for f in study.audit_ours() if f.code in ("frozen-mixed-in", "not-tumour")]


@pytest.mark.parametrize("told", ["non-tumor", "nontumour", "non neoplastic", "normal", "adjacent-normal"])
def test_words_for_normal_tissue_are_known(study: Study, told: str) -> None:
    study.ours["specimen"] = "tumour"
    study.ours.loc[3, "specimen"] = told
    assert one(study.audit_ours(), "not-tumour").rows == (5,)


def test_a_cohort_of_frozen_sections_alone_is_not_mixed_but_differs_from_one_of_none(study: Study) -> None:
    study.ours["specimen"] = study.theirs["specimen"] = "frozen"
    assert not found(study.audit(), "frozen-mixed-in")
    study.ours["specimen"] = "FFPE"
    finding = one(study.audit(), "frozen-mixed-in")
    assert finding.severity == "warning"
    assert "theirs is frozen sections throughout and ours has none" in finding.what
    study.ours["specimen"] = ""
    assert not found(study.audit(), "frozen-mixed-in")
