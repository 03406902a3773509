"""The journal tells when test and external patients were predicted and their labels used; a second look is shown."""

from pathlib import Path
from shutil import copytree

import pytest

from tapfm_eval.methods.unit import Unit
from tapfm_eval.report.content import build_content
from tapfm_eval.reporting import report_inputs, write_analysis
from tapfm_eval.rundir import LOOKED, PREDICTED, REPORTED, RunFolder, looks
from tapfm_eval.stages.bodies import _announce_look
from tapfm_eval.verification import verify_run

A, B = Unit("a", 1, 0), Unit("b", 1, 0)


def predicted(folder: RunFolder, *units: Unit) -> None:
    for unit in units:
        folder.journal(PREDICTED, unit=str(unit))


def test_one_look_is_announced_once_however_often_the_run_is_killed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    _announce_look(folder, [A, B])
    predicted(folder, A)
    _announce_look(folder, [B])  # killed before it came to b
    _announce_look(folder, [B])
    predicted(folder, B)
    _announce_look(folder, [])
    (look,) = looks(folder)
    assert (look.run, look.what) == ("run", "all units")


def test_predicting_once_more_is_another_look_and_says_what(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    _announce_look(folder, [A, B])
    predicted(folder, A, B)
    _announce_look(folder, [B])  # somebody removed what b had predicted
    _announce_look(folder, [B])  # and this run was killed before it had predicted it
    predicted(folder, B)
    assert [look.what for look in looks(folder)] == ["all units", "b, seed 1, fold 0 once more"]
    _announce_look(folder, [A, B])
    assert looks(folder)[2].what == "a, seed 1, fold 0; b, seed 1, fold 0 once more"


def test_the_looks_of_runs_beside_it_under_the_same_version_count_and_rehearsals_do_not(tmp_path: Path) -> None:
    for name in ("first", "rehearsal-1"):
        _announce_look(RunFolder(tmp_path / name), [A])
    _announce_look(RunFolder(tmp_path / "second"), [A])
    assert [look.run for look in looks(RunFolder(tmp_path / "second"))] == ["first", "second"]
    assert [look.run for look in looks(RunFolder(tmp_path / "first"))] == ["first"]


def test_a_look_keeps_the_name_of_its_run_when_the_folder_is_renamed(tmp_path: Path) -> None:
    _announce_look(RunFolder(tmp_path / "first"), [A])
    (tmp_path / "first").rename(tmp_path / "unpacked")
    _announce_look(RunFolder(tmp_path / "second"), [A])
    assert [look.run for look in looks(RunFolder(tmp_path / "unpacked"))] == ["first"]
    assert [look.run for look in looks(RunFolder(tmp_path / "second"))] == ["first", "second"]


@pytest.mark.timeout(600)
def test_a_copy_of_a_run_under_another_name_verifies_although_it_shows_two_looks(
    finished: Path, tmp_path: Path
) -> None:
    root = Path(copytree(finished, tmp_path / "run"))
    for _ in range(2):
        _announce_look(RunFolder(root), [A])
        predicted(RunFolder(root), A)
    write_analysis(root)
    assert "run run (a, seed 1, fold 0 once more)" in (root / "report.html").read_text(encoding="utf-8")
    assert verify_run(Path(copytree(root, tmp_path / "unpacked"))).mismatches == ()


@pytest.mark.parametrize("count", [1, 2])
def test_the_report_shows_a_second_look_and_says_nothing_of_a_first(finished: Path, tmp_path: Path, count: int) -> None:
    root = Path(copytree(finished, tmp_path / "run"))
    folder = RunFolder(root)
    for _ in range(count):
        _announce_look(folder, [A])
        predicted(folder, A)
    text = repr(build_content(report_inputs(root)))
    assert ("were predicted 2 times under this version of the protocol" in text) == (count == 2)
    assert ("run run (a, seed 1, fold 0 once more)" in text) == (count == 2)


@pytest.mark.long
def test_a_look_that_was_taken_out_of_the_journal_is_missed_by_verify(finished: Path, tmp_path: Path) -> None:
    root = Path(copytree(finished, tmp_path / "run"))
    for _ in range(2):
        _announce_look(RunFolder(root), [A])
        predicted(RunFolder(root), A)
    write_analysis(root)
    assert verify_run(root).mismatches == ()
    lines = (root / "journal.jsonl").read_text().splitlines(keepends=True)
    (root / "journal.jsonl").write_text("".join(line for line in lines if LOOKED not in line))
    assert any(mismatch.where.startswith("report.html") for mismatch in verify_run(root).mismatches)


def test_the_first_use_of_the_labels_is_written_down_once_and_stands_in_the_report(
    finished: Path, tmp_path: Path
) -> None:
    root = Path(copytree(finished, tmp_path / "run"))  # reported once
    write_analysis(root, formats=("html",))
    (used,) = [event for event in RunFolder(root).events() if event["event"] == REPORTED]
    assert report_inputs(root).provenance["run"][f"{REPORTED}, first time"] == used["time"]
    assert str(used["time"]) in (root / "report.html").read_text(encoding="utf-8")
