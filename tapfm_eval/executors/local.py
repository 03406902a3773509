"""The units of a study one after another in this process, which may be one of several that run the same command."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path

from tapfm_eval.executors.work import Body, Work, named_function
from tapfm_eval.locks import Holder, Lock
from tapfm_eval.progress import Reporter
from tapfm_eval.stages.graph import Graph, Queue, WorkUnit
from tapfm_eval.stages.sharing import Piece, do_all, do_free


class LocalExecutor:
    """Runs units in the order of their graph; an error ends the run, and the same command goes on from there."""

    def run(self, graph: Graph, work: Work, reporter: Reporter) -> Mapping[str, Holder]:
        """Does all units of a graph that no other process is doing, stage by stage."""
        queue, holders = Queue(graph), dict[str, Holder]()
        blocked: set[str] = set()

        def held(piece: Piece, holder: Holder) -> None:
            reporter.say(f"{piece.name} is held by {holder}; going on with what is free.")

        for (_, waits, title), group in groupby(graph, key=_together):
            units = [unit for unit in group if unit.name not in blocked]
            if waits and units:
                with reporter.stage(title, sum(unit.steps for unit in units)) as advance:
                    pieces = [_piece(work, unit, partial(_within, work, unit, advance)) for unit in units]
                    do_all(pieces, held, reporter.check)
            else:
                pieces = [_piece(work, unit, partial(_on_its_own, work, unit, reporter)) for unit in units]
                found = do_free(pieces, held)
                holders |= found
                for unit in units:
                    if unit.title in found:
                        blocked |= set(queue.blocked_by(unit.name))
        return holders


def _together(unit: WorkUnit) -> tuple[str, bool, str]:
    """Units that follow each other and agree in this are gone through together."""
    return unit.stage, unit.waits, unit.title if unit.waits else ""


def _piece(work: Work, unit: WorkUnit, do: Callable[[Lock], None]) -> Piece:
    lock: Path = work.folder.lock(unit.lock or f"units-without-a-lock/{unit.name}")
    return Piece(unit.title, lock, partial(named_function(work.is_done), work.shared, unit), do)


def _within(work: Work, unit: WorkUnit, advance: Callable[[int], None], lock: Lock) -> None:
    body: Body = named_function(work.body)
    body(work.shared, unit, advance, lock.check)


def _on_its_own(work: Work, unit: WorkUnit, reporter: Reporter, lock: Lock) -> None:
    with reporter.stage(unit.title, unit.steps) as advance:
        _within(work, unit, advance, lock)
