"""Tiles that are read once and used twice: the same pixels from memory and from a file, whatever the reader's way."""

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tapfm_eval.errors import SlideError, StudyError
from tapfm_eval.methods.sources import Draw, StudySlide, TileSource
from tapfm_eval.methods.spool import ArrivingTiles, Spool
from tapfm_eval.rehearsal.svs import write_svs
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.tiles import TileSpec, tile_grid

ROWS = torch.arange(7 * 6).reshape(7, 2, 3)


@pytest.mark.parametrize("held_bytes", [0, 10**6], ids=["file", "memory"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64])
def test_rows_come_back_to_the_bit(held_bytes: int, dtype: torch.dtype) -> None:
    rows = ROWS.to(dtype) / 3 if dtype.is_floating_point else ROWS.to(dtype)
    spool = Spool(7, held_bytes)
    for part in (rows[:3], rows[3:4], rows[4:]):
        spool.append(part)
    assert spool.in_file == (held_bytes == 0)
    for part in (slice(0, 7), slice(2, 5), slice(6, 7), slice(0, 100), slice(3, 4), slice(None)):
        got = spool[part]
        assert got.dtype == dtype
        assert torch.equal(got, rows[part])
    spool.close()


def test_a_large_bag_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool(7, 0)
    spool.append(ROWS)
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_a_full_disk_is_said_with_its_remedy() -> None:
    class Full:
        def seek(self, place: int) -> None: ...

        def write(self, content: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    spool = Spool(7, 0)
    spool.append(ROWS[:1])
    spool.close()
    spool._file = Full()  # type: ignore[assignment]
    with pytest.raises(StudyError, match=r"No space left on device.*TMPDIR"):
        spool.append(ROWS[1:])


def test_tiles_are_taken_from_the_reader_when_asked_for_and_no_sooner() -> None:
    taken: list[int] = []

    def chunks() -> Iterator[Tensor]:
        for start in range(0, 7, 2):
            taken.append(start)
            yield ROWS[start : start + 2]
        taken.append(-1)
        yield ROWS

    tiles = ArrivingTiles(7, chunks())
    assert len(tiles) == 7
    assert torch.equal(tiles[0:3], ROWS[:3])
    assert taken == [0, 2]
    assert torch.equal(tiles[3:], ROWS[3:])
    assert torch.equal(tiles[0:7], ROWS)
    assert taken == [0, 2, 4, 6]
    tiles.finish()
    assert taken == [0, 2, 4, 6], "tiles of the next bag were taken"


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StudySlide]:
    """Two slides of stained noise with 20 and 12 tiles of 48 px."""
    found = {}
    for i, (rows, columns) in enumerate(((5, 4), (4, 3))):
        rng = np.random.default_rng(i)
        rgb = (np.array([190, 110, 160]) + rng.integers(0, 40, (rows * 48, columns * 48, 3))).astype(np.uint8)
        path = tmp_path_factory.mktemp("slides") / f"S{i}.svs"
        write_svs(path, rgb, mpp=0.5, objective=20, name=f"S{i}")
        with open_slide(path, slide_id=f"S{i}", manifest_mpp=None) as reader:
            grid = tile_grid(reader, TileSpec(0.5, 48, 0.0))
        assert len(grid) == rows * columns
        found[f"S{i}"] = StudySlide(f"S{i}", f"P{i}", "dev", path, None, grid)
    return found


DRAWS = [Draw("S0", np.arange(20), 1), Draw("S1", np.array([1, 5, 11]), 1), Draw("S0", np.arange(1, 20, 2), 2),
         Draw("S1", np.arange(12), 2)]  # fmt: skip


def bags(source: TileSource, read: slice = slice(None)) -> list[tuple[str, int, Tensor]]:
    return [(bag.draw.slide_id, bag.draw.epoch, bag.tiles[read].clone()) for bag in source.bags(DRAWS)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("held_bytes", [0, 2**30])
def test_bags_do_not_depend_on_workers_or_where_they_are_kept(
    slides: dict[str, StudySlide], workers: int, held_bytes: int
) -> None:
    plain = bags(TileSource(slides, 0, 7))
    assert [(slide, epoch, len(tiles)) for slide, epoch, tiles in plain] == [
        ("S0", 1, 20), ("S1", 1, 3), ("S0", 2, 10), ("S1", 2, 12)
    ]  # fmt: skip
    for one, other in zip(plain, bags(TileSource(slides, workers, 7, held_bytes)), strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2])


def test_an_augmented_tile_is_the_same_in_any_bag(slides: dict[str, StudySlide]) -> None:
    whole = next(iter(TileSource(slides, 0, 7).bags([Draw("S0", np.arange(20), 3)]))).tiles[:].clone()
    some = np.array([2, 3, 17])
    alone = next(iter(TileSource(slides, 0, 7).bags([Draw("S0", some, 3)]))).tiles[:]
    assert torch.equal(alone, whole[torch.from_numpy(some)])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bag_that_is_read_in_part_shifts_no_other(slides: dict[str, StudySlide], workers: int) -> None:
    whole = bags(TileSource(slides, 0, None))
    for one, part in zip(whole, bags(TileSource(slides, workers, None), slice(0, 2)), strict=True):
        assert torch.equal(part[2], one[2][:2])


def test_a_slide_that_is_gone_stops_with_its_path(slides: dict[str, StudySlide], tmp_path: Path) -> None:
    lost = StudySlide("S0", "P0", "dev", tmp_path / "gone.svs", None, slides["S0"].grid)
    with pytest.raises(SlideError, match=r"gone\.svs.*same command resumes"):
        next(iter(TileSource({"S0": lost}, 0, None).bags(DRAWS[:1])))
