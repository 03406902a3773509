"""Tile features that TRIDENT, CLAM or STAMP wrote, read instead of slides; refused where they are not the protocol's.

Tile size, scale and encoder are compared with what the protocol asks for. Where a file does not say one of them (CLAM's
say neither scale nor encoder), a `features.json` beside the files may: `{"encoder": "uni", "tile_px": 224, "mpp": 0.5,
"overlap": 0}`. It fills gaps; a file that says otherwise is refused.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapfm_eval.backbones.cards import CARDS, BackboneCard
from tapfm_eval.backbones.features import SlideFeatures, features_path, write_features
from tapfm_eval.errors import BackboneError, Problem
from tapfm_eval.rundir import sha256_file
from tapfm_eval.slides.hdf5_apart import READ_ERRORS, HDF5Apart
from tapfm_eval.slides.reader import MPP_TOLERANCE, TilePlan
from tapfm_eval.slides.tiles import TileGrid, TileSpec

DECLARED = "features.json"
MPP_AT_MAGNIFICATION_1 = 10.0  # um per pixel; 20x is 0.5
_FEATURES = ("features", "feats", "patch_embeddings")  # TRIDENT and CLAM, STAMP, older STAMP
_OTHER_NAMES: Mapping[str, str] = MappingProxyType(  # letters and digits alone -> card
    {
        "univ1": "uni", "mahmooduni": "uni", "univ2": "uni2-h", "uni2": "uni2-h", "mahmooduni2": "uni2-h",
        "kaikovits16": "kaiko-s16", "kaikovits8": "kaiko-s8", "kaikovitb16": "kaiko-b16", "kaikovitb8": "kaiko-b8",
        "kaikovitl14": "kaiko-l14",
    }
)  # fmt: skip
_ATTRIBUTES = (
    "unit", "tile_size_px", "tile_size_um", "extractor", "encoder", "target_magnification", "patch_size", "overlap",
    "patch_size_level0",
)  # fmt: skip
MAX_POSITION = 2.0**31  # pixels, or micrometres; no slide is a thousandth as wide


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """What is known of how features were made; None is unknown."""

    encoder: str | None = None  # name of a card, or the file's own word where no card has it
    tile_px: int | None = None  # edge of a tile at `mpp`
    mpp: float | None = None  # um per pixel of a tile
    overlap: int | None = None  # of neighbouring tiles, pixels at `mpp`


@dataclass(frozen=True, slots=True, eq=False)
class ForeignSlide:
    """One slide as another tool embedded it."""

    features: SlideFeatures  # attention is NaN: no other tool keeps it
    grid: TileGrid


def encoder_name(said: str) -> str:
    """The card that another tool's name of an encoder means; the name itself where there is none.

    >>> [encoder_name(name) for name in ("uni_v1", "hoptimus0", "MahmoodLab/UNI2-h", "kaiko-vitb8", "resnet50")]
    ['uni', 'h-optimus-0', 'uni2-h', 'kaiko-b8', 'resnet50']
    """
    plain = re.sub(r"[^a-z0-9]", "", said.lower())
    cards = {re.sub(r"[^a-z0-9]", "", name): name for name in CARDS}
    cards |= {re.sub(r"[^a-z0-9]", "", card.hub_id.lower()): name for name, card in CARDS.items()}
    return cards.get(plain) or _OTHER_NAMES.get(plain, said)


def feature_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The file of a slide that may be called any of these names; HDF5 goes before `.pt`, which has no positions."""
    for name in names:
        for place in (f"{name}.h5", f"h5_files/{name}.h5", f"{name}.pt", f"pt_files/{name}.pt"):
            if (folder / place).is_file():
                return folder / place
    return None


def declared_facts(folder: Path) -> FeatureFacts:
    """What `features.json` in the folder says; nothing where there is none.

    Raises:
        BackboneError: The file is not what it should be.
    """
    path = folder / DECLARED
    if not path.is_file():
        return FeatureFacts()
    kinds: dict[str, Any] = {"encoder": str, "tile_px": int, "mpp": (int, float), "overlap": int}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, a number of 5,000 digits
        raise BackboneError(Problem(str(path), "JSON", str(error)[:120], "Mend the file.")) from None
    content = content if isinstance(content, dict) else {"": content}
    wrong = [
        Problem(f"{path}, {name}", f"one of {', '.join(kinds)} with a plain value", repr(value)[:60], "Correct it.")
        for name, value in content.items()
        if name not in kinds or not isinstance(value, kinds[name]) or isinstance(value, bool)
    ]
    if wrong:
        raise BackboneError(wrong)
    encoder = content.pop("encoder", None)
    return FeatureFacts(encoder=None if encoder is None else encoder_name(encoder), **content)


def read_foreign(
    path: Path,
    slide_id: str,
    card: BackboneCard,
    spec: TileSpec,
    declared: FeatureFacts,
    apart: HDF5Apart | None = None,
) -> ForeignSlide:
    """The features of one slide, checked against the protocol.

    Args:
        path: An HDF5 file of TRIDENT, CLAM or STAMP, or CLAM's `.pt` with its `h5_files` beside it.
        slide_id: The slide that they are of.
        card: The backbone whose features an arm wants.
        spec: The protocol's tiles.
        declared: What the folder says of all its files.
        apart: Reads the HDF5 file; where many files are read, one for all saves its start.

    Raises:
        BackboneError: The file cannot be read, or is not what the protocol asks for; every difference is listed.
    """
    if apart is None:
        with HDF5Apart() as own:
            return read_foreign(path, slide_id, card, spec, declared, own)
    try:
        values, coords, facts, um = (_read_pt if path.suffix == ".pt" else _read_h5)(path, apart)
    except READ_ERRORS as error:
        raise BackboneError(
            Problem(str(path), "tile features of TRIDENT, CLAM or STAMP", str(error).partition("\n")[0][:160],
                    "Make the features anew, or give the slides.")
        ) from None  # fmt: skip
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        values = values.astype(np.float32)
    problems = _shape_problems(path, values, coords, card)
    problems += _differences(path, facts, declared, card, spec)
    if problems:
        raise BackboneError(problems)
    tile_px0 = spec.tile_px
    if um:  # STAMP: positions in micrometres; counted in pixels of the protocol's scale here
        coords = np.rint(coords / spec.mpp)
    elif facts.tile_px0 is not None:
        tile_px0 = facts.tile_px0
    xy0 = coords.astype(np.int64)
    features = SlideFeatures(values, np.full(len(values), np.nan, np.float32), xy0)
    grid = TileGrid(
        slide_id=slide_id, fingerprint=f"features {sha256_file(path)}", width=int(xy0[:, 0].max()) + tile_px0,
        height=int(xy0[:, 1].max()) + tile_px0, mpp=spec.mpp * spec.tile_px / tile_px0, mpp_source="manifest",
        objective=None, spec=spec, plan=TilePlan(0, tile_px0, tile_px0, spec.tile_px), xy0=xy0,
        tissue=np.ones(len(xy0), np.float32), positions=len(xy0), thumbnail_tissue=float("nan"),
    )  # fmt: skip
    return ForeignSlide(features, grid)


def check_foreign(
    files: Mapping[str, Path], card: BackboneCard, spec: TileSpec, declared: FeatureFacts
) -> dict[str, TileGrid]:
    """The tiles of each slide of a cohort, once every one of its files is what the protocol asks for.

    Args:
        files: slide_id -> file.
        card: The frozen backbone.
        spec: The protocol's tiles.
        declared: What the folder says of all its files.

    Raises:
        BackboneError: The problems of all files.
    """
    grids: dict[str, TileGrid] = {}
    problems: list[Problem] = []
    with HDF5Apart() as apart:
        for slide_id, path in files.items():
            try:
                grids[slide_id] = read_foreign(path, slide_id, card, spec, declared, apart).grid
            except BackboneError as error:
                problems += error.problems
    if problems:
        raise BackboneError(problems)
    return grids


def store_foreign(
    files: Mapping[str, Path], card: BackboneCard, spec: TileSpec, declared: FeatureFacts, root: Path
) -> None:
    """Writes the features of checked files into a store of this suite."""
    with HDF5Apart() as apart:
        for slide_id, path in files.items():
            found = read_foreign(path, slide_id, card, spec, declared, apart)
            write_features(features_path(root, slide_id), slide_id, card, found.features, found.grid)


def encoder_folder(folder: Path, card: BackboneCard) -> Path:
    """Where a backbone's files lie in a folder of several: `features_<encoder>` or `<encoder>`; else the folder itself.

    TRIDENT names the folder so; its `features_uni_v1` is found for `uni`.
    """
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    return next((path for path in inner if encoder_name(path.name.removeprefix("features_")) == card.name), folder)


@dataclass(frozen=True, slots=True)
class _FileFacts(FeatureFacts):
    tile_px0: int | None = None  # edge of a tile in level-0 pixels


def _read_h5(path: Path, apart: HDF5Apart) -> tuple[NDArray[Any], NDArray[Any], _FileFacts, bool]:
    """Features, positions, facts, and whether positions are micrometres."""
    found = apart.read(path, (_FEATURES, ("coords",)), _ATTRIBUTES)
    (values, coords), said = found.arrays, found.attributes
    if found.names[0] != "features" or str(said.get("unit", "")) == "um":
        px, edge = _whole(said, "tile_size_px"), _number(said, "tile_size_um")
        mpp = edge / px if px and edge else None
        return values, coords, _FileFacts(_text(said.get("extractor")), px, mpp, 0), True
    magnification, px = _number(said, "target_magnification"), _whole(said, "patch_size")
    mpp = MPP_AT_MAGNIFICATION_1 / magnification if magnification else None
    if mpp is None:
        px = None  # CLAM's patch_size counts pixels of a pyramid level, whose scale the file does not say
    overlap, px0 = _whole(said, "overlap", least=0), _whole(said, "patch_size_level0")
    facts = _FileFacts(_text(said.get("encoder") or _of_folder(path)), px, mpp, overlap, px0)
    return values, coords, facts, False


def _read_pt(path: Path, apart: HDF5Apart) -> tuple[NDArray[Any], NDArray[Any], _FileFacts, bool]:
    beside = path.parent.parent / "h5_files" / f"{path.stem}.h5"
    if not beside.is_file():
        raise ValueError(f"it has no positions, and there is no {beside}")
    import torch  # only these files need it

    from tapfm_eval.backbones.load import refuse_compressed, tensor_fault

    try:
        refuse_compressed(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip and unpickling faults have no common type
        raise ValueError(f"not a tensor alone ({type(error).__name__})") from None
    if not isinstance(values, torch.Tensor):
        raise TypeError(f"{type(values).__name__} instead of a tensor")
    fault = tensor_fault(values, path.stat().st_size)
    if fault is not None:
        raise ValueError(f"its tensor is of no use: {fault}")
    _, coords, facts, um = _read_h5(beside, apart)
    return values.float().numpy(), coords, facts, um


def _shape_problems(path: Path, values: NDArray[Any], coords: NDArray[Any], card: BackboneCard) -> list[Problem]:
    if values.ndim != 2 or values.shape[1] != card.dim:
        return [Problem(str(path), f"features of {card.name} (N, {card.dim})", f"{values.shape}",
                        "Give features of this backbone; tools may keep another part of its output.")]  # fmt: skip
    if len(values) == 0 or coords.shape != (len(values), 2):
        return [Problem(str(path), f"a position for each of {len(values)} tiles, at least one", f"{coords.shape}",
                        "Make the features anew.")]  # fmt: skip
    if not np.isfinite(values).all():
        return [Problem(str(path), "finite features", "numbers that are not", "Make them anew.")]
    places = coords.astype(np.float64)  # 2^31 is more than a half-precision number holds
    if not ((places >= 0) & (places < MAX_POSITION)).all():  # false for NaN as well
        return [Problem(str(path), "positions on a slide", f"{places.min():g} to {places.max():g}", "Make them anew.")]
    return []


def _differences(
    path: Path, facts: _FileFacts, declared: FeatureFacts, card: BackboneCard, spec: TileSpec
) -> list[Problem]:
    wanted = FeatureFacts(card.name, spec.tile_px, spec.mpp, 0)
    problems = []
    for name in (field.name for field in fields(FeatureFacts)):
        said, beside, asked = getattr(facts, name), getattr(declared, name), getattr(wanted, name)
        known = beside if said is None else said
        if known is None and name == "overlap":
            continue  # only TRIDENT says it; tiles of the others lie side by side
        if known is None:
            problems.append(Problem(f"{path}, {name}", f"{asked}", "not said in the file",
                                    f"State it in {DECLARED} beside the features, if you know it."))  # fmt: skip
        elif not _agree(known, asked):
            problems.append(Problem(f"{path}, {name}", f"{asked} (protocol)", f"{_shown(known)}",
                                    "Make features as the protocol says, or plan the study as they are."))  # fmt: skip
        elif beside is not None and not _agree(beside, asked):
            problems.append(Problem(f"{path.parent / DECLARED}, {name}", f"{_shown(known)}, as {path.name} says",
                                    _shown(beside), "Correct it."))  # fmt: skip
    return problems


def _agree(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float | int):
        return abs(one / other - 1) <= MPP_TOLERANCE
    return one == other


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _of_folder(path: Path) -> str | None:
    """TRIDENT names the folder `features_<encoder>`."""
    name = path.parent.name
    return name.removeprefix("features_") if name.startswith("features_") else None


def _text(value: str | float | None) -> str | None:
    return None if value in (None, "") else encoder_name(str(value))


def _number(said: Mapping[str, str | float], name: str, least: float | None = None) -> float | None:
    """A measure that a file gives: above 0, or at least `least`.

    Raises:
        ValueError: It is something else.
    """
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, str) or not math.isfinite(value) or (value <= 0 if least is None else value < least):
        raise ValueError(f"attribute {name} is {value if isinstance(value, float) else repr(value[:60])}")
    return value


def _whole(said: Mapping[str, str | float], name: str, least: float | None = None) -> int | None:
    number = _number(said, name, least)
    if number is None:
        return None
    if number != round(number) or number >= MAX_POSITION:
        raise ValueError(f"attribute {name} is {number:g} pixels")
    return round(number)
