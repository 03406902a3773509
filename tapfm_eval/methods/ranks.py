"""Several processes that share the tiles of every bag: who they are, and how they keep in step.

`torchrun` starts them. The first leads: it alone writes files, shows progress and hears signals; the others follow.
Whatever only one of them can know, that a slide cannot be read or that the run is to stop, is told to all before
anybody waits for the others' tensors.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tapfm_eval.errors import InputError, PausedError, Problem, SlideError, UnreadableSlideError

_PATIENCE = timedelta(days=365)  # the leader may tile, embed or predict for days between two trainings


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
    words: dist.ProcessGroup  # for short messages between CPUs

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
        dist.all_gather(counts, count, group=self.tensors)
        rows = [int(c) for c in counts]
        padded = mine.new_zeros((max(rows), *mine.shape[1:]))
        padded[: len(mine)] = mine
        shares = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(shares, padded, group=self.tensors)
        whole = torch.cat([share[:n] for share, n in zip(shares, rows, strict=True)])
        return whole, sum(rows[: self.rank])

    def from_leader(self, tensor: Tensor) -> None:
        """Overwrites a tensor with the leader's."""
        dist.broadcast(tensor, src=0, group=self.tensors)

    def sum(self, tensor: Tensor) -> None:
        """Overwrites a tensor with the sum over all."""
        dist.all_reduce(tensor, group=self.tensors)

    def agree(self, failure: SlideError | None, slide_id: str | None) -> None:
        """Makes a slide that one process cannot read a failure of all, so that all try again or leave it out.

        Raises:
            SlideError: It failed here or elsewhere.
        """
        failed = torch.tensor([self.rank + 1 if failure is not None else 0])
        dist.all_reduce(failed, op=dist.ReduceOp.MAX, group=self.words)
        if failure is not None:
            raise failure
        if int(failed):
            problem = Problem(f"process {int(failed) - 1} of {self.world}", "tiles that can be read", "an error",
                              "The message of that process says more.")  # fmt: skip
            raise SlideError(problem) if slide_id is None else UnreadableSlideError(slide_id, problem)

    def smallest(self, number: int) -> int:
        """The smallest of the numbers that the processes give."""
        found = torch.tensor([number])
        dist.all_reduce(found, op=dist.ReduceOp.MIN, group=self.words)
        return int(found)

    def in_step(self, act: Callable[[], None]) -> None:
        """Lets the leader do what only it does; where that raises, all stop.

        Raises:
            PausedError: In a follower, when the leader stopped.
        """
        stop = torch.zeros(1, dtype=torch.int64)
        if self.leads:
            try:
                act()
            except BaseException:
                stop[0] = 1
                dist.broadcast(stop, src=0, group=self.words)
                raise
        dist.broadcast(stop, src=0, group=self.words)
        if int(stop):
            raise PausedError("The leading process stopped.")

    def say(self, content: Any = None) -> Any:
        """Passes plain JSON from the leader to all; followers give nothing and receive it."""
        text = json.dumps(content).encode() if self.leads else b""
        size = torch.tensor([len(text)])
        dist.broadcast(size, src=0, group=self.words)
        letters = torch.zeros(int(size), dtype=torch.uint8)
        if self.leads:
            letters.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        dist.broadcast(letters, src=0, group=self.words)
        return json.loads(letters.numpy().tobytes())


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


@contextlib.contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """Joins the processes that torchrun started, until left."""
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        words = dist.group.WORLD
        assert words is not None
        tensors: Any = words
        if device.type == "cuda":
            torch.cuda.set_device(device)
            tensors = dist.new_group(backend="nccl")
        yield Ranks(dist.get_rank(), dist.get_world_size(), tensors, words)
    finally:
        dist.destroy_process_group()
