"""What units ask a scheduler for: memory of the host, whole GPUs or shares of one, cores for reading."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from small_study import know_tiny, small_study

from tapfm_eval import study
from tapfm_eval.backbones.cards import CARDS, stand_in
from tapfm_eval.executors.machines import remedy_for
from tapfm_eval.methods.recipe import Recipe, resolve_recipe
from tapfm_eval.preparation import RunOptions
from tapfm_eval.progress import Reporter
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.protocol.schema import LastBlocks, Lora
from tapfm_eval.stages.graph import Graph, Resources
from tapfm_eval.stages.memory import host_memory_mb, stored_memory_mb
from tapfm_eval.stages.study_graph import Means

ROOT = Path(__file__).resolve().parents[2]
LARGE = CARDS["h-optimus-0"]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    protocol = read_protocol(ROOT / "protocols" / "luad.yaml", backbones=CARDS)
    return resolve_recipe(protocol, protocol.arms[0])


def test_a_large_network_on_a_gpu_asks_for_its_weights_twice_and_its_checkpoint(recipe: Recipe) -> None:
    frozen = host_memory_mb(LARGE, "frozen", recipe, gpu=True, readers=4, tiles=0)
    assert frozen == pytest.approx(900 + 2500 + 4 * 200 + 8 * LARGE.parameters / 2**20)
    full = host_memory_mb(LARGE, "full", recipe, gpu=True, readers=4, tiles=0)
    assert full - frozen == pytest.approx(16 * LARGE.parameters / 2**20)  # weights, two moments, best weights
    with_tiles = host_memory_mb(LARGE, "full", recipe, gpu=True, readers=4, tiles=1_361_000_000)
    assert (with_tiles - full) * 2**20 == pytest.approx(27.22e9)  # docs/scale.md


def test_who_trains_less_asks_for_less_and_a_cpu_for_its_activations(recipe: Recipe) -> None:
    lora = Lora.model_validate({"lora": {"rank": 8}})
    asked = [host_memory_mb(LARGE, adapt, recipe, gpu=False, readers=0, tiles=0)
             for adapt in ("frozen", LastBlocks(last_blocks=4), "full")]  # fmt: skip
    assert asked == sorted(set(asked))
    adapters = host_memory_mb(LARGE, lora, recipe, gpu=True, readers=0, tiles=0)
    frozen = host_memory_mb(LARGE, "frozen", recipe, gpu=True, readers=0, tiles=0)
    assert 0 < adapters - frozen < 200
    more = replace(recipe, micro_batch=2 * recipe.micro_batch)
    assert host_memory_mb(LARGE, "full", more, gpu=False, readers=0, tiles=0) > asked[-1]
    assert host_memory_mb(LARGE, "full", more, gpu=True, readers=0, tiles=0) < asked[-1]


def test_a_rehearsal_fits_a_small_machine(recipe: Recipe) -> None:
    assert host_memory_mb(stand_in(LARGE), "full", recipe, gpu=False, readers=2, tiles=10_000) < 1500
    assert stored_memory_mb(LARGE, gpu=False, largest=0, tiles=0) == 900


def test_frozen_arms_share_a_gpu_and_others_have_one_with_cores_to_read() -> None:
    means = Means(True, 1, 8, 16.0, {"frozen": 1000.0, "full": 8000.0})
    assert means.of("frozen", frozen=True) == Resources(1, 0.25, 1000.0)
    assert means.of("full", frozen=False) == Resources(9, 1, 8000.0)
    assert replace(means, cpus_per_gpu=4.0).of("full", frozen=False) == Resources(4, 1, 8000.0)
    assert Means(False, 2, 8).of("full", frozen=False) == Resources(2, 0, 0)


def test_memory_is_that_of_machines_that_would_do_otherwise() -> None:
    """A large machine without a GPU lends nothing to a unit that needs one; it would wait for ever."""
    machines = (Resources(16, 4, 64_000), Resources(64, 0, 1_000_000), Resources(4, 1, 90_000))
    means = Means(True, 1, 8, 16.0, {"full": 80_000.0, "frozen": 80_000.0, "small": 1_000.0}, machines)
    assert means.of("full", frozen=False) == Resources(9, 1, 64_000)  # nine cores: not the third
    assert means.of("frozen", frozen=True) == Resources(1, 0.25, 80_000)
    assert means.of("small", frozen=False).memory_mb == 1_000
    on_cpu = replace(means, gpu=False, threads=32)
    assert on_cpu.of("full", frozen=False) == Resources(32, 0, 80_000)
    assert replace(means, readers=40, cpus_per_gpu=32.0).of("full", frozen=False).memory_mb == 80_000  # fits none: said


def test_arithmetic_on_cpus_takes_no_more_than_half_of_a_clusters_largest_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(study, "usable_cores", lambda: 64)
    threads = torch.get_num_threads()
    try:
        assert study._device(RunOptions(device="cpu"), None).threads == 32
        workers = cast(Any, Cluster(2.0**34, [], cpus=16.0))
        assert study._device(RunOptions(device="cpu"), workers).threads == 8
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("wanted", "remedy"),
    [
        (Resources(1, 1), "Start Ray with --num-gpus"),
        (Resources(32, 0.25), "Start Ray with more --num-cpus"),
        (Resources(32), "Start Ray with more --num-cpus"),
    ],
)
def test_a_unit_that_fits_no_machine_says_what_would_help(wanted: Resources, remedy: str) -> None:
    machines = [{"CPU": 16.0, "GPU": 0.5 if wanted.gpus == 0.25 else 0.0}]
    said = remedy_for(wanted, machines)
    assert remedy in said
    assert "--workers" not in said


@dataclass
class Cluster:
    """What the study asks of Ray, with the units that it is handed; none is done."""

    memory: float
    graphs: list[Graph]
    cpus: float = 64.0

    def machines(self) -> list[dict[str, float]]:
        return [{"CPU": self.cpus, "memory": self.memory}]


@pytest.mark.parametrize("gigabytes", [64.0, 0.5])
def test_every_unit_of_a_study_asks_for_memory_that_a_machine_has(
    gigabytes: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know_tiny(monkeypatch.setattr)
    path, options = small_study(tmp_path)
    cluster = Cluster(gigabytes * 2**30, [])

    def means(run: Any, data: Any, device: Any, ray: None) -> Means:
        return made(run, data, device, cast(Any, cluster))

    def no_more(run: Any, data: Any, graph: Graph, ray: None) -> Mapping[str, Any]:
        cluster.graphs.append(graph)
        return {"stopped": "here"}

    made = study._means
    monkeypatch.setattr(study, "_means", means)
    monkeypatch.setattr(study, "_do", no_more)
    study.run_protocol(path, options, Reporter(quiet=True))
    asked = {unit.stage: unit.resources.memory_mb for unit in cluster.graphs[0]}
    assert set(asked) == {"features", "train", "select", "predict"}
    for stage in ("features", "train", "predict"):
        assert min(900.0, 1024 * gigabytes) <= asked[stage] <= min(2000.0, 1024 * gigabytes)
