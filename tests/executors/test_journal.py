"""The journal that many processes write to: one after another, since over NFS two appends would be one."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tapfm_eval import locks
from tapfm_eval.locks import Lock, take
from tapfm_eval.rundir import RunFolder

APPENDS_LIKE_NFS = """
import io, sys, time
from pathlib import Path
from tapfm_eval.rundir import RunFolder

class Remote(io.BufferedRandom):  # a client of NFS knows where a file ends, and writes there, whatever came since
    def write(self, content):
        time.sleep(0.005)
        return super().write(content)

def opened(path, mode="r", *args, **more):
    if mode != "a+b":
        return plain(path, mode, *args, **more)
    path.touch()
    return Remote(io.FileIO(path, "r+"))

plain, Path.open = Path.open, opened
folder = RunFolder(Path(sys.argv[1]))
for i in range(10):
    folder.journal("predicted", unit=f"{sys.argv[2]} {i}")
"""


def test_no_line_is_lost_where_appending_is_not_atomic(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", APPENDS_LIKE_NFS, str(tmp_path), machine]) for machine in "abc"
    ]
    assert [process.wait(timeout=200) for process in processes] == [0, 0, 0]
    units = [event["unit"] for event in RunFolder(tmp_path).events()]
    assert sorted(map(str, units)) == sorted(f"{machine} {i}" for machine in "abc" for i in range(10))


def test_whoever_appends_waits_for_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.02)
    folder = RunFolder(tmp_path)
    taken = take(folder.lock("journal"))
    assert isinstance(taken, Lock)
    writer = threading.Thread(target=folder.journal, args=("started",))
    writer.start()
    writer.join(timeout=0.5)
    assert writer.is_alive()
    assert folder.events() == ()
    taken.release()
    writer.join(timeout=20)
    assert [event["event"] for event in folder.events()] == ["started"]
