"""What `compare` prints: every number whole, however narrow the screen, and in a file as well."""

import re
from pathlib import Path

import pytest
from command_line import Command

from tapfm_eval.comparison import compare_runs
from tapfm_eval.report.numbers import fixed, p_text

ROWS = [f"P{i},{i % 2},{0.3 + 0.2 * (i % 2) + 0.004 * (i * 37 % 100):.3f}" for i in range(60)]


def scored(command: Command, name: str, rows: list[str]) -> Path:
    Path(f"{name}.csv").write_text("patient,label,score\n" + "\n".join(rows) + "\n", encoding="utf-8")
    said = command("score", f"{name}.csv", "--target", "EGFR", "--format", "html", "--quiet")
    assert said.code == 0, said.err
    return Path(said.out.removeprefix("Report: ").split()[0]).parent


@pytest.mark.parametrize("columns", ["80", "40"])
def test_every_number_is_whole_on_a_narrow_screen(
    command: Command, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    a = scored(command, "a-model-of-ours", ROWS)
    b = scored(command, "b", [row[:-3] + row[-1] + row[-2] + "1" for row in ROWS[:-3]])
    said = command("compare", a, b, "--arms", "a-model-of-ours=b")
    assert said.code == 0, said.err
    (row,) = compare_runs(a, b, arms=[("a-model-of-ours", "b")]).rows
    d = row.difference
    lines = said.out.splitlines()
    assert lines[0] == "cohort test, EGFR: A a-model-of-ours, B b"
    assert lines[1] == "  shared 57 patients (28 positive), A only 3, B only 0"
    assert lines[2] == f"  AUROC  A {fixed(row.auroc_a.value, 3)}, B {fixed(row.auroc_b.value, 3)}"
    numbers = f"{fixed(d.value, 3)}, 95 % interval {fixed(d.lower, 3)} to {fixed(d.upper, 3)}"
    assert lines[3] == f"  A - B  {numbers}, p {p_text(d.p_value)}, Holm {p_text(row.p_adjusted)}"
    assert re.search(r"interval .?\d\.\d{3} to .?\d\.\d{3}, p [<>]?\d", lines[3])
    assert "…" not in said.out
