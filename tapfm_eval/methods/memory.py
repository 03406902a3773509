"""How much memory a piece of work took: of the GPU, or of this process."""

import re
from pathlib import Path
from typing import Literal

import torch

_PROC = Path("/proc/self")


class PeakMemory:
    """The most memory held from now on; what earlier work of the same process reached does not count.

    On a GPU, what tensors of this process took of it. Elsewhere, what was resident of this process, its code and
    what earlier work left there included and its workers not; only Linux can begin that anew (`clear_refs`, proc(5)).
    """

    def __init__(self, device: torch.device) -> None:
        self.of: Literal["GPU", "process"] = "GPU" if device.type == "cuda" else "process"
        self._device = device
        self._known = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            (_PROC / "clear_refs").write_text("5")
        except OSError:
            self._known = False

    def megabytes(self) -> float:
        """The peak so far in MiB; 0 where it cannot be known."""
        if not self._known:
            return 0.0
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        found = re.search(r"^VmHWM:\s+(\d+) kB", (_PROC / "status").read_text(), re.MULTILINE)
        return 0.0 if found is None else int(found[1]) / 1024
