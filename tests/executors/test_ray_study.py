"""A study under Ray gives the bytes of a local one, whoever is killed meanwhile: `make test-ray`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_study import small_study

pytest.importorskip("ray", reason="needs the extra: pip install 'tapfm-eval[ray]'", exc_type=ImportError)
pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800), pytest.mark.xdist_group("ray")]
HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}  # fmt: skip
RESULTS = ("predictions.csv", "results.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study, and what a local run makes of it under `local/`."""
    made = tmp_path_factory.mktemp("study")
    small_study(made)
    finish(start(made, "local", "local"))
    return made


def start(folder: Path, out: str, *where: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(HERE / "ray_study.py"), str(folder), out, *where]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)


def finish(process: "subprocess.Popen[str]") -> str:
    """Waits for a run; what it said."""
    _, said = process.communicate(timeout=1500)
    assert process.returncode == 0, said
    return said


def wait_for(process: "subprocess.Popen[str]", found: Callable[[], object]) -> None:
    while not found():
        assert process.poll() is None, "the run ended before what was waited for"
        time.sleep(0.05)


def results(folder: Path, out: str) -> dict[str, bytes]:
    run = next((folder / out).glob("*/*"))
    return {name: (run / name).read_bytes() for name in RESULTS}


def trainers() -> dict[int, str]:
    """Processes of Ray that are training, each with its arm, seed and fold as a path."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            title = place.read_bytes().rstrip(b"\0 ").decode(errors="replace")
            if title.startswith("ray::train/"):
                found[int(place.parent.name)] = title.removeprefix("ray::train/")
    return found


def test_a_killed_worker_changes_no_byte_and_its_unit_goes_on_from_a_checkpoint(folder: Path) -> None:
    run = start(folder, "killed")

    def under_way() -> dict[int, str]:
        checkpoint = "killed/*/*/arms/{}/checkpoints/*.json"
        return {number: unit for number, unit in trainers().items() if list(folder.glob(checkpoint.format(unit)))}

    wait_for(run, under_way)
    killed = under_way()
    for trainer in killed:
        os.kill(trainer, signal.SIGKILL)
    assert "the worker was lost" in finish(run)
    assert results(folder, "killed") == results(folder, "local")
    assert killed
    for unit in killed.values():
        (selection,) = folder.glob(f"killed/*/*/arms/{unit}/selection.json")
        first, second = (session["from"] for session in json.loads(selection.read_text())["sessions"])
        assert first == "epoch 1, 0 slides trained on and 0 validated"
        assert second != first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_resumes_under_ray_and_locally(number: signal.Signals, folder: Path) -> None:
    run = start(folder, number.name)
    wait_for(run, lambda: list(folder.glob(f"{number.name}/*/*/arms/tapfm/*/*/checkpoints/*.json")))
    run.send_signal(number)
    _, said = run.communicate(timeout=600)
    assert run.returncode == 75, said
    assert f"{number.name} came" in said
    finish(start(folder, number.name, "local"))
    assert results(folder, number.name) == results(folder, "local")


def test_two_nodes_do_one_study_and_one_that_goes_loses_nothing(folder: Path) -> None:
    cluster = subprocess.Popen(
        [sys.executable, str(HERE / "two_nodes.py")],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    try:
        run = start(folder, "nodes", cluster.stdout.readline().strip())
        wait_for(run, lambda: len(trainers()) == 2)  # a node has one CPU, so each trains
        cluster.stdin.write("\n")
        cluster.stdin.flush()
        assert cluster.stdout.readline() == "killed\n"
        assert "the worker was lost" in finish(run)
    finally:
        cluster.communicate(timeout=120)
    assert results(folder, "nodes") == results(folder, "local")
