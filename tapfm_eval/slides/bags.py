"""Tiles of many slides as tensors, read by worker processes, in the order in which they were asked for."""

import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from tapfm_eval.errors import Problem, SlideError
from tapfm_eval.parallel import end_with_parent, worker_context
from tapfm_eval.slides.reader import SlideReader, TilePlan, open_reader
from tapfm_eval.slides.tiles import TileGrid

_OPEN_SLIDES = 4  # per process; chunks of one slide follow each other, so few are enough


@dataclass(frozen=True, slots=True, eq=False)
class TileRequest:
    """Some tiles of one slide; carries only what is needed to read them, so that it is cheap to send to a worker."""

    slide_id: str
    path: Path
    manifest_mpp: float | None
    fingerprint: str  # of the file that was tiled; another file in its place is refused
    plan: TilePlan
    indices: NDArray[np.int64]  # (K,) rows of the slide's TileGrid, in the order wanted
    xy0: NDArray[np.int64]  # (K, 2) level-0 pixels
    key: Hashable = None  # the caller's own mark; never looked at


@dataclass(frozen=True, slots=True, eq=False)
class TileBatch:
    """The pixels of a request."""

    request: TileRequest
    tiles: Tensor  # (K, 3, tile_px, tile_px) uint8 RGB, or what the transform made of it


@dataclass(frozen=True, slots=True, eq=False)
class ReadFailure:
    """A request that could not be read, and why; an item like any other, so that one bad slide ends nothing."""

    request: TileRequest
    message: str


Transform = Callable[[Tensor, TileRequest], Tensor]


def request_tiles(
    grid: TileGrid, path: Path, indices: NDArray[np.int64], *, manifest_mpp: float | None, key: Hashable = None
) -> TileRequest:
    """A request for these rows of a grid, in this order.

    Args:
        grid: Tiles of the slide.
        path: The slide's file.
        indices: (K,) rows of the grid.
        manifest_mpp: The manifest's µm per pixel, as it was when the slide was tiled.
        key: Any hashable mark of the caller's.
    """
    rows = np.asarray(indices, np.int64)
    return TileRequest(grid.slide_id, path, manifest_mpp, grid.fingerprint, grid.plan, rows, grid.xy0[rows], key)


def chunk_requests(
    grid: TileGrid, path: Path, *, chunk: int, manifest_mpp: float | None, key: Hashable = None
) -> Iterator[TileRequest]:
    """All tiles of a slide in grid order, at most `chunk` a request: inference in bounded memory."""
    for start in range(0, len(grid), chunk):
        rows = np.arange(start, min(start + chunk, len(grid)), dtype=np.int64)
        yield request_tiles(grid, path, rows, manifest_mpp=manifest_mpp, key=key)


class TileReads(Dataset[TileBatch | ReadFailure]):
    """Reads tiles; indexed by the request itself, so that no worker ever holds the whole study's coordinates.

    Every process opens its own slides and keeps the last few open. OpenSlide handles are neither pickled nor used
    after a fork: a copy of this object starts without any.
    """

    def __init__(self, transform: Transform | None = None) -> None:
        self.transform = transform
        self._open: OrderedDict[tuple[str, Path, float | None], SlideReader] = OrderedDict()
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"transform": self.transform}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["transform"])  # type: ignore[misc]

    def __getitem__(self, request: TileRequest) -> TileBatch | ReadFailure:
        """The request's tiles, or why they cannot be read."""
        try:
            tiles = self._read(request)
        except SlideError as error:
            self._forget(request)  # OpenSlide refuses everything after its first error
            return ReadFailure(request, str(error))
        return TileBatch(request, tiles if self.transform is None else self.transform(tiles, request))

    def close(self) -> None:
        """Closes every slide that this process has open."""
        while self._open:
            self._open.popitem()[1].close()

    def _read(self, request: TileRequest) -> Tensor:
        reader = self._reader(request)
        px = request.plan.tile_px
        tiles = np.empty((len(request.xy0), 3, px, px), np.uint8)
        # Row by row, whatever the order wanted: neighbours share the file's own compressed blocks, which are cached.
        for i in np.lexsort((request.xy0[:, 0], request.xy0[:, 1])):
            x0, y0 = request.xy0[i]
            tiles[i] = reader.read_tile(int(x0), int(y0), request.plan).transpose(2, 0, 1)  # (px, px, 3) -> (3, px, px)
        return torch.from_numpy(tiles)

    def _reader(self, request: TileRequest) -> SlideReader:
        if self._pid != os.getpid():  # forked by someone else's loader: the handles belong to the parent
            self._open, self._pid = OrderedDict(), os.getpid()
        key = (request.slide_id, request.path, request.manifest_mpp)
        reader = self._open.get(key)
        if reader is None:
            reader = open_reader(request.path, slide_id=request.slide_id, manifest_mpp=request.manifest_mpp)
            self._open[key] = reader
            if len(self._open) > _OPEN_SLIDES:
                self._open.popitem(last=False)[1].close()
            if reader.info.fingerprint != request.fingerprint:
                raise SlideError(
                    Problem(
                        where=f"slide {request.slide_id} ({request.path})",
                        expected=f"the file that was tiled ({request.fingerprint})",
                        got=f"another one ({reader.info.fingerprint})",
                        remedy="Put the file back, or remove its tile file so that the slide is tiled again.",
                    )
                )
        self._open.move_to_end(key)
        return reader

    def _forget(self, request: TileRequest) -> None:
        reader = self._open.pop((request.slide_id, request.path, request.manifest_mpp), None)
        if reader is not None:
            reader.close()


def stream(
    requests: Iterable[TileRequest], *, workers: int, prefetch: int = 2, transform: Transform | None = None
) -> Iterator[TileBatch | ReadFailure]:
    """One item a request, in their order, the same whatever the number of workers.

    At most `workers * prefetch` items are under way, so memory is bounded; `requests` may be a generator and is read
    no faster. Leaving the loop early, or closing the iterator, ends the workers.

    Workers come from multiprocessing's fork server: a plain fork of a process that has threads (torch, CUDA, BLAS)
    may deadlock, which Python 3.12 warns of, and a spawned one imports torch anew each time. So a script that calls
    this with workers needs the usual `if __name__ == "__main__":` guard, and `transform` must pickle.

    Args:
        requests: What to read.
        workers: Processes; 0 reads in this one.
        prefetch: Items read ahead by each worker.
        transform: Applied in the worker to the (K, 3, tile_px, tile_px) uint8 tiles of a request.

    Raises:
        SlideError: A worker died. An unreadable slide raises nothing: it is a `ReadFailure`.
    """
    reads = TileReads(transform)
    if workers == 0:
        try:
            for request in requests:
                yield reads[request]
        finally:
            reads.close()
        return
    loader = _loader(reads, requests, workers, prefetch)
    with warnings.catch_warnings():
        # Advice on the number of CPUs: more workers than CPUs are sensible where slides lie on a network.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        batches = cast(_MultiProcessingDataLoaderIter, iter(loader))
    try:
        yield from _until_dead(batches, workers)
    finally:
        # Torch does this when the iterator is collected; a traceback that holds it would keep the workers alive.
        batches._shutdown_workers()


def _loader(
    reads: TileReads, requests: Iterable[TileRequest], workers: int, prefetch: int
) -> DataLoader[TileBatch | ReadFailure]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        return DataLoader(
            reads,
            batch_size=None,
            sampler=requests,  # the "indices" are the requests themselves
            num_workers=workers,
            prefetch_factor=prefetch,
            collate_fn=_as_it_is,
            worker_init_fn=_begin_worker,
            multiprocessing_context=worker_context(),
            generator=torch.Generator(),  # or the loader would draw its seed from torch's global generator
        )


def _until_dead(batches: Iterator[TileBatch | ReadFailure], workers: int) -> Iterator[TileBatch | ReadFailure]:
    try:
        yield from batches
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):  # torch's own; a fault in the transform starts with "Caught"
            raise
        raise SlideError(
            Problem(
                where=f"reading tiles with {workers} workers",
                expected="worker processes that live to the end",
                got=" ".join(str(error).split())[:200],
                remedy="Most often memory or shared memory (/dev/shm) ran out: use fewer --workers or smaller bags.",
            )
        ) from error


def _begin_worker(number: int) -> None:
    end_with_parent()


def _as_it_is(item: Any) -> Any:
    return item
