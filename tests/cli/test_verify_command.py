"""`tapfm-eval verify` from the command line: exit codes, what is printed, JSON."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import Command
from finished_run import edited


def test_verify_says_what_matches_and_what_does_not(command: Command, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    said = command("verify", run)
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("Everything matches")
    edited(run / "inputs" / "ext" / "manifest.csv", "E003-1,E003.svs", "E003-1,E004.svs")
    said = command("verify", run)
    assert said.code == 1
    assert "inputs/ext/manifest.csv" in said.out
    assert said.out.splitlines()[-1].startswith("Does not match")
    said = command("verify", run, "--quiet")
    assert len(said.out.splitlines()) == 1
    assert " in inputs/ext/manifest.csv, " in said.out
    said = command("verify", run, "--json")
    assert said.code == 1
    content = json.loads(said.out)
    assert content["format"] == "tapfm-eval/verification/1"
    assert content["matches"] is False
    assert all(set(row) == {"where", "stored", "recomputed"} for row in content["mismatches"])


@pytest.mark.parametrize("made", [True, False])
def test_verify_of_no_run_is_wrong_use(command: Command, tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "empty"
    if made:
        folder.mkdir()
    said = command("verify", folder)
    assert said.code == 2
    assert "no predictions.csv" in said.err
