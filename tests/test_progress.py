"""Rates and time left are of this session; each step of a unit counts once, however often it begins again."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tapfm_eval import progress
from tapfm_eval.progress import Once, Reporter, skip


@dataclass
class Counted:
    """Takes note of what it is told, as a worker of Ray does for its driver."""

    done: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)

    def __call__(self, count: int) -> None:
        self.done.append(count)

    def skip(self, count: int) -> None:
        self.skipped.append(count)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time."""
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.0)
    return lambda seconds: monkeypatch.setattr(progress.time, "monotonic", lambda: seconds)


def test_whatever_tells_kept_steps_from_done_ones_is_told_them_apart() -> None:
    told = Counted()
    skip(told, 900)
    told(1)
    assert (told.skipped, told.done) == ([900], [1])
    counts: list[int] = []
    skip(counts.append, 3)
    assert counts == [3]


def test_a_unit_that_begins_again_tells_no_step_twice() -> None:
    """A slide could not be read after step 904: the unit goes on without it, from a checkpoint at 902."""
    told = Counted()
    steps = Once(told)
    skip(steps, 900)
    for _ in range(4):
        steps(1)
    skip(steps, 902)
    for _ in range(4):
        steps(1)
    assert sum(told.skipped) == 900
    assert sum(told.done) == 6
    assert len(told.done) == 8  # it is asked after each whether to stop


def test_a_training_that_goes_on_says_the_rate_of_what_it_did_itself(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with Reporter().stage("Training", 1000) as advance:
        clock(60.0)
        skip(advance, 900)
        clock(100.0)
        advance(10)
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == ["  Training: going on from 900 of 1000", "  Training: 910 of 1000, 4.0 s each, 0:06:00 left"]


def test_a_unit_that_goes_on_beside_others_changes_no_rate(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, the clock began anew and the count did not: ten slides in ten seconds, for those of a hundred."""
    with Reporter().stage("Training", 1000) as advance:
        clock(90.0)
        advance(9)
        skip(advance, 500)
        clock(130.0)
        advance(1)
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == [
        "  Training: 9 of 1000, 10.0 s each, 2:45:10 left",
        "  Training: going on from 509 of 1000",
        "  Training: 510 of 1000, 13.0 s each, 1:46:10 left",
    ]
