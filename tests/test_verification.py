"""`verify` names whatever was edited in a finished run, and is silent about a run that nobody touched."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_run import edited, read_json, unit
from pypdf import PdfReader

from tapfm_eval.errors import RunError
from tapfm_eval.reporting import write_analysis
from tapfm_eval.rundir import sha256_file, write_json
from tapfm_eval.verification import Verification, verify_run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run that a test may edit."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def named(verified: Verification, *words: str) -> bool:
    """Whether one mismatch names all these words."""
    return any(all(word in f"{m.where} {m.stored} {m.recomputed}" for word in words) for m in verified.mismatches)


def last_digit_changed(path: Path, line: int) -> tuple[str, str]:
    """Changes the last digit of the score in one line of a predictions file; returns the old and the new score."""
    lines = path.read_text(encoding="utf-8").split("\n")
    old = lines[line].rsplit(",", 1)[1]
    new = old[:-1] + str((int(old[-1]) + 1) % 10)
    lines[line] = lines[line].rsplit(",", 1)[0] + "," + new
    path.write_text("\n".join(lines), encoding="utf-8")
    return old, new


def without_lines(path: Path, holds: Callable[[str], bool]) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    kept = [line for line in lines if not holds(line)]
    assert len(kept) < len(lines)
    path.write_text("\n".join(kept), encoding="utf-8")


def test_an_untouched_run_matches(run: Path) -> None:
    verified = verify_run(run)
    assert verified.mismatches == ()
    assert verified.compared["rows of predictions.csv"] == 800
    assert verified.compared["values of results.json"] > 1000


@pytest.mark.long
def test_a_report_written_anew_changes_nothing(run: Path) -> None:
    journal = (run / "journal.jsonl").read_bytes()
    write_analysis(run)
    assert verify_run(run).matches
    assert (run / "journal.jsonl").read_bytes() == journal


@pytest.mark.long
def test_a_report_in_one_format_or_on_other_paper_still_matches(run: Path) -> None:
    write_analysis(run, paper="letter")
    write_analysis(run, formats=("html",))
    assert verify_run(run).mismatches == ()


@pytest.mark.long
def test_a_report_with_ids_still_matches_and_one_without_leaves_no_format_that_names_patients(run: Path) -> None:
    patient = "D011"
    write_json(run / "failures.json", {"failures": [["dev", patient, f"{patient}-1", "slides", "not an image"]]})
    write_analysis(run)
    assert patient not in (run / "report.html").read_text(encoding="utf-8")
    write_analysis(run, formats=("html",), show_ids=True)
    assert patient in (run / "report.html").read_text(encoding="utf-8")
    assert patient in (run / "tables" / "exclusions.csv").read_text(encoding="utf-8")
    assert patient in "".join(page.extract_text() for page in PdfReader(run / "report.pdf").pages)
    found = [m for m in verify_run(run).mismatches if "report" in m.where or "tables" in m.where]
    assert found == []
    write_analysis(run, formats=("html",))
    assert patient not in "".join(page.extract_text() for page in PdfReader(run / "report.pdf").pages)


def test_one_score_changed_in_its_last_digit_is_named_with_its_row(run: Path) -> None:
    old, new = last_digit_changed(run / "predictions.csv", 100)
    verified = verify_run(run)
    assert named(verified, "predictions.csv, sha256")
    assert named(verified, "predictions.csv", "score", repr(float(new)), repr(float(old)))


def test_one_score_changed_in_the_unit_and_in_the_combined_table_is_caught_by_its_recorded_hash(run: Path) -> None:
    old, new = last_digit_changed(run / "predictions.csv", 100)
    row = (run / "predictions.csv").read_text(encoding="utf-8").split("\n")[100]
    key = row.rsplit(",", 1)[0]
    folder = unit(run, "abmil", 0)
    name = "validation.csv" if ",validation," in key else "predictions.csv"
    edited(folder / name, f"{key},{old}", f"{key},{new}")
    write_analysis(run, formats=("html",))  # even when everything that follows from it is made anew
    verified = verify_run(run)
    assert named(verified, "predictions.csv, sha256", "when first recorded")
    assert named(verified, f"fold-0/{name}, sha256", "when first recorded")


@pytest.mark.parametrize("anew", [False, True])
def test_one_row_dropped_is_named(run: Path, anew: bool) -> None:
    without_lines(run / "predictions.csv", lambda line: line.startswith("abmil,1,0,ext,external,E003,E003-1,EGFR,"))
    if anew:
        without_lines(
            unit(run, "abmil", 0) / "predictions.csv",
            lambda line: line.startswith("abmil,1,0,ext,external,E003,E003-1,EGFR,"),
        )
        (run / "journal.jsonl").unlink()
        write_analysis(run)
    verified = verify_run(run)
    # the manifest still lists the patient: even a forged journal and forged units do not hide the row
    assert named(verified, "abmil seed 1 fold 0, ext external, EGFR, E003-1", "absent", "a row")


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("cohort", ["dev", "ext"])
def test_a_flipped_manifest_label_is_named_with_the_patient(run: Path, cohort: str, anew: bool) -> None:
    path = run / "inputs" / cohort / "manifest.csv"
    row = next(line for line in path.read_text().splitlines() if re.fullmatch(r"[DE]0.*,[01],[01],[mf]", line))
    patient, label = row.split(",")[0], row.split(",")[4]
    flipped = row[:-3] + str(1 - int(label)) + row[-2:]
    edited(path, row, flipped)
    if anew:  # the split is made to fit the new manifest, and every record is forged
        split = run / "inputs" / "dev" / "split.csv"
        before = json.loads(split.read_text().splitlines()[0].split(" ", 2)[2])["manifest_sha256"]
        edited(split, before, sha256_file(run / "inputs" / "dev" / "manifest.csv"))
        (run / "journal.jsonl").unlink()
        write_analysis(run)
    verified = verify_run(run)
    assert named(verified, f"inputs/{cohort}/manifest.csv against provenance.json, sha256")
    if anew or cohort == "ext":
        assert named(verified, f"{cohort}, patient {patient}, KRAS, label", f"{label} {1 - int(label)} in inputs")


def test_a_swapped_split_is_named_even_if_every_hash_is_forged(run: Path) -> None:
    split = run / "inputs" / "dev" / "split.csv"
    edited(split, "D000,0,train", "D000,0,swapping")
    edited(split, "D002,0,test", "D002,0,train")
    edited(split, "D000,0,swapping", "D000,0,test")
    assert named(verify_run(run), "inputs/dev/split.csv against provenance.json, sha256")
    stated = read_json(run / "provenance.json")
    stated["sections"]["hashes (sha256)"]["split dev"] = sha256_file(split)  # type: ignore[index]
    write_json(run / "provenance.json", stated)
    (run / "journal.jsonl").unlink()
    write_analysis(run)
    verified = verify_run(run)
    assert named(verified, "fold 0, dev test", "D000-1", "absent")
    assert named(verified, "fold 0, dev test", "D002-1", "does not hold the slide")


def test_a_split_edited_to_test_a_patient_twice_is_named(run: Path) -> None:
    edited(run / "inputs" / "dev" / "split.csv", "D001,0,validation", "D001,0,test")
    verified = verify_run(run)
    assert named(verified, "inputs/dev/split.csv against provenance.json, sha256")
    assert named(verified, "1 patient in 2 folds: D001")


def test_an_edited_protocol_is_named(run: Path) -> None:
    edited(run / "protocol.yaml", "one_sided_alpha: 0.025", "one_sided_alpha: 0.05")
    verified = verify_run(run)
    assert named(verified, "protocol.yaml against provenance.json")
    assert named(verified, "results.json, primary.one_sided_alpha", "0.025", "0.05")


def test_an_edited_number_of_the_results_is_named_with_its_place(run: Path) -> None:
    results = read_json(run / "results.json")
    value = results["aurocs"][0]["auroc"]["value"]  # type: ignore[index]
    edited(run / "results.json", repr(value), repr(value + 1e-12))
    verified = verify_run(run)
    assert named(verified, "results.json, aurocs[0] (EGFR, tapfm, dev, test).auroc.value", repr(value))


@pytest.mark.parametrize("kind", ["svg", "html", "csv", "pdf"])
def test_an_edited_figure_table_or_page_is_named(run: Path, kind: str) -> None:
    if kind == "svg":
        path = sorted((run / "figures").glob("flow-*.svg"))[0]
        edited(path, "60 patients", "61 patients")
    elif kind == "html":
        path = run / "report.html"
        edited(path, "AUROC", "AUR0C")
    elif kind == "csv":
        path = run / "tables" / "summary.csv"
        number = re.search(r"0\.\d{6,}", path.read_text())
        assert number is not None
        edited(path, number.group(), number.group()[:-1] + str((int(number.group()[-1]) + 1) % 10))
    else:
        path = run / "report.pdf"
        path.write_bytes(path.read_bytes().replace(b"%%EOF", b"%%E0F", 1))
    verified = verify_run(run)
    name = path.relative_to(run).as_posix()
    assert named(verified, f"{name}, sha256", "when last written")
    assert named(verified, name, {"svg": "line", "html": "AUR0C", "csv": "row", "pdf": "byte"}[kind])
    assert {m.where.split(",")[0] for m in verified.mismatches} == {name}


def test_a_table_that_the_report_does_not_have_is_named(run: Path) -> None:
    (run / "tables" / "better.csv").write_text("auroc\n0.99\n", encoding="utf-8")
    assert named(verify_run(run), "tables/better.csv", "no such part")


@pytest.mark.parametrize("name", ["audit.json", "failures.json", "provenance.json", "results.json", "protocol.yaml"])
def test_a_torn_file_is_a_mismatch_and_no_traceback(run: Path, name: str) -> None:
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2])
    assert named(verify_run(run), name)


def test_with_other_versions_numbers_are_compared_to_nine_digits(run: Path) -> None:
    stated = read_json(run / "provenance.json")
    stated["sections"]["software"]["numpy"] = "0.0.1"  # type: ignore[index]
    write_json(run / "provenance.json", stated)
    results = read_json(run / "results.json")
    value = results["aurocs"][0]["auroc"]["value"]  # type: ignore[index]
    edited(run / "results.json", repr(value), repr(value * (1 + 1e-13)))
    verified = verify_run(run)
    assert {m.where for m in verified.mismatches} == {"provenance.json, sha256", "results.json, sha256"}
    assert any("other versions" in note for note in verified.notes)


def test_weights_that_were_edited_are_named_and_absent_ones_are_said(run: Path) -> None:
    for fold in (0, 1):
        weights = unit(run, "tapfm", fold) / "selected.safetensors"
        weights.write_bytes(b"weights of a small network")
        chosen = unit(run, "tapfm", fold) / "selection.json"
        write_json(chosen, {**read_json(chosen), "weights_sha256": sha256_file(weights)})
    before = {m.where for m in verify_run(run).mismatches}  # the selections themselves were edited here
    assert not any("safetensors" in where for where in before)
    first, second = (unit(run, "tapfm", fold) / "selected.safetensors" for fold in (0, 1))
    first.write_bytes(b"weights of a small networK")
    second.unlink()
    verified = verify_run(run)
    assert {m.where for m in verified.mismatches} - before == {"arms/tapfm/seed-1/fold-0/selected.safetensors, sha256"}
    assert any("Weights absent: those of 1 of 2 units" in note for note in verified.notes)


@pytest.mark.parametrize("target", ["/dev/zero", "pipe", "elsewhere", "nothing"])
def test_what_is_no_file_of_the_run_is_refused_before_it_is_read(run: Path, tmp_path: Path, target: str) -> None:
    path = run / "protocol.yaml"
    if target == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif target == "elsewhere":
        path.rename(tmp_path / "protocol.yaml")
        path.symlink_to(tmp_path / "protocol.yaml")
    else:
        path.unlink()
        path.symlink_to(target)
    with pytest.raises(RunError, match=r"protocol\.yaml: expected a file of the run's own"):
        verify_run(run)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no predictions\.csv"):
        verify_run(tmp_path)
