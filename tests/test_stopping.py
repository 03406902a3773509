"""The first signal asks a run to stop, the second ends it at once, and afterwards all is as it was."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tapfm_eval.errors import PausedError
from tapfm_eval.stopping import SIGNALS, stopping

WORK = """
import sys, time
from tapfm_eval.stopping import stopping
with stopping("somewhere", 0):
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_is_remembered_until_somebody_asks(name: str) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with stopping("reports/luad", 0) as stop:
        stop.check()
        signal.raise_signal(number)
        with pytest.raises(PausedError, match=rf"{name} came. What is done is kept in reports/luad: the same command"):
            stop.check()
    assert signal.getsignal(number) == before


def test_a_second_signal_ends_the_process_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE, text=True) as work:
        assert work.stdout is not None
        assert work.stdout.readline() == "ready\n"
        os.kill(work.pid, signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            work.wait(0.3)
        os.kill(work.pid, signal.SIGTERM)
        assert work.wait(10) == -signal.SIGTERM


def test_in_a_thread_that_is_not_the_main_one_signals_are_left_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with stopping("somewhere", 0) as stop:
            seen.append(signal.getsignal(signal.SIGTERM) == before)
            stop.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
