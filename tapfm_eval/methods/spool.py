"""Rows that are made once and read twice, in bounded memory: held while they are few, in a temporary file otherwise."""

import tempfile
from collections.abc import Iterator
from typing import IO, Any, Protocol, cast

import torch
from torch import Tensor

from tapfm_eval.errors import StudyError

HELD_BYTES = 32 * 2**20  # 223 tiles of 224 px; a larger bag lies in a file, whose pages the system keeps or gives back
HELD_BYTES_BESIDE_GPU = 2**30  # 7,000 tiles: a host with a GPU has memory, and a file would make the GPU wait


class TileSlices(Protocol):
    """Tiles that are handed out by slices: a uint8 tensor (K, 3, H, W), or anything that reads them on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


class Spool:
    """Rows of one tensor, appended in order and read back by slices, to the bit.

    Where `rows` rows need more than `held_bytes`, they go to an unnamed file in the folder for temporary files (which
    TMPDIR chooses): a bag of 2,000 tiles is 300 MB, and the resident memory of a step must not grow with it.
    """

    def __init__(self, rows: int, held_bytes: int = HELD_BYTES) -> None:
        self.rows = rows
        self.held_bytes = held_bytes
        self._held: list[Tensor] = []
        self._file: IO[bytes] | None = None
        self._like: Tensor | None = None  # an empty tensor of the rows' shape and type
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def in_file(self) -> bool:
        """Whether the rows lie in a file."""
        return self._file is not None

    def append(self, part: Tensor) -> None:
        """Adds rows (n, ...) of a CPU tensor; all parts have rows of the same shape and type."""
        if self._like is None:
            self._like = part[:0].clone()
            if self.rows * self._row_bytes() > self.held_bytes:
                self._file = tempfile.TemporaryFile(prefix="tapfm-eval-")  # noqa: SIM115 - `close` closes it
        if self._file is None:
            self._held.append(part)
        else:
            try:
                self._file.seek(self._count * self._row_bytes())
                self._file.write(_bytes_of(part.contiguous()))
            except OSError as error:
                raise StudyError(
                    f"A bag of {self.rows} tiles does not fit into {tempfile.gettempdir()}: {error.strerror}. "
                    "Free space there, or set TMPDIR to a folder that has it; the same command resumes."
                ) from None
        self._count += len(part)

    def __getitem__(self, part: slice) -> Tensor:
        start, stop, _ = part.indices(self._count)
        if self._file is not None:
            assert self._like is not None
            rows = torch.empty((max(0, stop - start), *self._like.shape[1:]), dtype=self._like.dtype)
            self._file.seek(start * self._row_bytes())
            self._file.readinto(_bytes_of(rows))  # type: ignore[attr-defined]
            return rows
        found, offset = [], 0
        for held in self._held:
            first, last = max(start - offset, 0), min(stop - offset, len(held))
            if first < last:
                found.append(held[first:last])
            offset += len(held)
        return found[0] if len(found) == 1 else torch.cat(found)

    def close(self) -> None:
        """Gives memory and file back."""
        self._held.clear()
        if self._file is not None:
            self._file.close()

    def _row_bytes(self) -> int:
        assert self._like is not None
        return int(torch.Size(self._like.shape[1:]).numel()) * self._like.element_size()


class ArrivingTiles:
    """The tiles of one bag, taken from their reader when they are asked for, and kept for a second time."""

    def __init__(self, count: int, arriving: Iterator[Tensor], held_bytes: int = HELD_BYTES) -> None:
        self.count = count
        self._arriving = arriving
        self._spool = Spool(count, held_bytes)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Tensor:
        self._take(part.indices(self.count)[1])
        return self._spool[part]

    def finish(self) -> None:
        """Passes over what nobody asked for, so that the next bag begins with its own tiles."""
        done = len(self._spool)
        while done < self.count:
            done += len(next(self._arriving))

    def close(self) -> None:
        """Gives memory and file back."""
        self._spool.close()

    def _take(self, stop: int) -> None:
        while len(self._spool) < stop:
            self._spool.append(next(self._arriving))


def _bytes_of(rows: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    return memoryview(cast(Any, rows.view(-1).view(torch.uint8).numpy()))
