"""Which tiles of a slide a model sees: a grid over tissue at the protocol's scale, kept as TRIDENT keeps it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapfm_eval.errors import Problem, SlideError
from tapfm_eval.rundir import write_whole
from tapfm_eval.slides.hdf5 import create_checksummed, open_checksummed, read_array, read_attributes, write_attributes
from tapfm_eval.slides.reader import MPP_TOLERANCE, SlideInfo, SlideReader, TilePlan
from tapfm_eval.slides.regions import Regions, check_on_slide, inside
from tapfm_eval.slides.tissue import tissue_mask

if TYPE_CHECKING:
    from tapfm_eval.protocol.schema import Tiles

FORMAT = "tapfm-eval/tiles/1"
_MASK_MPP = 8.0  # µm per pixel of the thumbnail: a tile of 112 µm spans 14 of its pixels
_MAGNIFICATIONS = (1.25, 2.5, 5, 10, 20, 40, 60, 80)  # at 10 µm/px each


@dataclass(frozen=True, slots=True)
class TileSpec:
    """What the protocol asks of tiles."""

    mpp: float  # µm per pixel of a tile
    tile_px: int  # edge of a tile in pixels at `mpp`
    min_tissue: float  # least share of a tile's area that is tissue
    classes: tuple[str, ...] | None = None  # annotation classes that restrict tiles, () for any; None: no restriction


@dataclass(frozen=True, slots=True, eq=False)
class TileGrid:
    """The tiles of one slide, row by row from the top, left to right within a row; may be empty."""

    slide_id: str
    fingerprint: str  # SlideInfo.fingerprint of the file that was tiled
    width: int  # level-0 pixels
    height: int
    mpp: float  # µm per level-0 pixel
    mpp_source: Literal["slide", "manifest"]
    objective: float | None
    spec: TileSpec
    plan: TilePlan
    xy0: NDArray[np.int64]  # (N, 2) level-0 pixel (x, y) of each tile's top left
    tissue: NDArray[np.float32]  # (N,) share of the tile that is tissue, in [0, 1]
    positions: int  # whole tiles that fit on the slide, with tissue or without
    thumbnail_tissue: float  # share of the whole thumbnail that is tissue
    regions_sha256: str | None = None  # of the annotations that restricted the tiles; None: the whole tissue

    def __len__(self) -> int:
        return len(self.xy0)

    @property
    def tile_mpp(self) -> float:
        """µm per pixel of the tiles as read; within 5 % of `spec.mpp`."""
        return self.mpp * self.plan.tile_px0 / self.plan.tile_px


def tile_spec(tiles: "Tiles") -> TileSpec:
    """The tile settings of a protocol as a plain record."""
    classes: tuple[str, ...] | None
    if isinstance(tiles.regions, str):
        classes = None if tiles.regions == "none" else ()
    else:
        classes = tuple(sorted(set(tiles.regions.classes)))
    return TileSpec(mpp=tiles.mpp, tile_px=tiles.tile_px, min_tissue=tiles.min_tissue, classes=classes)


def plan_tiles(info: SlideInfo, spec: TileSpec) -> TilePlan:
    """How to cut tiles of `spec` from this slide: the coarsest level that needs no enlarging, then a reduction.

    A scale within 5 % of the wanted one counts as the wanted one: 0.499 µm/px is read as 224 px without resampling,
    and at 0.2527 µm/px a tile is 448 px averaged 2 x 2 and not 443 px resampled.

    Raises:
        SlideError: The slide is coarser than the protocol by more than 5 %.
    """
    factor = spec.mpp / info.mpp  # level-0 pixels to a tile pixel
    if factor < 1 / (1 + MPP_TOLERANCE):
        raise SlideError(
            Problem(
                where=f"slide {info.slide_id} ({info.path}), scale",
                expected=f"at most {spec.mpp * (1 + MPP_TOLERANCE):.4g} µm per pixel for tiles of {spec.mpp:g}",
                got=f"{info.mpp:g} ({info.mpp_source})",
                remedy="Tiles are never enlarged: leave this slide out, or plan the study at a coarser tiles.mpp.",
            )
        )
    fitting = [i for i, downsample in enumerate(info.level_downsamples) if downsample <= factor * (1 + MPP_TOLERANCE)]
    level = max(fitting, key=lambda i: info.level_downsamples[i])
    downsample = info.level_downsamples[level]
    reduction = factor / downsample  # pixels of the level to a tile pixel
    whole = max(1, round(reduction))
    if 1 / (1 + MPP_TOLERANCE) <= whole / reduction <= 1 + MPP_TOLERANCE:
        reduction = float(whole)
    size_level = round(reduction * spec.tile_px)
    return TilePlan(level=level, size_level=size_level, tile_px0=round(size_level * downsample), tile_px=spec.tile_px)


def tile_grid(reader: SlideReader, spec: TileSpec, regions: Regions | None = None) -> TileGrid:
    """The tiles of a slide that hold enough tissue, on a grid without overlap from its top left corner.

    Tissue is found on a thumbnail of about 8 µm per pixel; a tile's share of it is an exact area. Tiles that would
    hang over the right or lower edge are left out. A slide without tissue gives an empty grid: the caller decides.

    Args:
        reader: The slide.
        spec: What the protocol asks of tiles.
        regions: Annotated areas; only tiles whose centre lies inside are kept. None: the whole tissue.

    Raises:
        SlideError: The slide is too coarse, or damaged; or the regions lie outside it.
    """
    info = reader.info
    plan = plan_tiles(info, spec)
    longer_px = max(info.width, info.height)
    mask = tissue_mask(reader.thumbnail(max(1, round(longer_px * info.mpp / _MASK_MPP))))
    columns, rows = info.width // plan.tile_px0, info.height // plan.tile_px0
    shares = _tissue_shares(mask, info, plan, columns, rows)  # (rows, columns)
    row, column = np.nonzero((shares >= spec.min_tissue) & (shares > 0))
    if regions is not None:
        check_on_slide(regions, info.width, info.height, f"slide {info.slide_id}, regions")
        centres = (np.stack([column, row], axis=1) + 0.5) * plan.tile_px0
        chosen = inside(regions, centres.astype(np.float64))
        row, column = row[chosen], column[chosen]
    return TileGrid(
        slide_id=info.slide_id,
        fingerprint=info.fingerprint,
        width=info.width,
        height=info.height,
        mpp=info.mpp,
        mpp_source=info.mpp_source,
        objective=info.objective,
        spec=spec,
        plan=plan,
        xy0=np.stack([column, row], axis=1).astype(np.int64) * plan.tile_px0,
        tissue=shares[row, column].astype(np.float32),
        positions=columns * rows,
        thumbnail_tissue=float(mask.mean()),
        regions_sha256=None if regions is None else regions.sha256,
    )


def _tissue_shares(
    mask: NDArray[np.bool_], info: SlideInfo, plan: TilePlan, columns: int, rows: int
) -> NDArray[np.float64]:
    height, width = mask.shape
    table = np.zeros((height + 1, width + 1))
    table[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    x = np.arange(columns + 1) * (plan.tile_px0 * width / info.width)  # tile edges in thumbnail pixels
    y = np.arange(rows + 1) * (plan.tile_px0 * height / info.height)
    corners = _interpolate(_interpolate(table, y).T, x).T  # (rows + 1, columns + 1)
    area = (plan.tile_px0 * width / info.width) * (plan.tile_px0 * height / info.height)
    inside = corners[1:, 1:] - corners[:-1, 1:] - corners[1:, :-1] + corners[:-1, :-1]
    # Rounded, so that a tile that is tissue throughout has a share of 1 and the last bit decides nothing.
    shares: NDArray[np.float64] = np.clip(np.round(inside / area, 9), 0.0, 1.0)
    return shares


def _interpolate(table: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of a summed-area table at fractional positions; between whole ones the sum grows linearly."""
    at = np.minimum(at, len(table) - 1)
    low = np.minimum(at.astype(np.int64), len(table) - 2)
    part = (at - low)[:, None]
    value: NDArray[np.float64] = table[low] * (1 - part) + table[low + 1] * part
    return value


def write_tiles(grid: TileGrid, path: Path) -> None:
    """Writes the grid as one small HDF5 file in TRIDENT's patches layout, complete or not at all.

    `coords` (N, 2) int64 in level-0 pixels carries TRIDENT's attributes; `tissue` and the attributes of the file
    itself are ours and need not be known to read the tiles elsewhere. Same grid, same bytes.

    Raises:
        RunError: The disk is full, or the folder cannot be written.
    """

    def write(temporary: Path) -> None:
        with create_checksummed(temporary) as file:
            coords = file.create_dataset("coords", data=grid.xy0)
            for name, value in trident_attributes(grid, path).items():
                coords.attrs[name] = value
            file.create_dataset("tissue", data=grid.tissue)
            write_attributes(file, {"format": FORMAT, **_own_attributes(grid)})

    write_whole(path, write)


def read_tiles(path: Path) -> TileGrid:
    """The grid that `write_tiles` wrote.

    Raises:
        SlideError: The file is missing, damaged, or of another format.
    """
    try:
        with open_checksummed(path) as file:
            attributes = read_attributes(file)
            if attributes.get("format") != FORMAT:
                got = f"format {attributes.get('format', 'none')!r}"
                raise SlideError(Problem(str(path), f"a tile file of format {FORMAT}", got, "Remove it; tile again."))
            coords = read_array(file, "coords")
            if coords.dtype.kind != "i":
                raise ValueError("coords are no whole numbers")
            xy0 = np.asarray(coords, np.int64).reshape(-1, 2)
            with np.errstate(over="raise"):
                tissue = np.asarray(read_array(file, "tissue"), np.float32)
        return _grid_of(attributes, xy0, tissue)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError, ArithmeticError) as error:
        got = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise SlideError(
            Problem(str(path), "a readable tile file", got, "Remove it; the slide is tiled again.")
        ) from error


def trident_attributes(grid: TileGrid, path: Path) -> dict[str, Any]:
    """What TRIDENT's `coords` say of themselves, in a file of tiles and in one of features."""
    return {
        "patch_size": grid.plan.tile_px,
        "patch_size_level0": grid.plan.tile_px0,
        "level0_magnification": _magnification(grid.mpp),
        "target_magnification": _magnification(grid.spec.mpp),
        "overlap": 0,
        "name": grid.slide_id,
        "savetodir": path.parent.name,
        "level0_width": grid.width,
        "level0_height": grid.height,
    }


def _own_attributes(grid: TileGrid) -> dict[str, Any]:
    own: dict[str, Any] = {
        "slide_id": grid.slide_id,
        "fingerprint": grid.fingerprint,
        "width": grid.width,
        "height": grid.height,
        "mpp": grid.mpp,
        "mpp_source": grid.mpp_source,
        "spec_mpp": grid.spec.mpp,
        "spec_tile_px": grid.spec.tile_px,
        "spec_min_tissue": grid.spec.min_tissue,
        "plan_level": grid.plan.level,
        "plan_size_level": grid.plan.size_level,
        "plan_tile_px0": grid.plan.tile_px0,
        "positions": grid.positions,
        "thumbnail_tissue": grid.thumbnail_tissue,
    }
    classes = grid.spec.classes
    optional = {
        "objective": grid.objective,
        "spec_classes": None if classes is None else json.dumps(classes, ensure_ascii=False),
        "regions_sha256": grid.regions_sha256,
    }
    return own | {name: value for name, value in optional.items() if value is not None}


def _grid_of(attributes: dict[str, Any], xy0: NDArray[np.int64], tissue: NDArray[np.float32]) -> TileGrid:
    if len(xy0) != len(tissue):
        raise ValueError(f"{len(xy0)} coords but {len(tissue)} tissue shares")
    source = str(attributes["mpp_source"])
    tile_px = int(attributes["spec_tile_px"])
    return TileGrid(
        slide_id=str(attributes["slide_id"]),
        fingerprint=str(attributes["fingerprint"]),
        width=int(attributes["width"]),
        height=int(attributes["height"]),
        mpp=float(attributes["mpp"]),
        mpp_source="manifest" if source == "manifest" else "slide",
        objective=float(attributes["objective"]) if "objective" in attributes else None,
        spec=TileSpec(
            float(attributes["spec_mpp"]), tile_px, float(attributes["spec_min_tissue"]), _classes_of(attributes)
        ),
        plan=TilePlan(
            level=int(attributes["plan_level"]),
            size_level=int(attributes["plan_size_level"]),
            tile_px0=int(attributes["plan_tile_px0"]),
            tile_px=tile_px,
        ),
        xy0=xy0,
        tissue=tissue,
        positions=int(attributes["positions"]),
        thumbnail_tissue=float(attributes["thumbnail_tissue"]),
        regions_sha256=str(attributes["regions_sha256"]) if "regions_sha256" in attributes else None,
    )


def _classes_of(attributes: dict[str, Any]) -> tuple[str, ...] | None:
    if "spec_classes" not in attributes:
        return None
    return tuple(str(name) for name in json.loads(str(attributes["spec_classes"])))


def _magnification(mpp: float) -> int | float:
    """The nominal magnification of a scale, as microscopists and TRIDENT name it: 0.2527 µm/px is 40x."""
    exact = 10 / mpp
    nominal = min(_MAGNIFICATIONS, key=lambda value: abs(value / exact - 1))
    if abs(nominal / exact - 1) > 0.15:
        nominal = round(exact, 2)
    return int(nominal) if float(nominal).is_integer() else nominal
