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


def train(folder: Path, case: str, world: int) -> tuple[dict[str, np.ndarray], list[object]]:
    folder.mkdir()
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
    done = subprocess.run(
        [sys.executable, *several, str(RANKS), str(folder), case],
        capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
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
