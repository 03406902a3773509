"""Stopping on a signal at a point where everything is kept: after the slide that is under way."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.forkserver import ensure_running
from types import FrameType

from tapfm_eval.errors import PausedError
from tapfm_eval.parallel import worker_context

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")  # Ctrl-C, kill and batch systems, and their warning ahead of the limit
_SAID = (
    b": stopping once the slide under way is finished, with everything kept; the same signal once more ends at once, "
    b"without what came after the last checkpoint.\n"
)


class Stopping:
    """Whether somebody asked this process to stop."""

    def __init__(self, kept_in: object) -> None:
        self.kept_in = kept_in
        self.asked_by: str | None = None  # the signal's name

    def check(self) -> None:
        """Stops here if somebody asked for it.

        Raises:
            PausedError: Somebody did.
        """
        if self.asked_by is not None:
            raise PausedError(
                f"{self.asked_by} came. What is done is kept in {self.kept_in}: the same command resumes."
            )


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Within it, `SIGNALS` do nothing: for a process that another one tells when to stop."""
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextlib.contextmanager
def stopping(kept_in: object, workers: int) -> Iterator[Stopping]:
    """Within it, the first of `SIGNALS` asks the run to stop, and a second one ends it at once.

    In a thread that is not the main one signals are left alone. Worker processes that start within it ignore the
    signals: batch systems and terminals send them to every process of a job, and readers must live until the slide
    under way is finished.

    Args:
        kept_in: What the message names until the caller knows the very folder, and sets it.
        workers: How many worker processes the run may start.
    """
    state = Stopping(kept_in)
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]

    def ask(number: int, frame: FrameType | None) -> None:
        state.asked_by = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)
        with contextlib.suppress(OSError):  # straight to the descriptor: what was interrupted may hold the stream
            os.write(2, (f"\n{state.asked_by}" if os.isatty(2) else state.asked_by).encode() + _SAID)

    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        if workers and "forkserver" in multiprocessing.get_all_start_methods():
            worker_context()
            ensure_running()  # born deaf to the signals, and so are its children
        for number in numbers:
            signal.signal(number, ask)
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
