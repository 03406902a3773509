"""What a user without the extra is told."""

from pathlib import Path

import pytest

from tapfm_eval.errors import InputError
from tapfm_eval.executors import ray as ray_executor


def test_without_the_extra_the_command_that_installs_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tapfm-eval\[ray\]'"), ray_executor.RayExecutor(tmp_path):
        pytest.fail("it started")
