"""The pictures of slides that a run leaves for its report: a folder of JPEG files and the list of what they show."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tapfm_eval.errors import Problem, RunError

FOLDER = "heatmaps"
LIST = "heatmaps.json"
FORMAT = "tapfm-eval/heatmaps/1"
MAX_PICTURE_BYTES = 2**20  # of one file; a report holds well over a hundred
MAX_EDGE_PX = 2000
_READ_ERRORS = (
    OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG picture."""

    data: bytes
    width: int  # pixels
    height: int


@dataclass(frozen=True, slots=True)
class CasePictures:
    """One slide with what its tiles weighed, and the tiles that weighed most and least."""

    target: str
    call: str
    cohort: str
    patient_id: str
    slide_id: str
    models: int  # whose weights were averaged
    tiles: int
    half: int  # fewest tiles that together hold half of the weight
    tile_um: float  # edge of a tile
    slide_mm: tuple[float, float]  # width and height of the slide
    tissue: Picture | None  # the whole slide; None where `reason` says why
    weights: Picture | None  # the same, its tiles coloured by rank of weight
    strongest: tuple[Picture, ...]  # most weight first
    weakest: tuple[Picture, ...]  # least weight first
    reason: str | None = None  # why there are no pictures


def picture_files(case: CasePictures) -> dict[str, Picture]:
    """The pictures of a case by the names of their files."""
    stem = f"{case.target}-{case.call.replace(' ', '-')}"
    files = {f"{stem}-tissue.jpg": case.tissue, f"{stem}-weights.jpg": case.weights}
    files |= {f"{stem}-strongest-{i}.jpg": picture for i, picture in enumerate(case.strongest, 1)}
    files |= {f"{stem}-weakest-{i}.jpg": picture for i, picture in enumerate(case.weakest, 1)}
    return {name: picture for name, picture in files.items() if picture is not None}


def pictures_json(cases: Sequence[CasePictures]) -> str:
    """The list of what the pictures show."""
    rows = [
        {
            "target": case.target,
            "call": case.call,
            "cohort": case.cohort,
            "patient_id": case.patient_id,
            "slide_id": case.slide_id,
            "models": case.models,
            "tiles": case.tiles,
            "half": case.half,
            "tile_um": case.tile_um,
            "slide_mm": list(case.slide_mm),
            "strongest": len(case.strongest),
            "weakest": len(case.weakest),
            "reason": case.reason,
        }
        for case in cases
    ]
    return json.dumps({"format": FORMAT, "cases": rows}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_pictures(root: Path) -> tuple[CasePictures, ...]:
    """The pictures in the folder of a run; none where it has no such folder, as runs of embeddings alone.

    Raises:
        RunError: The list or a picture is missing or damaged.
    """
    path = root / FOLDER / LIST
    if not path.is_file():
        return ()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return tuple(_case(row, path.parent) for row in content["cases"])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        RecursionError,
        Image.DecompressionBombError,
    ) as error:
        raise RunError(
            Problem(str(path), f"pictures of slides ({FORMAT})", f"{type(error).__name__}: {error}"[:160],
                    f"Delete the folder {FOLDER} and run the same command again: it draws them anew.")
        ) from None  # fmt: skip


def _case(row: dict[str, Any], folder: Path) -> CasePictures:
    width, height = row["slide_mm"]
    stem = f"{_plain(row['target'])}-{_plain(row['call']).replace(' ', '-')}"
    drawn = row["reason"] is None
    return CasePictures(
        target=str(row["target"]), call=str(row["call"]), cohort=str(row["cohort"]),
        patient_id=str(row["patient_id"]), slide_id=str(row["slide_id"]), models=int(row["models"]),
        tiles=int(row["tiles"]), half=int(row["half"]), tile_um=float(row["tile_um"]),
        slide_mm=(float(width), float(height)),
        tissue=_read(folder / f"{stem}-tissue.jpg") if drawn else None,
        weights=_read(folder / f"{stem}-weights.jpg") if drawn else None,
        strongest=tuple(_read(folder / f"{stem}-strongest-{i + 1}.jpg") for i in range(int(row["strongest"]))),
        weakest=tuple(_read(folder / f"{stem}-weakest-{i + 1}.jpg") for i in range(int(row["weakest"]))),
        reason=None if drawn else str(row["reason"]),
    )  # fmt: skip


def _plain(name: object) -> str:
    """A part of a file's name, which must not lead out of its folder."""
    text = str(name)
    if "/" in text or "\\" in text or text.startswith("."):
        raise ValueError(f"{text!r} is no part of a file's name")
    return text


def _read(path: Path) -> Picture:
    if path.stat().st_size > MAX_PICTURE_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_PICTURE_BYTES} bytes")
    return picture(path.read_bytes())


def picture(data: bytes) -> Picture:
    """JPEG bytes with their size.

    Raises:
        ValueError: They are no JPEG, or one too large for a report.
    """
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.load()
        width, height = image.size
    if max(width, height) > MAX_EDGE_PX:
        raise ValueError(f"a picture of {width} x {height} pixels")
    return Picture(data, width, height)
