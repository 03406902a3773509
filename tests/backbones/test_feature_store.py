"""Stored embeddings come back to the bit, and a file that is torn or another encoder's is refused."""

import time
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from tapfm_eval.backbones.cards import CARDS, stand_in
from tapfm_eval.backbones.features import SlideFeatures, features_path, read_features, write_features
from tapfm_eval.backbones.foreign import FeatureFacts, read_foreign
from tapfm_eval.errors import BackboneError
from tapfm_eval.slides.hdf5 import create_checksummed, write_attributes
from tapfm_eval.slides.reader import TilePlan
from tapfm_eval.slides.tiles import TileGrid, TileSpec

CARD = stand_in(CARDS["uni"])


def content(count: int = 5, seed: int = 0) -> SlideFeatures:
    rng = np.random.default_rng(seed)
    return SlideFeatures(
        rng.standard_normal((count, CARD.dim)).astype(np.float32),
        (1 / 196 + 1e-6 * rng.standard_normal(count)).astype(np.float32),
        rng.integers(0, 100_000, (count, 2)),
    )


def stored(folder: Path, what: SlideFeatures | None = None) -> Path:
    path = features_path(folder, "TCGA-05")
    write_features(path, "TCGA-05", CARD, what or content())
    return path


def test_what_is_written_comes_back_to_the_bit(tmp_path: Path) -> None:
    before = content(7)
    after = read_features(stored(tmp_path, before), CARD)
    for name in SlideFeatures.__slots__:
        assert getattr(after, name).dtype == getattr(before, name).dtype
        assert np.array_equal(getattr(after, name), getattr(before, name))


def test_same_content_same_bytes(tmp_path: Path) -> None:
    first = stored(tmp_path / "a").read_bytes()
    time.sleep(1.1)  # HDF5 keeps times in whole seconds
    assert stored(tmp_path / "b").read_bytes() == first


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    path = stored(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_reads_as_tridents(tmp_path: Path) -> None:
    """TRIDENT keeps `features` (N, D) and `coords` (N, 2) with the slide's name beside them."""
    with h5py.File(stored(tmp_path), "r") as file:
        assert file["features"].shape == (5, CARD.dim)
        assert file["coords"].shape == (5, 2)
        assert file["features"].attrs["name"] == "TCGA-05"
        assert file["features"].attrs["encoder"] == "uni"


def test_a_store_with_its_tiles_is_read_as_features_of_another_tool(tmp_path: Path) -> None:
    """What one run has embedded, `run --features` reads in another: tile size, scale and encoder are in the file."""
    spec = TileSpec(mpp=0.5, tile_px=224, min_tissue=0.5)
    what = content()
    grid = TileGrid(
        slide_id="TCGA-05", fingerprint="f", width=9000, height=9000, mpp=0.25, mpp_source="slide", objective=40.0,
        spec=spec, plan=TilePlan(0, 448, 448, 224), xy0=what.coords, tissue=np.ones(5, np.float32), positions=5,
        thumbnail_tissue=1.0,
    )  # fmt: skip
    path = features_path(tmp_path, "TCGA-05")
    write_features(path, "TCGA-05", CARD, what, grid)
    assert np.array_equal(read_features(path, CARD).features, what.features)
    found = read_foreign(path, "TCGA-05", CARD, spec, FeatureFacts())
    assert np.array_equal(found.features.features, what.features)
    assert np.array_equal(found.grid.xy0, what.coords)
    assert (found.grid.plan.tile_px0, found.grid.mpp) == (448, 0.25)
    with pytest.raises(BackboneError, match="expected 256"):
        read_foreign(path, "TCGA-05", CARD, TileSpec(mpp=0.5, tile_px=256, min_tissue=0.5), FeatureFacts())


def test_another_encoders_features_are_refused(tmp_path: Path) -> None:
    path = stored(tmp_path)
    with pytest.raises(BackboneError, match="features of gigapath"):
        read_features(path, stand_in(CARDS["gigapath"]))
    with pytest.raises(BackboneError, match="1024"):
        read_features(path, CARDS["uni"])


def test_a_torn_file_is_refused_or_whole(tmp_path: Path) -> None:
    path, before = stored(tmp_path), content()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for size in [0, 1, 100, *rng.integers(0, len(whole), 40).tolist()]:
        path.write_bytes(whole[:size])
        with pytest.raises(BackboneError, match="computed anew"):
            read_features(path, CARD)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, 2500, 8):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            assert read_features(path, CARD).features.shape == before.features.shape
        except BackboneError:
            continue


@pytest.mark.parametrize(
    "fault", ["absent", "folder", "no attention", "text", "coords of other tiles", "short attention"]
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "x.h5"
    if fault == "folder":
        path.mkdir()
    elif fault != "absent":
        with create_checksummed(path) as file:
            write_attributes(file, {"encoder": CARD.name})
            file["features"] = np.array([b"a", b"b"]) if fault == "text" else np.zeros((2, CARD.dim))
            file["coords"] = np.zeros((3 if fault.startswith("coords") else 2, 2), dtype=np.int64)
            if fault != "no attention":
                file["attention"] = np.zeros(1 if fault == "short attention" else 2)
    with pytest.raises(BackboneError) as error:
        read_features(path, CARD)
    assert "x.h5" in str(error.value)


@pytest.mark.timeout(60)
def test_damage_outside_the_numbers_is_told_by_its_checksum_and_hangs_nothing(tmp_path: Path) -> None:
    """Bytes shifted by 512 in the heap of texts sent the HDF5 library round in circles for ever."""
    path = stored(tmp_path)
    whole = path.read_bytes()
    for at in (9, 48, 100, 200):
        path.write_bytes(whole[:at] + whole[at : at + 512] + whole[at:])
        with pytest.raises(BackboneError):
            read_features(path, CARD)
    for at in range(1_000, len(whole), 560):
        path.write_bytes(whole[:at] + whole[at : at + 512] + whole[at:])
        with suppress(BackboneError):  # numbers that moved are numbers still
            read_features(path, CARD)


def test_a_file_of_the_layout_without_checksums_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path)
    with h5py.File(path, "r") as whole, h5py.File(tmp_path / "old.h5", "w", libver=("earliest", "v108")) as old:
        for name in whole:
            whole.copy(name, old)
    with pytest.raises(BackboneError, match="without checksums"):
        read_features(tmp_path / "old.h5", CARD)
