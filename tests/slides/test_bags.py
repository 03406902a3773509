"""Tiles arrive in the order asked for, the same from any number of workers; a bad slide is an item, not an end."""

import gc
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapfm_eval.errors import SlideError
from tapfm_eval.slides import bags
from tapfm_eval.slides.bags import (
    ReadFailure,
    TileBatch,
    TileReads,
    TileRequest,
    chunk_requests,
    request_tiles,
    stream,
)
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.tiles import TileGrid, TileSpec, tile_grid

WriteSlide = Callable[..., Path]
Study = list[tuple[Path, TileGrid]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, stained: NDArray[np.uint8], write_slide: WriteSlide) -> Study:
    """Six small slides, 20x and 40x, and their grids of 64-px tiles."""
    folder = tmp_path_factory.mktemp("slides")
    slides = []
    for i in range(6):
        path = write_slide(folder / f"S{i}.svs", np.roll(stained, 40 * i, axis=1), mpp=0.5 if i % 2 else 0.25)
        with open_slide(path, slide_id=f"S{i}", manifest_mpp=None) as slide:
            slides.append((path, tile_grid(slide, TileSpec(mpp=0.5, tile_px=64, min_tissue=0.5))))
    return slides


def requests_of(study: Study, tiles: int = 5) -> list[TileRequest]:
    rng = np.random.default_rng(3)
    return [
        request_tiles(grid, path, rng.permutation(len(grid))[:tiles], manifest_mpp=None, key=("epoch 1", i))
        for i, (path, grid) in enumerate(study)
    ]


def batch(item: TileBatch | ReadFailure) -> TileBatch:
    assert isinstance(item, TileBatch), item
    return item


def negative(tiles: Tensor, request: TileRequest) -> Tensor:
    return 255 - tiles + int(request.indices[0]) * 0


def explode(tiles: Tensor, request: TileRequest) -> Tensor:
    raise ArithmeticError(f"a fault of ours at {request.slide_id}")


def die(tiles: Tensor, request: TileRequest) -> Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    return tiles


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_in_order_and_equal_direct_reads(study: Study, workers: int) -> None:
    requests = requests_of(study)
    items = [batch(item) for item in stream(requests, workers=workers)]
    assert [item.request.key for item in items] == [request.key for request in requests]
    for item, (path, grid) in zip(items, study, strict=True):
        assert item.tiles.dtype == torch.uint8
        assert item.tiles.shape == (5, 3, 64, 64)
        with open_slide(path, slide_id="direct", manifest_mpp=None) as slide:
            for row, tile in zip(item.request.indices, item.tiles, strict=True):
                x0, y0 = grid.xy0[row]
                direct = slide.read_tile(int(x0), int(y0), grid.plan)
                assert (tile.numpy() == direct.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_transform_runs_where_the_tiles_are_read(study: Study, workers: int) -> None:
    plain = [batch(item).tiles for item in stream(requests_of(study), workers=0)]
    turned = [batch(item).tiles for item in stream(requests_of(study), workers=workers, transform=negative)]
    assert all(torch.equal(a, 255 - b) for a, b in zip(plain, turned, strict=True))


def test_chunks_cover_every_tile_once_in_grid_order(study: Study) -> None:
    path, grid = study[0]
    requests = list(chunk_requests(grid, path, chunk=7, manifest_mpp=None, key="S0"))
    assert max(len(request.indices) for request in requests) == 7
    assert (np.concatenate([request.indices for request in requests]) == np.arange(len(grid))).all()
    assert (np.concatenate([request.xy0 for request in requests]) == grid.xy0).all()
    assert sum(len(batch(item).tiles) for item in stream(requests, workers=0)) == len(grid)


def test_a_request_may_ask_for_no_tile(study: Study) -> None:
    path, grid = study[0]
    (item,) = stream([request_tiles(grid, path, np.array([], np.int64), manifest_mpp=None)], workers=0)
    assert batch(item).tiles.shape == (0, 3, 64, 64)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_slide_that_cannot_be_read_is_an_item(
    study: Study, stained: NDArray[np.uint8], write_slide: WriteSlide, tmp_path: Path, workers: int
) -> None:
    text = tmp_path / "text.svs"
    text.write_text("not an image")
    hurt = write_slide(tmp_path / "hurt.svs", stained, mpp=0.5, levels=3)
    with open_slide(hurt, slide_id="hurt", manifest_mpp=None) as slide:
        grid = tile_grid(slide, TileSpec(0.5, 64, 0.5))
    content = hurt.read_bytes()
    middle = len(content) // 2  # level 0 comes first, and the quick hash covers the last level alone
    hurt.write_bytes(content[:3000] + bytes(middle - 3000) + content[middle:])
    good = requests_of(study)
    bad = [
        request_tiles(study[0][1], text, np.arange(30), manifest_mpp=None),
        request_tiles(grid, hurt, np.arange(len(grid)), manifest_mpp=None),
        request_tiles(study[0][1], tmp_path / "absent.svs", np.arange(30), manifest_mpp=None),
    ]
    items = list(stream([good[0], *bad, good[1], bad[1], good[0]], workers=workers))
    assert [type(item) for item in items] == [TileBatch, *[ReadFailure] * 3, TileBatch, ReadFailure, TileBatch]
    messages = [item.message for item in items if isinstance(item, ReadFailure)]
    assert "no slide" in messages[0]
    assert "damaged" in messages[1]
    assert "no such file" in messages[2]
    assert torch.equal(batch(items[0]).tiles, batch(items[-1]).tiles)


def test_another_file_in_the_place_of_the_tiled_one_is_refused(study: Study, tmp_path: Path) -> None:
    swapped = request_tiles(study[0][1], study[2][0], np.arange(3), manifest_mpp=None)
    first, again = stream([swapped, swapped], workers=0)
    assert isinstance(first, ReadFailure)
    assert "the file that was tiled" in first.message
    assert isinstance(again, ReadFailure)


def test_a_scale_that_is_missing_when_reading_is_a_failure(
    stained: NDArray[np.uint8], write_slide: WriteSlide, tmp_path: Path
) -> None:
    path = write_slide(tmp_path / "a.svs", stained, mpp=None)
    with open_slide(path, slide_id="S", manifest_mpp=0.5) as slide:
        grid = tile_grid(slide, TileSpec(0.5, 64, 0.5))
    with_mpp = request_tiles(grid, path, np.arange(2), manifest_mpp=0.5)
    without = request_tiles(grid, path, np.arange(2), manifest_mpp=None)
    items = list(stream([with_mpp, without], workers=0))
    assert isinstance(items[0], TileBatch)
    assert isinstance(items[1], ReadFailure)


def test_requests_are_drawn_no_faster_than_they_are_read(study: Study) -> None:
    drawn = 0

    def endless() -> Iterator[TileRequest]:
        nonlocal drawn
        while True:
            drawn += 1
            yield requests_of(study, tiles=1)[0]

    items = stream(endless(), workers=2, prefetch=2)
    for _ in range(3):
        batch(next(items))
    items.close()  # type: ignore[attr-defined]
    assert 3 <= drawn <= 3 + 2 * 2


def test_leaving_early_ends_the_workers(study: Study) -> None:
    items = stream(requests_of(study), workers=2)
    next(items)
    assert len(multiprocessing.active_children()) == 2
    items.close()  # type: ignore[attr-defined]
    gc.collect()
    assert multiprocessing.active_children() == []


def test_reading_leaves_torchs_generator_alone(study: Study) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(stream(requests_of(study), workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_worker_that_dies_is_reported_with_a_remedy(study: Study) -> None:
    with pytest.raises(SlideError, match=r"reading tiles with 2 workers.*fewer --workers"):
        list(stream(requests_of(study), workers=2, transform=die))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_of_the_transform_is_not_dressed_up_as_a_slides(study: Study, workers: int) -> None:
    with pytest.raises(ArithmeticError, match="a fault of ours at S0"):
        list(stream(requests_of(study), workers=workers, transform=explode))
    assert multiprocessing.active_children() == []


def test_open_slides_are_few_and_stay_in_their_process(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = bags.open_reader

    def counting(path: Path, *, slide_id: str, manifest_mpp: float | None) -> object:
        opened.append(slide_id)
        return real(path, slide_id=slide_id, manifest_mpp=manifest_mpp)

    monkeypatch.setattr(bags, "open_reader", counting)
    reads = TileReads()
    requests = requests_of(study)
    for request in (*requests, *requests[2:], requests[0]):
        batch(reads[request])
    assert opened == ["S0", "S1", "S2", "S3", "S4", "S5", "S0"]
    assert len(reads._open) == 4
    copy = pickle.loads(pickle.dumps(reads))  # noqa: S301
    assert len(copy._open) == 0
    batch(copy[requests[0]])
    copy.close()
    monkeypatch.setattr(reads, "_pid", -1)  # as after a fork: the parent's handles are not used
    batch(reads[requests[5]])
    assert opened[-1] == "S5"
    assert len(reads._open) == 1
    reads.close()
    assert len(reads._open) == 0
