"""Watches what a reader does to the system while it reads."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_EVENTS = frozenset({
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "socket.connect", "pty.spawn",
    "os.remove", "os.rename", "os.mkdir", "shutil.rmtree",
})  # fmt: skip
_seen: list[str] = []
_watching = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    written = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
    if _watching and (event in _EVENTS or (written and not isinstance(arguments[0], int))):  # a pipe has but a number
        _seen.append(f"{event} {arguments!r}"[:200])


sys.addaudithook(_hook)  # cannot be taken away again, and does nothing outside `watched`


@contextmanager
def watched() -> Iterator[list[str]]:
    """Lists what is run, connected to, written or removed within the block."""
    global _watching
    _seen.clear()
    _watching = True
    try:
        yield _seen
    finally:
        _watching = False
