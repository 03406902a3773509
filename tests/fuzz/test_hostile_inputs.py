"""Inputs made to do harm are refused: nothing runs, nothing outside is read, nothing unpacks without bound."""

import io
import resource
import zipfile
from pathlib import Path

import h5py
import pytest
import torch
from readers import READERS, Bomb
from watching import watched

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.backbones.features import read_features
from tapfm_eval.backbones.load import read_checkpoint
from tapfm_eval.errors import BackboneError, InputError, ManifestError, ProtocolError, SlideError
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.slides.tiles import read_tiles

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_pickle_bomb_in_a_checkpoint_does_not_go_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, wrapped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": {"a": Bomb()}} if wrapped else Bomb()
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with watched() as seen, pytest.raises(BackboneError, match="checkpoints that hold code are not read"):
        read_checkpoint(tmp_path / "w.pt")
    assert not seen
    assert not Path("pwned").exists()


def test_a_compressed_checkpoint_is_not_unpacked(tmp_path: Path) -> None:
    """Ten thousand zeros for every byte: torch would unpack them all."""
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(2**20)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in source.infolist():
            bomb.writestr(entry.filename, source.read(entry))
    assert (tmp_path / "w.pt").stat().st_size < 2**15
    with pytest.raises(BackboneError):
        read_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.ones(1, dtype=torch.float16).expand(200_000, 200_000), "40,000,000,000 numbers"),
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
        (torch.empty(2**40, device="meta"), "without numbers"),
    ],
)
def test_tensors_that_are_no_weights_are_named(tmp_path: Path, tensor: torch.Tensor, said: str) -> None:
    torch.save({"block.weight": tensor}, tmp_path / "w.pt")
    with pytest.raises(BackboneError, match=f"block.weight: .*{said}"):
        read_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system"])
def test_a_yaml_tag_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "protocols" / "luad.yaml").read_text(encoding="utf-8")
    assert "seeds: [1]" in text
    (tmp_path / "p.yaml").write_text(text.replace("seeds: [1]", f"seeds: {tag}"), encoding="utf-8")
    with watched() as seen, pytest.raises(ProtocolError, match="tag"):
        read_protocol(tmp_path / "p.yaml", backbones=CARDS)
    assert not seen
    assert not Path("pwned").exists()


def test_a_yaml_of_aliases_upon_aliases_is_refused_at_once(tmp_path: Path) -> None:
    """A billion laughs: nine lines that would grow to gigabytes."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    (tmp_path / "p.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ProtocolError):
        read_protocol(tmp_path / "p.yaml", backbones=CARDS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # kilobytes


@pytest.mark.parametrize("path", ["../../../etc/passwd", "/etc/passwd", "a/../../b.svs"])
def test_a_path_that_climbs_out_of_its_folder_is_refused(tmp_path: Path, path: str) -> None:
    from tapfm_eval.cohort.manifest import read_manifest

    (tmp_path / "m.csv").write_text(f"patient_id,slide_id,path,EGFR\nP1,S1,{path},1\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="row 2, column path"):
        read_manifest(tmp_path / "m.csv", "m")


@pytest.mark.parametrize("slide", ["../S1", "a/b", "..", "/S1"])
def test_an_id_that_would_be_a_path_is_refused(tmp_path: Path, slide: str) -> None:
    from tapfm_eval.cohort.manifest import read_manifest

    (tmp_path / "m.csv").write_text(f"patient_id,slide_id,path,EGFR\nP1,{slide},s.svs,1\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="row 2, column slide_id"):
        read_manifest(tmp_path / "m.csv", "m")


def hdf5_of(reader: str, folder: Path) -> Path:
    """A whole file of a reader, to be spoilt."""
    path = folder / f"x{READERS[reader].suffix}"
    path.write_bytes(READERS[reader].whole(folder)[0])
    return path


def read_spoilt(reader: str, path: Path) -> str:
    with pytest.raises((BackboneError, SlideError)) as error:
        read_features(path, CARDS["uni"]) if reader == "features" else read_tiles(path)
    return str(error.value)


@pytest.mark.parametrize(("reader", "name"), [("features", "features"), ("features", "attention"), ("tiles", "tissue")])
def test_a_zip_bomb_in_hdf5_is_not_unpacked(tmp_path: Path, reader: str, name: str) -> None:
    path = hdf5_of(reader, tmp_path)
    with h5py.File(path, "r+") as file:
        del file[name]
        bomb = file.create_dataset(name, shape=(2**28,), chunks=(2**22,), dtype="f8", compression="gzip")
        bomb[: 2**22] = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "more than a file of" in read_spoilt(reader, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize("reader", ["features", "tiles"])
@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
def test_numbers_outside_the_hdf5_file_are_not_read(tmp_path: Path, reader: str, kind: str) -> None:
    path = hdf5_of(reader, tmp_path)
    with h5py.File(path, "r+") as file:
        del file["coords"]
        if kind == "external link":
            file["coords"] = h5py.ExternalLink("/etc/passwd", "/coords")
        elif kind == "soft link":
            file["coords"] = h5py.SoftLink("/elsewhere")
        elif kind == "external storage":
            file.create_dataset("coords", shape=(5, 2), dtype="u1", external=[("/etc/passwd", 0, 10)])
        else:
            layout = h5py.VirtualLayout(shape=(5, 2), dtype="i8")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(5, 2))
            file.create_virtual_dataset("coords", layout)
    assert "coords" in read_spoilt(reader, path)


def test_every_message_stays_readable_whatever_the_file_holds(tmp_path: Path) -> None:
    """A header of a million characters, with an escape sequence in it, is quoted in part and without effect."""
    (tmp_path / "p.csv").write_text("patient,label\x1b[31m," + "x" * 1_000_000 + "\nP1,1,0.5\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        READERS["scored"].read(tmp_path / "p.csv")
    for problem in error.value.problems:
        assert len(str(problem)) < 3_000
        assert "\x1b" not in str(problem)
