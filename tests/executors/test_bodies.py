"""What the units of a study do in a process that has no more than its own slides; without Ray."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tapfm_eval.cohort.locate import SlideFile
from tapfm_eval.errors import Problem, RunError, UnreadableSlideError
from tapfm_eval.progress import skip
from tapfm_eval.protocol.schema import Failures
from tapfm_eval.rundir import LOOKED, RunFolder
from tapfm_eval.stages import units
from tapfm_eval.stages.bodies import SentStudy, perform
from tapfm_eval.stages.failures import Losses, read_failures
from tapfm_eval.stages.graph import WorkUnit


@dataclass
class OneSlide:
    """The study as the last unit of an embedding sees it: 32 slides are in the unit before."""

    folder: RunFolder
    slides: tuple[SlideFile, ...]

    def without(self, lost: Any) -> "OneSlide":
        gone = {failure.slide_id for failure in lost}
        return OneSlide(self.folder, tuple(slide for slide in self.slides if slide.slide_id not in gone))


def embed_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Embeds the last slide of 33, which cannot be read; what is told of progress."""
    run = RunFolder(folder)
    files = tuple(SlideFile("here", f"P{i}", f"s{i}", folder / "share" / f"s{i}.svs", None) for i in range(33))
    losses = Losses(run, Failures(policy="exclude", max_share=0.05), {"here": 33})
    told: list[int] = []

    def embed(data: Any, backbone: str, slides: Any, advance: Any) -> None:
        skip(advance, 0)  # from the start, also the second time
        advance(1)
        for slide in slides:
            raise UnreadableSlideError(slide.slide_id, Problem(str(slide.path), "tiles", "an error", "Mend it."))

    monkeypatch.setattr(units, "embed_slides", embed)
    monkeypatch.setattr(SentStudy, "data", lambda self, unit: OneSlide(run, files[32:]))
    unit = WorkUnit("features/tiny/here/32", "features", "Embedding", arguments={"backbone": "tiny", "slides": ["s32"]})
    perform(SentStudy(cast(Any, None), files, losses, None), unit, told.append, lambda: None)
    return told


def test_a_lone_slide_of_a_share_that_is_away_is_not_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, a unit knew its own slides alone, found no other that could be tried, and excluded the slide for good."""
    with pytest.raises(RunError, match="none of 6 tried"):
        embed_last(tmp_path, monkeypatch)
    assert read_failures(RunFolder(tmp_path)) == ()


def test_one_that_fails_alone_is_left_out_and_no_step_is_told_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "s0.svs").write_bytes(b"a slide")
    assert sum(embed_last(tmp_path, monkeypatch)) == 1
    assert [failure.slide_id for failure in read_failures(RunFolder(tmp_path))] == ["s32"]


def test_the_look_is_refused_before_all_is_selected_whatever_the_graph_says(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    study = SentStudy(cast(Any, None), (), Losses(run, Failures(policy="stop"), {}), None)
    unit = WorkUnit("select", "select", "Closing the selection", arguments={"units": [["tapfm", 1, 0]]})
    with pytest.raises(RunError, match=r"selected before test patients are predicted, got no selection\.json"):
        perform(study, unit, lambda _: None, lambda: None)
    assert LOOKED not in [event["event"] for event in run.events()]
