"""Progress on stderr: one line a stage with rate and time left; the only module beside the CLI that knows rich."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS_BETWEEN_LINES = 30
SECONDS_OF_RATE = 600.0  # a slide may take a minute, and one alone says little


class _RateColumn(ProgressColumn):
    """Items a second, or seconds an item where it is slower."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(_rate(speed), style="progress.data.speed")


class Advance:
    """Told how many more items of a stage are done; may raise to stop between two items."""

    def __init__(self, show: Callable[[int], None], skipped: Callable[[int], None], check: Callable[[], None]) -> None:
        self._show, self._skipped, self._check = show, skipped, check

    def __call__(self, count: int) -> None:
        self._show(count)
        self._check()

    def skip(self, count: int) -> None:
        """Tells that so many items were done before, so that they count neither as fast nor as to be done."""
        if count:
            self._skipped(count)


class Once:
    """Tells a stage of each step of one unit once, though the unit may begin again, from where it was kept."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._position = self._told = 0

    def __call__(self, count: int) -> None:
        self._position += count
        self._advance(self._further())

    def skip(self, count: int) -> None:
        """Tells that the unit goes on behind so many steps."""
        self._position = count
        skip(self._advance, self._further())

    def _further(self) -> int:
        """By how many steps the unit has come further than ever."""
        further = max(0, self._position - self._told)
        self._told += further
        return further


def skip(advance: Callable[[int], None], count: int) -> None:
    """Tells that so many items were done in an earlier session; what knows no difference counts them as done now."""
    getattr(advance, "skip", advance)(count)


class Reporter:
    """Shows stages on stderr; with `quiet` it shows nothing. Where stderr is no terminal, each stage is a few lines."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.check: Callable[[], None] = lambda: None  # asked after every item; may raise to stop there

    def say(self, message: str) -> None:
        """One line of text."""
        self.console.print(message, markup=False, soft_wrap=True)

    def _lines(self, name: str, total: int) -> Advance:
        """Progress for log files: a line at the start, then one a while with what is done, the rate and time left."""
        self.say(f"{name} ({total})")
        started = said = time.monotonic()
        done = skipped = 0

        def show(count: int) -> None:
            nonlocal done, said
            done += count
            now = time.monotonic()
            if done and now - said >= SECONDS_BETWEEN_LINES:
                said = now
                each = (now - started) / done
                left = timedelta(seconds=round(each * max(0, total - skipped - done)))
                self.say(f"  {name}: {skipped + done} of {total}, {_rate(1 / each)}, {left} left")

        def skip_over(count: int) -> None:
            nonlocal skipped, started
            skipped += count
            if not done:  # else other units are under way, and their time counts
                started = time.monotonic()
            self.say(f"  {name}: going on from {skipped + done} of {total}")

        return Advance(show, skip_over, self._checked)

    def _checked(self) -> None:
        self.check()

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """A stage of `total` items; yields a function that is told how many more are done."""
        with self.stages({name: total}) as advances:
            yield advances[name]

    @contextmanager
    def stages(self, totals: Mapping[str, int]) -> Iterator[Mapping[str, Advance]]:
        """Several stages that are under way at the same time, each with its items; one display shows them all."""
        if not self.console.is_terminal:
            yield {name: self._lines(name, total) for name, total in totals.items()}
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, speed_estimate_period=SECONDS_OF_RATE) as progress:
            yield {name: self._bar(progress, name, total) for name, total in totals.items()}

    def _bar(self, progress: Progress, name: str, total: int) -> Advance:
        task = progress.add_task(name, total=total)

        def skip_over(count: int) -> None:
            # rich estimates the rate from the steps it saw: those of an earlier session must not be among them
            completed = next(int(one.completed) for one in progress.tasks if one.id == task)
            progress.reset(task, total=total, completed=completed + count)

        return Advance(lambda count: progress.advance(task, count), skip_over, self._checked)


def _rate(speed: float) -> str:
    return f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
