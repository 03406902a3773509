"""A whole training over several processes equals that of one: weights, history, selection, whatever comes between."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

RANKS = Path(__file__).with_name("ranks_of_one_training.py")


def run(folder: Path, case: str, world: int) -> "subprocess.CompletedProcess[str]":
    folder.mkdir()
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
    return subprocess.run(
        [sys.executable, *several, str(RANKS), str(folder), case],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def train(folder: Path, case: str, world: int) -> tuple[dict[str, np.ndarray], list[object]]:
    done = run(folder, case, world)
    assert done.returncode == 0, done.stderr[-3000:]
    weights = {name: tensor.numpy() for name, tensor in load_file(folder / "weights.safetensors").items()}
    return weights, json.loads((folder / "history.json").read_text())


@pytest.mark.long
@pytest.mark.parametrize(("case", "world"), [("few tiles", 3), ("lora", 2), ("stopped", 2), ("unreadable", 2)])
def test_a_training_over_ranks_equals_that_of_one_process(case: str, world: int, tmp_path: Path) -> None:
    weights, history = train(tmp_path / "ranks", case, world)
    alone, alone_history = train(tmp_path / "alone", case, 1)
    assert weights.keys() == alone.keys()
    assert history[0] == alone_history[0]
    np.testing.assert_allclose(np.array(history[1]), np.array(alone_history[1]), atol=1e-8)
    for name, tensor in weights.items():
        np.testing.assert_allclose(tensor, alone[name], atol=1e-8, err_msg=name)


def test_processes_that_would_sum_unlike_gradients_are_refused(tmp_path: Path) -> None:
    """A GPU without bf16 scales its gradients by 65536 and one with it does not: their sum is of neither."""
    done = run(tmp_path / "ranks", "unlike arithmetic", 2)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("rank ")]
    assert lines, done.stderr[-3000:]
    said = "InputError: torchrun, arithmetic: expected the same in every process, got float32 on "
    assert all(said in line and "; float16 on " in line and "GPUs of one kind" in line for line in lines), lines


@pytest.mark.long
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("no memory to train", "the memory of cpu ran out in epoch 1 at slide"),
        ("no memory to validate", "Memory ran out: CUDA out of memory (simulated)"),
        ("never read", "expected tiles, got a torn block. Mend it."),
    ],
)
def test_what_one_process_meets_ends_all_of_them_with_its_reason(case: str, said: str, tmp_path: Path) -> None:
    """Before, the others waited for ever, or were told that something was wrong and not what."""
    done = run(tmp_path / "ranks", case, 2)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("rank ")]
    assert sorted(line[:6] for line in lines) == ["rank 0", "rank 1"], done.stderr[-3000:]
    assert all(said in line for line in lines), lines
    assert "rocess 1 of 2 on " in next(line for line in lines if line.startswith("rank 0"))
