"""Which slide files belong to the patients of a manifest without slide names: each match written down, none guessed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tapfm_eval.cohort.csvfile import read_csv_file, shown
from tapfm_eval.cohort.download import slide_places
from tapfm_eval.cohort.imported import is_slide, slide_name
from tapfm_eval.cohort.manifest import REQUIRED, Manifest, read_manifest
from tapfm_eval.errors import ManifestError, Problem, SlideError

LINKS_FORMAT = "tapfm-eval/links/1"
_BY_SLIDE_ID = "slide_id in the manifest"
_THERE = "already there"
_NOBODY = "no patient of the manifest"
ALIKE = "written like"
"""Begins the note on a file that was not matched because the patient's id is spelt otherwise in its name."""
_TCGA_SLIDE = re.compile(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}-(\d\d)[A-Z]-\d\d-(DX|TS|BS|MS)")


@dataclass(frozen=True, slots=True)
class Match:
    """How one slide file was matched, and what became of it."""

    path: str  # relative to the slide folder
    slide_id: str
    patient_id: str  # empty where it belongs to nobody in the manifest
    specimen: str  # empty where not known
    how: str  # what the match rests on
    decision: str  # linked, or why not


@dataclass(frozen=True, slots=True)
class Links:
    """A manifest with its slides filled in."""

    table: pd.DataFrame  # the manifest's cells as text, one row a slide; patients without a slide keep their row
    matches: tuple[Match, ...]  # one a slide file in the folder, sorted by path
    unmatched: tuple[str, ...]  # patients without a slide file


@dataclass(frozen=True, slots=True)
class SlideFacts:
    """What a table of slides says of one slide."""

    patient_id: str  # empty where the table does not say
    specimen: str


def read_slide_table(path: Path) -> dict[str, SlideFacts]:
    """Specimen (and patient, where there is such a column) of each slide: CSV `slide_id,specimen[,patient_id]`.

    Raises:
        ManifestError: Where the table is malformed, a slide is listed twice or its specimen is empty.
    """
    file = read_csv_file(path, ManifestError, "a table of slides", ("slide_id", "specimen"))
    patients = file.column("patient_id") if "patient_id" in file.columns else [""] * len(file.rows)
    facts: dict[str, SlideFacts] = {}
    problems = []
    cells = zip(file.lines, file.column("slide_id"), file.column("specimen"), patients, strict=True)
    for line, slide, specimen, patient in cells:
        name = slide_name(slide)
        if name in facts or not name:
            got = f"{shown(slide)} again" if name else "an empty cell"
            where = f"{path}, row {line}, column slide_id"
            problems.append(Problem(where, "a slide listed once", got, "Correct the row, or delete it."))
        if not specimen:
            where = f"{path}, row {line}, column specimen"
            problems.append(Problem(where, "the specimen", "an empty cell", "Fill it in: tumour, normal, frozen, ..."))
        facts[name] = SlideFacts(patient, specimen)
    if problems:
        raise ManifestError(problems)
    return facts


def link_slides(
    manifest: Manifest,
    folder: Path,
    slides: Mapping[str, SlideFacts] | None = None,
    specimens: frozenset[str] = frozenset(),
) -> Links:
    """The manifest with the slide files of a folder filled in.

    A file belongs to the patient whom the table of slides names, else to the patient with whose id its name begins
    (followed by a sign that is neither letter nor digit, or by nothing). All patients of the manifest are looked at: a
    name that begins with two ids is refused, and files of patients whom the manifest excludes, or who have slides
    already, are left out. Where files of a patient show several tissues,
    or several files show tissues that nobody named, nothing is linked before `specimens` says which to keep. Specimens
    come from the table of slides, or from a TCGA slide barcode (DX: FFPE; TS, BS, MS: frozen; sample type 10 or more:
    normal). Rows that already have a path keep it; rows with a slide_id alone get the file of that name.

    Args:
        manifest: The cohort.
        folder: The slide folder.
        slides: What is known of each slide, by slide_id.
        specimens: The specimens to keep; empty to keep all where a patient's slides show but one.

    Raises:
        SlideError: Where there is no such folder.
        ManifestError: With every file that cannot be matched without guessing.
    """
    if not folder.is_dir():
        raise SlideError(Problem(str(folder), "a folder of slides", "no such folder", "Correct --slides."))
    facts = slides or {}
    cells = read_csv_file(manifest.path, ManifestError, "a cohort manifest", REQUIRED)
    table = pd.DataFrame(list(cells.rows), columns=list(cells.columns))
    for column in ("path", "specimen"):
        if column not in table:
            table[column] = ""
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if is_slide(path.name) and path.is_file()
    )
    problems: list[Problem] = []
    listed = _listed(table)
    matches = [_match(name, listed, facts, folder, problems) for name in names]
    problems += _unknown_specimens(matches, specimens, folder)
    matches = [_kept(match, specimens, bool(facts), folder, problems) for match in matches]
    problems += _undecided(matches, specimens, folder) + _same_name(matches, folder)
    problems += _contradictions(matches, listed, folder)
    if problems:
        raise ManifestError(problems)
    linked = _fill(table, [match for match in matches if match.decision == "linked"])
    with_file = {match.patient_id for match in matches if match.decision in ("linked", _THERE)}
    without = set(linked.loc[~_excluded(linked), "patient_id"]) - with_file
    return Links(linked, tuple(matches), tuple(sorted(without)))


def write_links(links: Links, manifest: Path, record: Path) -> Manifest:
    """Writes the manifest and the record of matches, and reads the manifest back with every check."""
    links.table.to_csv(manifest, index=False, lineterminator="\n", encoding="utf-8")
    columns = ["path", "slide_id", "patient_id", "specimen", "how", "decision"]
    rows = pd.DataFrame([[getattr(match, column) for column in columns] for match in links.matches], columns=columns)
    text = f"# {LINKS_FORMAT}\n" + rows.to_csv(index=False, lineterminator="\n")
    record.write_text(text, encoding="utf-8", newline="\n")
    return read_manifest(manifest, manifest.stem)


@dataclass(frozen=True, slots=True)
class _Listed:
    """What the manifest lists already."""

    by_path: Mapping[str, tuple[str, str]]  # slide_id and patient_id, by every place where the file may lie
    by_slide: Mapping[str, str]  # patient_id of slides without a path
    closed: Mapping[str, str]  # every patient of the manifest: why no file is linked to them, empty for the others
    alike: Mapping[str, tuple[str, ...]]  # patients by their id without case and separators
    reasons: Mapping[str, str]  # by slide_id: why the manifest excludes it
    specimen: Mapping[str, str]  # by slide_id, and by patient_id for patients without slides; where filled in


def _listed(table: pd.DataFrame) -> _Listed:
    with_path, without = table[table["path"] != ""], table[table["path"] == ""]
    said = table[table["specimen"] != ""]
    names = said["slide_id"].where(said["slide_id"] != "", said["patient_id"])
    excluded, kept = table[_excluded(table)], table[~_excluded(table)]
    closed = {row["patient_id"]: _reason(row["exclude"]) for row in excluded.to_dict("records")}
    for row in kept.to_dict("records"):
        closed[row["patient_id"]] = "left out: the patient has slides already" if row["slide_id"] else ""
    alike: dict[str, tuple[str, ...]] = {}
    for name in closed:
        alike[_plain(name)] = (*alike.get(_plain(name), ()), name)
    return _Listed(
        {
            place.as_posix(): (row["slide_id"], row["patient_id"])
            for row in with_path.to_dict("records")
            for place in slide_places(row["path"], row.get("gdc_file_id", "").lower())
        },
        {row["slide_id"]: row["patient_id"] for row in without.to_dict("records") if row["slide_id"]},
        closed,
        alike,
        {row["slide_id"]: _reason(row["exclude"]) for row in excluded.to_dict("records")},
        dict(zip(names, said["specimen"], strict=True)),
    )


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _reason(exclude: str) -> str:
    return f"left out: excluded, {exclude}"


def _match(path: str, listed: _Listed, facts: Mapping[str, SlideFacts], folder: Path, problems: list[Problem]) -> Match:
    slide = slide_name(path)
    fact = facts.get(slide)
    specimen, source = (fact.specimen, "table of slides") if fact else _barcode_specimen(slide)
    by_specimen = f"; specimen by {source}" if source else ""

    def match(patient: str, how: str) -> Match:
        decision = listed.closed.get(patient, _NOBODY) or "linked"
        return Match(path, slide, patient if patient in listed.closed else "", specimen, how, decision)

    if path in listed.by_path:
        slide_id, patient = listed.by_path[path]
        return Match(path, slide_id, patient, specimen, "path in the manifest", _THERE)
    if slide in listed.by_slide:
        decision = listed.reasons.get(slide, "linked")
        return Match(path, slide, listed.by_slide[slide], specimen, _BY_SLIDE_ID + by_specimen, decision)
    if fact and fact.patient_id:
        return match(fact.patient_id, "patient by table of slides" + by_specimen)
    ends = [at for at in range(1, len(slide) + 1) if at == len(slide) or not slide[at].isalnum()]
    begins = [slide[:end] for end in ends if slide[:end] in listed.closed]
    if len(begins) > 1:
        got = ", ".join(f"{name} ({why})" if (why := listed.closed[name]) else name for name in begins)
        remedy = "Name its patient in a table of slides: --table FILE (slide_id,specimen,patient_id)."
        problems.append(Problem(f"{folder}/{path}", "a name that begins with one patient_id", got, remedy))
    if not begins:
        alike = [name for end in ends for name in listed.alike.get(_plain(slide[:end]), ())]
        return match("", f"name; {ALIKE} {', '.join(alike)}" if alike else "name")
    if len(begins) > 1:
        return match("", "name")
    return match(begins[0], "name begins with the patient_id" + by_specimen)


def _barcode_specimen(slide: str) -> tuple[str, str]:
    barcode = _TCGA_SLIDE.match(slide)
    if barcode is None:
        return "", ""
    if int(barcode.group(1)) >= 10:
        return "normal", "TCGA barcode"
    return ("FFPE" if barcode.group(2) == "DX" else "frozen"), "TCGA barcode"


def _kept(match: Match, specimens: frozenset[str], has_table: bool, folder: Path, problems: list[Problem]) -> Match:
    if match.decision != "linked" or (not specimens and not has_table):
        return match
    if not match.specimen:
        remedy = "Add it to the table of slides (slide_id,specimen)."
        problems.append(Problem(f"{folder}/{match.path}", "a slide whose specimen is known", "no specimen", remedy))
    elif specimens and match.specimen not in specimens:
        decision = f"left out: {match.specimen} is not among {', '.join(sorted(specimens))}"
        return Match(match.path, match.slide_id, match.patient_id, match.specimen, match.how, decision)
    return match


def _undecided(matches: list[Match], specimens: frozenset[str], folder: Path) -> list[Problem]:
    """Patients whose slides show several tissues, or tissues that nobody named, while no choice was made."""
    problems = []
    by_patient: dict[str, list[Match]] = {}
    for match in matches:
        if match.decision == "linked":
            by_patient.setdefault(match.patient_id, []).append(match)
    for patient, found in sorted(by_patient.items()):
        tissues = sorted({match.specimen for match in found})
        if specimens or len(found) == 1 or (len(tissues) == 1 and tissues[0]):
            continue
        if all(match.how.startswith(_BY_SLIDE_ID) for match in found):
            continue  # the manifest itself names these slides
        files = ", ".join(f"{match.path} ({match.specimen or 'specimen not known'})" for match in found[:6])
        more = f", and {len(found) - 6} more" if len(found) > 6 else ""
        remedy = "Say which to keep: --specimen FFPE. Where it is not known, give --table FILE (slide_id,specimen)."
        problems.append(Problem(f"{folder}, patient {patient}", "slides of one known tissue", files + more, remedy))
    return problems


def _unknown_specimens(matches: list[Match], specimens: frozenset[str], folder: Path) -> list[Problem]:
    """A specimen that no slide has is a misspelling: it would leave every slide out."""
    present = sorted({match.specimen for match in matches if match.specimen})
    absent = sorted(specimens - set(present))
    if not absent:
        return []
    expected = f"specimens that a slide has ({', '.join(present) or 'none is known'})"
    return [Problem(str(folder), expected, ", ".join(absent), "Correct the specimen, or give a table of slides.")]


def _contradictions(matches: list[Match], listed: _Listed, folder: Path) -> list[Problem]:
    problems = []
    for match in matches:
        said = listed.specimen.get(match.slide_id) or listed.specimen.get(match.patient_id, "")
        if match.decision == "linked" and match.specimen and said and said != match.specimen:
            expected = f"the manifest's specimen {shown(said)}"
            remedy = "Correct the manifest or the table of slides."
            problems.append(Problem(f"{folder}/{match.path}", expected, shown(match.specimen), remedy))
    return problems


def _same_name(matches: list[Match], folder: Path) -> list[Problem]:
    seen: dict[str, str] = {}
    problems = []
    for match in matches:
        if match.decision not in ("linked", _THERE):
            continue
        if match.slide_id in seen:
            got = f"{match.path} and {seen[match.slide_id]}"
            remedy = "Delete one of them, or rename it."
            problems.append(Problem(f"{folder}, slide {match.slide_id}", "one file", got, remedy))
        seen.setdefault(match.slide_id, match.path)
    return problems


def _excluded(table: pd.DataFrame) -> "pd.Series[bool]":
    return table["exclude"] != "" if "exclude" in table else pd.Series(False, index=table.index)


def _fill(table: pd.DataFrame, matches: list[Match]) -> pd.DataFrame:
    """One row a linked slide, with its patient's other cells; rows without a match stay as they are."""
    by_slide = {match.slide_id: match for match in matches}
    by_patient: dict[str, list[Match]] = {}
    for match in matches:
        by_patient.setdefault(match.patient_id, []).append(match)
    rows = []
    for cells in table.to_dict("records"):
        if cells["slide_id"]:
            found = [by_slide[cells["slide_id"]]] if not cells["path"] and cells["slide_id"] in by_slide else []
        else:
            found = by_patient.get(cells["patient_id"], [])
        for match in found:
            specimen = match.specimen or cells["specimen"]
            rows.append({**cells, "slide_id": match.slide_id, "path": match.path, "specimen": specimen})
        if not found:
            rows.append(cells)
    return pd.DataFrame(rows, columns=list(table.columns))
