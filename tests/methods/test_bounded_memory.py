"""What the step keeps alive depends on the micro-batch, not on the number of tiles; a joint graph grows with it."""

import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from plain_joint import joint_step
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.methods.adapt import adaptation_step
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.protocol.schema import LastBlocks, Lora, LoraPlan


class Made:
    """Tiles that are made when asked for, as a bag read from disk would be."""

    def __init__(self, count: int, edge: int) -> None:
        self.count, self.edge = count, edge

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Tensor:
        indices = range(*part.indices(self.count))
        tiles = [torch.randint(0, 256, (3, self.edge, self.edge), dtype=torch.uint8,
                               generator=torch.Generator().manual_seed(i)) for i in indices]  # fmt: skip
        return torch.stack(tiles)


class _Saved:
    """A tensor that some graph keeps; counted as long as the graph lives."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def peak_graph_bytes(run: Callable[[], object]) -> int:
    """The most bytes that graphs hold at one moment of `run`: exact, and the same on every machine."""
    live = peak = 0

    def release(size: int) -> None:
        nonlocal live
        live -= size

    def pack(tensor: Tensor) -> _Saved:
        nonlocal live, peak
        size = tensor.numel() * tensor.element_size()
        saved = _Saved(tensor)
        weakref.finalize(saved, release, size)
        live += size
        peak = max(peak, live)
        return saved

    with saved_tensors_hooks(pack, lambda saved: saved.tensor):
        run()
    return peak


def loss_of(logits: Tensor) -> Tensor:
    return (logits**2).sum()


def bounded(encoder: TileEncoder, count: int, micro_batch: int) -> int:
    aggregator = Tapfm(16, 2, temperature=0.1, layer_norm=True).double()
    return peak_graph_bytes(
        lambda: adaptation_step(
            encoder, aggregator, loss_of, Made(count, 48), keep=None, micro_batch=micro_batch, lambda_attention=1.0,
            device=torch.device("cpu"), autocast=nullcontext,
        )
    )  # fmt: skip


def joint(encoder: TileEncoder, count: int) -> int:
    aggregator = Tapfm(16, 2, temperature=0.1, layer_norm=True).double()
    return peak_graph_bytes(lambda: joint_step(encoder, aggregator, loss_of, Made(count, 48)[:], None, 1.0))


@pytest.mark.parametrize("adapt", ["full", LastBlocks(last_blocks=2), Lora(lora=LoraPlan(rank=2))], ids=str)
def test_graphs_do_not_grow_with_the_bag(tiny_encoder: Callable[..., TileEncoder], adapt: object) -> None:
    encoder = tiny_encoder("uni")
    adapt_encoder(encoder, adapt, "arm", 1)  # type: ignore[arg-type]
    small, large = bounded(encoder, 16, 8), bounded(encoder, 128, 8)
    assert large == small


def test_a_joint_graph_grows_with_the_bag(tiny_encoder: Callable[..., TileEncoder]) -> None:
    encoder = tiny_encoder("uni")
    assert joint(encoder, 64) > 3.5 * joint(encoder, 16)
    assert joint(encoder, 16) > 1.5 * bounded(encoder, 16, 8)


def test_graphs_grow_with_the_micro_batch(tiny_encoder: Callable[..., TileEncoder]) -> None:
    encoder = tiny_encoder("uni")
    assert bounded(encoder, 32, 16) > 2.5 * bounded(encoder, 32, 4)


_RESIDENT = """
import json, re, sys
from pathlib import Path
from contextlib import nullcontext
import torch
torch.set_num_threads(1)
from test_bounded_memory import Made, loss_of
from plain_joint import joint_step
from conftest import tiny
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.load import build_backbone
from tapfm_eval.methods.adapt import adaptation_step
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.tapfm import Tapfm

card = tiny(CARDS["uni"])
encoder = TileEncoder(build_backbone(card), card).double()
adapt_encoder(encoder, "full", "arm")
aggregator = Tapfm(16, 2, temperature=0.1, layer_norm=True).double()
peaks = []
def note():
    # not ru_maxrss, which begins at the parent's size
    peaks.append(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
for count in (16, 512):
    adaptation_step(encoder, aggregator, loss_of, Made(count, 48), keep=None, micro_batch=16, lambda_attention=1.0,
                    device=torch.device("cpu"), autocast=nullcontext)
    note()
joint_step(encoder, aggregator, loss_of, Made(1536, 48)[:], None, 1.0)
note()
print(json.dumps(peaks))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak resident size is read as Linux gives it")
def test_resident_memory_does_not_grow_with_the_bag() -> None:
    """Peak resident size can only rise, so the three runs share one process and go from small to large."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{_RESIDENT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    small, large, joint_graph = json.loads(done.stdout)
    assert large < small + 15
    assert joint_graph > large + 60
