"""The rehearsal of a shipped protocol under an embedded Ray gives the bytes of a local one: `make test-ray`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs the extra: pip install 'tapfm-eval[ray]'", exc_type=ImportError)
pytestmark = [pytest.mark.ray, pytest.mark.timeout(3600), pytest.mark.xdist_group("ray")]
PROTOCOL = Path(__file__).resolve().parents[2] / "protocols" / "luad.yaml"


def rehearsed(folder: Path, *more: str) -> tuple[Path, str]:
    """The folder of a finished rehearsal, and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "tapfm_eval", "run", str(PROTOCOL), "--rehearse", "--out", str(folder), *more],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = folder.glob("luad-1.0.0/rehearsal-*")
    return run, done.stderr


def test_a_rehearsal_under_ray_is_that_of_one_process(tmp_path: Path) -> None:
    local, _ = rehearsed(tmp_path / "local")
    ray, said = rehearsed(tmp_path / "ray", "--executor", "ray")
    assert "Training (" in said
    assert ray.name == local.name
    for name in ("predictions.csv", "results.json"):
        assert (ray / name).read_bytes() == (local / name).read_bytes(), name
    trained = sorted(path.relative_to(local).as_posix() for path in local.glob("arms/*/*/*/selection.json"))
    assert len(trained) == 4
    logs = sorted(path.relative_to(ray / "logs").as_posix() for path in (ray / "logs").glob("train/*/*/*.log"))
    assert [f"arms/{log.removeprefix('train/').removesuffix('.log')}/selection.json" for log in logs] == trained
    for log in logs:
        text = (ray / "logs" / log).read_text()
        assert "started on" in text
        assert "done after" in text
