"""Several processes that share the tiles of every bag: who they are, and how they keep in step.

`torchrun` starts them. The first leads: it alone writes files, shows progress and hears signals; the others follow.
Whatever only one of them can know, that a slide cannot be read, that memory ran out or that the run is to stop, is told
to all before anybody waits for the others' tensors. So whoever waits first meets the others in `agree`; and a process
that fails anywhere has only to say so at their next meeting, wherever that is (`together`).
"""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tapfm_eval.errors import (
    InputError,
    PausedError,
    Problem,
    SlideError,
    StudyError,
    TapfmEvalError,
    UnreadableSlideError,
)
from tapfm_eval.methods.precision import autocast_dtype

PATIENCE = timedelta(minutes=30)  # with the others within a training, where all are at the same slide
_BETWEEN = timedelta(days=365)  # the leader may tile, embed or predict for days between two trainings
_AGREED = "Every process has been told."


class LostRankError(StudyError):
    """Another process is gone or has said nothing for too long: nobody is left to agree with."""


def share_of(count: int, rank: int, world: int) -> slice:
    """The part of one rank: contiguous, so that what is gathered keeps its order; shares differ by one at most.

    >>> [share_of(7, rank, 3) for rank in range(3)]
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    small, larger = divmod(count, world)
    start = rank * small + min(rank, larger)
    return slice(start, start + small + (rank < larger))


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that share a bag."""

    rank: int
    world: int
    tensors: dist.ProcessGroup  # for what lies on the device
    words: dist.ProcessGroup  # for short messages between CPUs, within a training
    between: dist.ProcessGroup  # the same between trainings, where followers may wait for days
    device: torch.device  # of this process

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of so many things."""
        return share_of(count, self.rank, self.world)

    def gather(self, mine: Tensor) -> tuple[Tensor, int]:
        """The rows of all, in the order of ranks, and where those of this process begin; shares may be uneven."""
        count = torch.tensor([len(mine)], device=mine.device)
        counts = [torch.empty_like(count) for _ in range(self.world)]
        with self._exchange():
            dist.all_gather(counts, count, group=self.tensors)
        rows = [int(c) for c in counts]
        padded = mine.new_zeros((max(rows), *mine.shape[1:]))
        padded[: len(mine)] = mine
        shares = [torch.empty_like(padded) for _ in range(self.world)]
        with self._exchange():
            dist.all_gather(shares, padded, group=self.tensors)
        whole = torch.cat([share[:n] for share, n in zip(shares, rows, strict=True)])
        return whole, sum(rows[: self.rank])

    def from_leader(self, tensor: Tensor) -> None:
        """Overwrites a tensor with the leader's."""
        with self._exchange():
            dist.broadcast(tensor, src=0, group=self.tensors)

    def sum(self, tensor: Tensor) -> None:
        """Overwrites a tensor with the sum over all."""
        with self._exchange():
            dist.all_reduce(tensor, group=self.tensors)

    def smallest(self, number: int) -> int:
        """The smallest of the numbers that the processes give."""
        return self._least(number, self.words)

    def agree(self, failure: Exception | None = None, slide_id: str | None = None) -> None:
        """Makes the failure of one process one of all, with its reason; where none has failed, all go on.

        Args:
            failure: What this process has met.
            slide_id: Of the slide at hand, for the message where a failure names none.

        Raises:
            SlideError: A process cannot read its tiles: all raise, so that all try again or leave the slide out.
            PausedError: The leader is to stop.
            InputError: Something else that was given to a process is wrong.
            StudyError: Any other failure.
        """
        self._agree(self.words, failure, slide_id)

    def assemble(self, failure: Exception | None = None) -> None:
        """The same between trainings, however long the slowest takes.

        Raises:
            TapfmEvalError: As `agree` does.
        """
        self._agree(self.between, failure, None)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Surrounds a training: what one process meets on its own is told to the others, who wait for it somewhere.

        Raises:
            TapfmEvalError: As `agree` does.
        """
        try:
            yield
        except LostRankError:
            raise
        except Exception as error:
            if _is_agreed(error):
                raise
            self.agree(error)

    def in_step(self, act: Callable[[], None]) -> None:
        """Lets the leader do what only it does; where that raises, all stop.

        Raises:
            TapfmEvalError: As `agree` does.
        """
        failure = None
        if self.leads:
            try:
                act()
            except Exception as error:
                failure = error
        self.agree(failure)

    def say(self, content: Any = None) -> Any:
        """Passes plain JSON from the leader to all between trainings; followers give nothing and wait for it.

        Raises:
            TapfmEvalError: As `agree` does.
        """
        self.assemble()
        return self._told(content, 0, self.between)

    def pass_on(self, content: Any = None) -> Any:
        """Passes plain JSON from the leader to all within a training; followers give nothing and receive it.

        Raises:
            TapfmEvalError: As `agree` does.
        """
        self.agree()
        return self._told(content, 0, self.words)

    def on_cpu_from_leader(self, tensor: Tensor) -> None:
        """Overwrites a tensor on the CPU with the leader's."""
        with self._exchange():
            dist.broadcast(tensor, src=0, group=self.words)

    def let_go(self, error: BaseException | None = None) -> None:
        """Lets the followers end, after an error or without; those that are gone already are missed by nobody."""
        if not isinstance(error, LostRankError):
            with contextlib.suppress(TapfmEvalError if error is not None else LostRankError):
                self.say(None)

    def check_alike(self, facts: Mapping[str, str], remedy: str) -> None:
        """Makes sure that some facts are the same in all processes.

        Args:
            facts: Of this process, by name.
            remedy: What to do where they differ.

        Raises:
            InputError: They differ, in every process.
        """
        mine = {"host": socket.gethostname(), **facts}
        told = [self._told(mine, rank, self.words) for rank in range(self.world)]
        problems = []
        for name in facts:
            where: dict[str, list[str]] = {}
            for one in told:
                hosts = where.setdefault(str(one.get(name)), [])
                if one["host"] not in hosts:
                    hosts.append(one["host"])
            if len(where) > 1:
                got = "; ".join(f"{value} on {', '.join(hosts)}" for value, hosts in where.items())
                problems.append(Problem(f"torchrun, {name}", "the same in every process", got, remedy))
        if problems:
            raise InputError(problems)

    def _agree(self, group: dist.ProcessGroup, failure: Exception | None, slide_id: str | None) -> None:
        if isinstance(failure, torch.OutOfMemoryError):
            failure = StudyError(
                f"Memory ran out: {' '.join(str(failure).split())[:200]} End other processes on the GPU, or state a "
                "smaller `micro_batch` under `training:`. The same command resumes."
            )
        first = self._least(self.world if failure is None else self.rank, group)
        if first == self.world:
            return
        if first == self.rank:
            assert failure is not None
            self._told(_record(failure), first, group)
            failure.add_note(_AGREED)
            raise failure
        error = self._error(first, self._told(None, first, group), slide_id)
        error.add_note(_AGREED)
        raise error

    def _error(self, rank: int, told: Any, slide_id: str | None) -> Exception:
        """What another process has met, as it is to be raised here."""
        who = f"process {rank} of {self.world} on {told['host']}"
        if told["kind"] == "paused":
            return PausedError(told["text"])
        if told["kind"] == "other":
            return StudyError(f"{who[0].upper()}{who[1:]}: {told['text']}")
        at = f", at slide {slide_id}" if told["slide"] is None and slide_id is not None else ""
        problems = [Problem(f"{who}{at}: {where}", *rest) for where, *rest in told["problems"]]
        if told["slide"] is not None:
            return UnreadableSlideError(told["slide"], problems[0])
        return SlideError(problems) if told["kind"] == "slide" else InputError(problems)

    def _least(self, number: int, group: dist.ProcessGroup) -> int:
        found = torch.tensor([number])
        with self._exchange():
            dist.all_reduce(found, op=dist.ReduceOp.MIN, group=group)
        return int(found)

    def _told(self, content: Any, source: int, group: dist.ProcessGroup) -> Any:
        """Plain JSON from one process to all."""
        text = json.dumps(content).encode() if self.rank == source else b""
        size = torch.tensor([len(text)])
        with self._exchange():
            dist.broadcast(size, src=source, group=group)
        letters = torch.zeros(int(size), dtype=torch.uint8)
        if self.rank == source:
            letters.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        with self._exchange():
            dist.broadcast(letters, src=source, group=group)
        return json.loads(letters.numpy().tobytes())

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """Makes the end or the silence of another process a message."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise LostRankError(
                f"Process {self.rank} of {self.world} on {socket.gethostname()} lost another one, which has ended or "
                f"was silent for {PATIENCE.total_seconds() / 60:.0f} minutes; its own messages say why, if it had the "
                f"time to write any ({' '.join(str(error).split())[:150]}). The same command resumes."
            ) from None


def _is_agreed(error: BaseException | None) -> bool:
    """Whether all know of an error, or of the one that was being handled when it came."""
    while error is not None and _AGREED not in getattr(error, "__notes__", ()):
        error = error.__context__
    return error is not None


def _record(failure: Exception) -> dict[str, Any]:
    """A failure as plain JSON."""
    kinds = ((PausedError, "paused"), (SlideError, "slide"), (InputError, "input"))
    return {
        "host": socket.gethostname(),
        "kind": next((name for kind, name in kinds if isinstance(failure, kind)), "other"),
        "slide": failure.slide_id if isinstance(failure, UnreadableSlideError) else None,
        "problems": [[p.where, p.expected, p.got, p.remedy] for p in getattr(failure, "problems", ())],
        "text": str(failure) if isinstance(failure, TapfmEvalError) else f"{type(failure).__name__}: {failure}",
    }


def rank_device(wanted: str | None) -> torch.device:
    """The device of this process: a GPU each, or the CPU for all.

    Raises:
        InputError: There are fewer GPUs than processes.
    """
    here, together = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    count = torch.cuda.device_count()
    if wanted == "cpu" or (wanted is None and count == 0):
        return torch.device("cpu")
    if wanted not in (None, "cuda"):
        raise InputError(
            Problem(f"--device {wanted}", "cuda or cpu under torchrun", str(wanted), "Each process takes a GPU itself.")
        )
    if count < together:
        raise InputError(
            Problem(f"torchrun --nproc-per-node {together}", f"{together} GPUs on this machine", f"{count}",
                    f"Start at most {count} processes." if count else "Give --device cpu.")
        )  # fmt: skip
    return torch.device("cuda", here)


def _computes(device: torch.device) -> dict[str, str]:
    """What decides a process's numbers: float16 alone has its gradients scaled, and sums of both kinds are of neither.

    GPUs of one kind round alike as well: weights are told once, and from there each process steps on its own.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "arithmetic": str(autocast_dtype(device) or torch.float32).removeprefix("torch.")}


@contextlib.contextmanager
def joined_ranks(wanted: str | None, facts: Mapping[str, str]) -> Iterator[Ranks]:
    """Joins the processes that torchrun started, until left.

    Args:
        wanted: `cpu` or `cuda`; None takes a GPU for each process where there are any.
        facts: What must be the same in all of them.

    Raises:
        InputError: A machine has too few GPUs, devices are of different kinds, or the facts differ; in every process.
    """
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        words = dist.group.WORLD
        assert words is not None
        between: Any = dist.new_group(backend="gloo", timeout=_BETWEEN)
        device, refusal = torch.device("cpu"), None
        ranks = Ranks(dist.get_rank(), dist.get_world_size(), words, words, between, device)
        try:
            device = rank_device(wanted)
        except InputError as error:  # told to all before anybody waits for this one
            refusal = error
        ranks.agree(refusal)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        remedy = "Start the same on every machine: --device cpu, or GPUs of one kind, and one installation."
        ranks.check_alike({**_computes(device), **facts}, remedy)
        if device.type == "cuda":
            tensors: Any = dist.new_group(backend="nccl", timeout=PATIENCE)
            ranks = replace(ranks, tensors=tensors, device=device)
        yield ranks
    finally:
        dist.destroy_process_group()
