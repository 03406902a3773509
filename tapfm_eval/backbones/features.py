"""The store of tile embeddings: one HDF5 file a slide in TRIDENT's layout, with the attention scalars beside it."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.errors import BackboneError, Problem

FORMAT = "tapfm-eval/features/1"


@dataclass(frozen=True, slots=True)
class SlideFeatures:
    """What a frozen backbone says of all tiles of a slide."""

    features: NDArray[np.float32]  # (N, D)
    attention: NDArray[np.float32]  # (N,), raw CLS attention
    coords: NDArray[np.int64]  # (N, 2), x and y of the tile's top left corner, level-0 pixels


def features_path(root: Path, slide_id: str) -> Path:
    """Where the features of a slide lie under a store's folder."""
    return root / f"{slide_id}.h5"


def write_features(path: Path, slide_id: str, card: BackboneCard, content: SlideFeatures) -> None:
    """Writes a store file whole or not at all; the same content gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        with h5py.File(temporary, "w", track_order=True) as file:
            file.attrs["format"] = FORMAT
            for name, array in (("features", content.features), ("coords", content.coords)):
                dataset = file.create_dataset(name, data=array)
                dataset.attrs["name"] = slide_id
            file["features"].attrs["encoder"] = card.name
            file["features"].attrs["embedding"] = card.embedding
            file.create_dataset("attention", data=content.attention)
        with Path(temporary).open("rb") as written:
            os.fsync(written.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_features(path: Path, card: BackboneCard) -> SlideFeatures:
    """The features of one slide.

    Raises:
        BackboneError: The file is missing, torn, or holds another encoder's features.
    """
    try:
        with h5py.File(path, "r") as file:
            encoder = str(file["features"].attrs["encoder"])
            content = SlideFeatures(
                np.asarray(file["features"], dtype=np.float32),
                np.asarray(file["attention"], dtype=np.float32),
                np.asarray(file["coords"], dtype=np.int64),
            )
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:  # h5py raises all of these on torn files
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
