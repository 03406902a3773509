"""The store of tile embeddings: one HDF5 file a slide in TRIDENT's layout, with the attention scalars beside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.errors import BackboneError, Problem
from tapfm_eval.rundir import write_whole
from tapfm_eval.slides.hdf5 import create_checksummed, open_checksummed, read_array, read_attributes, write_attributes
from tapfm_eval.slides.tiles import TileGrid, trident_attributes

FORMAT = "tapfm-eval/features/1"
# h5py raises most of these on torn files; numbers beyond float32 raise the last
_READ_ERRORS = (OSError, KeyError, TypeError, ValueError, RuntimeError, MemoryError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class SlideFeatures:
    """What a frozen backbone says of all tiles of a slide."""

    features: NDArray[np.float32]  # (N, D)
    attention: NDArray[np.float32]  # (N,), raw CLS attention
    coords: NDArray[np.int64]  # (N, 2), x and y of the tile's top left corner, level-0 pixels


def features_path(root: Path, slide_id: str) -> Path:
    """Where the features of a slide lie under a store's folder."""
    return root / f"{slide_id}.h5"


def write_features(
    path: Path, slide_id: str, card: BackboneCard, content: SlideFeatures, grid: TileGrid | None = None
) -> None:
    """Writes a store file whole or not at all; the same content gives the same bytes.

    Args:
        path: The file.
        slide_id: The slide that the features are of.
        card: The backbone.
        content: What it says.
        grid: The slide's tiles; their size and scale go beside the positions, as TRIDENT keeps them, so that other
            tools and `run --features` know what they read.

    Raises:
        RunError: The disk is full, or the folder cannot be written.
    """

    def write(temporary: Path) -> None:
        with create_checksummed(temporary, track_order=True) as file:
            write_attributes(file, {"format": FORMAT, "encoder": card.name})
            for name, array in (("features", content.features), ("coords", content.coords)):
                dataset = file.create_dataset(name, data=array)
                dataset.attrs["name"] = slide_id
            for name, value in ({} if grid is None else trident_attributes(grid, path)).items():
                file["coords"].attrs[name] = value
            file["features"].attrs["encoder"] = card.name
            file["features"].attrs["embedding"] = card.embedding
            file.create_dataset("attention", data=content.attention)

    write_whole(path, write)


def read_features(path: Path, card: BackboneCard) -> SlideFeatures:
    """The features of one slide.

    Raises:
        BackboneError: The file is missing, torn, or holds another encoder's features.
    """
    try:
        with open_checksummed(path) as file:
            features, attention, coords = (read_array(file, name) for name in ("features", "attention", "coords"))
            if coords.dtype.kind not in "iu":
                raise ValueError("coords are no whole numbers")
            encoder = str(read_attributes(file)["encoder"])
        with np.errstate(over="raise"):
            content = SlideFeatures(
                features.astype(np.float32, copy=False),
                attention.astype(np.float32, copy=False),
                coords.astype(np.int64, copy=False),
            )
    except _READ_ERRORS as error:
        raise BackboneError(
            Problem(str(path), "tile features written by this suite", str(error).partition("\n")[0][:120],
                    "Delete the file; it is computed anew.")
        ) from None  # fmt: skip
    shape = content.features.shape
    beside = content.attention.shape == shape[:1] and content.coords.shape == (*shape[:1], 2)
    if encoder != card.name or len(shape) != 2 or shape[1] != card.dim or not beside:
        raise BackboneError(
            Problem(str(path), f"features of {card.name} (N, {card.dim})", f"{encoder} {shape}",
                    "Delete the file; it is computed anew.")
        )  # fmt: skip
    return content
