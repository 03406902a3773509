"""Runs the command line in this process, as the entry point does."""

import sys
from pathlib import Path

import pytest
from command_line import Command, Said

from tapfm_eval.cli import main


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Calls `tapfm-eval` with arguments, from an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")

    def call(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["tapfm-eval", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call
