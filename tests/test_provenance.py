"""What machines that share a run must have alike."""

from pathlib import Path

import pytest

from tapfm_eval import __version__, provenance
from tapfm_eval.provenance import shared_software


def test_versions_count_and_so_does_every_line_of_source_but_not_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two checkouts of one version may compute other numbers; two kernels of an operating system do not."""
    here = shared_software()
    assert here["tapfm-eval"] == __version__
    assert {"python", "torch", "timm", "numpy"} <= set(here)
    assert "system" not in here
    assert here == shared_software()
    seen = [here]
    (tmp_path / "methods").mkdir()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    for name, text in (("a.py", "x = 1"), ("methods/a.py", "x = 1"), ("a.py", "x = 2")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        seen.append(shared_software())
    assert len({one["source of tapfm-eval"] for one in seen}) == 4
    assert all(one["torch"] == here["torch"] for one in seen)
