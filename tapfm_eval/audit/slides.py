"""What only the slide files show: missing and broken ones, copies, near-identical looks, colours that are not H&E."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from tapfm_eval.audit.findings import Finding, counted
from tapfm_eval.audit.schema import audit_unnamed
from tapfm_eval.audit.subject import Subject
from tapfm_eval.cohort.download import Fault, SlideFault, check_slides, slide_places
from tapfm_eval.cohort.manifest import Manifest
from tapfm_eval.errors import SlideError
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.tissue import tissue_mask

THUMBNAIL_PX = 512
HASH_PX = 64  # edge of the picture that is hashed
HASH_SIDE = 12  # of the block of low frequencies: 143 bits, the mean left out
ALIKE = 12  # bits in which two looks may differ; unrelated slides differ in about 70
LEAST_TISSUE = 0.005  # share of the thumbnail: below it looks and colours say nothing
LEAST_H_AND_E = 0.5  # share of the tissue that is pink to violet

Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SlideFile:
    """A slide of the study and its file."""

    cohort: str
    where: str  # the manifest
    row: int
    patient_id: str
    slide_id: str
    path: Path
    mpp: float | None  # as the manifest says it

    @property
    def shown(self) -> str:
        """The slide in a line of evidence."""
        return f"{self.cohort}, row {self.row}: {self.slide_id} of {self.patient_id} ({self.path.name})"


@dataclass(frozen=True, slots=True)
class Look:
    """What a slide looks like from afar."""

    bits: tuple[Bits, ...]  # perceptual hashes of the eight ways to lay it; empty without tissue
    h_and_e: float | None  # share of the tissue that is pink to violet; None without tissue


def audit_slides(
    subjects: Sequence[Subject], folders: Mapping[str, Path], advance: Callable[[int], None] = lambda _: None
) -> tuple[Finding, ...]:
    """All findings about the slide files of the cohorts that have a folder; every slide is opened.

    Args:
        subjects: The cohorts.
        folders: Slide folder by cohort.
        advance: Told of every slide that is done.
    """
    findings: list[Finding] = []
    looks: list[tuple[SlideFile, Look]] = []
    everything: list[SlideFile] = []
    for subject in subjects:
        folder = folders.get(subject.name)
        if folder is None:
            continue
        rows = subject.rows[subject.rows["patient_id"].isin(set(subject.studied))]
        files = slide_files(subject.manifest, rows, folder)
        everything += files
        broken: list[tuple[SlideFile, str]] = []
        for file in files:
            try:
                looks.append((file, look(file)))
            except SlideError as error:
                broken.append((file, why(error)))
            advance(1)
        findings += [*audit_unnamed(subject, opened=True), *_absent(subject, folder), *_broken(subject, broken)]
    stained = [(file, seen) for file, seen in looks if seen.h_and_e is not None and seen.h_and_e < LEAST_H_AND_E]
    same = _same_bytes(everything)
    return (*findings, *_copies(same), *_alike(looks, same), *_colours(stained))


def slide_files(manifest: Manifest, rows: pd.DataFrame, folder: Path) -> list[SlideFile]:
    """The files in `folder` of some rows of a manifest's table, as far as they are there."""
    rows = rows[rows["slide_id"] != ""]
    ids = rows["gdc_file_id"] if "gdc_file_id" in rows else [""] * len(rows)
    mpps = rows["mpp"] if "mpp" in rows else [float("nan")] * len(rows)
    found = []
    cells = zip(rows.index, rows["patient_id"], rows["slide_id"], rows["path"], ids, mpps, strict=True)
    for row, patient, slide, relative, file_id, mpp in cells:
        place = next((folder / at for at in slide_places(relative, file_id) if (folder / at).is_file()), None)
        if place is not None:
            scale = None if np.isnan(mpp) else float(mpp)
            found.append(SlideFile(manifest.name, str(manifest.path), int(row), patient, slide, place, scale))
    return found


def faults_on_opening(files: Iterable[SlideFile], advance: Callable[[int], None]) -> list[SlideFault]:
    """The slides that cannot be opened at a known scale, each with what is wrong."""
    found = []
    for file in files:
        try:
            with open_slide(file.path, slide_id=file.slide_id, manifest_mpp=file.mpp):
                pass
        except SlideError as error:
            problem = error.problems[0]
            kind: Fault = "unreadable"
            if problem.where.endswith((", scale", ", manifest mpp")):
                kind = "no-mpp" if file.mpp is None and "stated by the slide" in problem.expected else "mpp"
            found.append(SlideFault(file.row, file.slide_id, kind, problem.expected, problem.got, problem.remedy))
        advance(1)
    return found


def why(error: SlideError) -> str:
    """What is wrong with a slide, in a line."""
    return "; ".join(f"{problem.got} (expected {problem.expected})" for problem in error.problems)


def look(file: SlideFile) -> Look:
    """The slide from afar.

    Raises:
        SlideError: It cannot be read, or its scale is unknown or contradicts the manifest.
    """
    with open_slide(file.path, slide_id=file.slide_id, manifest_mpp=file.mpp) as reader:
        rgb = reader.thumbnail(THUMBNAIL_PX)
    tissue = tissue_mask(rgb)
    if tissue.mean() < LEAST_TISSUE:
        return Look((), None)
    return Look(tuple(perceptual_hash(laid) for laid in _eight_ways(rgb)), h_and_e_share(rgb, tissue))


def perceptual_hash(rgb: NDArray[np.uint8]) -> Bits:
    """(143,) bits: which low frequencies of the picture's luminance lie above their median.

    Pictures of the same tissue differ in few bits whatever their size, compression and brightness.

    Args:
        rgb: (height, width, 3) picture of the whole slide.
    """
    grey = np.asarray(Image.fromarray(rgb).convert("L").resize((HASH_PX, HASH_PX), Image.Resampling.BOX), np.float64)
    low = np.asarray(dctn(grey, norm="ortho"))[:HASH_SIDE, :HASH_SIDE].ravel()[1:]  # the first is the mean
    return np.asarray(low > np.median(low), dtype=np.bool_)


def h_and_e_share(rgb: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> float:
    """The share of the tissue whose hue is pink, red-violet or blue-violet, as haematoxylin and eosin make it.

    DAB is brown and Masson's trichrome green or blue; neither is between 220 and 360 degrees of hue.

    Args:
        rgb: (height, width, 3) picture.
        tissue: (height, width) where it shows tissue.
    """
    hue = np.asarray(Image.fromarray(rgb).convert("HSV"))[..., 0][tissue] * (360 / 255)
    return float(((hue >= 220) & (hue <= 361) | (hue <= 8)).mean())


def _eight_ways(rgb: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
    """The picture turned and mirrored: a slide scanned again may lie otherwise."""
    for mirrored in (rgb, rgb[:, ::-1]):
        for turns in range(4):
            yield np.ascontiguousarray(np.rot90(mirrored, turns))


def _absent(subject: Subject, folder: Path) -> list[Finding]:
    check = check_slides(subject.manifest, folder, verify_md5=False)
    kinds = {"missing": "slide-missing", "elsewhere": "slide-missing", "regions": "regions"}
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for fault in check.faults:
        said = f"row {fault.row}: {fault.slide_id}: expected {fault.expected}, got {fault.got}"
        groups[kinds.get(fault.fault, "slide-broken")].append((fault.row, said))
    what = {
        "slide-missing": "cannot be found.",
        "slide-broken": "differ from what the manifest says of the file.",
        "regions": "have no annotations where the manifest names them.",
    }
    return [
        Finding(
            code="slide-broken" if kind == "regions" else kind,
            severity="warning" if kind == "regions" else "error",  # a protocol that uses none of them runs without
            where=f"{subject.where} and {folder}",
            what=f"{counted(len(said), 'slide')} of {subject.name} {what[kind]}",
            evidence=tuple(line for _, line in said),
            remedy=f"`tapfm-eval cohort check {subject.where} --slides {folder}` lists them; download them again, or "
            "exclude their rows with a reason."
            if kind != "regions"
            else "Copy the files there, or empty the cells to use the whole tissue.",
            rows=tuple(row for row, _ in said),
            numbers={"slides": len(said)},
        )
        for kind, said in sorted(groups.items())
    ]


def _broken(subject: Subject, broken: list[tuple[SlideFile, str]]) -> list[Finding]:
    if not broken:
        return []
    return [
        Finding(
            code="slide-broken",
            severity="error",
            where=subject.where,
            what=f"{counted(len(broken), 'slide')} of {subject.name} cannot be read at a known scale.",
            evidence=tuple(f"{file.shown}: {why}" for file, why in broken),
            remedy="Download them again, state their mpp in the manifest, or exclude their rows with a reason.",
            rows=tuple(file.row for file, _ in broken),
            numbers={"slides": len(broken)},
        )
    ]


def _same_bytes(files: list[SlideFile]) -> list[list[SlideFile]]:
    """Groups of files with the same bytes; only files of the same size are read."""
    sizes: dict[int, list[SlideFile]] = defaultdict(list)
    for file in files:
        sizes[file.path.stat().st_size].append(file)
    groups: dict[str, list[SlideFile]] = defaultdict(list)
    for alike in sizes.values():
        if len(alike) > 1:
            for file in alike:
                with file.path.open("rb") as stream:
                    groups[hashlib.file_digest(stream, "sha256").hexdigest()].append(file)
    return [group for group in groups.values() if len(group) > 1]


def _copies(groups: list[list[SlideFile]]) -> list[Finding]:
    return _pairs_found(
        "slide-same-bytes",
        [(group[0], other, "same bytes") for group in groups for other in group[1:]],
        "the same file under two names",
        "Exclude one of each pair, and find out whose slide it is.",
    )


def _alike(looks: list[tuple[SlideFile, Look]], copies: list[list[SlideFile]]) -> list[Finding]:
    """Pairs that look nearly the same but are not the same bytes."""
    seen = [(file, picture.bits) for file, picture in looks if picture.bits]
    if len(seen) < 2:
        return []
    known = {(id(a), id(b)) for group in copies for a in group for b in group}
    upright = np.stack([bits[0] for _, bits in seen]).astype(np.float32) * 2 - 1
    length = upright.shape[1]
    pairs = []
    for i, (file, bits) in enumerate(seen[:-1]):
        ways = np.stack(bits).astype(np.float32) * 2 - 1
        distance = (length - (upright[i + 1 :] @ ways.T).max(axis=1)) / 2
        for j in np.flatnonzero(distance <= ALIKE):
            other = seen[i + 1 + int(j)][0]
            if (id(file), id(other)) not in known:
                pairs.append((file, other, f"{distance[j]:.0f} of {length} bits differ"))
    return _pairs_found(
        "slide-look-alike",
        pairs,
        "nearly the same picture: perhaps one piece of tissue, scanned or saved twice",
        "Look at both; if they show the same tissue, exclude one and find out whose it is.",
    )


def _pairs_found(code: str, pairs: list[tuple[SlideFile, SlideFile, str]], what: str, remedy: str) -> list[Finding]:
    """One finding of pairs that cross a border (cohort or patient), an error for copies; one of those that do not."""
    groups: dict[bool, list[str]] = defaultdict(list)
    for first, second, why in pairs:
        crossing = first.cohort != second.cohort or first.patient_id != second.patient_id
        groups[crossing].append(f"{first.shown}; {second.shown}: {why}")
    return [
        Finding(
            code=code,
            severity="error" if crossing and code == "slide-same-bytes" else "warning",
            where="slides of two patients or cohorts" if crossing else "slides of one patient",
            what=f"{counted(len(said), 'pair')} of slides {'is' if len(said) == 1 else 'are'} {what}.",
            evidence=tuple(said),
            remedy=remedy,
            numbers={"pairs": len(said)},
        )
        for crossing, said in sorted(groups.items())
    ]


def _colours(stained: list[tuple[SlideFile, Look]]) -> list[Finding]:
    cohorts: dict[str, list[tuple[SlideFile, Look]]] = defaultdict(list)
    for file, seen in stained:
        cohorts[file.cohort].append((file, seen))
    return [
        Finding(
            code="stain-suspect",
            severity="warning",
            where=found[0][0].where,
            what=f"{counted(len(found), 'slide')} of {name} {'does' if len(found) == 1 else 'do'} not have the pink to "
            "violet of H&E.",
            evidence=tuple(f"{file.shown}: {seen.h_and_e:.0%} of the tissue is pink to violet" for file, seen in found),
            remedy="Look at them: other stains and strong pen or fading belong out, with a reason in `exclude`.",
            rows=tuple(file.row for file, _ in found),
            numbers={"slides": len(found)},
        )
        for name, found in cohorts.items()
    ]
