"""How to get a cohort's slides: the list for gdc-client, and what is missing or broken in a folder of slides."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote

import pandas as pd

from tapfm_eval.cohort.imported import is_slide
from tapfm_eval.cohort.manifest import Manifest
from tapfm_eval.errors import Problem, SlideError

GDC_FILES = "https://api.gdc.cancer.gov/files"
Fault = Literal["missing", "elsewhere", "twice", "empty", "size", "md5", "unreadable", "no-mpp", "mpp", "regions"]
"""`no-mpp`: neither slide nor manifest states a scale; `mpp`: they contradict each other, or one is none; `regions`:
the annotations that the manifest names are not there."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A slide that the manifest names without a GDC file id."""

    slide_id: str
    file_name: str  # as the manifest has it; the slide_id where it has no path
    url: str  # answers with the file's id, md5 and size, if the GDC has a file of this name


@dataclass(frozen=True, slots=True)
class DownloadList:
    """What to download for a cohort."""

    gdc_manifest: str  # tab-separated `id filename md5 size state`, for `gdc-client download -m`
    slides: int  # in that list
    total_bytes: int  # of those whose size is known
    unknown_sizes: int
    lookups: tuple[Lookup, ...]  # slides without an id
    patients_only: tuple[str, ...]  # patients of whom the manifest names no slide

    @property
    def lookups_csv(self) -> str:
        """The slides without an id as a table, for a script that asks every address."""
        rows = [(lookup.slide_id, lookup.file_name, lookup.url) for lookup in self.lookups]
        return pd.DataFrame(rows, columns=["slide_id", "file_name", "url"]).to_csv(index=False, lineterminator="\n")


@dataclass(frozen=True, slots=True)
class SlideFault:
    """What is wrong with the file of one slide."""

    row: int  # of the manifest
    slide_id: str
    fault: Fault
    expected: str
    got: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SlideCheck:
    """A folder of slides, held against a manifest."""

    folder: Path
    whole: int  # slides that are there with the right size and md5, as far as the manifest knows them
    unverified: int  # of them, those of which the manifest knows neither size nor md5
    faults: tuple[SlideFault, ...]  # in the order of the manifest
    patients_only: tuple[str, ...]  # patients of whom the manifest names no slide
    strangers: tuple[str, ...]  # slide files in the folder that no row names, relative and sorted


def download_list(manifest: Manifest) -> DownloadList:
    """The slides that the manifest keeps, as a list for gdc-client; those without a GDC file id are named apart.

    gdc-client puts a file at `<id>/<filename>`; slides are looked for there too.
    """
    lines = ["id\tfilename\tmd5\tsize\tstate"]
    lookups = []
    total, unknown = 0, 0
    rows = _named(manifest)
    for row in _rows(rows):
        name = PurePosixPath(row.path).name or row.slide_id
        if not row.gdc_file_id:
            lookups.append(Lookup(row.slide_id, name, _lookup_url(name)))
            continue
        size = "" if row.size is None else str(row.size)
        lines.append("\t".join((row.gdc_file_id, name, row.md5, size, "released")))
        total += row.size or 0
        unknown += row.size is None
    text = "\n".join(lines) + "\n"
    return DownloadList(text, len(lines) - 1, total, unknown, tuple(lookups), _patients_only(manifest))


def check_slides(
    manifest: Manifest, folder: Path, verify_md5: bool = True, advance: Callable[[int], None] | None = None
) -> SlideCheck:
    """What is missing or broken in a folder of slides, by name, size and md5; no slide is opened.

    Args:
        manifest: The cohort; rows that it excludes are not looked for.
        folder: The slide folder; a slide lies at its `path`, or at `<gdc_file_id>/<name>` as gdc-client leaves it.
        verify_md5: Whether to read every file for its md5 (minutes per 100 GB).
        advance: Told 1 for every row.

    Raises:
        SlideError: Where there is no such folder.
    """
    if not folder.is_dir():
        raise SlideError(Problem(str(folder), "a folder of slides", "no such folder", "Correct --slides."))
    present = sorted(path.relative_to(folder) for path in folder.rglob("*") if is_slide(path.name) and path.is_file())
    by_name: dict[str, list[Path]] = {}
    for relative in present:
        by_name.setdefault(relative.name, []).append(relative)
    faults: list[SlideFault] = []
    claimed: set[Path] = set()
    whole = unverified = 0
    for row in _rows(_named(manifest)):
        if advance is not None:
            advance(1)
        places = slide_places(row.path, row.gdc_file_id)
        found = [place for place in places if (folder / place).is_file()]
        claimed.update(found)
        fault = _absent(row, places, by_name) if not found else _broken(row, folder, found, verify_md5)
        if fault:
            faults.append(fault)
        else:
            whole += 1
            unverified += row.by_presence(verify_md5)
        if row.regions and not (folder / row.regions).is_file():
            remedy = "Copy it there, or empty the cell to use the whole tissue."
            faults.append(SlideFault(row.row, row.slide_id, "regions", f"a file {row.regions}", "no such file", remedy))
    excluded = manifest.table[manifest.table["exclude"] != ""]
    known = claimed | {place for row in _rows(excluded) for place in slide_places(row.path, row.gdc_file_id)}
    strangers = tuple(str(path.as_posix()) for path in present if path not in known)
    return SlideCheck(folder, whole, unverified, tuple(faults), _patients_only(manifest), strangers)


def with_faults(check: SlideCheck, manifest: Manifest, found: Iterable[SlideFault], verify_md5: bool) -> SlideCheck:
    """The check with what was found wrong on opening slides that it had called whole."""
    found = tuple(found)
    rows = {fault.row for fault in found}
    by_presence = sum(row.row in rows and row.by_presence(verify_md5) for row in _rows(_named(manifest)))
    return replace(
        check,
        whole=check.whole - len(rows),
        unverified=check.unverified - by_presence,
        faults=tuple(sorted((*check.faults, *found), key=lambda fault: fault.row)),
    )


def slide_places(path: str, gdc_file_id: str) -> tuple[Path, ...]:
    """Where a slide may lie in its folder: at its path, or below its GDC file id."""
    if not path:
        return ()
    return (Path(path), Path(gdc_file_id) / PurePosixPath(path).name) if gdc_file_id else (Path(path),)


@dataclass(frozen=True, slots=True)
class _Row:
    row: int
    slide_id: str
    path: str
    gdc_file_id: str
    md5: str
    size: int | None
    regions: str

    def by_presence(self, verify_md5: bool) -> bool:
        """Whether nothing but its presence can be checked."""
        return self.size is None and not (self.md5 and verify_md5)


def _rows(table: pd.DataFrame) -> list[_Row]:
    blank = [""] * len(table)
    names = ("gdc_file_id", "md5", "regions")
    ids, md5s, regions = ([*table[name]] if name in table else blank for name in names)
    sizes = [None if pd.isna(size) else int(size) for size in table["size"]] if "size" in table else [None] * len(table)
    cells = zip(table.index, table["slide_id"], table["path"], ids, md5s, sizes, regions, strict=True)
    return [_Row(int(row), *rest) for row, *rest in cells]


def _named(manifest: Manifest) -> pd.DataFrame:
    rows = manifest.included
    return rows[rows["slide_id"] != ""]


def _patients_only(manifest: Manifest) -> tuple[str, ...]:
    rows = manifest.included
    return tuple(sorted(rows.loc[rows["slide_id"] == "", "patient_id"]))


def _lookup_url(name: str) -> str:
    filters = {"op": "=", "content": {"field": "file_name", "value": name}}
    fields = "file_id,file_name,md5sum,file_size"
    return f"{GDC_FILES}?filters={quote(json.dumps(filters, separators=(',', ':')))}&fields={fields}&format=tsv"


def _absent(row: _Row, places: tuple[Path, ...], by_name: dict[str, list[Path]]) -> SlideFault:
    if not places:
        remedy = "Fill in `path`, for instance with `tapfm-eval cohort link`."
        return SlideFault(row.row, row.slide_id, "missing", "a path in the manifest", "an empty cell", remedy)
    elsewhere = by_name.get(places[0].name, [])
    expected = f"a file {places[0].as_posix()}"
    if elsewhere:
        got = f"a file of that name at {', '.join(path.as_posix() for path in elsewhere)}"
        return SlideFault(row.row, row.slide_id, "elsewhere", expected, got, "Move it, or correct `path`.")
    return SlideFault(row.row, row.slide_id, "missing", expected, "no such file", "Download it, or exclude the row.")


def _broken(row: _Row, folder: Path, found: list[Path], verify_md5: bool) -> SlideFault | None:
    if len(found) > 1:
        got = " and ".join(path.as_posix() for path in found)
        return SlideFault(row.row, row.slide_id, "twice", "one file", got, "Delete one of them.")
    path = folder / found[0]
    again = "Download it again."
    try:
        size = path.stat().st_size
        if not size:
            return SlideFault(row.row, row.slide_id, "empty", "a slide", "a file of 0 bytes", again)
        if row.size is not None and size != row.size:
            return SlideFault(row.row, row.slide_id, "size", f"{row.size} bytes", f"{size} bytes", again)
        if row.md5 and verify_md5:
            with path.open("rb") as file:
                md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if md5 != row.md5:
                return SlideFault(row.row, row.slide_id, "md5", row.md5, md5, again)
    except OSError as error:
        got = error.strerror or str(error)
        return SlideFault(row.row, row.slide_id, "unreadable", "a readable file", got, "Mend its permissions.")
    return None
