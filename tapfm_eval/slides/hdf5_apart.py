"""HDF5 files of strangers, read by a process of its own: damage to one may hang or crash the library, never the run.

Other tools write the layout without checksums, and text of variable length into a heap that the library walks without
end where a length in it is 0. So a child reads, with a limit on its processor time that the system enforces, and hands
over plain numbers and text.
"""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tapfm_eval.slides.hdf5 import numbers

SECONDS = 2.0  # of processor time for whatever is not numbers; a whole file takes milliseconds
BYTES_A_SECOND = 2e7  # of numbers, compressed ones on a slow processor
MAX_TEXT = 1_000  # characters of an attribute
READ_ERRORS = (OSError, KeyError, TypeError, ValueError, RuntimeError, MemoryError, ArithmeticError)  # of h5py
ENDLESS = "reading it comes to no end: it is damaged"


@dataclass(frozen=True, slots=True)
class Foreign:
    """What was asked for of a file."""

    names: tuple[str, ...]  # of the arrays, one of each choice that was given
    arrays: tuple[NDArray[Any], ...]
    attributes: dict[str, str | float]  # of the file and of these datasets; numbers may be no finite ones


class HDF5Apart:
    """Reads files in a child process, which is started when it is first needed, and anew where a file has ended it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "HDF5Apart":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
            child.wait()

    def read(self, path: Path, choices: Sequence[Sequence[str]], attributes: Sequence[str]) -> Foreign:
        """Arrays and attributes of one file.

        Args:
            path: The file.
            choices: For each array wanted the names that it may have; the first that the file holds is taken.
            attributes: Names of those that are of interest, wherever they stand; others are never touched.

        Raises:
            ValueError: The file cannot be read, or lacks an array, or reading it had to be ended.
        """
        child = self._started()
        assert child.stdin is not None
        assert child.stdout is not None
        asked = {"path": str(path.absolute()), "choices": [list(names) for names in choices],
                 "attributes": list(attributes)}  # fmt: skip
        try:
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            if not answer.endswith(b"\n"):
                raise EOFError
            said = json.loads(answer)
            if "error" in said:
                raise ValueError(said["error"])
            arrays = tuple(_received(child.stdout, shape, dtype) for shape, dtype in said["arrays"])
        except (EOFError, OSError):
            code = child.wait()
            self.close()
            raise ValueError(_ended(code)) from None
        return Foreign(tuple(said["names"]), arrays, said["attributes"])

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._child is None:
            # signals of a terminal or batch system are the parent's to hear: the child ends with its input
            package = str(Path(__file__).resolve().parents[2])
            paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "tapfm_eval.slides.hdf5_apart"], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "PYTHONPATH": paths},
            )  # fmt: skip
        return self._child


def _received(stream: IO[bytes], shape: list[int], dtype: str) -> NDArray[Any]:
    array = np.empty(shape, np.dtype(dtype))
    left = array.data.cast("B") if array.size else memoryview(b"")
    while len(left):
        count = stream.readinto(left)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        left = left[count:]
    return array


def _ended(code: int) -> str:
    if hasattr(signal, "SIGPROF") and code == -signal.SIGPROF:
        return ENDLESS
    why = signal.strsignal(-code) if code < 0 else f"code {code}"
    return f"reading it crashed the HDF5 library ({why}): it is damaged"


def _answer(asked: dict[str, Any], out: IO[bytes]) -> None:
    """Reads one file and writes what was asked for: a line of JSON, then the numbers."""
    arrays: list[NDArray[Any]] = []
    try:
        _limit(SECONDS)
        with h5py.File(asked["path"], "r") as file:
            names = [next((name for name in choice if name in file), None) for choice in asked["choices"]]
            if None in names:
                wanted = " and ".join(" or ".join(choice) for choice in asked["choices"])
                raise ValueError(f"it holds {', '.join(file) or 'nothing'}, and should hold {wanted}")
            datasets = [numbers(file, str(name)) for name in names]
            said: dict[str, str | float] = {}
            for holder in (file, *reversed(datasets)):
                said |= {name: _plain(holder, name) for name in asked["attributes"] if name in holder.attrs}
            _limit(SECONDS + sum(float(dataset.nbytes) for dataset in datasets) / BYTES_A_SECOND)
            arrays = [np.ascontiguousarray(dataset[()]) for dataset in datasets]
        _limit(0)
        answer = {"names": names, "attributes": said, "arrays": [[array.shape, array.dtype.str] for array in arrays]}
    except READ_ERRORS as error:
        _limit(0)
        arrays, answer = [], {"error": str(error).partition("\n")[0][:300] or type(error).__name__}
    out.write(json.dumps(answer).encode() + b"\n")
    for array in arrays:
        out.write(array.data.cast("B") if array.size else b"")
    out.flush()


def _limit(seconds: float) -> None:
    """Lets the system end this process after so much processor time, whatever it is at; 0 lifts the limit."""
    if hasattr(signal, "ITIMER_PROF"):
        signal.setitimer(signal.ITIMER_PROF, min(seconds, 1e6) if math.isfinite(seconds) else 1e6)


def _plain(holder: "h5py.File | h5py.Dataset", name: str) -> str | float:
    value = np.asarray(holder.attrs[name])
    if value.size != 1:
        raise ValueError(f"attribute {name} holds {value.size} values")
    one: Any = value.reshape(())[()]
    text: Any = one.decode("utf-8", "replace") if isinstance(one, bytes) else one
    if isinstance(text, str):
        return str(text)[:MAX_TEXT]
    if value.dtype.kind not in "iufb":
        raise ValueError(f"attribute {name} is neither a number nor text")
    return float(text)


def main() -> None:
    """Answers one request a line, until there are no more."""
    for line in sys.stdin.buffer:
        _answer(json.loads(line), sys.stdout.buffer)


if __name__ == "__main__":
    main()
