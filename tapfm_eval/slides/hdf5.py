"""Arrays out of HDF5 files that anybody may have written: plain numbers in the file itself, of a size it can hold."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

_EXPANSION = 100  # how far compression may shrink an array; a file that claims more is no measurement
_ALLOWANCE = 2**20  # bytes; small arrays of one repeated value shrink further


def read_array(file: h5py.File, name: str) -> NDArray[np.generic]:
    """The numbers of one dataset, read only after its size was checked.

    Args:
        file: An open file.
        name: The dataset's name.

    Raises:
        KeyError: There is no such dataset.
        ValueError: It is no plain array of numbers in this file, or declares more numbers than the file can hold.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is missing, or a link to another place")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None or dataset.dtype.kind not in "iuf":
        raise ValueError(f"{name} is no array of numbers")
    if dataset.is_virtual or dataset.external is not None:
        raise ValueError(f"the numbers of {name} lie in another file")
    size = Path(file.filename).stat().st_size
    if dataset.size * dataset.dtype.itemsize > _EXPANSION * size + _ALLOWANCE:
        shape = " x ".join(map(str, dataset.shape))
        raise ValueError(f"{name} declares {shape} numbers, more than a file of {size} bytes holds")
    return np.asarray(dataset[()])
