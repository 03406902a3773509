"""Two ways to the same end: what `plan` says of a study's makespan is what the scheduler of `--executor ray` makes."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "executor_scheduling.py"


def test_a_simulated_study_ends_when_it_was_planned_to_on_any_number_of_gpus() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--units", "2000"], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("GPUs ")[2].partition("\n\n")[0].splitlines()[1:]
    found = [line.replace(",", "").split() for line in table]
    assert [int(gpus) for gpus, *_ in found] == [8, 64, 512, 4096, 32768]
    for _, simulated, _, planned, *_ in found:  # what Ray has in hand keeps its turn, so not to the minute
        assert int(simulated) == pytest.approx(int(planned), rel=0.03)
    assert int(found[0][1]) > 5 * int(found[2][1])
