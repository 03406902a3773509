"""Features of other tools are taken where they are what the protocol asks for, and refused with both values else."""

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.backbones.foreign import (
    FeatureFacts,
    ForeignSlide,
    declared_facts,
    encoder_name,
    feature_file,
    read_foreign,
)
from tapfm_eval.errors import BackboneError
from tapfm_eval.slides.hdf5_apart import ENDLESS, HDF5Apart
from tapfm_eval.slides.tiles import TileSpec

UNI, SPEC = CARDS["uni"], TileSpec(mpp=0.5, tile_px=224, min_tissue=0.5)
REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "features" / "TCGA-3X-AAVA-01Z-00-DX1.h5"
VALUES = np.random.default_rng(0).normal(size=(5, 1024)).astype(np.float32)
APART = HDF5Apart()
COORDS = np.array([[0, 0], [448, 0], [0, 448], [896, 448], [448, 896]])


@pytest.fixture(scope="module", autouse=True)
def _child_ended() -> Iterator[None]:
    yield
    APART.close()


def trident(
    path: Path, values: np.ndarray = VALUES, encoder: str | None = "uni_v1", coords: np.ndarray = COORDS, **changes: Any
) -> Path:
    said = {"patch_size": 224, "patch_size_level0": 448, "level0_magnification": 40, "target_magnification": 20,
            "overlap": 0, "name": path.stem, "savetodir": "x"} | changes  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = values, coords
        if encoder is not None:
            file["features"].attrs["encoder"] = encoder
        for name, value in said.items():
            if value is not None:
                file["coords"].attrs[name] = value
    return path


def stamp(path: Path, dataset: str = "feats", **changes: Any) -> Path:
    said = {"stamp_version": "2.3.0", "extractor": "uni", "unit": "um", "tile_size_um": 112.0, "tile_size_px": 224,
            "code_hash": "0", "feat_type": "tile"} | changes  # fmt: skip
    with h5py.File(path, "w") as file:
        file[dataset], file["coords"] = VALUES.astype(np.float16), COORDS / 4.0
        for name, value in said.items():
            file.attrs[name] = value
    return path


def clam(folder: Path, *, h5: bool = True, content: object = None) -> None:
    for name in ("h5_files", "pt_files"):
        (folder / name).mkdir(parents=True)
    torch.save(torch.from_numpy(VALUES) if content is None else content, folder / "pt_files" / "S1.pt")
    if h5:
        with h5py.File(folder / "h5_files" / "S1.h5", "w") as file:
            file["features"], file["coords"] = VALUES, COORDS
            file["coords"].attrs["patch_level"], file["coords"].attrs["patch_size"] = 1, 224


def read(path: Path, declared: FeatureFacts | None = None, backbone: str = "uni") -> ForeignSlide:
    return read_foreign(path, "S1", CARDS[backbone], SPEC, declared or FeatureFacts(), APART)


def refused(path: Path, declared: FeatureFacts | None = None, backbone: str = "uni") -> str:
    with pytest.raises(BackboneError) as error:
        read(path, declared, backbone)
    assert path.stem in str(error.value)
    return str(error.value)


def test_tridents_features_come_back_with_their_positions(tmp_path: Path) -> None:
    slide = read(trident(tmp_path / "S1.h5"))
    assert np.array_equal(slide.features.features, VALUES)
    assert np.array_equal(slide.features.coords, COORDS)
    assert np.array_equal(slide.grid.xy0, COORDS)
    assert np.isnan(slide.features.attention).all()
    assert (slide.grid.slide_id, slide.grid.plan.tile_px0, slide.grid.mpp) == ("S1", 448, 0.25)
    assert (slide.grid.width, slide.grid.height, len(slide.grid)) == (896 + 448, 896 + 448, 5)


def test_the_folder_names_tridents_encoder_where_the_file_does_not(tmp_path: Path) -> None:
    assert len(read(trident(tmp_path / "features_uni_v1" / "S1.h5", encoder=None)).grid) == 5
    assert "gigapath" in refused(trident(tmp_path / "features_gigapath" / "S1.h5", encoder=None))


@pytest.mark.parametrize("dataset", ["feats", "patch_embeddings"])
def test_stamps_micrometres_become_pixels_of_the_protocols_scale(tmp_path: Path, dataset: str) -> None:
    slide = read(stamp(tmp_path / "S1.h5", dataset))
    assert np.array_equal(slide.grid.xy0, COORDS // 2)  # 112 um are 224 px
    assert (slide.grid.mpp, slide.grid.plan.tile_px0) == (0.5, 224)
    assert np.array_equal(slide.features.features, VALUES.astype(np.float16).astype(np.float32))


def test_clams_features_are_taken_once_a_file_beside_them_says_what_they_are(tmp_path: Path) -> None:
    clam(tmp_path)
    text = refused(tmp_path / "h5_files" / "S1.h5")
    assert "encoder" in text
    assert "mpp" in text
    assert "features.json" in text
    (tmp_path / "features.json").write_text(json.dumps({"encoder": "uni_v1", "tile_px": 224, "mpp": 0.5}))
    declared = declared_facts(tmp_path)
    for path in (tmp_path / "h5_files" / "S1.h5", tmp_path / "pt_files" / "S1.pt"):
        assert np.array_equal(read(path, declared).features.features, VALUES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch_size": 256}, ["tile_px", "expected 224", "got 256"]),
        ({"target_magnification": 10}, ["mpp", "expected 0.5", "got 1"]),
        ({"encoder": "hoptimus0"}, ["encoder", "expected uni ", "got h-optimus-0"]),
        ({"encoder": "resnet50-trunc"}, ["expected uni ", "got resnet50-trunc"]),
        ({"overlap": 32}, ["overlap", "expected 0", "got 32"]),
        ({"patch_size": 512, "target_magnification": 40}, ["tile_px", "got 512", "mpp", "got 0.25"]),
        ({"values": VALUES[:, :512]}, ["(N, 1024)", "(5, 512)"]),
        ({"values": VALUES[:3]}, ["each of 3 tiles", "(5, 2)"]),
        ({"values": np.full_like(VALUES, np.nan)}, ["finite"]),
        ({"target_magnification": None}, ["mpp", "not said"]),
        ({"patch_size_level0": 0}, ["patch_size_level0 is 0"]),
        ({"patch_size_level0": -5}, ["patch_size_level0 is -5"]),
        ({"patch_size_level0": float("inf")}, ["patch_size_level0 is inf"]),
        ({"patch_size_level0": 447.5}, ["patch_size_level0 is 447.5"]),
        ({"patch_size": 2**62}, ["patch_size is 4.6"]),
        ({"overlap": float("inf")}, ["overlap is inf"]),
        ({"overlap": -1}, ["overlap is -1"]),
        ({"target_magnification": 0}, ["target_magnification is 0"]),
        ({"target_magnification": "20x"}, ["target_magnification is '20x'"]),
        ({"target_magnification": [20, 40]}, ["target_magnification holds 2 values"]),
        ({"coords": COORDS + 1e300}, ["positions", "1e+300"]),
        ({"coords": COORDS + 2**62}, ["positions"]),
        ({"values": VALUES.astype(np.float64) * 1e300}, ["finite features"]),
        ({"coords": COORDS - 1}, ["positions", "-1"]),
        ({"coords": np.full((5, 2), np.nan)}, ["positions", "nan"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_features_that_are_not_the_protocols_are_refused_with_both_values(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    text = refused(trident(tmp_path / "S1.h5", **changes))
    for word in words:
        assert word in text


def test_stamps_scale_and_encoder_are_checked_too(tmp_path: Path) -> None:
    text = refused(stamp(tmp_path / "S1.h5", tile_size_um=256.0, extractor="virchow2"))
    assert "expected 0.5 (protocol), got 1.143" in text
    assert "expected uni (protocol), got virchow2" in text


def test_a_declaration_fills_gaps_and_overrules_no_file(tmp_path: Path) -> None:
    path = trident(tmp_path / "S1.h5")
    assert "as S1.h5 says" in refused(path, FeatureFacts(encoder="gigapath"))
    assert "256" in refused(trident(tmp_path / "S1.h5", patch_size=256), FeatureFacts(tile_px=224))


@pytest.mark.parametrize(
    "content",
    [
        "9" * 5_000,
        "[" * 100_000,
        "[1]",
        "{",
        '{"encoder": 3}',
        '{"mpp": "0.5"}',
        '{"tile": 224}',
        '{"tile_px": true}',
        "\xff",
    ],
)
def test_a_declaration_that_is_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "features.json").write_text(content, encoding="latin-1")
    with pytest.raises(BackboneError, match=r"features\.json"):
        declared_facts(tmp_path)
    (tmp_path / "features.json").unlink()
    assert declared_facts(tmp_path) == FeatureFacts()


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize(
    "content",
    [_Bomb(), {"a": 1}, [torch.zeros(3)], torch.zeros(5, 1024, dtype=torch.complex64), torch.zeros(5, 1024).to_sparse(),
     torch.ones(1, dtype=torch.float16).expand(200_000, 200_000), torch.empty(5, 1024, device="meta")],
    ids=["code", "dictionary", "list", "complex", "sparse", "bomb", "meta"],
)  # fmt: skip
def test_a_pt_file_is_a_tensor_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object) -> None:
    monkeypatch.chdir(tmp_path)
    clam(tmp_path, content=content)
    refused(tmp_path / "pt_files" / "S1.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_pt_file_without_positions_is_refused(tmp_path: Path) -> None:
    clam(tmp_path, h5=False)
    assert "no positions" in refused(tmp_path / "pt_files" / "S1.pt")


def test_a_compressed_pt_file_is_not_unpacked(tmp_path: Path) -> None:
    clam(tmp_path, content=torch.zeros(5, 1024))
    path = tmp_path / "pt_files" / "S1.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in source.infolist():
            bomb.writestr(entry.filename, source.read(entry))
    (tmp_path / "b.pt").replace(path)
    assert "not a tensor alone" in refused(path)


@pytest.mark.timeout(120)
def test_a_file_on_which_the_library_hangs_is_refused_and_the_next_one_is_read(tmp_path: Path) -> None:
    """One byte of the heap that holds text of variable length: h5py never comes back from reading the attribute."""
    path = trident(tmp_path / "S1.h5")
    content = bytearray(path.read_bytes())
    content[content.index(b"GCOL") + 24] = 0
    path.write_bytes(content)
    assert ENDLESS in refused(path)
    assert len(read(trident(tmp_path / "S2.h5")).grid) == 5


def test_a_crash_of_the_reading_process_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HDF5Apart() as apart:
        child = apart._started()
        child.kill()
        child.wait()
        with pytest.raises(BackboneError, match="crashed the HDF5 library"):
            read_foreign(trident(tmp_path / "S1.h5"), "S1", UNI, SPEC, FeatureFacts(), apart)
        assert len(read_foreign(tmp_path / "S1.h5", "S1", UNI, SPEC, FeatureFacts(), apart).grid) == 5


def test_a_link_into_another_file_is_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = VALUES
    path = trident(tmp_path / "S1.h5")
    with h5py.File(path, "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "x")
    refused(path)


def test_torn_files_are_refused(tmp_path: Path) -> None:
    path = trident(tmp_path / "S1.h5")
    whole = path.read_bytes()
    for size in np.random.default_rng(0).integers(0, len(whole) - 1, 40).tolist():
        path.write_bytes(whole[:size])
        refused(path)


def test_a_slides_file_is_found_under_any_of_its_names_and_layouts(tmp_path: Path) -> None:
    assert feature_file(tmp_path, ("S1",)) is None
    clam(tmp_path)
    assert feature_file(tmp_path, ("S1",)) == tmp_path / "h5_files" / "S1.h5"
    shutil.rmtree(tmp_path / "h5_files")
    assert feature_file(tmp_path, ("other", "S1")) == tmp_path / "pt_files" / "S1.pt"
    assert feature_file(tmp_path, ("S1",)) == tmp_path / "pt_files" / "S1.pt"
    assert feature_file(tmp_path, ("other", "S1")) != trident(tmp_path / "other.h5")
    assert feature_file(tmp_path, ("other", "S1")) == tmp_path / "other.h5"


def test_a_real_file_of_another_layout_is_refused_with_what_it_holds() -> None:
    if not REAL.is_file():
        pytest.skip("no shared data beside the repository")
    text = refused(REAL.resolve())
    assert "features, metadata" in text
    assert "coords" in text


@pytest.mark.parametrize(
    ("said", "card"),
    [
        ("uni_v1", "uni"), ("mahmood-uni2", "uni2-h"), ("kaiko-vitb8", "kaiko-b8"), ("kaiko-vitl14", "kaiko-l14"),
        ("hoptimus0", "h-optimus-0"), ("resnet50", "resnet50"), *((card.hub_id, name) for name, card in CARDS.items()),
    ],
)  # fmt: skip
def test_another_tools_name_of_an_encoder_and_its_hub_id_mean_the_card(said: str, card: str) -> None:
    assert encoder_name(said) == card
