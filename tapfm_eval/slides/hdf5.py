"""Arrays out of HDF5 files that anybody may have written: plain numbers in the file itself, of a size it can hold."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Buffer

_EXPANSION = 100  # how far compression may shrink an array; a file that claims more is no measurement
_ALLOWANCE = 2**20  # bytes; small arrays of one repeated value shrink further

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CHECKSUMMED = 2  # superblock version from which HDF5 keeps checksums of everything but the numbers


class _Sink(io.FileIO):
    """A file that keeps the first refusal of the system to itself, a full disk for example, and takes no more then.

    HDF5 cannot close a file whose last bytes are refused: it would stay open until the process ends, and complain.
    """

    refused: OSError | None = None

    def write(self, content: "Buffer", /) -> int:
        view = memoryview(content).cast("B")
        start, done = self.tell(), 0
        try:
            while self.refused is None and done < len(view):  # the system may take less at once
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.refused = error
        if self.refused is not None:
            self.seek(start + len(view))
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.refused = self.refused or error
            return size or 0


@contextmanager
def create_checksummed(path: Path, *, track_order: bool = False) -> Iterator[h5py.File]:
    """A new file in the layout with checksums that `open_checksummed` asks for; HDF5 1.10 (2016) and later read it.

    Raises:
        OSError: The system refused, on a full disk for example; what lies at `path` is no use then.
    """
    with _Sink(path, "w+") as sink:
        try:
            with h5py.File(sink, "w", libver="latest", track_order=track_order) as opened:
                yield opened
        finally:
            if sink.refused is not None:
                raise sink.refused


@contextmanager
def open_checksummed(path: Path) -> Iterator[h5py.File]:
    """Opens a file of `create_checksummed`; one without checksums is refused, as damage to it may hang the library.

    Raises:
        ValueError: It is no HDF5 file, or one of the older layout.
        OSError: It cannot be opened, or a checksum is wrong.
    """
    with path.open("rb") as file:
        start = file.read(len(_SIGNATURE) + 1)
    if not start.startswith(_SIGNATURE) or len(start) <= len(_SIGNATURE):
        raise ValueError("no HDF5 file")
    if start[-1] < _CHECKSUMMED:
        raise ValueError("an HDF5 file without checksums")
    with h5py.File(path, "r") as opened:
        yield opened


def write_attributes(file: h5py.File, values: Mapping[str, str | int | float]) -> None:
    """Writes attributes of the file itself, text as bytes of fixed length: they lie where checksums guard them.

    Text of variable length, as h5py writes it, lies in a heap without checksums, and damage there hangs the library.
    """
    for name, value in values.items():
        text = value.encode() if isinstance(value, str) else None
        file.attrs[name] = value if text is None else np.array(text, dtype=f"S{max(1, len(text))}")


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """The attributes that `write_attributes` wrote.

    Raises:
        ValueError: One is text of variable length, or something else than text or a number.
    """
    found: dict[str, Any] = {}
    for name in file.attrs:
        if file.attrs.get_id(name).dtype.kind not in "iufS":
            raise ValueError(f"attribute {name} is neither a number nor text of fixed length")
        value = file.attrs[name]
        found[name] = value.decode() if isinstance(value, bytes) else value
    return found


def read_array(file: h5py.File, name: str) -> NDArray[np.generic]:
    """The numbers of one dataset, read only after its size was checked.

    Args:
        file: An open file.
        name: The dataset's name.

    Raises:
        KeyError: There is no such dataset.
        ValueError: It is no plain array of numbers in this file, or declares more numbers than the file can hold.
    """
    return np.asarray(numbers(file, name)[()])


def numbers(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset that `read_array` reads, with the same checks, unread.

    Raises:
        KeyError, ValueError: As there.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is missing, or a link to another place")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None or dataset.dtype.kind not in "iuf":
        raise ValueError(f"{name} is no array of numbers")
    if dataset.is_virtual or dataset.external is not None:
        raise ValueError(f"the numbers of {name} lie in another file")
    size = Path(file.filename).stat().st_size
    if dataset.size * dataset.dtype.itemsize > _EXPANSION * size + _ALLOWANCE:
        shape = " x ".join(map(str, dataset.shape))
        raise ValueError(f"{name} declares {shape} numbers, more than a file of {size} bytes holds")
    return dataset
