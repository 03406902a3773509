"""Backbones that know the patients, licences, and settings that let test patients choose."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml
from audit_studies import CLEAN_CARD, PROTOCOL, Study, found, one

from tapfm_eval.audit.findings import KINDS, standing_errors
from tapfm_eval.audit.protocol import SCALE_TOLERANCE, intended
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.errors import ProtocolError
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.protocol.schema import BINDING
from tapfm_eval.slides.reader import MPP_TOLERANCE

CODES = ("cohort-not-supplied", "backbone-saw-cohort", "backbone-undisclosed", "backbone-other-scale",
         "licence-forbids-use", "licence-restricts", "selects-on-test",
         "primary-on-development", "override-unused")  # fmt: skip


def as_tcga(study: Study) -> None:
    study.theirs["patient_id"] = [f"TCGA-AA-{i:04d}" for i in range(len(study.theirs))]
    study.theirs["slide_id"] = study.theirs["patient_id"] + "-01Z-00-DX1"
    study.theirs["path"] = study.theirs["slide_id"] + ".svs"


def test_a_clean_protocol_has_no_finding(study: Study) -> None:
    assert not [finding for finding in study.audit() if finding.code in CODES]


@pytest.mark.parametrize(
    ("state", "code"),
    [("included", "backbone-saw-cohort"), ("undisclosed", "backbone-undisclosed"), ("excluded", None)],
)
def test_a_backbone_that_saw_the_cohort_is_a_warning_and_silence_is_not_clean(
    study: Study, state: str, code: str | None
) -> None:
    as_tcga(study)
    study.card = replace(CLEAN_CARD, pretraining_cohorts=MappingProxyType({"TCGA": state, "*": "excluded"}))
    findings = [f for f in study.audit() if f.code.startswith("backbone-")]
    assert [f.code for f in findings] == ([code] if code else [])
    assert all(f.severity == "warning" and f.where == "cohorts.theirs" for f in findings)


def test_every_programme_in_a_cohort_is_held_against_the_cards(study: Study) -> None:
    as_tcga(study)
    study.theirs.loc[:9, "patient_id"] = [f"C3L-{i:05d}" for i in range(10)]
    study.theirs.loc[:9, "slide_id"] = study.theirs.loc[:9, "patient_id"] + "-21"
    study.theirs.loc[:9, "path"] = study.theirs.loc[:9, "slide_id"] + ".svs"
    known = MappingProxyType({"TCGA": "excluded", "CPTAC": "included", "*": "excluded"})
    study.card = replace(CLEAN_CARD, pretraining_cohorts=known)
    assert "pretrained on CPTAC slides" in one(study.audit(), "backbone-saw-cohort").what


def test_a_card_that_says_nothing_leaves_a_private_cohort_undisclosed(study: Study) -> None:
    study.card = replace(CLEAN_CARD, pretraining_cohorts=MappingProxyType({"TCGA": "excluded"}))
    assert len(found(study.audit(), "backbone-undisclosed")) == 2


@pytest.mark.parametrize(("mpp", "warned"), [(0.5, False), (0.52, False), (0.53, True), (0.25, True), (2.0, True)])
def test_tiles_at_another_scale_than_the_backbones_are_a_warning(study: Study, mpp: float, warned: bool) -> None:
    study.protocol = {"tiles": {"mpp": mpp}}
    findings = found(study.audit(), "backbone-other-scale")
    assert [finding.severity for finding in findings] == ["warning"] * warned
    assert SCALE_TOLERANCE == MPP_TOLERANCE
    if warned:
        assert findings[0].numbers == {"tiles_mpp": mpp, "backbone_mpp": 0.5}
        assert f"cut at {mpp:g} µm per pixel" in findings[0].what


@pytest.mark.parametrize(
    ("use", "clinical", "commercial"),
    [
        ("Research use. Triage of patients for confirmatory sequencing.", False, False),
        ("Research use only. Not for clinical care or diagnosis.", False, False),
        ("Diagnosis of EGFR mutations.", True, False),
        ("Guides treatment in routine care, as a commercial product.", True, True),
        ("Non-commercial, academic.", False, False),
        ("Research-grade diagnostic device for clinical use.", True, False),
        ("Used without delay to select therapy for patients.", True, False),
        ("It shall not be used as a medical device. Research on tumours.", False, False),
        ("No clinical use, and no commercial product.", False, False),
        ("For research use only: how well diagnosis could be aided.", False, False),
    ],
)
def test_intended_use_is_told_from_its_denial(use: str, clinical: bool, commercial: bool) -> None:
    assert intended(use) == (clinical, commercial)


def test_a_licence_that_forbids_the_intended_use_is_an_error(study: Study) -> None:
    study.card = replace(CLEAN_CARD, forbids_clinical_use=True)
    assert one(study.audit(), "licence-restricts").severity == "note"
    study.protocol = {"intended_use": "Diagnosis of EGFR mutations in clinical care."}
    findings = study.audit()
    assert one(findings, "licence-forbids-use").severity == "error"
    assert not found(findings, "licence-restricts")


def test_thresholds_that_test_patients_helped_to_fix_are_a_warning(study: Study) -> None:
    study.protocol = {"analysis": {"operating_points": ["youden"]}}
    finding = one(study.audit(), "selects-on-test")
    assert finding.numbers["patients"] == len(study.ours)
    from audit_studies import three_folds

    study.split = three_folds(study.ours).query("fold == 0")
    assert not found(study.audit(), "selects-on-test")


def test_a_cohort_that_is_only_expected_is_a_warning_with_the_positives_to_come(study: Study) -> None:
    ours = {"role": "development", "expected": {"patients": 400, "prevalence": {"GENE": 0.25, "OTHER": 0.02}}}
    study.protocol = {"cohorts": {"ours": ours, "theirs": {"role": "external", "manifest": "theirs.csv"}}}
    finding = one(study.audit(), "cohort-not-supplied")
    assert (finding.severity, finding.where) == ("warning", "cohorts.ours.expected")
    assert finding.numbers == {"GENE_positives": 100, "OTHER_positives": 8}


def test_folds_picked_from_a_split_are_a_warning(study: Study) -> None:
    cohorts = {"ours": {"role": "development", "manifest": "ours.csv", "split": "split.csv", "folds": [1]}}
    study.protocol = {"cohorts": cohorts}
    assert one(study.audit(), "selects-on-test").where == "cohorts.ours.folds"


def test_a_primary_endpoint_on_the_development_cohort_is_a_warning(study: Study) -> None:
    arms = [{"id": name, "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"} for name in "ab"]
    primary = {"target": "GENE", "cohort": "ours", "arm": "a", "versus": "b"}
    study.protocol = {"arms": arms, "analysis": {"primary": primary}}
    assert one(study.audit(), "primary-on-development").severity == "warning"
    study.protocol["analysis"] = {"primary": {**primary, "cohort": "theirs"}}
    assert not found(study.audit(), "primary-on-development")


def test_an_accepted_error_does_not_hide_that_a_run_refuses_the_cohorts(study: Study) -> None:
    study.theirs.loc[5, "patient_id"] = study.ours.loc[7, "patient_id"]
    accepted = "patient-in-two-cohorts"
    study.protocol = {"overrides": [{"finding": accepted, "reason": "known to the board"}]}
    standing = standing_errors(study.audit(), [accepted])
    assert [(error.code, "cohorts without a patient in common" in error.what) for error in standing] == [
        ("study-refused", True)
    ]


@pytest.mark.parametrize("code", sorted(BINDING))
def test_what_cannot_be_loaded_cannot_be_accepted(tmp_path: Path, code: str) -> None:
    path = tmp_path / "p.yaml"
    plan = {**PROTOCOL, "overrides": [{"finding": code, "reason": "known to the board"}]}
    path.write_text(yaml.safe_dump(plan), encoding="utf-8")
    assert code in KINDS
    with pytest.raises(ProtocolError, match="faults of the files cannot"):
        read_protocol(path, backbones=CARDS, findings=KINDS)
    path.write_text(path.read_text().replace(code, "patient-two-ids"), encoding="utf-8")
    assert read_protocol(path, backbones=CARDS, findings=KINDS).overrides[0].finding == "patient-two-ids"


def test_an_override_accepts_its_errors_and_an_idle_one_is_noted(study: Study) -> None:
    study.theirs.loc[5, "patient_id"] = study.ours.loc[7, "patient_id"]
    findings = study.audit()
    errors = standing_errors(findings, ())
    assert {error.code for error in errors} == {"patient-in-two-cohorts"}
    assert not standing_errors(findings, ["patient-in-two-cohorts"])
    study.protocol = {"overrides": [{"finding": "slide-twice", "reason": "there was one before"}]}
    assert one(study.audit(), "override-unused").where == "overrides[0]"
