"""Progress on stderr: one line a stage with rate and time left; the only module beside the CLI that knows rich."""

import time
from collections.abc import Callable, Iterator
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


class _RateColumn(ProgressColumn):
    """Items a second, or seconds an item where it is slower."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each", style="progress.data.speed")


class Reporter:
    """Shows stages on stderr; with `quiet` it shows nothing. Where stderr is no terminal, each stage is one line."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    def say(self, message: str) -> None:
        """One line of text."""
        self.console.print(message, markup=False, soft_wrap=True)

    def _lines(self, name: str, total: int) -> Callable[[int], None]:
        """Progress for log files: a line at the start, then one a while with what is done and the time left."""
        self.say(f"{name} ({total})")
        started = said = time.monotonic()
        done = 0

        def advance(count: int) -> None:
            nonlocal done, said
            done += count
            now = time.monotonic()
            if done and now - said >= SECONDS_BETWEEN_LINES:
                said = now
                left = timedelta(seconds=round((now - started) / done * (total - done)))
                self.say(f"  {name}: {done} of {total}, {left} left")

        return advance

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """A stage of `total` items; yields a function that is told how many more are done."""
        if not self.console.is_terminal:
            yield self._lines(name, total)
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
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(name, total=total)
            yield lambda count: progress.advance(task, count)
