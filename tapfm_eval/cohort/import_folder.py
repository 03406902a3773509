"""Tables of another tool to a folder with our manifest and split: which file is which, and all written or nothing."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tapfm_eval.cohort import imports
from tapfm_eval.cohort.csvfile import read_csv_file, shown
from tapfm_eval.cohort.imported import (
    ImportedCohort,
    at_source,
    draw_validation,
    slide_name,
    with_labels_read,
    write_import,
    write_import_split,
)
from tapfm_eval.cohort.labels import Spellings
from tapfm_eval.cohort.link import link_slides, write_links
from tapfm_eval.cohort.manifest import Manifest
from tapfm_eval.cohort.splits import PARTS
from tapfm_eval.errors import InputError, ManifestError, Problem
from tapfm_eval.rundir import sha256_file, write_json

FORMAT = "tapfm-eval/import/1"


@dataclass(frozen=True, slots=True)
class Tables:
    """What a user gave."""

    files: tuple[Path, ...]
    slides_table: Path | None  # which slides belong to which patient
    target: str | None  # what to call a column `label`
    slides: Path | None = None  # folder of the slide files, to fill in paths
    values: Spellings | None = None  # what label cells stand for, by column


@dataclass(frozen=True, slots=True)
class Tool:
    """Another tool whose tables can be read."""

    files: str  # what to give, for help and errors
    most: int  # files at most
    slides_table: str  # no, may, must
    named_label: bool  # whether its label column is called `label` whatever it means
    read: Callable[[Tables], ImportedCohort]


def _stamp(tables: Tables) -> ImportedCohort:
    assert tables.slides_table is not None
    splits = [path for path in tables.files if path.suffix.lower() == ".json"]
    clinical = [path for path in tables.files if path not in splits]
    if len(clinical) != 1 or len(splits) > 1:
        got = ", ".join(map(str, tables.files))
        remedy = "The slide table goes to --slides-table."
        raise InputError(Problem("FILE", TOOLS["stamp"].files, got, remedy))
    return imports.import_stamp(clinical[0], tables.slides_table, splits[0] if splits else None)


def _patients(tables: Tables) -> dict[str, str] | None:
    """The patient of each slide, by the slide's name as written and without its ending."""
    if tables.slides_table is None:
        return None
    what, named = "a table of slides", ("patient_id", "case_id")
    file = read_csv_file(tables.slides_table, ManifestError, what, ("slide_id",))
    column = next((name for name in named if name in file.columns), None)
    if column is None:
        expected, got = "a column 'patient_id' (or 'case_id')", f"columns {', '.join(file.columns[:12])}"
        raise ManifestError(Problem(f"{file.where}, row 1", expected, got, "Add the column."))
    found: dict[str, str] = {}
    problems = []
    for line, slide, patient in zip(file.lines, file.column("slide_id"), file.column(column), strict=True):
        names = (slide, slide_name(slide))
        if not slide or not patient or any(found.get(name, patient) != patient for name in names):
            got = f"{shown(slide)} of {shown(patient)}"
            expected = "a slide and its one patient"
            problems.append(Problem(f"{file.where}, row {line}", expected, got, "Correct the row."))
        found |= dict.fromkeys(names, patient)
    if problems:
        raise ManifestError(problems)
    return found


TOOLS: Mapping[str, Tool] = {
    "clam": Tool(
        "the label table, then splits_<fold>.csv files", 1_001, "no", True,
        lambda given: imports.import_clam(given.files[0], given.files[1:], given.target or "label"),
    ),
    "stamp": Tool("the clinical table, and splits.json if there is one", 2, "must", False, _stamp),
    "patho-bench": Tool("k=all.tsv", 1, "no", False, lambda given: imports.import_patho_bench(given.files[0])),
    "tapfm": Tool(
        "the cohort table", 1, "may", False, lambda given: imports.import_tapfm_script(given.files[0], _patients(given))
    ),
    "eagle": Tool(
        "the cohort table", 1, "may", False, lambda given: imports.import_eagle(given.files[0], _patients(given))
    ),
    "nnmil": Tool(
        "the cohort table", 1, "no", True, lambda given: imports.import_nnmil(given.files[0], given.target or "label")
    ),
    "slideflow": Tool("the annotations", 1, "no", False, lambda given: imports.import_slideflow(given.files[0])),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """What came of an import."""

    manifest: Path
    split: Path | None  # None where the tables hold none
    source: str
    patients: int
    slides: int
    without_path: int  # slides whose file is not known yet
    columns: tuple[str, ...]  # beside patient_id, slide_id and path: labels and covariates
    parts: Mapping[str, int]  # patients of each part in fold 0; empty without a split
    folds: int
    notes: tuple[str, ...]  # what was derived rather than read


def import_cohort(tool: str, tables: Tables, out: Path, validation: float | None = None, seed: int = 1) -> ImportRecord:
    """Reads the tables of another tool and writes `manifest.csv`, `split.csv` and `import.json` into a new folder.

    Args:
        tool: A key of `TOOLS`.
        tables: What the user gave.
        out: The folder to make. Where a slide folder is given, paths are filled in and `links.csv` says how.
        validation: Share of each fold's training patients to draw for validation, where a fold has none.
        seed: Of that draw.

    Raises:
        InputError: The tables are not what they should be, or `out` exists; nothing is then written.
    """
    _check(tool, tables, out)
    if validation is not None and not 0 < validation < 1:
        remedy = "Write for example 0.2."
        raise InputError(Problem("--validation", "a share between 0 and 1", f"{validation:g}", remedy))
    imported = with_labels_read(TOOLS[tool].read(tables), tables.values or {})
    if validation is not None:
        imported = draw_validation(imported, validation, seed)
    _check_validation(imported)
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        try:
            manifest, _ = write_import(imported, made / "manifest.csv")
        except ManifestError as error:
            raise ManifestError(at_source(imported, p, made / "manifest.csv") for p in error.problems) from None
        try:
            if tables.slides is not None:
                links = link_slides(manifest, tables.slides)
                manifest = write_links(links, made / "manifest.csv", made / "links.csv")
            if imported.split is not None:
                write_import_split(imported, manifest, made / "split.csv")
        except InputError as error:
            split = f"the split of {imported.source}"
            problems = [
                replace(p, where=p.where.replace(str(made / "split.csv"), split).replace(f"{made}/", "the imported "))
                for p in error.problems
            ]
            raise type(error)(problems) from None
        record = _record(imported, manifest, out)
        files = [*tables.files, *([tables.slides_table] if tables.slides_table else [])]
        hashes = [{"file": path.name, "sha256": sha256_file(path)} for path in files]
        write_json(made / "import.json", {
            "format": FORMAT, "source": imported.source, "files": hashes, "notes": list(imported.notes),
        })  # fmt: skip
        made.chmod(0o755)
        made.rename(out)  # fails where somebody has made and filled that folder meanwhile
    except OSError as error:
        raise InputError(
            Problem(str(out), "a folder that can be made", error.strerror or str(error), "Give another one with --out.")
        ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return record


def _check(tool: str, tables: Tables, out: Path) -> None:
    problems = []
    chosen = TOOLS.get(tool)
    if chosen is None:
        problems.append(Problem("--from", f"one of {', '.join(TOOLS)}", repr(tool)[:60], "Correct it."))
    else:
        if not 1 <= len(tables.files) <= chosen.most:
            problems.append(Problem("FILE", f"for {tool}: {chosen.files}", f"{len(tables.files)} files", "Name them."))
        given = tables.slides_table is not None
        if chosen.slides_table == "must" and not given:
            remedy = "Give it with --slides-table FILE."
            problems.append(Problem("--slides-table", f"the slide table of {tool}", "none", remedy))
        if chosen.slides_table == "no" and given:
            remedy = "Its tables name the patients: leave it out."
            problems.append(Problem("--slides-table", f"none for {tool}", str(tables.slides_table), remedy))
        if tables.target is not None and not chosen.named_label:
            remedy = "Its label columns have names of their own: leave it out."
            problems.append(Problem("--target", f"none for {tool}", repr(tables.target)[:60], remedy))
    if out.exists() or out.is_symlink():
        remedy = "Give another name, or delete it."
        problems.append(Problem(f"--out {out}", "a folder that is not there yet", "an existing one", remedy))
    elif not out.parent.is_dir():
        problems.append(Problem(f"--out {out}", "a folder inside an existing one", "none", f"Make {out.parent}."))
    if problems:
        raise InputError(problems)


def _check_validation(imported: ImportedCohort) -> None:
    if imported.split is None:
        return
    lacking = [
        str(fold) for fold, table in imported.split.groupby("fold") if not (table["split"] == "validation").any()
    ]
    if lacking:
        shown_folds = ", ".join(lacking[:12]) + (", ..." if len(lacking) > 12 else "")
        remedy = "Draw them from the training patients: --validation 0.2 --seed 1."
        raise InputError(
            Problem(f"{imported.source} split", "validation patients in every fold", f"none in {shown_folds}", remedy)
        )


def _record(imported: ImportedCohort, manifest: Manifest, out: Path) -> ImportRecord:
    rows, split = manifest.table, imported.split
    first = {} if split is None else split.loc[split["fold"] == 0, "split"].value_counts().to_dict()
    return ImportRecord(
        manifest=out / "manifest.csv",
        split=None if split is None else out / "split.csv",
        source=imported.source,
        patients=int(rows["patient_id"].nunique()),
        slides=int((rows["slide_id"] != "").sum()),
        without_path=int(((rows["slide_id"] != "") & (rows["path"] == "")).sum()),
        columns=tuple(str(column) for column in imported.rows if column not in ("patient_id", "slide_id", "path")),
        parts={part: int(first[part]) for part in PARTS if part in first},
        folds=0 if split is None else int(split["fold"].nunique()),
        notes=imported.notes,
    )
