"""What the step keeps alive depends on the micro-batch, not on the number of tiles; a joint graph grows with it."""

import json
import math
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
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
from tapfm_eval.rehearsal.svs import write_svs


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
import numpy as np
import torch
torch.set_num_threads(1)
from test_bounded_memory import loss_of
from tapfm_eval.backbones.cards import CARDS, stand_in
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.load import build_backbone
from tapfm_eval.methods.adapt import adaptation_step
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.sources import Draw, StudySlide, TileSource
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.protocol.schema import LastBlocks
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.tiles import TileSpec, tile_grid

path, adapt, large = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with open_slide(path, slide_id="S", manifest_mpp=None) as reader:
    grid = tile_grid(reader, TileSpec(0.5, 224, 0.0))
card = stand_in(CARDS["uni"])
encoder = TileEncoder(build_backbone(card), card)
adapt_encoder(encoder, "full" if adapt == "full" else LastBlocks(last_blocks=1), "arm")
aggregator = Tapfm(card.dim, 2, temperature=0.1, layer_norm=True)
source = TileSource({"S": StudySlide("S", "P", "dev", path, None, grid)}, 0, 1)

def peak_mb(count):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew at what is resident now
    rng = np.random.default_rng(count)
    draw = Draw("S", np.sort(rng.choice(len(grid), count, replace=False)), 1)
    for bag in source.bags([draw]):
        report = adaptation_step(
            encoder, aggregator, loss_of, bag.tiles, keep=None, micro_batch=16, lambda_attention=1.0,
            device=torch.device("cpu"), autocast=nullcontext)
        assert report.passes == 2
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

peak_mb(32)  # maps libraries, starts pools and fills caches, once and for all
print(json.dumps([peak_mb(32), peak_mb(large)]))
"""


# What is freed goes back to the system at once (GNU libc's settings): what is resident is then what is in use, to a few
# MB, and does not depend on how the freed pieces happened to lie.
_GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**18), "MALLOC_TRIM_THRESHOLD_": str(2**20)}


def peaks_over_the_bag(path: Path, adapt: str, large: int) -> tuple[float, float]:
    """Peak resident MB of one step with slides read, augmented and kept: at 32 tiles, and at `large`."""
    columns = 10
    rgb = np.full((math.ceil(large / columns) * 224, columns * 224, 3), (200, 120, 170), np.uint8)
    write_svs(path, rgb, mpp=0.5, objective=20, name="S")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{_RESIDENT}"
    run = [sys.executable, "-c", code, str(path), adapt, str(large)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=os.environ | _GIVEN_BACK)
    small_mb, large_mb = json.loads(done.stdout)
    return small_mb, large_mb


resident = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak resident size is read as Linux gives it"
)


@resident
@pytest.mark.long
@pytest.mark.parametrize("adapt", ["full", "last_blocks"])
def test_two_thousand_tiles_take_the_memory_of_thirty_two(tmp_path: Path, adapt: str) -> None:
    small, large = peaks_over_the_bag(tmp_path / "S.svs", adapt, 2000)
    print(f"peak resident size at K = 32: {small:.0f} MB, at K = 2000: {large:.0f} MB, ratio {large / small:.3f}")
    assert large < 1.15 * small
