"""The same function over many items with worker processes, results in order."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


# The one fork server of a process is started by whoever comes first, so it is told here what all workers need: tile
# reading imports torch, which takes seconds in every worker that has to do it alone.
PRELOADED = ["tapfm_eval.slides.bags"]


def worker_context() -> BaseContext:
    """How workers start: from multiprocessing's fork server, or afresh where the system has none.

    A plain fork of a process that has threads (torch, BLAS) may deadlock.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def end_with_parent() -> None:
    """To be called first in a worker process: it then ends with the process that started it, if that one is killed.

    Its parent by number is the fork server, which lives as long as any worker does; so each waits for its true parent.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="waits for the parent's end", daemon=True).start()


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun has started to share the tiles of every bag."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def processes_here() -> int:
    """How many of them share this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if started_by_torchrun() else 1


def each(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`function` of each item, in order; with 0 or 1 workers in this process."""
    if workers <= 1:
        yield from map(function, items)
        return
    context = worker_context()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        try:
            yield from pool.map(function, items, chunksize=1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
