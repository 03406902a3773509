"""Where the slide files of a cohort lie: every row of the study to a file, or to the list of what is missing."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.cohort.download import slide_places
from tapfm_eval.cohort.load import Cohort

REGIONS_FOLDER = "regions"
"""Folder of annotations inside a folder of slides, where the manifest does not say otherwise."""


@dataclass(frozen=True, slots=True)
class SlideFile:
    """A slide of the study and its file."""

    cohort: str
    patient_id: str
    slide_id: str
    path: Path
    manifest_mpp: float | None  # um per pixel as the manifest says it
    regions: Path | None = None  # its annotations, whether they are there or not; None where it has none


@dataclass(frozen=True, slots=True)
class SlideSearch:
    """What was found of one cohort."""

    cohort: str
    root: Path | None  # the folder that was searched; None where none was given
    files: tuple[SlideFile, ...]
    missing: tuple[str, ...]  # slide ids without a file
    unlinked: tuple[str, ...]  # patients whose slides the manifest does not name

    @property
    def complete(self) -> bool:
        """Whether every patient of the study has all slides."""
        return not self.missing and not self.unlinked


def find_slides(cohort: Cohort, root: Path | None) -> SlideSearch:
    """Looks for each slide at `root/path`, then in a folder named by its GDC file id, as gdc-client leaves it.

    Its annotations are where the manifest's `regions` cell says, relative to `root`; where the manifest has no such
    column, in `root/regions/<slide_id>.geojson` if that file is there.
    """
    rows = cohort.manifest.table
    folder_of = dict(zip(rows["slide_id"], rows["gdc_file_id"], strict=True)) if "gdc_file_id" in rows else {}
    files, missing = [], []
    for row in cohort.slides.itertuples(index=False):
        slide_id, relative = str(row.slide_id), str(row.path)
        places = slide_places(relative, folder_of.get(slide_id, ""))
        found = next((root / place for place in places if root is not None and (root / place).is_file()), None)
        if found is None:
            missing.append(slide_id)
            continue
        mpp = float(row.mpp)  # type: ignore[arg-type]
        stated = None if math.isnan(mpp) else mpp
        regions = None if root is None else _annotations(root, slide_id, row.regions)
        files.append(SlideFile(cohort.name, str(row.patient_id), slide_id, found, stated, regions))
    return SlideSearch(cohort.name, root, tuple(files), tuple(missing), cohort.unlinked)


def _annotations(root: Path, slide_id: str, cell: object) -> Path | None:
    if cell is None:
        beside = root / REGIONS_FOLDER / f"{slide_id}.geojson"
        return beside if beside.is_file() else None
    return root / str(cell) if cell else None


def regions_sha256(files: Iterable[SlideFile]) -> str:
    """Hash of which slides have annotations and of what these files hold; part of what defines a run that uses them."""
    whole = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.slide_id):
        if file.regions is not None and file.regions.is_file():
            with file.regions.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            whole.update(f"{file.slide_id}\0{content}\n".encode())
    return whole.hexdigest()
