"""What each tile of a slide weighed: one HDF5 file a slide, from which heatmaps are drawn. No torch here.

A unit keeps one for every test and external slide that it predicts, before its predictions are written:
`arms/ARM/seed-N/fold-K/attention/COHORT/SLIDE.h5`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapfm_eval.errors import Problem, RunError
from tapfm_eval.rundir import write_whole
from tapfm_eval.slides.hdf5 import create_checksummed, open_checksummed, read_array, read_attributes, write_attributes

FORMAT = "tapfm-eval/attention/1"


@dataclass(frozen=True, slots=True, eq=False)
class TileAttention:
    """The attention of one model to the tiles of one slide."""

    slide_id: str
    coords: NDArray[np.int64]  # (N, 2), x and y of the tile's top left corner, level-0 pixels
    tile_px0: int  # edge of a tile in level-0 pixels
    attention: NDArray[np.float32]  # (N,), the backbone's own raw CLS attention; NaN where features of others were read
    weights: NDArray[np.float32]  # (N,), the aggregator's shares; they sum to 1


def attention_path(unit: Path, cohort: str, slide_id: str) -> Path:
    """Where the attention of one unit to a slide lies."""
    return unit / "attention" / cohort / f"{slide_id}.h5"


def write_attention(path: Path, content: TileAttention) -> None:
    """Writes a file whole or not at all; the same content gives the same bytes.

    Raises:
        RunError: The disk is full, or the folder cannot be written.
    """

    def write(temporary: Path) -> None:
        with create_checksummed(temporary, track_order=True) as file:
            write_attributes(file, {"format": FORMAT, "slide_id": content.slide_id})
            coords = file.create_dataset("coords", data=content.coords)
            coords.attrs["patch_size_level0"] = content.tile_px0  # TRIDENT's name for it
            file.create_dataset("attention", data=content.attention)
            file.create_dataset("weights", data=content.weights)

    write_whole(path, write)


def read_attention(path: Path) -> TileAttention:
    """The attention of one slide.

    Raises:
        RunError: The file is missing, torn, or something else.
    """
    try:
        with open_checksummed(path) as file:
            said = read_attributes(file)
            if said["format"] != FORMAT:
                raise ValueError(f"format {said['format']}")
            content = TileAttention(
                str(said["slide_id"]),
                read_array(file, "coords").astype(np.int64, copy=False),
                int(file["coords"].attrs["patch_size_level0"]),
                read_array(file, "attention").astype(np.float32, copy=False),
                read_array(file, "weights").astype(np.float32, copy=False),
            )
        count = len(content.coords)
        if not (content.coords.shape == (count, 2) and content.attention.shape == content.weights.shape == (count,)):
            raise ValueError("arrays of different lengths")
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:  # h5py raises all of these on torn files
        raise RunError(
            Problem(str(path), f"tile attention ({FORMAT})", str(error).partition("\n")[0][:120],
                    "Delete the unit's predictions.csv and run again; it is written anew.")
        ) from None  # fmt: skip
    return content
