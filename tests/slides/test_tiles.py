"""The grid lies over tissue at the protocol's scale, and its file is TRIDENT's."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tapfm_eval.errors import RunError, SlideError
from tapfm_eval.protocol.schema import Tiles
from tapfm_eval.slides import tiles as tiles_module
from tapfm_eval.slides.reader import SlideInfo, TilePlan, open_slide
from tapfm_eval.slides.tiles import TileGrid, TileSpec, plan_tiles, read_tiles, tile_grid, tile_spec, write_tiles

WriteSlide = Callable[..., Path]
SPEC = TileSpec(mpp=0.5, tile_px=224, min_tissue=0.5)


def info(mpp: float, downsamples: tuple[float, ...] = (1.0,)) -> SlideInfo:
    edge = 40_000
    return SlideInfo(
        slide_id="S1",
        path=Path("S1.svs"),
        width=edge,
        height=edge,
        mpp=mpp,
        mpp_source="slide",
        objective=None,
        level_dimensions=tuple((int(edge / d), int(edge / d)) for d in downsamples),
        level_downsamples=downsamples,
        vendor=None,
        size_bytes=1,
        quickhash=None,
    )


def test_the_protocol_gives_the_spec() -> None:
    assert tile_spec(Tiles()) == SPEC


@pytest.mark.parametrize(
    ("mpp", "downsamples", "spec_mpp", "expected"),
    [
        (0.5, (1.0, 4.0), 0.5, TilePlan(0, 224, 224, 224)),  # 20x
        (0.499, (1.0, 4.0), 0.5, TilePlan(0, 224, 224, 224)),  # Aperio's 20x: read as it is
        (0.476, (1.0,), 0.5, TilePlan(0, 235, 235, 224)),  # 5.04 % finer: resampled
        (0.5249, (1.0,), 0.5, TilePlan(0, 224, 224, 224)),  # 4.98 % coarser
        (0.25, (1.0, 4.0), 0.5, TilePlan(0, 448, 448, 224)),  # 40x
        (0.2527, (1.0, 4.0, 16.0), 0.5, TilePlan(0, 448, 448, 224)),  # Aperio's 40x
        (0.25, (1.0, 2.0, 4.0), 0.5, TilePlan(1, 224, 448, 224)),  # 40x with a 20x level
        (0.2527, (1.0, 2.0003), 0.5, TilePlan(1, 224, 448, 224)),
        (0.2275, (1.0,), 0.5, TilePlan(0, 492, 492, 224)),  # Hamamatsu's 40x
        (0.25, (1.0, 4.0, 16.0), 2.0, TilePlan(1, 448, 1792, 224)),  # 5x from the 10x level
        (0.25, (1.0, 4.0, 16.0), 1.0, TilePlan(1, 224, 896, 224)),
        (0.125, (1.0,), 0.5, TilePlan(0, 896, 896, 224)),  # 80x
    ],
)
def test_tiles_are_read_from_the_cheapest_level_that_needs_no_enlarging(
    mpp: float, downsamples: tuple[float, ...], spec_mpp: float, expected: TilePlan
) -> None:
    assert plan_tiles(info(mpp, downsamples), TileSpec(spec_mpp, 224, 0.5)) == expected


@pytest.mark.parametrize("mpp", [0.526, 1.0])
def test_a_slide_coarser_than_the_protocol_is_refused(mpp: float) -> None:
    with pytest.raises(SlideError, match=rf"S1.*at most 0\.525.*got {mpp:g}.*never enlarged"):
        plan_tiles(info(mpp), SPEC)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    mpp=st.floats(0.1, 0.52),
    steps=st.lists(st.sampled_from([2.0, 2.0003, 3.9996, 4.0]), max_size=4),
    tile_px=st.integers(32, 1024),
)
def test_every_plan_keeps_the_scale_and_never_enlarges(mpp: float, steps: list[float], tile_px: int) -> None:
    downsamples = tuple(np.cumprod([1.0, *steps]))
    plan = plan_tiles(info(mpp, downsamples), TileSpec(0.5, tile_px, 0.5))
    rounding = 1 / tile_px
    assert plan.size_level >= plan.tile_px
    assert abs(mpp * plan.tile_px0 / tile_px / 0.5 - 1) <= 0.05 + rounding
    assert abs(plan.tile_px0 / downsamples[plan.level] - plan.size_level) <= 1


def places(edge: int) -> NDArray[np.uint8]:
    """A picture whose colour tells the place: red grows to the right, green downwards."""
    y, x = np.mgrid[:edge, :edge] * (255 / edge)
    return np.round(np.stack([x, y, np.full_like(x, 128)], axis=-1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("mpp", "levels", "plan"),
    [
        (0.5, 1, TilePlan(0, 224, 224, 224)),
        (0.25, 1, TilePlan(0, 448, 448, 224)),
        (0.25, 3, TilePlan(1, 224, 448, 224)),
    ],
)
def test_a_tile_shows_the_place_it_is_named_after(
    tmp_path: Path, write_slide: WriteSlide, mpp: float, levels: int, plan: TilePlan
) -> None:
    edge = 1792
    path = write_slide(tmp_path / "a.svs", places(edge), mpp=mpp, levels=levels)
    with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
        assert plan_tiles(slide.info, SPEC) == plan
        for x0, y0 in [(0, 0), (plan.tile_px0, 0), (0, plan.tile_px0), (edge - plan.tile_px0, plan.tile_px0)]:
            tile = slide.read_tile(x0, y0, plan)
            seen = tile[..., :2].mean(axis=(0, 1)) * edge / 255
            assert tile.shape == (224, 224, 3)
            assert seen == pytest.approx(np.array([x0, y0]) + plan.tile_px0 / 2, abs=8)
            corner = tile[:8, :8, :2].mean(axis=(0, 1)) * edge / 255
            assert corner == pytest.approx(np.array([x0, y0]) + plan.tile_px0 / 56, abs=14)


def test_a_pyramid_level_gives_the_tile_that_level_0_gives(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide
) -> None:
    path = write_slide(tmp_path / "a.svs", stained, mpp=0.25, levels=3, lossless=True)
    with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
        plan = plan_tiles(slide.info, SPEC)
        assert plan.level == 1
        level = slide.read_tile(448, 448, plan).astype(int)
        level0 = slide.read_tile(448, 448, TilePlan(0, 448, 448, 224)).astype(int)
    assert np.abs(level - level0).max() <= 1  # halves are rounded to even here, upwards there


def test_the_real_slide_is_tiled_over_its_tissue(cmu: Path) -> None:
    with open_slide(cmu, slide_id="CMU", manifest_mpp=None) as slide:
        grid = tile_grid(slide, SPEC)
        brightness = [slide.read_tile(int(x), int(y), grid.plan).mean() for x, y in grid.xy0]
        glass = slide.read_tile(0, 0, grid.plan).mean()
    assert grid.positions == 9 * 13
    assert 42 <= len(grid) <= 50  # counted by eye: 46
    assert (grid.mpp_source, grid.objective, grid.plan) == ("slide", 20.0, TilePlan(0, 224, 224, 224))
    assert grid.tile_mpp == 0.499
    assert 0.3 < grid.thumbnail_tissue < 0.42
    assert max(brightness) < glass - 5


def test_the_grid_is_row_major_without_overlap_and_inside_the_slide(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide
) -> None:
    spec = TileSpec(mpp=0.5, tile_px=96, min_tissue=0.25)
    with open_slide(write_slide(tmp_path / "a.svs", stained, mpp=0.5), slide_id="S1", manifest_mpp=None) as slide:
        grid, again = tile_grid(slide, spec), tile_grid(slide, spec)
    assert 40 < len(grid) < grid.positions == (1100 // 96) * (1400 // 96)
    assert (grid.xy0 % 96 == 0).all()
    assert (grid.xy0 + 96 <= [1100, 1400]).all()
    order = [(int(y), int(x)) for x, y in grid.xy0]
    assert order == sorted(set(order))
    assert (grid.tissue >= 0.25).all()
    assert (grid.tissue <= 1).all()
    assert (again.xy0 == grid.xy0).all()
    assert (again.tissue == grid.tissue).all()


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    cell=st.integers(1, 5),
    tile=st.integers(1, 12),
)
def test_a_tiles_share_of_tissue_is_an_exact_area(seed: int, size: tuple[int, int], cell: int, tile: int) -> None:
    """The judge paints every thumbnail pixel as a block of level-0 pixels and counts."""
    mask = np.random.default_rng(seed).random(size) < 0.5
    full = np.kron(mask, np.ones((cell, cell)))
    height, width = full.shape
    columns, rows = width // tile, height // tile
    slide = info(0.5)
    slide = SlideInfo(**{name: getattr(slide, name) for name in slide.__slots__} | {"width": width, "height": height})
    shares = tiles_module._tissue_shares(mask, slide, TilePlan(0, tile, tile, tile), columns, rows)
    assert shares.shape == (rows, columns)
    for row in range(rows):
        for column in range(columns):
            block = full[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            assert shares[row, column] == pytest.approx(block.mean(), abs=1e-8)


def test_a_slide_without_tissue_has_an_empty_grid(tmp_path: Path, write_slide: WriteSlide) -> None:
    glass = np.full((900, 900, 3), 242, np.uint8)
    path = write_slide(tmp_path / "a.svs", glass, mpp=0.5)
    for least in (0.0, 0.5):
        with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
            grid = tile_grid(slide, TileSpec(0.5, 224, least))
        assert (len(grid), grid.xy0.shape, grid.tissue.shape) == (0, (0, 2), (0,))
        write_tiles(grid, tmp_path / "a_patches.h5")
        assert len(read_tiles(tmp_path / "a_patches.h5")) == 0


def test_a_slide_smaller_than_a_tile_has_an_empty_grid(tmp_path: Path, write_slide: WriteSlide) -> None:
    path = write_slide(tmp_path / "a.svs", np.full((200, 250, 3), (205, 130, 180), np.uint8), mpp=0.5)
    with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
        grid = tile_grid(slide, SPEC)
    assert (len(grid), grid.positions) == (0, 0)


def test_a_tissue_slide_is_tiled_throughout(tmp_path: Path, write_slide: WriteSlide) -> None:
    path = write_slide(tmp_path / "a.svs", np.full((672, 672, 3), (205, 130, 180), np.uint8), mpp=0.5)
    with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
        grid = tile_grid(slide, TileSpec(0.5, 224, 1.0))
    assert len(grid) == grid.positions == 9


@pytest.fixture
def grid(tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide) -> TileGrid:
    path = write_slide(tmp_path / "S1.svs", stained, mpp=0.25)
    with open_slide(path, slide_id="S1", manifest_mpp=0.25) as slide:
        return tile_grid(slide, TileSpec(mpp=0.5, tile_px=64, min_tissue=0.4))


def test_a_grid_comes_back_from_its_file_as_it_was(tmp_path: Path, grid: TileGrid) -> None:
    path = tmp_path / "tiles" / "S1_patches.h5"
    write_tiles(grid, path)
    back = read_tiles(path)
    for name in TileGrid.__slots__:
        assert np.array_equal(getattr(back, name), getattr(grid, name)), name
    assert back.xy0.dtype == np.int64
    assert back.tissue.dtype == np.float32


def test_the_same_grid_gives_the_same_bytes(tmp_path: Path, grid: TileGrid) -> None:
    first, second = tmp_path / "a" / "tiles" / "S1.h5", tmp_path / "b" / "tiles" / "S1.h5"
    write_tiles(grid, first)
    write_tiles(grid, second)
    assert first.read_bytes() == second.read_bytes()


def test_the_file_has_tridents_layout(tmp_path: Path, grid: TileGrid) -> None:
    path = tmp_path / "patches" / "S1_patches.h5"
    write_tiles(grid, path)
    with h5py.File(path, "r") as file:
        coords = file["coords"]
        assert coords.dtype == np.int64
        assert coords.shape == (len(grid), 2)
        assert {name: coords.attrs[name] for name in coords.attrs} == {
            "patch_size": 64,
            "patch_size_level0": 128,
            "level0_magnification": 40,
            "target_magnification": 20,
            "overlap": 0,
            "name": "S1",
            "savetodir": "patches",
            "level0_width": 1100,
            "level0_height": 1400,
        }


@pytest.mark.parametrize(
    ("mpp", "magnification"), [(0.25, 40), (0.2527, 40), (0.499, 20), (0.2275, 40), (0.1667, 60), (0.3426, 29.19)]
)
def test_scales_have_the_magnification_that_microscopists_name(mpp: float, magnification: float) -> None:
    assert tiles_module._magnification(mpp) == magnification


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, grid: TileGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiles" / "S1.h5"
    write_tiles(grid, path)
    before = path.read_bytes()

    def fail(_: TileGrid) -> dict[str, object]:
        raise OSError("no space left on device")

    monkeypatch.setattr(tiles_module, "_own_attributes", fail)
    with pytest.raises(RunError, match="no space"):
        write_tiles(grid, path)
    assert [file.name for file in path.parent.iterdir()] == ["S1.h5"]
    assert path.read_bytes() == before


def test_a_file_that_is_no_tile_file_is_refused(tmp_path: Path, grid: TileGrid) -> None:
    path = tmp_path / "S1.h5"
    with pytest.raises(SlideError, match="readable tile file"):
        read_tiles(path)
    path.write_bytes(b"random bytes")
    with pytest.raises(SlideError, match="readable tile file"):
        read_tiles(path)
    with h5py.File(path, "w") as file:
        file["coords"] = np.zeros((2, 2), np.int64)
    with pytest.raises(SlideError, match="without checksums"):
        read_tiles(path)
    with h5py.File(path, "w", libver="latest") as file:
        file["coords"] = np.zeros((2, 2), np.int64)
    with pytest.raises(SlideError, match="tapfm-eval/tiles/1, got format 'none'"):
        read_tiles(path)
    write_tiles(grid, path)
    with h5py.File(path, "a") as file:
        del file.attrs["mpp"]
    with pytest.raises(SlideError, match="readable tile file"):
        read_tiles(path)
    write_tiles(grid, path)
    with h5py.File(path, "a") as file:
        del file["tissue"]
        file["tissue"] = np.zeros(1, np.float32)
    with pytest.raises(SlideError, match="1 tissue shares"):
        read_tiles(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SlideError, match="readable tile file"):
        read_tiles(path)


def test_reducing_before_or_after_cutting_gives_the_same_tile(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide
) -> None:
    """A whole-number reduction has no reach beyond the tile: the neighbours do not matter."""
    path = write_slide(tmp_path / "a.svs", stained, mpp=0.25, lossless=True)
    whole = np.asarray(Image.fromarray(stained).reduce(2))
    with open_slide(path, slide_id="S1", manifest_mpp=None) as slide:
        tile = slide.read_tile(448, 448, plan_tiles(slide.info, SPEC))
    assert (tile == whole[224:448, 224:448]).all()
