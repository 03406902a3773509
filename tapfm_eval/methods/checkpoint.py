"""Checkpoints on disk: tensors as safetensors, everything else as JSON, the last two good ones, never half a one.

`checkpoint-<n>.json` is written after the tensors that it names and holds their hashes and its own, so whatever a
crash, a full disk or a bad block leaves behind is either whole or known to be damaged; a damaged one is passed over
for the one before. Nothing is pickled, and nothing is read that does not match its hash.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tapfm_eval.errors import Problem, RunError
from tapfm_eval.rundir import sha256_file, sweep, write_text, write_whole

FORMAT = "tapfm-eval/checkpoint/1"
KEPT = 2
State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a checkpoint is written; changes no number."""

    seconds: float = 600.0  # of training between two
    slides: int | None = None  # as well after so many slides; None: by time alone
    share: float = 0.05  # of the time at most goes into writing: large models on slow disks write less often


@dataclass(frozen=True, slots=True)
class Best:
    """The tensors of the best epoch so far, written once for all checkpoints that refer to it."""

    epoch: int
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Saved:
    """What a checkpoint holds."""

    tensors: dict[str, Tensor]
    best: Best | None
    facts: dict[str, Any]  # plain JSON


def write_tensors(path: Path, tensors: Mapping[str, Tensor], format_name: str) -> str:
    """Writes tensors as one safetensors file, whole or not at all; returns its sha256.

    Raises:
        RunError: The disk is full, or the folder cannot be written.
    """

    def write(temporary: Path) -> None:
        try:
            save_file(dict(tensors), str(temporary), metadata={"format": format_name})
        except SafetensorError as error:  # how the library reports what the system said
            raise OSError(None, " ".join(str(error).split())[:200]) from None

    write_whole(path, write)
    return sha256_file(path)


class Checkpoints:
    """The checkpoints of one training in a folder of their own; only who holds the training's lock may use it."""

    def __init__(
        self,
        folder: Path,
        key: str,
        *,
        pace: Pace | None = None,
        guard: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Names the folder; nothing is read or written yet.

        Args:
            folder: Made when it is needed.
            key: Stands for everything that defines the training: a checkpoint of another key is of no use.
            pace: When `due` says yes.
            guard: Called before anything is written; raises where somebody else took over.
            say: Told a line about each damaged checkpoint.
        """
        self._folder, self._key, self._pace = folder, key, pace or Pace()
        self._guard, self._say = guard, say
        self._last, self._took, self._slides = time.monotonic(), 0.0, 0

    def due(self) -> bool:
        """Whether it is time for the next one; to be asked once after each slide."""
        self._slides += 1
        waited = time.monotonic() - self._last
        enough = waited >= max(self._pace.seconds, self._took * (1 / self._pace.share - 1))
        return enough or (self._pace.slides is not None and self._slides >= self._pace.slides)

    def write(self, saved: Saved) -> None:
        """Writes the next checkpoint, then removes those before the last two.

        Raises:
            RunError: It cannot be written; the ones before remain.
        """
        self._guard()
        started = time.monotonic()
        number = max(self._numbers(), default=0) + 1
        name = f"checkpoint-{number}"
        files = {}
        if saved.best is not None:
            best = f"best-{saved.best.epoch}.safetensors"
            kept = self._mentioned().get(best)
            files[best] = kept or write_tensors(self._folder / best, saved.best.tensors, FORMAT)
        files[f"{name}.safetensors"] = write_tensors(self._folder / f"{name}.safetensors", saved.tensors, FORMAT)
        content = {
            "key": self._key, "files": files, "best_epoch": None if saved.best is None else saved.best.epoch,
            "facts": saved.facts,
        }  # fmt: skip
        self._guard()
        text = json.dumps({"format": FORMAT, "sha256": _hash(content), **content}, allow_nan=False)
        write_text(self._folder / f"{name}.json", text + "\n")
        for old in sorted(self._numbers())[:-KEPT]:
            self._remove(old)
        self._tidy()
        self._last, self._slides = time.monotonic(), 0
        self._took = self._last - started

    def newest(self, restore: Callable[[Saved], State]) -> State | None:
        """The newest good checkpoint as `restore` takes it; None where there is none.

        A damaged one is said, removed and passed over. So is one that `restore` refuses with a ValueError, KeyError
        or TypeError, as one that another program wrote would be.
        """
        if self._folder.is_dir():
            sweep(self._folder)
        for number in sorted(self._numbers(), reverse=True):
            try:
                saved = self._read(number)
                if saved is not None:
                    return restore(saved)
            except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
                got = " ".join(f"{error}".split())[:120] or type(error).__name__
                self._say(f"{self._folder / f'checkpoint-{number}.json'} is damaged ({got}): it is left aside.")
            self._remove(number)
        self._tidy()
        return None

    def clear(self) -> None:
        """Removes them all; the training is over."""
        self._guard()
        for number in self._numbers():
            self._remove(number)
        self._tidy()
        sweep(self._folder)
        with suppress(OSError):
            self._folder.rmdir()

    def _read(self, number: int) -> Saved | None:
        """A checkpoint that matches its hashes; None if it is of another training."""
        content = json.loads((self._folder / f"checkpoint-{number}.json").read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        if content.pop("format") != FORMAT or content.pop("sha256") != _hash(content):
            raise ValueError("it does not match its hash")
        if content["key"] != self._key:
            return None
        training, best = f"checkpoint-{number}.safetensors", content["best_epoch"]
        wanted = [training] if best is None else [training, f"best-{int(best)}.safetensors"]
        for name in wanted:
            if sha256_file(self._folder / name) != content["files"][name]:
                raise ValueError(f"{name} does not match its hash")
        tensors = [load_file(str(self._folder / name)) for name in wanted]
        return Saved(tensors[0], None if best is None else Best(int(best), tensors[1]), content["facts"])

    def _numbers(self) -> list[int]:
        tails = (path.stem.removeprefix("checkpoint-") for path in self._folder.glob("checkpoint-*.json"))
        return [int(tail) for tail in tails if tail.isascii() and tail.isdecimal()]

    def _mentioned(self) -> dict[str, str]:
        """Files that the checkpoints at hand refer to, with their hashes."""
        found: dict[str, str] = {}
        for number in self._numbers():
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                content = json.loads((self._folder / f"checkpoint-{number}.json").read_text(encoding="utf-8"))
                if content["key"] == self._key:
                    found |= content["files"]
        return found

    def _remove(self, number: int) -> None:
        for suffix in (".json", ".safetensors"):
            with suppress(OSError):
                (self._folder / f"checkpoint-{number}{suffix}").unlink()

    def _tidy(self) -> None:
        """Removes tensors that no checkpoint refers to."""
        mentioned = self._mentioned()
        for path in self._folder.glob("*.safetensors"):
            if path.name not in mentioned:
                with suppress(OSError):
                    path.unlink()


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_hash(path: Path, sha256: str) -> None:
    """Makes sure that a file is the one whose hash was written down.

    Raises:
        RunError: It is missing or another.
    """
    try:
        same = sha256_file(path) == sha256
    except OSError as error:
        raise RunError(
            Problem(str(path), "a file that can be read", error.strerror or str(error), "Check the storage.")
        ) from None
    if not same:
        raise RunError(
            Problem(str(path), "the file whose hash was recorded when it was written", "another",
                    "Delete its folder: the same command makes it anew.")
        )  # fmt: skip
