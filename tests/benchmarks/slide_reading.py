"""Tiles a second of `stream` by workers, beside a plain single-process loop over `read_region`, in one run.

    python tests/benchmarks/slide_reading.py [--slide FILE] [--tiles N] [--workers 1,2,4] [--repetitions N]

Without a slide it writes one: JPEG at 40x with a pyramid, 12288 px wide. Ways of reading take turns, so that a busy
machine hurts all of them alike; medians are printed. Starting the workers is part of every figure.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import openslide
import tifffile
from PIL import Image

from tapfm_eval.slides.bags import TileBatch, chunk_requests, stream
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.tiles import TileGrid, TileSpec, tile_grid

CHUNK = 64


def write_slide(path: Path, edge: int = 12288) -> None:
    """A tissue-like slide: blotches of stain with grain, so that JPEG has something to do."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 90, (edge // 16, edge // 16, 3)).astype(np.uint8)).resize((edge, edge))
    grain = rng.integers(0, 12, (edge, edge, 1), dtype=np.uint8)
    image = np.array([215, 150, 190], np.uint8) - np.asarray(coarse) + grain
    with tifffile.TiffWriter(path) as tiff:
        for _ in range(3):
            tiff.write(
                image,
                tile=(240, 240),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 80},
                description="Aperio Image Library v11.2.1\n|AppMag = 40|MPP = 0.25",
                metadata=None,
            )
            image = np.asarray(Image.fromarray(image).reduce(4))


def plain(path: Path, grid: TileGrid) -> int:
    """What one writes without this project: one process, one read_region a tile, Pillow's resize."""
    slide = openslide.OpenSlide(path)
    plan = grid.plan
    for x0, y0 in grid.xy0:
        image = slide.read_region((int(x0), int(y0)), plan.level, (plan.size_level, plan.size_level)).convert("RGB")
        if plan.size_level != plan.tile_px:
            image = image.resize((plan.tile_px, plan.tile_px))
        np.asarray(image).transpose(2, 0, 1).copy()
    slide.close()
    return len(grid)


def streamed(path: Path, grid: TileGrid, workers: int) -> int:
    """All tiles through `stream`."""
    count = 0
    for item in stream(chunk_requests(grid, path, chunk=CHUNK, manifest_mpp=None), workers=workers):
        assert isinstance(item, TileBatch), item
        count += len(item.tiles)
    return count


@contextmanager
def slide_at(given: Path | None) -> Iterator[Path]:
    """The given slide, or one that exists as long as the block."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.svs"
        write_slide(path)
        yield path


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slide", type=Path)
    parser.add_argument("--tiles", type=int, default=640, help="at most this many tiles of the slide")
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    with slide_at(options.slide) as path:
        with open_slide(path, slide_id="benchmark", manifest_mpp=None) as slide:
            start = time.perf_counter()
            whole = tile_grid(slide, TileSpec(mpp=0.5, tile_px=224, min_tissue=0.5))
            seconds = time.perf_counter() - start
        fields = {name: getattr(whole, name) for name in TileGrid.__slots__}
        first = slice(0, options.tiles)
        grid = TileGrid(**fields | {"xy0": whole.xy0[first], "tissue": whole.tissue[first]})
        print(f"{whole.width} x {whole.height} px at {whole.mpp:g} um/px; {whole.plan}")
        print(f"grid of {len(whole)} tiles found in {seconds:.2f} s; reading {len(grid)}")
        ways: dict[str, Callable[[], int]] = {
            "read_region, one process": lambda: plain(path, grid),
            "stream, workers=0": lambda: streamed(path, grid, 0),
        }
        for workers in (int(text) for text in options.workers.split(",")):
            ways[f"stream, workers={workers}"] = lambda workers=workers: streamed(path, grid, workers)  # type: ignore[misc]
        for way in ways.values():  # page cache and fork server warm for all
            way()
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.repetitions):
            for name, way in ways.items():
                start = time.perf_counter()
                count = way()
                rates[name].append(count / (time.perf_counter() - start))
    reference = statistics.median(rates["read_region, one process"])
    print(f"{'way':28} {'tiles/s':>8} {'ratio':>6}")
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:28} {median:8.0f} {median / reference:6.2f}")


if __name__ == "__main__":
    main()
