"""The shipped cohorts audit without an error, and their READMEs explain every warning."""

from pathlib import Path

import pytest
from audit_studies import found

from tapfm_eval.audit.audit import audit_manifest, audit_protocol
from tapfm_eval.audit.findings import Finding
from tapfm_eval.audit.gather import gather_manifest
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.load import load_cohorts
from tapfm_eval.protocol.load import read_protocol

ROOT = Path(__file__).resolve().parents[2]
COHORTS = ("tcga-luad", "cptac-luad", "tcga-blca")


def explained(finding: Finding, cohort: str) -> bool:
    """Whether the README names the code, what the finding is about, and its numbers."""
    readme = (ROOT / "cohorts" / cohort / "README.md").read_text(encoding="utf-8")
    about = []
    if finding.code in ("split-drift", "cohort-shift", "not-estimable", "wide-interval"):
        about = [finding.where.rsplit(", ", 1)[-1]]
    if finding.code == "covariate-label-association":
        about = [finding.where.rsplit(" ", 1)[-1], *finding.numbers]
    if finding.code == "site-predicts-label":
        about = [f"| {target} {value:.2f} |" for target, value in finding.numbers.items()]
    if finding.code == "missing-labels":
        about = list(finding.numbers)
    return f"`{finding.code}`" in readme and all(name in readme for name in about)


@pytest.fixture(scope="module")
def audits() -> dict[str, tuple[Finding, ...]]:
    """What the audit of every shipped protocol finds."""
    findings = {}
    for path in sorted((ROOT / "protocols").glob("*.yaml")):
        protocol = read_protocol(path, backbones=CARDS)
        findings[path.stem] = audit_protocol(protocol, load_cohorts(protocol, path.parent), CARDS)
    return findings


@pytest.fixture(scope="module")
def luad(audits: dict[str, tuple[Finding, ...]]) -> tuple[Finding, ...]:
    return audits["luad"]


def test_no_shipped_study_has_an_error_and_every_warning_is_explained(audits: dict[str, tuple[Finding, ...]]) -> None:
    assert len(audits) == 5
    about_a_protocol = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    for name, findings in audits.items():
        assert not [finding for finding in findings if finding.severity == "error"], name
        for finding in findings:
            if finding.severity != "warning":
                continue
            cohort = next((cohort for cohort in COHORTS if cohort in finding.where), None)
            if cohort is None:
                assert f"`{finding.code}`" in about_a_protocol, (name, finding.code, finding.where)
            else:
                assert explained(finding, cohort), (name, finding.code, finding.where)


def test_what_is_known_of_the_shipped_study_is_found(luad: tuple[Finding, ...]) -> None:
    exclusive = [finding.what for finding in found(luad, "targets-exclusive")]
    assert any(what.startswith("EGFR and KRAS exclude each other: 1 patient") for what in exclusive)
    assert any("EGFR" in note.what and "smoking" in note.what for note in found(luad, "covariate-label-association"))
    assert any("58 of 470 and 38 of 110" in finding.what for finding in found(luad, "cohort-shift"))


@pytest.mark.parametrize("cohort", COHORTS)
def test_every_shipped_manifest_has_no_error_and_its_warnings_are_explained(cohort: str) -> None:
    findings = audit_manifest(gather_manifest(ROOT / "cohorts" / cohort / "manifest.csv", None, []))
    assert not [finding for finding in findings if finding.severity == "error"]
    for finding in findings:
        if finding.severity == "warning":
            assert explained(finding, cohort), (finding.code, finding.where)


def test_the_blca_readme_says_which_audit_gives_which_auroc_of_the_site_alone(
    audits: dict[str, tuple[Finding, ...]],
) -> None:
    alone = dict(found(audits["blca"], "site-predicts-label")[0].numbers)
    assert set(alone) == {"FGFR3", "TP53", "RB1"}
    for name in ("blca-paper", "blca-ablation"):
        assert set(found(audits[name], "site-predicts-label")[0].numbers) == {"FGFR3"}
    manifest = audit_manifest(gather_manifest(ROOT / "cohorts" / "tcga-blca" / "manifest.csv", None, []))
    assert set(found(manifest, "site-predicts-label")[0].numbers) == {"FGFR3", "TP53", "FGFR3_driver"}


def test_alk_in_tcga_is_not_estimable() -> None:
    manifest = ROOT / "cohorts" / "tcga-luad" / "manifest.csv"
    findings = audit_manifest(gather_manifest(manifest, ROOT / "cohorts" / "tcga-luad" / "split-1.csv", ["ALK"]))
    assert "not estimable" in found(findings, "not-estimable")[0].what
