"""What holds for every command: a true example, JSON where there is a table, quick help, completion."""

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from command_line import REPOSITORY, Command

from tapfm_eval.cli.app import app
from tapfm_eval.locks import Holder
from tapfm_eval.progress import Reporter
from tapfm_eval.results import RehearsalCheck

PROGRAM = str(Path(sys.executable).with_name("tapfm-eval"))
LUAD = REPOSITORY / "protocols" / "luad.yaml"
# Every command has both switches but those named here, each for its reason.
WITHOUT_JSON = {"protocol schema": "it prints JSON and nothing else"}
WITHOUT_QUIET = {"protocol schema": "it prints what was asked for and nothing else"}


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if hasattr(group, "commands"):
        for name, command in group.commands.items():
            yield from commands(command, (*path, name))
    else:
        yield " ".join(path), group


EVERY = dict(commands(typer.main.get_command(app)))


def flags(command: click.Command) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("name", EVERY)
def test_a_command_has_help_and_an_example_that_uses_it_rightly(name: str) -> None:
    command = EVERY[name]
    assert command.help
    examples = [part for part in (command.epilog or "").split("`") if part.startswith("tapfm-eval ")]
    assert examples, f"{name} has no example"
    for example in examples:
        assert example.startswith(f"tapfm-eval {name}")
        words = shlex.split(example.partition(" > ")[0])
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= flags(command), f"{example} uses {used - flags(command)}"
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"{name} {parameter.opts[0]} is not explained"  # type: ignore[attr-defined]


def test_every_command_prints_json_and_can_be_quiet() -> None:
    assert len(EVERY) >= 20
    for flag, without in (("--json", WITHOUT_JSON), ("--quiet", WITHOUT_QUIET)):
        assert {name for name, command in EVERY.items() if flag not in flags(command)} == set(without)


@pytest.mark.parametrize(
    ("words", "quiet_lines"),
    [
        (["protocol", "show", LUAD], 1),
        (["protocol", "diff", LUAD, LUAD.with_name("blca.yaml")], 1),
        (["protocol", "lock", "copy/protocols/luad.yaml"], 1),
        (["backbones", "list"], 20),
        (["cohort", "import", "labels.csv", "splits_0.csv", "--from", "clam", "--target", "EGFR", "--out"], 1),
        (["cohort", "link", "patients.csv", "--slides", "slides", "--out"], 2),
    ],
    ids=lambda value: "-".join(map(str, value[:2])) if isinstance(value, list) else "",
)
def test_json_is_one_object_and_quiet_is_brief(
    command: Command, tmp_path: Path, words: list[str | Path], quiet_lines: int
) -> None:
    for part in ("protocols", "cohorts"):
        shutil.copytree(REPOSITORY / part, tmp_path / "copy" / part)
    rows = [f"P{i},P{i}-1,{i % 2}" for i in range(9)]
    Path("labels.csv").write_text("\n".join(["case_id,slide_id,label", *rows]) + "\n", encoding="utf-8")
    parts = ["0,P0-1,P6-1,P7-1", "1,P1-1,,P8-1", *(f"{i},P{i}-1,," for i in range(2, 6))]
    Path("splits_0.csv").write_text("\n".join([",train,val,test", *parts]) + "\n", encoding="utf-8")
    Path("patients.csv").write_text("patient_id,slide_id,EGFR\nP1,,1\nP2,,0\n", encoding="utf-8")
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "P1-a.svs").write_bytes(b"x")
    out = str(words[-1]) == "--out"
    said = command(*words, *(["a" if words[1] == "import" else "a.csv"] if out else []), "--json")
    assert json.loads(said.out)
    assert said.err == ""
    said = command(*words, *(["b" if words[1] == "import" else "b.csv"] if out else []), "--quiet")
    assert len(said.out.splitlines()) == quiet_lines
    assert said.err == ""


def test_a_run_ends_with_one_json_object_and_progress_apart(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapfm_eval import study

    holder = Holder("node7", "m", 12, "1", "2026-01-01T00:00:00+00:00")
    checks = (RehearsalCheck("planted effects", passed=True, detail="all found"),)
    outcome = study.RunOutcome(Path("reports/x"), (Path("reports/x/report.html"),), checks)

    def ran(path: Path, options: object, reporter: Reporter) -> study.RunOutcome:
        reporter.say("Training")
        return outcome

    monkeypatch.setattr(study, "run_protocol", ran)
    said = command("run", LUAD, "--json")
    assert said.code == 0
    assert json.loads(said.out) == {
        "format": "tapfm-eval/ran/1", "folder": "reports/x", "held": {}, "report": ["reports/x/report.html"],
        "checks": [{"name": "planted effects", "passed": True, "detail": "all found"}],
    }  # fmt: skip
    assert "Training" in said.err
    outcome = study.RunOutcome(Path("reports/x"), (), (), {"tapfm, seed 1, fold 0": holder})
    said = command("run", LUAD, "--json", "--quiet")
    assert said.code == 75
    assert json.loads(said.out)["held"] == {"tapfm, seed 1, fold 0": str(holder)}


def test_a_report_is_told_as_json(command: Command, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    content = json.loads(command("report", run, "--format", "html", "--json").out)
    assert content["folder"] == str(run)
    assert str(run / "report.html") in content["report"]
    both = f"{run / 'report.html'}  {run / 'report.pdf'}"  # the PDF that is there is written anew as well
    assert command("report", run, "--format", "html", "--quiet").out == f"Report: {both}\n"


def test_help_is_there_within_half_a_second_of_processor_time() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([PROGRAM, "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_help_says_what_exit_codes_mean(command: Command) -> None:
    said = command("--help").out
    assert "Exit codes: 0 done; 1 the command worked and found something; 2 wrong use" in " ".join(said.split())


@pytest.mark.parametrize(("typed", "offered"), [("pro", "protocol"), ("protocol di", "diff"), ("score --thr", "--thr")])
def test_the_shell_completes_commands_and_options(typed: str, offered: str) -> None:
    words = f"tapfm-eval {typed}"
    environment = {**os.environ, "_TAPFM_EVAL_COMPLETE": "complete_bash", "COMP_WORDS": words,
                   "COMP_CWORD": str(len(words.split()) - 1)}  # fmt: skip
    done = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert any(line.startswith(offered) for line in done.stdout.split()), done.stderr


def test_wrong_use_is_exit_code_2(command: Command) -> None:
    for arguments in (["nonsense"], ["score", "--nonsense"], ["plan"], ["compare", "one"]):
        said = command(*arguments)
        assert said.code == 2
        assert "Traceback" not in said.err


def test_plan_prints_tables_json_and_one_line(command: Command) -> None:
    said = command("plan", LUAD)
    assert said.code == 0
    for words in ("tcga-luad, test patients", "Primary: superiority of tapfm-hoptimus0", "power by true difference",
                  "the paper's figures", "GPU hours in all"):  # fmt: skip
        assert words in said.out
    content = json.loads(command("plan", LUAD, "--json").out)
    assert content["format"] == "tapfm-eval/plan/1"
    assert len(content["targets"]) == 8
    assert len(command("plan", LUAD, "--quiet").out.splitlines()) == 1


def test_plan_refuses_assumptions_and_probes_that_are_none(command: Command, tmp_path: Path) -> None:
    said = command("plan", LUAD, "--auroc", "80", "--power", "80")
    assert said.code == 2
    assert "--auroc" in said.err
    assert "--power" in said.err
    said = command("plan", LUAD, "--probe", tmp_path)
    assert said.code == 2
    assert "folder of a run" in said.err


def test_two_runs_that_are_none_are_refused_with_a_remedy(command: Command, tmp_path: Path) -> None:
    said = command("compare", tmp_path, tmp_path)
    assert said.code == 2
    assert "no predictions.csv" in said.err
    assert command("compare", tmp_path, tmp_path, "--arms", "one").code == 2


def test_a_split_is_told_as_json(command: Command) -> None:
    manifest = REPOSITORY / "cohorts" / "cptac-luad" / "manifest.csv"
    said = command("split", manifest, "--targets", "EGFR", "--scheme", "kfold", "--out", "s.csv", "--json")
    content = json.loads(said.out)
    assert content["split"] == "s.csv"
    assert {row["block"] for row in content["blocks"]}
    assert content["audit"]["format"] == "tapfm-eval/audit/1"
