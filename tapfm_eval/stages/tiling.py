"""The tiling stage: every slide of the study to its tile grid, kept in the run folder; failures become rows."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.cohort.locate import SlideFile
from tapfm_eval.errors import Problem, RunError, SlideError
from tapfm_eval.parallel import each
from tapfm_eval.protocol.schema import Failures
from tapfm_eval.rundir import RunFolder, write_text
from tapfm_eval.slides.reader import SlideInfo, open_slide
from tapfm_eval.slides.regions import Regions, check_on_slide, read_regions
from tapfm_eval.slides.tiles import TileGrid, TileSpec, read_tiles, tile_grid, write_tiles
from tapfm_eval.stages.graph import WorkUnit

FORMAT = "tapfm-eval/tiled-slides/1"
COLUMNS = ("cohort", "patient_id", "slide_id", "mpp", "mpp_source", "positions", "tiles", "regions")
"""Of `tiles.csv`. `regions` is `annotated` where annotations restricted the tiles, `whole tissue` where the slide has
none, and empty where the protocol asks for none."""
ANNOTATED = "annotated"


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

    def joined_by(self, slides: tuple[TiledSlide, ...], folder: RunFolder) -> "Tiling":
        """With slides whose tiles were laid elsewhere; `tiles.csv` is written anew."""
        whole = Tiling((*self.slides, *slides), self.failed)
        write_text(folder.root / "tiles.csv", tiled_csv(whole.slides))
        return whole


@dataclass(frozen=True, slots=True)
class _Job:
    file: SlideFile
    spec: TileSpec
    path: Path


def _tile(job: _Job) -> str | None:
    """Writes one slide's grid unless it is there; returns why it could not."""
    try:
        with open_slide(job.file.path, slide_id=job.file.slide_id, manifest_mpp=job.file.manifest_mpp) as reader:
            regions = slide_regions(job.file, reader.info, job.spec)
            if _is_current(job, reader.info.fingerprint, regions):
                return None
            grid = tile_grid(reader, job.spec, regions)
    except SlideError as error:
        return error.cause(job.file.slide_id, *filter(None, (job.file.path, job.file.regions)))
    if len(grid) == 0:
        within = "" if regions is None else " inside its annotations"
        return f"no tile with {job.spec.min_tissue:.0%} tissue{within}"
    write_tiles(grid, job.path)
    return None


def is_tiled(shared: tuple[TileSpec, RunFolder], unit: WorkUnit) -> bool:
    """Whether a slide's grid lies in the run folder; whether it is of this file is looked at by `tile_slides`."""
    return all((shared[1].root / name).is_file() for name in unit.outputs)


def tile_one(
    shared: tuple[TileSpec, RunFolder], unit: WorkUnit, advance: Callable[[int], None], guard: Callable[[], None]
) -> None:
    """Writes one slide's grid, wherever it runs; a slide that fails is left to `tile_slides`, which says why."""
    spec, folder = shared
    file: SlideFile = unit.arguments["file"]
    _tile(_Job(file, spec, folder.tiles(file.cohort, file.slide_id)))


def slide_regions(file: SlideFile, info: SlideInfo, spec: TileSpec) -> Regions | None:
    """The annotations that restrict a slide's tiles; None where the protocol asks for none or the slide has none.

    Raises:
        SlideError: The file is named and missing, no GeoJSON of areas, of other classes, or drawn on another slide.
    """
    if spec.classes is None or file.regions is None:
        return None
    regions = read_regions(file.regions, spec.classes)
    check_on_slide(regions, info.width, info.height, str(file.regions))
    return regions


def _is_current(job: _Job, fingerprint: str, regions: Regions | None) -> bool:
    """Whether the grid on disk is of this file and these settings; a damaged one is not, and is made anew."""
    try:
        kept = read_tiles(job.path)
    except SlideError:
        return False
    drawn = None if regions is None else regions.sha256
    return kept.spec == job.spec and kept.fingerprint == fingerprint and kept.regions_sha256 == drawn


def allowed_failures(policy: Failures, slides: int) -> float:
    """How many of a cohort's slides may fail."""
    return 0.0 if policy.policy == "stop" else policy.max_share * slides


def tile_slides(
    files: Sequence[SlideFile], spec: TileSpec, folder: RunFolder, workers: int, advance: Callable[[int], None]
) -> Tiling:
    """Tile grids of all slides, in the order given; those already in the run folder are kept.

    What came of each slide is written to `tiles.csv` of the run folder.
    """
    jobs = [_Job(file, spec, folder.tiles(file.cohort, file.slide_id)) for file in files]
    slides, failed = [], []
    for job, failure in zip(jobs, each(_tile, jobs, workers), strict=True):
        if failure is None:
            slides.append(TiledSlide(job.file, read_tiles(job.path)))
        else:
            file = job.file
            failed.append(Exclusion(file.cohort, file.patient_id, file.slide_id, "slides", failure, str(file.path)))
        advance(1)
    write_text(folder.root / "tiles.csv", tiled_csv(slides))
    return Tiling(tuple(slides), tuple(failed))


def tiled_csv(slides: Iterable[TiledSlide]) -> str:
    """One row a tiled slide, sorted: its scale, its tiles, and whether annotations restricted them."""
    text = io.StringIO()
    text.write(f"# {FORMAT}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for slide in sorted(slides, key=lambda slide: (slide.file.cohort, slide.file.patient_id, slide.file.slide_id)):
        file, grid = slide.file, slide.grid
        drawn = "whole tissue" if grid.regions_sha256 is None else ANNOTATED
        regions = "" if grid.spec.classes is None else drawn
        scale = (f"{grid.mpp:.6g}", grid.mpp_source)
        writer.writerow((file.cohort, file.patient_id, file.slide_id, *scale, grid.positions, len(grid), regions))
    return text.getvalue()


def tiled_rows(root: Path) -> tuple[dict[str, str], ...]:
    """The rows of `tiles.csv` of a run folder.

    Raises:
        RunError: It is not there, or not as a run writes it.
    """
    path = root / "tiles.csv"
    try:
        head, _, table = path.read_text(encoding="utf-8").partition("\n")
        rows = tuple(csv.DictReader(io.StringIO(table, newline="")))
    except (OSError, ValueError, csv.Error) as error:
        head, rows, got = "", (), f"{type(error).__name__}: {error}"[:120]
    else:
        got = "another format, or rows of other columns"
    if head != f"# {FORMAT}" or any(set(row) != set(COLUMNS) or None in row.values() for row in rows):
        remedy = "Run the same command again: it keeps what is done and writes the file anew."
        raise RunError(Problem(str(path), f"a table {FORMAT} of the run's slides", got, remedy))
    return rows
