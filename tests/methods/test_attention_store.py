"""The attention that a heatmap is drawn from comes back to the bit; a torn or other file is refused."""

import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tapfm_eval.errors import RunError
from tapfm_eval.methods.attention_store import TileAttention, attention_path, read_attention, write_attention


def content(tiles: int = 6) -> TileAttention:
    rng = np.random.default_rng(1)
    weights = rng.random(tiles).astype(np.float32)
    return TileAttention(
        "S1", rng.integers(0, 9999, (tiles, 2)), 448, (1 / 196 + 1e-6 * rng.random(tiles)).astype(np.float32),
        weights / weights.sum(),
    )  # fmt: skip


def test_it_comes_back_to_the_bit_and_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    before, path = content(), attention_path(tmp_path, "dev", "S1")
    write_attention(path, before)
    first = path.read_bytes()
    after = read_attention(path)
    assert (after.slide_id, after.tile_px0) == ("S1", 448)
    for name in ("coords", "attention", "weights"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    time.sleep(1.1)  # HDF5 keeps times in whole seconds
    write_attention(path, before)
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fault", ["absent", "torn", "another format", "lengths", "features"])
def test_what_is_no_attention_is_refused(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "S1.h5"
    if fault == "lengths":
        write_attention(path, replace(content(), weights=np.ones(5, np.float32)))
    elif fault != "absent":
        write_attention(path, content())
    if fault == "torn":
        path.write_bytes(path.read_bytes()[:200])
    elif fault == "another format":
        with h5py.File(path, "r+") as file:
            file.attrs["format"] = np.bytes_(b"tapfm-eval/attention/99")
    elif fault == "features":
        with h5py.File(path, "w") as file:
            file["features"] = np.zeros((3, 4))
    with pytest.raises(RunError, match=r"S1\.h5"):
        read_attention(path)
