"""Where the slide files of a cohort lie: every row of the study to a file, or to the list of what is missing."""

import math
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.cohort.download import slide_places
from tapfm_eval.cohort.load import Cohort


@dataclass(frozen=True, slots=True)
class SlideFile:
    """A slide of the study and its file."""

    cohort: str
    patient_id: str
    slide_id: str
    path: Path
    manifest_mpp: float | None  # um per pixel as the manifest says it


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
    """Looks for each slide at `root/path`, then in a folder named by its GDC file id, as gdc-client leaves it."""
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
        files.append(SlideFile(cohort.name, str(row.patient_id), slide_id, found, None if math.isnan(mpp) else mpp))
    return SlideSearch(cohort.name, root, tuple(files), tuple(missing), cohort.unlinked)
