"""Faults of the files are findings with their rows; a file that cannot be read at all is an error of the command."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_studies import PROTOCOL, Study, factorial, found, one
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.audit.audit import audit_manifest
from tapfm_eval.audit.gather import gather_manifest, gather_study
from tapfm_eval.errors import InputError
from tapfm_eval.protocol.schema import Protocol

CODES = ("manifest-fault", "split-fault", "label-fault", "label-conflict", "covariate-conflict", "column-missing",
         "cohort-empty", "target-not-assessed", "study-refused", "covariates-left-out", "columns-taken")  # fmt: skip


def test_a_clean_study_has_no_fault(study: Study) -> None:
    assert not [finding for finding in study.audit() if finding.code in CODES]


def test_every_fault_of_a_manifest_is_listed_by_column_with_its_rows(study: Study) -> None:
    study.theirs.loc[2, "mpp"], study.theirs.loc[4, "mpp"] = "0,25", "40x"
    study.theirs.loc[3, "age"] = "1.1.1970"
    faults = found(study.audit(), "manifest-fault")
    assert {fault.where.split(" ")[-1]: fault.rows for fault in faults} == {"mpp": (4, 6), "age": (5,)}
    assert {fault.severity for fault in faults} == {"error"}
    assert not found(study.audit(), "study-refused")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04zip", b"\xff\xfea\x00", b"patient_id;slide_id\nP1;S1\n", b"a,b\n1,2\n"]
)
def test_a_file_that_cannot_be_read_at_all_is_no_finding(study: Study, content: bytes) -> None:
    folder = study.write()
    (folder / "theirs.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"theirs\.csv"):
        gather_study(Protocol.model_validate(PROTOCOL), folder)
    with pytest.raises(InputError, match=r"theirs\.csv"):
        gather_manifest(folder / "theirs.csv", None, [])


def test_labels_of_a_patient_that_differ_and_labels_that_are_none_are_errors(study: Study) -> None:
    study.ours.loc[1, "patient_id"] = "P0000"
    study.ours.loc[0, "GENE"], study.ours.loc[1, "GENE"] = "0", "1"
    study.theirs.loc[2, "OTHER"] = "mut"
    findings = study.audit()
    assert "P0000" in one(findings, "label-conflict").evidence[0]
    assert "'mut'" in one(findings, "label-fault").evidence[0]
    assert not found(findings, "study-refused")


def test_covariates_of_a_patient_that_differ_are_a_warning(study: Study) -> None:
    study.ours.loc[1, ["patient_id", "GENE", "OTHER"]] = ["P0000", *study.ours.loc[0, ["GENE", "OTHER"]]]
    study.ours.loc[1, "sex"] = "male"
    findings = found(study.audit(), "covariate-conflict")
    assert [finding.rows for finding in findings if finding.where.endswith("sex")] == [(2, 3)]
    assert {finding.severity for finding in findings} == {"warning"}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (lambda i: f"seen on day {i % 60}", "60 different texts, taken for names or free text"),
        (lambda i: f"2020-01-{i % 30 + 1:02d}", "30 different texts, taken for names or free text"),
        (lambda i: str(i + 1000), "384 whole numbers, no two alike, taken for ids"),
        (lambda i: str(i // 5 % 2), "0 and 1 alone, taken for a label"),
        (lambda i: "the same", None),
        (lambda i: "", None),
        (lambda i: str(i % 20), None),
        (lambda i: str(i % 21), None),
        (lambda i: f"{i}.5", None),
        (lambda i: ("", "recorded")[i // 5 % 2], None),
    ],
)
def test_columns_that_are_not_looked_at_are_named_with_the_rule(
    study: Study, values: Callable[[int], str], why: str | None
) -> None:
    study.ours["extra"] = [values(i) for i in range(len(study.ours))]
    findings = found(study.audit_ours(), "covariates-left-out")
    assert [finding.evidence for finding in findings] == ([] if why is None else [(f"extra: {why}",)])
    if why:  # a subgroup is looked at, whatever is in it
        study.protocol = {"analysis": {"subgroups": ["extra"]}}
        study.theirs["extra"] = "x"
        assert not found(study.audit(), "covariates-left-out")


def test_a_split_that_does_not_fit_is_an_error(study: Study) -> None:
    folder = study.write()
    text = (folder / "split.csv").read_text(encoding="utf-8")
    study.write = lambda: folder  # type: ignore[method-assign]
    (folder / "split.csv").write_text(text.replace("P0003,0,test", "P9999,0,test").replace(",2,test", ",2,tset"))
    faults = found(study.audit(), "split-fault")
    assert sum(fault.numbers["faults"] for fault in faults) >= 3
    assert any("P9999" in line for fault in faults for line in fault.evidence)


def test_a_target_without_a_column_is_an_error_in_development_and_a_note_outside(study: Study) -> None:
    study.theirs = study.theirs.drop(columns="OTHER")
    assert one(study.audit(), "target-not-assessed").severity == "note"
    study.ours = study.ours.drop(columns="OTHER")
    assert one(study.audit(), "column-missing").severity == "error"


def test_a_part_without_labelled_patients_is_an_error(study: Study) -> None:
    study.ours.loc[study.ours["block"] == "1", ["GENE", "OTHER"]] = ""
    assert {finding.severity for finding in found(study.audit(), "cohort-empty")} == {"error"}


def test_a_study_that_is_refused_for_another_reason_says_so(study: Study) -> None:
    study.protocol = {"analysis": {"subgroups": ["ploidy"]}}
    assert "ploidy" in one(study.audit(), "study-refused").evidence[0]


@pytest.mark.parametrize("also", ["nothing", "a label that is none", "a stale split"])
def test_a_subgroup_in_which_rows_of_a_patient_differ_is_an_error_at_once(study: Study, also: str) -> None:
    """`run` would refuse it: other faults of the cohort must not hide that until they are mended."""
    study.ours.loc[1, ["patient_id", "GENE", "OTHER"]] = ["P0000", *study.ours.loc[0, ["GENE", "OTHER"]]]
    study.ours.loc[1, "sex"] = "male"
    study.protocol = {"analysis": {"subgroups": ["sex"]}}
    if also == "a label that is none":
        study.ours.loc[9, "OTHER"] = "mut"
    folder = study.write()
    if also == "a stale split":
        table = (folder / "split.csv").read_text(encoding="utf-8")
        (folder / "split.csv").write_text(table.replace('"manifest_sha256": "', '"manifest_sha256": "0'))
        study.write = lambda: folder  # type: ignore[method-assign]
    findings = study.audit()
    finding = next(f for f in found(findings, "covariate-conflict") if f.where.endswith("sex"))
    assert finding.severity == "error"
    assert "P0000" not in finding.where + finding.what
    assert not found(findings, "study-refused")


def test_a_subgroup_that_differs_is_refused_even_if_it_is_accepted(study: Study) -> None:
    study.ours.loc[1, ["patient_id", "GENE", "OTHER"]] = ["P0000", *study.ours.loc[0, ["GENE", "OTHER"]]]
    study.ours.loc[1, "sex"] = "male"
    overrides = [{"finding": "covariate-conflict", "reason": "known to the board"}]
    study.protocol = {"analysis": {"subgroups": ["sex"]}, "overrides": overrides}
    assert one(study.audit(), "study-refused").severity == "error"


@pytest.mark.parametrize("cell", ["yes", "2", "NA", "unknown", "01.01.1900"])
def test_one_bad_cell_does_not_hide_a_label_column(study: Study, cell: str) -> None:
    study.ours.loc[2, "GENE"] = cell
    findings = study.audit_ours(targets=())
    fault = one(findings, "label-fault")
    assert fault.rows == (4,)
    assert f"got '{cell}'" in fault.evidence[0]
    assert "--targets" in fault.remedy
    taken = one(findings, "columns-taken")
    assert taken.evidence[0] == "labels: OTHER, GENE"
    assert "site" in taken.evidence[1]


def test_labels_that_say_unknown_in_words_are_one_fault_with_all_rows_and_one_remedy(study: Study) -> None:
    study.ours.loc[2:41, "GENE"] = "NA"
    study.ours.loc[50, "GENE"] = "neg"
    fault = one(study.audit_ours(targets=()), "label-fault")
    assert fault.rows == (*range(4, 44), 52)
    assert "--values 'GENE:neg=0,NA='" in fault.remedy


def test_a_count_is_no_label_and_a_lone_faulty_label_is_not_called_missing(study: Study) -> None:
    study.ours["lesions"] = [str(at % 4) for at in range(len(study.ours))]
    assert "lesions" not in one(study.audit_ours(targets=()), "columns-taken").evidence[0]
    study.ours.loc[2, "GENE"] = "yes"
    alone = study.audit_ours(targets=["GENE"])
    assert one(alone, "columns-taken").evidence[0] == "labels: GENE"
    assert not found(alone, "cohort-empty")


@settings(max_examples=40, derandomize=True, deadline=None)
@given(data=st.data())
def test_mutated_manifests_give_findings_or_a_clear_error(data: st.DataObject) -> None:
    table = factorial("P", replicates=1).drop(columns="block")[:24]
    content = bytearray(table.to_csv(index=False).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.csv"
        path.write_bytes(bytes(content))
        with contextlib.suppress(InputError):
            audit_manifest(gather_manifest(path, None, []))
