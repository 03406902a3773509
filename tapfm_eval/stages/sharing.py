"""Work that the processes of a study share: each piece has a lock, and is done by whoever takes it first.

The tasks of a batch system's array, on any machines that see the run folder, run the same command; each takes what is
free. Whether a piece is done is told by its files alone.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.locks import POLL_SECONDS, Holder, Lock, take


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of work."""

    name: str  # as a user is told of it
    lock: Path
    is_done: Callable[[], bool]
    work: Callable[[Lock], None]  # may ask the lock, before it writes, whether it still holds


def do_free(pieces: Sequence[Piece], held: Callable[[Piece, Holder], None]) -> dict[str, Holder]:
    """Does every piece that is not done and that nobody else is doing; never waits.

    Args:
        pieces: In the order in which they are to be done.
        held: Told once of each piece that somebody else is doing.

    Returns:
        Who holds the pieces that are still not done, by name.
    """
    holders: dict[str, Holder] = {}
    left = list(pieces)
    while left:
        count, still = len(left), []
        for piece in left:
            if piece.is_done():
                continue
            taken = take(piece.lock)
            if isinstance(taken, Holder):
                if piece.name not in holders:
                    held(piece, taken)
                holders[piece.name] = taken
                still.append(piece)
                continue
            with taken:
                if not piece.is_done():  # somebody did it between our look and our lock
                    piece.work(taken)
        left = still
        if len(left) == count:  # a whole round that did nothing
            break
    return {piece.name: holders[piece.name] for piece in left if not piece.is_done()}


def do_all(pieces: Sequence[Piece], held: Callable[[Piece, Holder], None], check: Callable[[], None]) -> None:
    """Does what is free and waits for the rest; for pieces that take minutes, and that later work needs.

    Args:
        pieces: In the order in which they are to be done.
        held: Told once of each piece that somebody else is doing.
        check: Asked while waiting; may raise to stop.
    """
    said: set[str] = set()

    def once(piece: Piece, holder: Holder) -> None:
        if piece.name not in said:
            said.add(piece.name)
            held(piece, holder)

    while do_free(pieces, once):
        check()
        time.sleep(POLL_SECONDS)
