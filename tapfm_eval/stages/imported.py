"""Cohorts that come as features of another tool instead of slides: checked, and taken into the run's own stores."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.backbones.features import features_path
from tapfm_eval.backbones.foreign import (
    DECLARED,
    check_foreign,
    declared_facts,
    encoder_folder,
    feature_file,
    store_foreign,
)
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.locate import SlideFile
from tapfm_eval.errors import BackboneError, Problem, SlideError
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.rundir import RunFolder, sha256_file
from tapfm_eval.slides.tiles import TileGrid, TileSpec, read_tiles, write_tiles
from tapfm_eval.stages.tiling import TiledSlide


@dataclass(frozen=True, slots=True)
class CohortFeatures:
    """The features of one cohort, a file a slide and backbone, as they lie in another tool's folder."""

    cohort: str
    places: Mapping[str, Path]  # backbone -> folder
    files: Mapping[str, Mapping[str, Path]]  # slide_id -> backbone -> file
    patients: Mapping[str, str]  # slide_id -> patient_id
    hashes: Mapping[str, str]  # slide_id -> hash of its files and of what is declared beside them

    @property
    def sha256(self) -> str:
        """Hash of everything that was given for the cohort."""
        lines = (f"{slide_id}\0{content}\n" for slide_id, content in sorted(self.hashes.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def features_problems(protocol: Protocol, features: Mapping[str, Path], path: Path) -> list[Problem]:
    """What of a protocol cannot be done with features alone."""
    problems = []
    flags = " ".join(f"--features {name}" for name in features)
    for i, arm in enumerate(protocol.arms if features else ()):
        where = f"{path}, arms[{i}] ({arm.id})"
        if arm.adapt != "frozen":
            problems.append(Problem(f"{where}.adapt", f"frozen, with {flags}", "a backbone that is adapted",
                                    "Features carry no pixels to adapt to: give the slides instead."))  # fmt: skip
        elif arm.aggregator == "tapfm":
            problems.append(Problem(f"{where}.aggregator", f"another one, with {flags}", "tapfm",
                                    "No other tool keeps a backbone's attention: give the slides."))  # fmt: skip
    if features and protocol.tiles.regions != "none":
        problems.append(Problem(f"{path}, tiles.regions", f"none, with {flags}", "annotations",
                                "Tiles of features are laid already: give the slides instead."))  # fmt: skip
    return problems


def find_features(cohort: Cohort, folder: Path, cards: Mapping[str, BackboneCard]) -> CohortFeatures:
    """The feature files of every slide of a cohort and every backbone; they are hashed, not yet looked into.

    A file is called like the slide or like the slide's own file, with another ending. Where several backbones are
    wanted, each has a folder of its own in `folder`, called after it (`features_uni_v1`, as TRIDENT does).

    Raises:
        BackboneError: The folder, or files of some slides, are not there.
    """
    if not folder.is_dir():
        raise BackboneError(Problem(f"--features {cohort.name}", "a folder", str(folder), "Check the path."))
    names = {
        str(row.slide_id): (str(row.slide_id), Path(str(row.path)).stem)
        for row in cohort.slides.itertuples(index=False)
    }
    files: dict[str, dict[str, Path]] = {slide_id: {} for slide_id in names}
    places = {backbone: encoder_folder(folder, card) for backbone, card in cards.items()}
    problems = []
    for backbone, place in places.items():
        missing = []
        for slide_id, called in names.items():
            found = feature_file(place, called)
            if found is None:
                missing.append(slide_id)
            else:
                files[slide_id][backbone] = found
        if missing:
            shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
            problems.append(
                Problem(f"--features {cohort.name}, {place}", f"{backbone} features of {len(names)} slides",
                        f"{len(missing)} missing: {shown}",
                        "Files are called SLIDE.h5, here or in h5_files/. Add them, or exclude their rows in "
                        f"{cohort.manifest.path} with a reason.")
            )  # fmt: skip
    if cohort.unlinked:
        problems.append(
            Problem(str(cohort.manifest.path), "a slide for each patient",
                    f"{len(cohort.unlinked)} patients without slide_id", "Fill it in, one row a slide.")
        )  # fmt: skip
    if problems:
        raise BackboneError(problems)
    patients = dict(zip(cohort.slides["slide_id"].map(str), cohort.slides["patient_id"].map(str), strict=True))
    beside = {backbone: _declared_hash(place) for backbone, place in places.items()}
    hashes = {slide_id: _hash(by_backbone, beside) for slide_id, by_backbone in files.items()}
    return CohortFeatures(cohort.name, places, files, patients, hashes)


def _declared_hash(place: Path) -> str:
    return sha256_file(place / DECLARED) if (place / DECLARED).is_file() else ""


def _hash(files: Mapping[str, Path], beside: Mapping[str, str]) -> str:
    lines = (f"{backbone}\0{sha256_file(path)}\0{beside[backbone]}\n" for backbone, path in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def take_features(
    given: CohortFeatures,
    cards: Mapping[str, BackboneCard],
    spec: TileSpec,
    folder: RunFolder,
    advance: Callable[[int], None],
) -> tuple[TiledSlide, ...]:
    """Takes a cohort's features into the run folder; what an earlier start of the run has taken is kept.

    Args:
        given: What was found.
        cards: The backbones that the arms read.
        spec: The protocol's tiles.
        folder: The run.
        advance: Told 1 for every slide.

    Raises:
        BackboneError: Files are not what the protocol asks for; all differences are listed, and nothing is written.
    """
    kept = {slide_id: _kept(given, slide_id, cards, spec, folder) for slide_id in given.files}
    todo = [slide_id for slide_id, grid in kept.items() if grid is None]
    advance(len(kept) - len(todo))
    grids = {slide_id: grid for slide_id, grid in kept.items() if grid is not None}
    if todo:
        grids |= _import(given, todo, cards, spec, folder)
        advance(len(todo))
    return tuple(
        TiledSlide(
            SlideFile(given.cohort, given.patients[slide_id], slide_id, next(iter(files.values())), None),
            grids[slide_id],
        )
        for slide_id, files in given.files.items()
    )


def _kept(
    given: CohortFeatures, slide_id: str, cards: Mapping[str, BackboneCard], spec: TileSpec, folder: RunFolder
) -> TileGrid | None:
    """The tiles of a slide that was taken before and is still the same."""
    stored = (features_path(folder.features(backbone, given.cohort), slide_id) for backbone in cards)
    if not all(path.is_file() for path in stored):
        return None
    try:
        grid = read_tiles(folder.tiles(given.cohort, slide_id))
    except SlideError:
        return None
    return grid if grid.spec == spec and grid.fingerprint == _fingerprint(given, slide_id) else None


def _fingerprint(given: CohortFeatures, slide_id: str) -> str:
    return f"features {given.hashes[slide_id]}"


def _import(
    given: CohortFeatures, todo: Sequence[str], cards: Mapping[str, BackboneCard], spec: TileSpec, folder: RunFolder
) -> dict[str, TileGrid]:
    files = {backbone: {slide_id: given.files[slide_id][backbone] for slide_id in todo} for backbone in cards}
    declared = {backbone: declared_facts(place) for backbone, place in given.places.items()}
    grids: dict[str, TileGrid] = {}
    problems: list[Problem] = []
    for backbone, card in cards.items():
        try:
            found = check_foreign(files[backbone], card, spec, declared[backbone])
        except BackboneError as error:
            problems += error.problems
            continue
        for slide_id, grid in found.items():
            first = grids.setdefault(slide_id, grid)
            if not np.array_equal(first.xy0, grid.xy0):
                problems.append(
                    Problem(str(files[backbone][slide_id]), f"the {len(first)} tiles of {next(iter(cards))}",
                            f"{len(grid)} in other places", "Make the features of all backbones on the same tiles.")
                )  # fmt: skip
    if problems:
        raise BackboneError(problems)
    for backbone, card in cards.items():
        store_foreign(files[backbone], card, spec, declared[backbone], folder.features(backbone, given.cohort))
    made = {slide_id: replace(grid, fingerprint=_fingerprint(given, slide_id)) for slide_id, grid in grids.items()}
    for slide_id, grid in made.items():
        write_tiles(grid, folder.tiles(given.cohort, slide_id))
    return made
