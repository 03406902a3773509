"""The units of a study one after another in this process; small ones side by side in worker processes."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby

from tapfm_eval.errors import StudyError
from tapfm_eval.executors.work import Failure, Work, body_of, failed_study
from tapfm_eval.parallel import each
from tapfm_eval.progress import Reporter
from tapfm_eval.stages.graph import Graph, Queue, WorkUnit


class LocalExecutor:
    """Runs units in the order of their graph."""

    def __init__(self, workers: int) -> None:
        """Nothing is started yet.

        Args:
            workers: Processes for units that are small; others are done in this one.
        """
        self._workers = workers

    def run(self, graph: Graph, work: Work, reporter: Reporter) -> None:
        """Does all units of a graph in order.

        What a unit finds wrong with itself, such as a loss that stops being a number, does not stop those that do
        not depend on it. Anything else, such as a full disk, does.

        Raises:
            StudyError: Units failed: the one itself, or a list of several.
        """
        queue = Queue(graph)
        failed: dict[str, StudyError] = {}
        blocked: dict[str, None] = {}
        for title, units in groupby(graph, key=lambda unit: unit.title):
            left = [unit for unit in units if unit.name not in blocked]
            if not left:
                continue
            with reporter.stage(title, sum(unit.steps for unit in left)) as advance:
                for unit, error in self._done(left, work, advance):
                    if error is not None:
                        failed[unit.name] = error
                        blocked |= dict.fromkeys(queue.blocked_by(unit.name))
        if len(failed) == 1:
            raise next(iter(failed.values()))
        if failed:
            failures = [Failure(name, str(error)) for name, error in failed.items()]
            raise failed_study(failures, list(blocked))

    def _done(
        self, units: list[WorkUnit], work: Work, advance: Callable[[int], None]
    ) -> Iterator[tuple[WorkUnit, StudyError | None]]:
        if all(unit.small for unit in units):
            for unit, error in zip(units, each(partial(_small, work), units, self._workers), strict=True):
                advance(unit.steps)
                yield unit, error
            return
        body = body_of(work)
        for unit in units:
            try:
                body(work.shared, unit, advance)
            except StudyError as error:
                yield unit, error
            else:
                yield unit, None


def _small(work: Work, unit: WorkUnit) -> StudyError | None:
    try:
        body_of(work)(work.shared, unit, lambda _: None)
    except StudyError as error:
        return error
    return None
