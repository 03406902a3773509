"""One bag over several processes gives the gradients of one process, exactly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapfm_eval.methods.ranks import share_of

RANKS = Path(__file__).with_name("ranks_of_one_bag.py")


@given(st.integers(0, 200), st.integers(1, 17))
def test_shares_cover_the_bag_in_order_and_differ_by_one_at_most(count: int, world: int) -> None:
    shares = [share_of(count, rank, world) for rank in range(world)]
    assert [i for share in shares for i in range(count)[share]] == list(range(count))
    sizes = [len(range(count)[share]) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.long)])
def test_gradients_over_ranks_equal_those_of_one_joint_graph(world: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", str(RANKS)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "28 cases equal" in done.stdout
