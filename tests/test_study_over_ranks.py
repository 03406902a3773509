"""torchrun shares every bag of a study among its processes, and what comes out is what one process makes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_study import small_study

from tapfm_eval.errors import InputError
from tapfm_eval.methods.ranks import rank_device
from tapfm_eval.predictions.table import read_predictions

SCRIPT = Path(__file__).with_name("ranked_study.py")


def run(folder: Path, out: str, processes: int, *more: str) -> "subprocess.CompletedProcess[str]":
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return subprocess.run(
        [sys.executable, *several, str(SCRIPT), str(folder), out, *more],
        capture_output=True, text=True, timeout=280, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.long
def test_a_study_over_two_processes_is_that_of_one(tmp_path: Path) -> None:
    small_study(tmp_path)
    for out, processes in (("one", 1), ("two", 2)):
        done = run(tmp_path, out, processes)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        read_predictions(next((tmp_path / out).glob("*/*/predictions.csv"))).sort_values(
            ["arm", "fold", "slide_id", "target"], ignore_index=True
        )
        for out in ("one", "two")
    )
    assert one.drop(columns="score").equals(two.drop(columns="score"))
    np.testing.assert_allclose(two["score"], one["score"], atol=1e-5)
    assert len(list((tmp_path / "two").glob("*/*/report.pdf"))) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("backbone", "tiny.safetensors: expected weights that fit, got a torn file. Copy it again."),
        ("weights", "expected the slides, weights and settings of the leading process"),
        ("folder", "on a file system that all processes share, got none"),
    ],
)
def test_what_is_wrong_in_a_process_that_does_not_lead_is_said_by_the_one_that_does(
    fault: str, said: str, tmp_path: Path
) -> None:
    """Before, the first waited for ever, and the second was trained with other weights in each process."""
    small_study(tmp_path)
    done = run(tmp_path, "two", 2, "cpu", fault)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("rank ")]
    assert len(lines) == 1, done.stderr[-3000:]
    assert lines[0].startswith("rank 0: process 1 of 2 on ")
    assert said in lines[0]
    assert not list((tmp_path / "two").glob("**/selection.json"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("device", "fault", "said"),
    [
        ("cuda", "gpus", "expected 2 GPUs on this machine, got 1. Start at most 1 processes"),
        ("cpu", "version", "torchrun, tapfm-eval: expected the same in every process, got 0."),
        ("cpu", "torch", "; 1.0.0 on "),
    ],
)
def test_a_machine_that_cannot_take_part_ends_all_at_once(device: str, fault: str, said: str, tmp_path: Path) -> None:
    """Before, it ended alone or went on with another version, and the others waited for it."""
    small_study(tmp_path)
    done = run(tmp_path, "two", 2, device, fault)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("rank ")]
    assert lines, done.stderr[-3000:]  # torchrun ends the others once one has ended, perhaps before they have spoken
    assert all(said in line for line in lines), lines
    assert not list((tmp_path / "two").glob("*/*"))


@pytest.mark.long
def test_a_slide_that_one_process_alone_thinks_lost_is_in_all_trainings(tmp_path: Path) -> None:
    """What is left out is the leader's to say: a record may reach machines at different times."""
    small_study(tmp_path)
    done = run(tmp_path, "two", 2, "cpu", "lost slide")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("wanted", "gpus", "refused"),
    [
        (None, 2, "expected 3 GPUs on this machine, got 2. Start at most 2 processes"),
        ("cuda", 0, "expected 3 GPUs on this machine, got 0. Give --device cpu"),
        ("cuda:1", 3, "expected cuda or cpu under torchrun"),
    ],
)
def test_missing_gpus_are_refused(wanted: str | None, gpus: int, refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(InputError, match=refused):
        rank_device(wanted)


def test_each_process_has_a_device_of_its_own_or_all_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert rank_device(None) == torch.device("cuda", 2)
    assert rank_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert rank_device(None) == torch.device("cpu")
