"""The tiling stage: every slide of the study to its tile grid, kept in the run folder; failures become rows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.cohort.locate import SlideFile
from tapfm_eval.errors import SlideError, StudyError
from tapfm_eval.parallel import each
from tapfm_eval.protocol.schema import Failures
from tapfm_eval.rundir import RunFolder
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.tiles import TileGrid, TileSpec, read_tiles, tile_grid, write_tiles


@dataclass(frozen=True, slots=True)
class TiledSlide:
    """A slide and its tiles."""

    file: SlideFile
    grid: TileGrid


@dataclass(frozen=True, slots=True)
class Tiling:
    """What the stage came to."""

    slides: tuple[TiledSlide, ...]
    failed: tuple[Exclusion, ...]  # slides that cannot be read or hold no tissue


@dataclass(frozen=True, slots=True)
class _Job:
    file: SlideFile
    spec: TileSpec
    path: Path


def _tile(job: _Job) -> str | None:
    """Writes one slide's grid unless it is there; returns why it could not."""
    try:
        with open_slide(job.file.path, slide_id=job.file.slide_id, manifest_mpp=job.file.manifest_mpp) as reader:
            if _is_current(job, reader.info.fingerprint):
                return None
            grid = tile_grid(reader, job.spec)
    except SlideError as error:
        return str(error)
    if len(grid) == 0:
        return f"{job.file.path}: no tile with {job.spec.min_tissue:.0%} tissue"
    write_tiles(grid, job.path)
    return None


def _is_current(job: _Job, fingerprint: str) -> bool:
    """Whether the grid on disk is of this file and these settings; a damaged one is not, and is made anew."""
    try:
        kept = read_tiles(job.path)
    except SlideError:
        return False
    return kept.spec == job.spec and kept.fingerprint == fingerprint


def allowed_failures(policy: Failures, slides: int) -> float:
    """How many of a cohort's slides may fail."""
    return 0.0 if policy.policy == "stop" else policy.max_share * slides


def tile_slides(
    files: Sequence[SlideFile], spec: TileSpec, folder: RunFolder, workers: int, advance: Callable[[int], None]
) -> Tiling:
    """Tile grids of all slides, in the order given; those already in the run folder are kept."""
    jobs = [_Job(file, spec, folder.tiles(file.cohort, file.slide_id)) for file in files]
    slides, failed = [], []
    for job, failure in zip(jobs, each(_tile, jobs, workers), strict=True):
        if failure is None:
            slides.append(TiledSlide(job.file, read_tiles(job.path)))
        else:
            failed.append(Exclusion(job.file.cohort, job.file.patient_id, job.file.slide_id, "slides", failure))
        advance(1)
    return Tiling(tuple(slides), tuple(failed))


def check_failures(failed: Iterable[Exclusion], files: Sequence[SlideFile], policy: Failures) -> None:
    """Stops the study where the protocol says that this many failures are too many.

    Raises:
        StudyError: Under `stop` any failed slide; under `exclude` more than `max_share` of a cohort's slides.
    """
    failed = list(failed)
    for cohort in dict.fromkeys(file.cohort for file in files):
        total = sum(file.cohort == cohort for file in files)
        lost = [failure for failure in failed if failure.cohort == cohort]
        allowed = allowed_failures(policy, total)
        if len(lost) > allowed:
            shown = "\n".join(f"  {failure.slide_id}: {failure.reason}" for failure in lost[:10])
            more = f"\n  and {len(lost) - 10} more" if len(lost) > 10 else ""
            raise StudyError(
                f"{cohort}: {len(lost)} of {total} slides failed, the protocol allows {allowed:.0f} "
                f"(failures.policy: {policy.policy}).\n{shown}{more}\n"
                "Put whole files in their place and give the same command again."
            )
