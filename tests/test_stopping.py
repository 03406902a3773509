"""The first signal asks a run to stop, the second ends it at once, and afterwards all is as it was."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

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

POOL = """
import time
from tapfm_eval.parallel import each

if __name__ == "__main__":
    for _ in each(time.sleep, [0.0] * 4 + [600.0] * 4, 2):
        print("working", flush=True)
"""
READERS = """
import itertools
from pathlib import Path
import numpy as np
from tapfm_eval.slides.bags import TileRequest, stream
from tapfm_eval.slides.reader import TilePlan

if __name__ == "__main__":
    none = np.zeros(0, np.int64)
    request = TileRequest("none", Path("none.svs"), None, "", TilePlan(0, 8, 8, 8), none, none.reshape(0, 2))
    for _ in stream(itertools.repeat(request), workers=2):
        print("working", flush=True)
"""


def members(session: int) -> dict[int, str]:
    """The processes of a session that are alive, with their commands."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        name, (state, _, _, of) = text[text.index("(") : text.rindex(")") + 1], text.rpartition(")")[2].split()[:4]
        if int(of) == session and state != "Z":
            found[int(stat.parent.name)] = name
    return found


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
    with subprocess.Popen(
        [sys.executable, "-c", WORK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as work:
        assert work.stdout is not None
        assert work.stderr is not None
        assert work.stdout.readline() == "ready\n"
        os.kill(work.pid, signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            work.wait(0.3)
        assert "SIGTERM: stopping once the slide under way is finished" in work.stderr.readline()
        os.kill(work.pid, signal.SIGTERM)
        assert work.wait(10) == -signal.SIGTERM


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc to see the processes of a session")
@pytest.mark.parametrize("script", [POOL, READERS], ids=["pool", "readers"])
def test_workers_and_their_server_end_when_the_run_is_killed(tmp_path: Path, script: str) -> None:
    (tmp_path / "work.py").write_text(script)
    command = [sys.executable, str(tmp_path / "work.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path) as work:
        try:
            assert work.stdout is not None
            assert work.stdout.readline() == "working\n"
            assert len(members(work.pid)) >= 4  # itself, the fork server and two workers at least
            work.kill()
            work.wait()
            given_up = time.monotonic() + 30
            while members(work.pid) and time.monotonic() < given_up:
                time.sleep(0.1)
            assert members(work.pid) == {}
        finally:
            for process in members(work.pid):
                os.kill(process, signal.SIGKILL)


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
