"""Embeddings may lie on another disk than the run: the run remembers where, and says so when they are away."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_study import know_tiny, small_study

from tapfm_eval import study
from tapfm_eval.errors import RunError
from tapfm_eval.progress import Reporter
from tapfm_eval.rundir import RunFolder

QUIET = Reporter(quiet=True)


def test_a_run_keeps_its_embeddings_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know_tiny(monkeypatch.setattr)
    path, options = small_study(tmp_path)
    options = replace(options, arms=("abmil",))
    run = study.run_protocol(path, replace(options, store=tmp_path / "large"), QUIET).folder
    place = tmp_path / "large" / "brief-1.0.0" / run.name
    assert (run / "features").readlink() == place
    stored = sorted(place.glob("tiny/*/*.h5"))
    assert len(stored) == 12
    written = [file.stat().st_mtime_ns for file in stored]
    assert study.run_protocol(path, options, QUIET).folder == run  # without the option: it is remembered
    assert [file.stat().st_mtime_ns for file in stored] == written
    place.rename(tmp_path / "unmounted")
    with pytest.raises(RunError, match=r"the folder of embeddings that it links to, .*, got nothing there"):
        study.run_protocol(path, options, QUIET)


def test_embeddings_that_lie_elsewhere_are_not_left_behind(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "reports" / "p-1" / "abc")
    folder.place_features(tmp_path / "one")
    folder.place_features(tmp_path / "one")
    with pytest.raises(RunError, match=f"got {tmp_path}/one/p-1/abc"):
        folder.place_features(tmp_path / "two")
    own = RunFolder(tmp_path / "reports" / "p-1" / "def")
    own.place_features(None)
    own.features("uni", "c").mkdir(parents=True)
    with pytest.raises(RunError, match="got inside the run folder"):
        own.place_features(tmp_path / "one")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunError, match=r"a folder that can be written"):
        RunFolder(tmp_path / "reports" / "p-1" / "ghi").place_features(file)
