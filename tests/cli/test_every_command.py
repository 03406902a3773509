"""What holds for every command: a true example, JSON where there is a table, quick help, completion."""

import json
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from command_line import REPOSITORY, Command

from tapfm_eval.cli.app import app

PROGRAM = str(Path(sys.executable).with_name("tapfm-eval"))
LUAD = REPOSITORY / "protocols" / "luad.yaml"
TABLES = {  # commands that print a table say the same as JSON
    "score", "plan", "compare", "audit", "split", "verify", "doctor", "protocol show", "protocol diff",
    "backbones list", "backbones check", "cohort check", "cohort import",
}  # fmt: skip
QUIET = {"run", "score", "plan", "compare", "audit", "split", "verify", "doctor", "cohort check", "diagnose-blocks"}


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if hasattr(group, "commands"):
        for name, command in group.commands.items():
            yield from commands(command, (*path, name))
    else:
        yield " ".join(path), group


EVERY = dict(commands(typer.main.get_command(app)))


def flags(command: click.Command) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def test_the_lists_above_name_commands() -> None:
    assert set(EVERY) >= TABLES | QUIET
    assert len(EVERY) >= 20


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


def test_commands_that_print_tables_also_print_json_and_long_ones_can_be_quiet() -> None:
    assert {name for name, command in EVERY.items() if "--json" in flags(command)} >= TABLES
    assert {name for name, command in EVERY.items() if "--quiet" in flags(command)} >= QUIET


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
