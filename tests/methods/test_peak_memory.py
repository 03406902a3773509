"""The memory of a unit is its own, whatever trained before it in the same process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_study import DIM, RECIPE, feature_store, toy_data

from tapfm_eval.methods import memory
from tapfm_eval.methods.memory import PeakMemory
from tapfm_eval.methods.model import SlideModel, build_aggregator
from tapfm_eval.methods.train import train_unit
from tapfm_eval.methods.unit import Unit

MIB = 2**20


def resident_peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak begins anew on Linux alone")
def test_a_unit_does_not_inherit_the_peak_of_what_ran_before() -> None:
    data = toy_data()
    store = feature_store(data, signal=2.0)
    before = resident_peak()
    np.ones(300 * MIB // 8)  # freed at once
    assert resident_peak() > before + 200
    model = SlideModel(None, build_aggregator("mean", DIM, 2, RECIPE, 1, 0, "a"), torch.device("cpu"))
    trained = train_unit(Unit("a", 1, 0), model, RECIPE, data, store, store, lambda _: None)
    assert 50 < trained.peak_memory_mb < before + 100
    assert trained.memory_of == "process"


def test_what_cannot_begin_anew_is_not_printed_as_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_PROC", tmp_path / "none")
    assert PeakMemory(torch.device("cpu")).megabytes() == 0.0


def test_on_a_gpu_each_measure_begins_at_what_is_held_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the allocator: its peak stays until it is told to forget."""
    held, peak = [0], [0]

    def take(megabytes: int) -> None:
        held[0] = megabytes * MIB
        peak[0] = max(peak[0], held[0])

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peak.__setitem__(0, held[0]))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak[0])
    device = torch.device("cuda:0")
    for arm in (900, 40):
        measured = PeakMemory(device)
        take(arm)
        take(0)
        assert (measured.megabytes(), measured.of) == (arm, "GPU")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_real_gpu_each_measure_begins_at_what_is_held_then() -> None:
    device = torch.device("cuda:0")
    found = []
    for megabytes in (256, 16):
        measured = PeakMemory(device)
        torch.empty(megabytes * MIB, dtype=torch.uint8, device=device)
        found.append(measured.megabytes())
    assert found[0] - found[1] == pytest.approx(240, abs=1)
