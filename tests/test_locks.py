"""One holder at a time, on any machine; the dead hold nothing; who was away too long learns of it before it writes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tapfm_eval import locks
from tapfm_eval.errors import RunError
from tapfm_eval.locks import Holder, Lock, take, take_in_turn, this_process

HOLD = """
import sys, time
from pathlib import Path
from tapfm_eval.locks import Lock, take
taken = take(Path(sys.argv[1]))
print("held" if isinstance(taken, Lock) else "refused", flush=True)
time.sleep(60)
"""
CONTEND = """
import sys
from pathlib import Path
from tapfm_eval.locks import Lock, take
folder, wins = Path(sys.argv[1]), 0
while wins < int(sys.argv[2]):
    taken = take(folder / "lock")
    if isinstance(taken, Lock):
        with taken:
            (folder / "inside").touch(exist_ok=False)  # raises where somebody else is inside too
            count = int((folder / "count").read_text())
            (folder / "count").write_text(str(count + 1))
            (folder / "inside").unlink()
        wins += 1
"""


def holding(path: Path) -> subprocess.Popen[str]:
    """Another process that holds a lock."""
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


def ended(other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    assert other.stdout is not None
    other.stdout.close()


def test_a_held_lock_says_by_whom_and_is_free_once_its_holder_is_killed(tmp_path: Path) -> None:
    other = holding(tmp_path / "lock")
    try:
        taken = take(tmp_path / "lock")
        assert isinstance(taken, Holder)
        assert (taken.pid, taken.host) == (other.pid, this_process().host)
        assert str(taken).startswith(f"process {other.pid} on {taken.host} since 20")
    finally:
        ended(other)
    mine = take(tmp_path / "lock")
    assert isinstance(mine, Lock)
    mine.release()


def test_a_stopped_holder_of_this_machine_keeps_its_lock_however_long(tmp_path: Path) -> None:
    other = holding(tmp_path / "lock")
    try:
        other.send_signal(signal.SIGSTOP)
        os.utime(tmp_path / "lock.0", (0, 0))
        assert isinstance(take(tmp_path / "lock"), Holder)
    finally:
        ended(other)


def test_a_released_lock_is_free_and_one_that_we_hold_is_not(tmp_path: Path) -> None:
    with take(tmp_path / "lock") as mine:  # type: ignore[union-attr]
        assert isinstance(mine, Lock)
        assert isinstance(take(tmp_path / "lock"), Holder)
        mine.check()
    again = take(tmp_path / "lock")
    assert isinstance(again, Lock)
    again.release()
    assert [path.name for path in tmp_path.iterdir()] == ["lock.1"]  # nothing piles up


def test_a_lock_is_given_back_on_a_full_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = take(tmp_path / "lock")
    assert isinstance(mine, Lock)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(locks.os, "fsync", full)
        mine.release()
    again = take(tmp_path / "lock")
    assert isinstance(again, Lock)
    again.release()
    assert [path.name for path in tmp_path.iterdir()] == ["lock.1"]


def held_elsewhere(path: Path, idle_seconds: float) -> Holder:
    """A lock file as a process of another machine leaves it; its heartbeat is so many seconds old."""
    away = replace(this_process(), host="node7", machine="another boot")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.0").write_text(json.dumps(asdict(away)))
    beat = time.time() - idle_seconds
    os.utime(path.with_name(f"{path.name}.0"), (beat, beat))
    return away


def test_a_holder_on_another_host_is_believed_while_its_heart_beats_and_goes_stale_after(tmp_path: Path) -> None:
    away = held_elsewhere(tmp_path / "a", idle_seconds=60)
    assert take(tmp_path / "a") == away
    held_elsewhere(tmp_path / "b", idle_seconds=locks.STALE_SECONDS + 60)
    mine = take(tmp_path / "b")
    assert isinstance(mine, Lock)
    mine.release()


def test_whoever_was_taken_for_dead_learns_of_it_before_it_writes(tmp_path: Path) -> None:
    first = take(tmp_path / "lock")
    assert isinstance(first, Lock)
    held_elsewhere(tmp_path / "lock", idle_seconds=locks.STALE_SECONDS + 60)  # as another machine sees us
    second = take(tmp_path / "lock")
    assert isinstance(second, Lock)
    with pytest.raises(RunError, match="away for too long"):
        first.check()
    second.check()
    first.release()
    assert isinstance(take(tmp_path / "lock"), Holder)  # the late release changes nothing for the second
    second.release()


def test_a_process_that_got_the_number_of_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    dead = replace(this_process(), started="1")
    (tmp_path / "lock.0").write_text(json.dumps(asdict(dead)))
    mine = take(tmp_path / "lock")
    assert isinstance(mine, Lock)
    mine.release()


@pytest.mark.parametrize("content", ["", "{", '{"pid": "x"}', "[1]", "\0"])
def test_a_torn_lock_counts_as_held_until_it_is_old(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock.0").write_text(content)
    assert take(tmp_path / "lock") == locks.NOBODY
    os.utime(tmp_path / "lock.0", (0, 0))
    mine = take(tmp_path / "lock")
    assert isinstance(mine, Lock)
    mine.release()


def test_without_hard_links_one_process_wins_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    mine = take(tmp_path / "lock")
    assert isinstance(mine, Lock)
    assert isinstance(take(tmp_path / "lock"), Holder)
    mine.release()


def test_many_processes_never_hold_a_lock_together(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", CONTEND, str(tmp_path), "25"]
    several = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=120)[1] for process in several] == [""] * 4
    assert (tmp_path / "count").read_text() == "100"


def test_a_lock_is_waited_for_and_the_wait_can_be_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)
    mine = take(tmp_path / "lock")
    assert isinstance(mine, Lock)
    seen: list[Holder] = []

    def waiting(holder: Holder) -> None:
        seen.append(holder)
        if len(seen) == 3:
            mine.release()

    take_in_turn(tmp_path / "lock", waiting).release()
    assert len(seen) == 3

    def leave(_: Holder) -> None:
        raise KeyboardInterrupt

    with take_in_turn(tmp_path / "lock", waiting), pytest.raises(KeyboardInterrupt):
        take_in_turn(tmp_path / "lock", leave)


def test_a_folder_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="a lock file that can be written"):
        take(tmp_path / "file" / "lock")
