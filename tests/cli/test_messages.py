"""What a person reads when something is wrong: short, however often one fault is met, and honest about a Ctrl-C."""

import json
from pathlib import Path

import pytest
from command_line import REPOSITORY, Command

from tapfm_eval.rundir import write_text


def test_arms_that_begin_alike_are_told_apart_on_a_narrow_screen(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("abmil-hoptimus0-frozen-last-blocks", "abmil-hoptimus0-frozen-last-tiles"):
        rows = [f"P{i},{i % 2},0.{i}" for i in range(10, 30)]
        Path(f"{name}.csv").write_text("patient,label,score\n" + "\n".join(rows) + "\n", encoding="utf-8")
    said = command("score", *sorted(map(str, Path().glob("abmil*.csv"))), "--format", "html")
    assert said.code == 0
    assert "…" not in said.out
    assert "..." not in said.out
    lines = said.out.splitlines()
    at = lines[1].index("arm")
    cells = [line[at:].split(" ")[0] for line in lines[2:6]]
    assert "".join(cells).count("abmil-hoptimus0-frozen-last-blocks") == 1
    assert "".join(cells).count("abmil-hoptimus0-frozen-last-tiles") == 1


def test_one_fault_met_a_hundred_times_is_shown_a_few_times_and_counted(command: Command) -> None:
    rows = [f"P{i % 40},{i % 2},0.{i + 100}" for i in range(160)]  # a row a slide, and no column of slides
    Path("mine.csv").write_text("patient,label,score\n" + "\n".join(rows) + "\n", encoding="utf-8")
    said = command("score", "mine.csv")
    assert said.code == 2
    assert "120 problems" in said.err
    assert said.err.count("one row a patient") == 6
    assert "and 115 more that expected one row a patient" in said.err
    assert len(said.err.splitlines()) < 40


def test_different_faults_are_all_shown(command: Command) -> None:
    Path("mine.csv").write_text("patient,label,score\nA,x,2\nA,1,\nB,0,0.5\n", encoding="utf-8")
    said = command("score", "mine.csv")
    for words in ("'x'", "probability from 0 to 1", "a score", "one row a patient"):
        assert words in said.err
    assert "more" not in said.err


def test_ctrl_c_says_so_and_is_exit_code_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapfm_eval import doctor

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", interrupted)
    said = command("doctor")
    assert said.code == 130
    assert said.err.strip() == "Stopped by Ctrl-C."
    assert "130 Ctrl-C ended it" in " ".join(command("--help").out.split())


def test_a_place_that_cannot_be_written_is_not_said_to_be_full(command: Command) -> None:
    Path("mine.csv").write_text("patient,label,score\n" + "\n".join(f"P{i},{i % 2},0.{i}" for i in range(20)) + "\n")
    said = command("score", "mine.csv", "--out", "/proc/nowhere")
    assert said.code == 2
    assert "Check the folder and its rights" in said.err
    assert "Free space" not in said.err


def test_a_full_disk_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapfm_eval import rundir
    from tapfm_eval.errors import RunError

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rundir.os, "fsync", full)
    with pytest.raises(RunError, match="Free space or give another folder"):
        write_text(tmp_path / "x", "y")


def test_protocol_diff_remarks_other_content_under_the_same_version(command: Command) -> None:
    text = (REPOSITORY / "protocols" / "luad.yaml").read_text(encoding="utf-8")
    Path("a.yaml").write_text(text, encoding="utf-8")
    Path("b.yaml").write_text(text.replace("seeds: [1]", "seeds: [1, 2]"), encoding="utf-8")
    Path("c.yaml").write_text(text.replace("seeds: [1]", "seeds: [1, 2]").replace("version: ", "version: 9"))
    for name in ("a", "b", "c"):
        assert command("protocol", "show", f"{name}.yaml", "-q").code == 0
    said = command("protocol", "diff", "a.yaml", "b.yaml")
    assert said.code == 1
    assert "1 key differs. Both bear the same id and version" in said.out
    assert json.loads(command("protocol", "diff", "a.yaml", "b.yaml", "--json").out)["same_version"] is True
    assert "the same id" not in command("protocol", "diff", "a.yaml", "c.yaml").out


def test_doctor_says_that_a_study_without_its_slides_cannot_run_and_its_rehearsal_can(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tapfm_eval import doctor

    machine = doctor.Check("Python", "ok", "3.12", "")
    slides = doctor.Check("slides of a", "missing", "no folder known", "Give --slides a=DIR.", of_study=True)
    torch = doctor.Check("torch, timm", "missing", "no answer", "Install them.")
    luad = REPOSITORY / "protocols" / "luad.yaml"
    for missing, words in (([slides], f"The study itself lacks them. A rehearsal will run: tapfm-eval run {luad}"),
                           ([slides, torch], "2 missing, 0 warnings.")):  # fmt: skip
        monkeypatch.setattr(doctor, "examine", lambda *_, offline, missing=missing: (machine, *missing))
        said = command("doctor", luad)
        assert said.code == 1
        assert words in said.out
        assert ("A rehearsal will run" in said.out) == (missing == [slides])
