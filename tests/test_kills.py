"""A run that is killed at random moments and started again gives the bytes of an undisturbed one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_study import know_tiny, small_study

from tapfm_eval.verification import verify_run

SCRIPT = Path(__file__).with_name("killed_study.py")
NAMES = ("predictions.csv", "history.csv", "validation.csv", "selected.safetensors")


def results_of(run: Path) -> dict[str, bytes]:
    """Everything that is a result of training and prediction, by its place in the run."""
    root = next(run.glob("*/*"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for name in NAMES for path in root.rglob(name)}


def killed(folder: Path, kills: int, seed: int, workers: int = 0) -> dict[str, object]:
    small_study(folder)
    command = [sys.executable, str(SCRIPT), str(folder), str(kills), str(seed), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr
    said: dict[str, object] = json.loads(done.stdout)
    expected = results_of(folder / "undisturbed")
    assert len(expected) == 1 + 4 * len(NAMES)  # two arms on two folds, and the table of all
    for number in range(1, int(str(said["runs"])) + 1):
        assert results_of(folder / f"killed-{number}") == expected
        assert not list((folder / f"killed-{number}").glob("*/*/arms/**/.*.tmp"))  # halves of files are swept
    return said


def test_a_run_killed_at_random_moments_gives_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    said = killed(tmp_path, 2, seed=1)
    assert len(said["kills"]) == 2  # type: ignore[arg-type]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_thirty_kills_at_random_moments_change_no_byte(tmp_path: Path) -> None:
    said = killed(tmp_path, 30, seed=2)
    print(json.dumps(said, indent=1))
    assert len(said["kills"]) == 30  # type: ignore[arg-type]
    # they came all along the way; at how many places of it depends on how fast the machine is
    left = [kill["left"] for kill in said["kills"]]  # type: ignore[attr-defined]
    for place in (" 0 checkpoints, 0 selected", " 2 checkpoints, ", " 4 selected, "):
        assert any(place in there for there in left), f"no kill left{place}: {left}"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_kills_of_a_run_with_readers_change_no_byte_either(tmp_path: Path) -> None:
    assert len(killed(tmp_path, 6, seed=4, workers=1)["kills"]) == 6  # type: ignore[arg-type]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_kills_amid_analysis_and_report_leave_a_run_that_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study(tmp_path)
    command = [sys.executable, str(SCRIPT), str(tmp_path), "reporting", "6", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
    whole, killed_root = (next((tmp_path / name).glob("*/*")) for name in ("whole", "killed"))
    assert (killed_root / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert (killed_root / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    know_tiny(monkeypatch.setattr)
    assert verify_run(killed_root).mismatches == ()
    events = [json.loads(line)["event"] for line in (killed_root / "journal.jsonl").read_text().splitlines()]
    assert events.count("test and external patients predicted") == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_three_processes_that_run_the_same_command_share_the_work_and_give_the_same_bytes(tmp_path: Path) -> None:
    killed(tmp_path, 1, seed=3)
    command = [sys.executable, str(SCRIPT), str(tmp_path), "together", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    assert results_of(tmp_path / "shared") == results_of(tmp_path / "undisturbed")
    root = next((tmp_path / "shared").glob("*/*"))
    events = [json.loads(line) for line in (root / "journal.jsonl").read_text().splitlines()]
    names = [event["event"] for event in events]
    assert names.count("started") == 3
    assert names.count("selected") == names.count("predicted") == 4  # nothing was done twice
    assert names.count("test and external patients predicted") == 1
    assert (root / "report.pdf").is_file()
