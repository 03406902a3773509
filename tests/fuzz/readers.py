"""The readers of files that others wrote: for each a few whole files, how one goes wrong, and what reading it means."""

import atexit
import csv
import io
import json
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import h5py
import numpy as np
import torch
from mutations import Mutate, mutate_bytes, mutate_foreign_hdf5, mutate_hdf5, mutate_table, mutate_yaml
from PIL import Image
from safetensors.torch import save

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.backbones.features import SlideFeatures, read_features, write_features
from tapfm_eval.backbones.foreign import FeatureFacts, read_foreign
from tapfm_eval.backbones.load import read_checkpoint
from tapfm_eval.cohort import imports
from tapfm_eval.cohort.labels import patient_labels
from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.cohort.splits import read_split
from tapfm_eval.errors import (
    BackboneError,
    InputError,
    ManifestError,
    PredictionsError,
    Problem,
    ProtocolError,
    RunError,
    SlideError,
)
from tapfm_eval.methods.checkpoint import Best, Checkpoints, Saved
from tapfm_eval.predictions.imports import ImportOptions, import_predictions
from tapfm_eval.predictions.table import predictions_csv, predictions_frame, read_predictions
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.report.pictures import (
    FOLDER,
    LIST,
    CasePictures,
    Picture,
    picture,
    picture_files,
    pictures_json,
    read_pictures,
)
from tapfm_eval.slides.hdf5_apart import HDF5Apart
from tapfm_eval.slides.reader import TilePlan
from tapfm_eval.slides.regions import read_regions
from tapfm_eval.slides.tiles import TileGrid, TileSpec, read_tiles, write_tiles

ROOT = Path(__file__).resolve().parents[2]
TRIED = "TCGA-05-4244-x"  # name of the file that is tried, without its ending
TISSUE = "EGFR-true-positive-tissue.jpg"


@dataclass(frozen=True)
class Reader:
    """A reader to be tried."""

    suffix: str
    raises: type[InputError]
    whole: Callable[[Path], list[bytes]]  # files that are read without an error; the folder is for making them
    mutate: Mutate
    read: Callable[[Path], int | None]  # the number of rows that came out; None where rows mean nothing
    rows: Callable[[bytes], int] | None = None  # the number of rows that are in a file
    may: tuple[str, ...] = ()  # audit events that are part of reading


def rows_below(header_lines: int, separator: str = ",") -> Callable[[bytes], int]:
    """How many rows a plain CSV reader sees below the first `header_lines` lines."""

    def count(data: bytes) -> int:
        lines = io.StringIO(data.decode("utf-8-sig"), newline="").readlines()[header_lines - 1 :]
        return sum(1 for cells in csv.reader(lines, delimiter=separator) if cells) - 1

    return count


def _manifests(_: Path) -> list[bytes]:
    """The first rows of each shipped manifest."""
    files = sorted((ROOT / "cohorts").glob("*/manifest.csv"))
    assert len(files) == 3
    return [b"\n".join(file.read_bytes().splitlines()[:25]) + b"\n" for file in files]


def _read_manifest(path: Path) -> int:
    manifest = read_manifest(path, "m")
    for target in ("EGFR", "TP53"):
        if target in manifest.table:
            patient_labels(manifest, {target: target})
    return len(manifest.table)


def _splits(folder: Path) -> list[bytes]:
    """The first fold of the shipped split, with a manifest of its patients beside it."""
    head, columns, *rows = (ROOT / "cohorts" / "tcga-luad" / "split-1.csv").read_text(encoding="utf-8").splitlines()
    rows = [row for row in rows if ",0," in row][::8]
    listed = "patient_id,slide_id\n" + "".join(f"{row.split(',')[0]},{row.split(',')[0]}-s\n" for row in rows)
    (folder / "cohort.csv").write_text(listed, encoding="utf-8")
    manifest = read_manifest(folder / "cohort.csv", "m")
    mark, name, meta = head.split(" ", 2)
    meta = json.dumps({**json.loads(meta), "manifest_sha256": manifest.sha256})
    return ["\n".join([f"{mark} {name} {meta}", columns, *rows, ""]).encode()]


def _read_split(path: Path) -> int:
    return len(read_split(path, read_manifest(path.parent / "cohort.csv", "m")).table)


def _protocols(_: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((ROOT / "protocols").glob("*.yaml"))]


def _read_protocol(path: Path) -> None:
    read_protocol(path, backbones=CARDS, findings=("slide-twice",))


def _predictions(_: Path) -> list[bytes]:
    rng = np.random.default_rng(1)
    rows = [
        ("arm-a", 1, fold, "c", "test", f"P{i}", f"P{i}_1", target, float(i % 2), float(rng.random()))
        for fold in range(2)
        for i in range(6)
        for target in ("EGFR", "KRAS")
    ]
    return [predictions_csv(predictions_frame(rows)).encode()]


def _scored(_: Path) -> list[bytes]:
    """Predictions as CLAM, STAMP and anybody else write them."""
    clam = ["slide_id,Y,Y_hat,p_0,p_1"] + [f"TCGA-05-42{i}0-x,{i % 2},0,{1 - i / 10},{i / 10}" for i in range(1, 9)]
    stamp = ["PATIENT,EGFR,pred,EGFR_0,EGFR_1,loss"] + [f"P{i},{i % 2},0,{1 - i / 10},{i / 10},1" for i in range(1, 9)]
    plain = ["patient,label,score"] + [f"P{i},{i % 2},{i / 10}" for i in range(1, 9)]
    return [("\n".join(lines) + "\n").encode() for lines in (clam, stamp, plain)]


def _read_scored(path: Path) -> int:
    return len(import_predictions(path, ImportOptions(target="EGFR")).rows)


def _features(folder: Path) -> list[bytes]:
    card, rng = CARDS["uni"], np.random.default_rng(1)
    content = SlideFeatures(
        rng.normal(size=(5, card.dim)).astype(np.float32),
        rng.random(5).astype(np.float32),
        np.arange(10, dtype=np.int64).reshape(5, 2),
    )
    write_features(folder / "s.h5", "s", card, content)
    return [(folder / "s.h5").read_bytes()]


def _read_features(path: Path) -> None:
    read_features(path, CARDS["uni"])


APART = HDF5Apart()
atexit.register(APART.close)
SPEC = TileSpec(0.5, 224, 0.5)
VALUES = np.random.default_rng(2).normal(size=(5, CARDS["uni"].dim)).astype(np.float32)
COORDS = np.arange(10).reshape(5, 2) * 448


def _trident(folder: Path) -> list[bytes]:
    with h5py.File(folder / "t.h5", "w") as file:
        file["features"], file["coords"] = VALUES, COORDS
        file["features"].attrs["encoder"], file["features"].attrs["name"] = "uni_v1", "S1"
        file["coords"].attrs.update({"patch_size": 224, "patch_size_level0": 448, "level0_magnification": 40,
                                     "target_magnification": 20, "overlap": 0, "savetodir": "x"})  # fmt: skip
    return [(folder / "t.h5").read_bytes()]


def _stamp_features(folder: Path) -> list[bytes]:
    with h5py.File(folder / "s.h5", "w") as file:
        file["feats"], file["coords"] = VALUES.astype(np.float16), COORDS / 4.0
        file.attrs.update({"stamp_version": "2.3.0", "extractor": "uni", "unit": "um", "tile_size_um": 112.0,
                           "tile_size_px": 224})  # fmt: skip
    return [(folder / "s.h5").read_bytes()]


def _clam_pt(folder: Path) -> list[bytes]:
    (folder.parent / "h5_files").mkdir(exist_ok=True)
    with h5py.File(folder.parent / "h5_files" / f"{TRIED}.h5", "w") as file:
        file["features"], file["coords"] = VALUES, COORDS
    buffer = io.BytesIO()
    torch.save(torch.from_numpy(VALUES), buffer)
    return [buffer.getvalue()]


def _read_foreign(path: Path) -> None:
    read_foreign(path, "S1", CARDS["uni"], SPEC, FeatureFacts("uni", 224, 0.5, 0), APART)


def _tiles(folder: Path) -> list[bytes]:
    grid = TileGrid(
        "s", "f", 2000, 3000, 0.5, "slide", 20.0, TileSpec(0.5, 224, 0.5, ("Tumor",)), TilePlan(0, 224, 224, 224),
        np.arange(12, dtype=np.int64).reshape(6, 2), np.full(6, 0.7, np.float32), 100, 0.3, "0" * 64,
    )  # fmt: skip
    write_tiles(grid, folder / "t.h5")
    return [(folder / "t.h5").read_bytes()]


def _read_tiles(path: Path) -> None:
    read_tiles(path)


def _state() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(4, dtype=torch.float16)}


def _pickled(_: Path) -> list[bytes]:
    files = []
    for content, zipped in ((_state(), True), ({"state_dict": _state(), "epoch": 3}, True), (_state(), False)):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        files.append(buffer.getvalue())
    return files


def _mutate_pickled(data: bytes, random: Random) -> bytes:
    """Bytes, or another object: code to be run, numbers that are none, tensors larger than their file."""
    if random.random() < 0.6:
        return mutate_bytes(data, random)
    one = torch.ones(1, dtype=torch.float16)
    content = random.choice([
        [], 3, "x", None, {}, {"a": 1}, {1: torch.zeros(2)}, {"a": [torch.zeros(2)]}, {"state_dict": 3},
        {"state_dict": {"a": "b"}}, {"model": {(1, 2): torch.zeros(1)}}, {"a": one.expand(200_000, 200_000)},
        {"a": torch.zeros(2).to_sparse()}, {"a": _quantized()},
        {"a": torch.zeros(2, dtype=torch.complex64)}, {"a": torch.zeros(2, dtype=torch.bool)},
        {"a": torch.empty(2**40, device="meta")}, {"head.x": torch.zeros(1)}, Bomb(), {"a": Bomb()},
    ])  # fmt: skip
    buffer = io.BytesIO()
    if random.random() < 0.2:
        return pickle.dumps(content) if not _holds_tensor(content) else data
    torch.save(content, buffer, _use_new_zipfile_serialization=random.random() < 0.7)
    return buffer.getvalue()


def _quantized() -> torch.Tensor:
    """A kind of tensor that old checkpoints hold; torch warns of making new ones, once a process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


def _holds_tensor(content: object) -> bool:
    return isinstance(content, dict) and bool(content) and not isinstance(content.get("a"), Bomb | int)


class Bomb:
    """Unpickled, it would make a file named `pwned` in the working folder."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        import os

        return os.system, ("touch pwned",)


def _read_checkpoint(path: Path) -> None:
    state = read_checkpoint(path)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())


def _resumed(folder: Path) -> list[bytes]:
    """The record of a training's checkpoint, with its tensors kept beside."""
    saved = Saved(_state(), Best(1, {"c": torch.ones(2)}), {"epoch": 2, "losses": [0.5, 0.25], "best": None})
    Checkpoints(folder / "written", "key").write(saved)
    (folder / "resumed").mkdir()
    return [(folder / "written" / "checkpoint-1.json").read_bytes()]


def _read_resumed(path: Path) -> None:
    """What a training goes on from; a damaged record is said and passed over, which stands for an error here."""
    written, kept = path.parent / "written", path.parent / "resumed"
    for name in ("checkpoint-1.safetensors", "best-1.safetensors"):
        (kept / name).unlink(missing_ok=True)
        (kept / name).hardlink_to(written / name)
    (kept / "checkpoint-1.json").unlink(missing_ok=True)
    (kept / "checkpoint-1.json").hardlink_to(path)
    said: list[str] = []
    Checkpoints(kept, "key", say=said.append).newest(lambda saved: saved)
    if said:
        raise RunError(Problem(str(path), "a checkpoint", said[0], ""))


def _regions(_: Path) -> list[bytes]:
    ring = [[0, 0], [100, 0], [100.5, 80], [0, 90], [0, 0]]
    hole = [[10, 10], [20, 10], [20, 20], [10, 10]]
    features = [
        {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates},
         "properties": {"objectType": "annotation", "classification": {"name": "Tumor", "color": [1, 2, 3]}}}
        for kind, coordinates in (("Polygon", [ring, hole]), ("MultiPolygon", [[ring], [hole]]))
    ]  # fmt: skip
    return [json.dumps({"type": "FeatureCollection", "features": features}, indent=1).encode()]


def _read_regions(path: Path) -> None:
    read_regions(path, ())


def _jpeg(edge: int) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(edge * edge * 3, dtype=np.uint8).reshape(edge, edge, 3)).save(buffer, "JPEG")
    return picture(buffer.getvalue())


def _pictures(root: Path, tried: str) -> CasePictures:
    """A case whose pictures lie in the folder of a run; the file that is tried stands in for one of them."""
    whole, tile = _jpeg(64), _jpeg(16)
    case = CasePictures(
        "EGFR", "true positive", "c", "P1", "S1", 2, 9, 3, 112.0, (9.5, 12.0), whole, whole, (tile, tile), (tile,)
    )
    (root / FOLDER).mkdir()
    files = {LIST: pictures_json([case]).encode()} | {name: file.data for name, file in picture_files(case).items()}
    for name, data in files.items():
        if name == tried:
            (root / FOLDER / name).symlink_to(root / f"{TRIED}{Path(name).suffix}")
        else:
            (root / FOLDER / name).write_bytes(data)
    return case


def _read_pictures(path: Path) -> None:
    read_pictures(path.parent)


def _foreign(tool: str) -> Callable[[Path], list[bytes]]:
    tables = {
        "clam": "case_id,slide_id,label\nB,b1,0\nA,a2,1\nC,c1,1\nA,a1,1\n",
        "patho-bench": "case_id\tslide_id\tEGFR\tfold_0\n"
        "A\ta2\t1\ttrain\nC\tc1\t1\ttest\nA\ta1\t1\ttrain\nB\tb1\t0\tval\n",
        "eagle": "slide,path,split,EGFR\n" + "".join(f"TCGA-05-424{i}-x,/d/{i}.svs,train,1\n" for i in range(5)),
        "tapfm": "slide_id,slide,set,EGFR\n" + "".join(f"{i},TCGA-05-424{i}-x,test,0\n" for i in range(5)),
        "nnmil": "slide_id,patient_id,split,label\nb,B,val,0\na2,A,train,1\nc,C,test,0\na1,A,train,1\n",
        "slideflow": "slide,patient,site,EGFR\na2,A,s,1\nb1,B,s,0\nc1,C,t,1\na1,A,s,1\n",
    }
    return lambda _: [tables[tool].encode()]


def _stamp(folder: Path) -> list[bytes]:
    (folder / "clinical.csv").write_text("PATIENT,EGFR\nA,1\nB,0\n", encoding="utf-8")
    (folder / "slides.csv").write_text("PATIENT,FILENAME\nA,a.svs\nB,b.svs\n", encoding="utf-8")
    return [json.dumps({"splits": [{"train_patients": ["A"], "test_patients": ["B"]}]}, indent=1).encode()]


def _read_stamp(path: Path) -> None:
    imports.import_stamp(path.parent / "clinical.csv", path.parent / "slides.csv", path)


READERS: dict[str, Reader] = {
    "manifest": Reader(".csv", ManifestError, _manifests, mutate_table, _read_manifest, rows_below(1)),
    "split": Reader(".csv", InputError, _splits, mutate_table, _read_split, rows_below(2)),
    "protocol": Reader(".yaml", ProtocolError, _protocols, mutate_yaml, _read_protocol),
    "predictions": Reader(
        ".csv", PredictionsError, _predictions, mutate_table, lambda path: len(read_predictions(path)), rows_below(2)
    ),
    "scored": Reader(".csv", PredictionsError, _scored, mutate_table, _read_scored, None),
    "features": Reader(".h5", BackboneError, _features, mutate_hdf5, _read_features),
    "trident": Reader(
        ".h5", BackboneError, _trident, mutate_foreign_hdf5, _read_foreign, may=("subprocess.Popen",)
    ),
    "stamp features": Reader(
        ".h5", BackboneError, _stamp_features, mutate_foreign_hdf5, _read_foreign, may=("subprocess.Popen",)
    ),
    "clam pt": Reader(
        ".pt", BackboneError, _clam_pt, _mutate_pickled, _read_foreign, may=("subprocess.Popen",)
    ),
    "tiles": Reader(".h5", SlideError, _tiles, mutate_hdf5, _read_tiles),
    "checkpoint": Reader(".pt", BackboneError, _pickled, _mutate_pickled, _read_checkpoint),
    "safetensors": Reader(".safetensors", BackboneError, lambda _: [save(_state())], mutate_bytes, _read_checkpoint),
    "resumed training": Reader(".json", RunError, _resumed, mutate_yaml, _read_resumed, may=("os.remove",)),
    "regions": Reader(".geojson", SlideError, _regions, mutate_yaml, _read_regions),
    "list of pictures": Reader(
        ".json", RunError, lambda root: [pictures_json([_pictures(root, LIST)]).encode()], mutate_yaml, _read_pictures
    ),
    "picture": Reader(
        ".jpg", RunError, lambda root: [picture_files(_pictures(root, TISSUE))[TISSUE].data],
        mutate_bytes, _read_pictures,
    ),
    "clam": Reader(
        ".csv", InputError, _foreign("clam"), mutate_table, lambda p: len(imports.import_clam(p).rows), rows_below(1)
    ),
    "stamp": Reader(".json", InputError, _stamp, mutate_yaml, _read_stamp),
    "patho-bench": Reader(
        ".tsv", InputError, _foreign("patho-bench"), mutate_table,
        lambda p: len(imports.import_patho_bench(p).rows), rows_below(1, "\t"),
    ),
    "eagle": Reader(
        ".csv", InputError, _foreign("eagle"), mutate_table, lambda p: len(imports.import_eagle(p).rows), rows_below(1)
    ),
    "tapfm": Reader(
        ".csv", InputError, _foreign("tapfm"), mutate_table,
        lambda p: len(imports.import_tapfm_script(p).rows), rows_below(1),
    ),
    "nnmil": Reader(
        ".csv", InputError, _foreign("nnmil"), mutate_table, lambda p: len(imports.import_nnmil(p).rows), rows_below(1)
    ),
    "slideflow": Reader(
        ".csv", InputError, _foreign("slideflow"), mutate_table,
        lambda p: len(imports.import_slideflow(p).rows), rows_below(1),
    ),
}  # fmt: skip
