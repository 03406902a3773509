"""Paths that a user gives from where he stands mean the same to workers that live in another folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_study import know_tiny, small_study

from tapfm_eval import study
from tapfm_eval.errors import StudyError
from tapfm_eval.preparation import Prepared, RunOptions
from tapfm_eval.progress import Reporter


def test_every_machine_must_see_slides_and_not_their_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount point of a share that is away is a folder, and every unit that went there failed within seconds."""
    know_tiny(monkeypatch.setattr)
    path, options = small_study(tmp_path)
    prepared: list[Prepared] = []

    def no_more(made: Prepared, *_: Any) -> None:
        prepared.append(made)
        raise StudyError("stopped here")

    monkeypatch.setattr(study, "_execute", no_more)
    with pytest.raises(StudyError, match="stopped here"):
        study.run_protocol(path, options, Reporter(quiet=True))
    places = study._places(prepared[0], replace(options, weights={"tiny": Path("/weights/tiny.safetensors")}))
    *slides, weights = places
    assert weights == (Path("/weights/tiny.safetensors"),)
    assert [{file.parent for file in some} for some in slides] == [{options.slides[name]} for name in options.slides]
    assert all(len(some) > 1 and all(file.is_file() for file in some) for some in slides)


@pytest.mark.parametrize("executor", ["ray", "local"])
def test_relative_paths_are_made_whole_for_ray_and_left_alone_else(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know_tiny(monkeypatch.setattr)
    path, options = small_study(tmp_path)
    given = replace(
        options, executor=executor, out=Path("reports"), store=Path("store"),
        slides={name: Path(name) for name in options.slides}, weights={"tiny": Path("tiny.safetensors")},
    )  # fmt: skip
    seen: list[RunOptions] = []

    def no_more(protocol: Any, path: Path, options: RunOptions, *_: Any) -> None:
        seen.append(options)
        raise StudyError("stopped here")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "check_installed", lambda: None)
    monkeypatch.setattr(study, "_lead", no_more)
    with pytest.raises(StudyError, match="stopped here"):
        study.run_protocol(path, given, Reporter(quiet=True))
    (used,) = seen
    paths = [used.out, used.store, *used.slides.values(), *used.weights.values()]
    start = tmp_path if executor == "ray" else Path()
    assert paths == [start / name for name in ("reports", "store", "here", "there", "tiny.safetensors")]
