"""The documentation keeps up with the code: the command reference is the app's own, and no link leads nowhere."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "cohorts").rglob("*.md"),
                *(ROOT / "protocols").rglob("*.md")])  # fmt: skip
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|(?:src|href)=\"([^\"#]+)\"")


def test_the_command_reference_is_what_the_app_says() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("typer")), "tapfm_eval.cli.app", "utils", "docs", "--name", "tapfm-eval"],
        cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").strip() == done.stdout.strip(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_of_a_page_leads_nowhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [first or second for first, second in LINK.findall(text)]
    missing = [t for t in targets if "://" not in t and not t.startswith("mailto:") and not (page.parent / t).exists()]
    assert not missing


def test_the_example_of_the_python_interface_runs_without_torch(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    code += "\nimport sys\nassert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith("60 patients")
    assert "at or above" in second


@pytest.mark.timeout(600)
def test_with_the_readme_alone_a_csv_from_r_becomes_a_pdf(tmp_path: Path) -> None:
    """The commands that the README names are run as they stand there; the CSV is what R writes of its line."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (r_line,) = re.findall(r"```r\n(.*?)\n```", page, flags=re.DOTALL)
    (command,) = re.findall(r"^\.venv/bin/(tapfm-eval score .*)$", page, flags=re.MULTILINE)
    columns = re.findall(r"(\w+) = \w+[,)]", r_line.partition("data.frame(")[2].partition("), ")[0] + ",")
    (name,) = re.findall(r'"(\S+\.csv)"', r_line)
    assert name in command.split()
    assert columns == ["patient", "label", "score"]
    rows = [f'"TCGA-{i:02d}",{"TRUE" if i % 2 else "FALSE"},{0.3 + 0.2 * (i % 2) + 0.002 * (i * 37 % 100):.3f}'
            for i in range(60)]  # fmt: skip
    text = "\n".join([",".join(f'"{column}"' for column in columns), *rows]) + "\n"
    (tmp_path / name).write_text(text, encoding="utf-8")
    program, *words = command.split()
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pdf = tmp_path / done.stdout.split()[-1]
    assert pdf.name == "report.pdf"
    assert pdf.read_bytes().startswith(b"%PDF")


def test_the_readme_leads_to_every_command_and_page_that_a_new_user_needs() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("run", "score", "verify", "compare", "plan", "doctor", "audit", "split", "report"):
        assert re.search(rf"tapfm-eval {command}[ `]", page), command
    for name in sorted((ROOT / "docs").glob("*.md")):
        if name.stem not in ("decisions", "statistics-auroc", "benchmarks"):  # for who works on the suite itself
            assert f"docs/{name.name}" in page, name.name


SLURM_RUN = """#!/bin/bash
trap 'echo told >>"$LOG"; if [ "$ENDS" = never ]; then :; else exit "$ENDS"; fi' USR1
echo ready >>"$LOG"
while true; do sleep 0.05; done
"""


@pytest.mark.parametrize(
    ("ends", "code", "requeued"), [("75", 75, True), ("0", 0, False), ("1", 1, True), ("never", None, True)]
)
def test_the_slurm_script_queues_itself_again_where_the_run_was_stopped(
    tmp_path: Path, ends: str, code: int | None, requeued: bool
) -> None:
    """The script of the recipe with a run and a Slurm of a few lines in their places."""
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    script = next(text for text in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL) if "--array" in text)
    assert "USR1@900" in script
    assert "sleep 780" in script
    script = script.replace("cd /shared/study", f"cd {tmp_path}").replace("sleep 780", "sleep 1")
    log = tmp_path / "log"
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for path, text in ((tmp_path / ".venv" / "bin" / "tapfm-eval", SLURM_RUN),
                       (tmp_path / "scontrol", f'#!/bin/sh\necho "$@" >>{log}\n'),
                       (tmp_path / "job.sh", script)):  # fmt: skip
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), "ENDS": ends,
                   "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "77"}  # fmt: skip
    with subprocess.Popen([tmp_path / "job.sh"], env=environment, start_new_session=True) as job:
        try:
            wait_for(log, "ready")
            job.send_signal(signal.SIGUSR1)
            wait_for(log, "told")
            if code is None:
                wait_for(log, "requeue 77")  # Slurm ends the job then
            else:
                assert job.wait(20) == code
                assert ("requeue 77" in log.read_text(encoding="utf-8")) == requeued
        finally:
            with suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


def wait_for(log: Path, word: str) -> None:
    given_up = time.monotonic() + 20
    while not (log.is_file() and word in log.read_text(encoding="utf-8")):
        assert time.monotonic() < given_up, f"{word} was never said"
        time.sleep(0.02)
