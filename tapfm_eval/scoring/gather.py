"""Files of predictions, with or without manifest and split, as one predictions table and the plan of its analysis."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from tapfm_eval.cohort.covariates import patient_covariates
from tapfm_eval.cohort.labels import patient_labels
from tapfm_eval.cohort.manifest import Manifest, read_manifest
from tapfm_eval.cohort.splits import TESTED_ONCE, read_split, tested_again, tested_again_said
from tapfm_eval.errors import InputError, PredictionsError, Problem
from tapfm_eval.predictions.imports import (
    ROLES,
    ImportedPredictions,
    ImportOptions,
    ScoredFile,
    import_predictions,
    read_slide_table,
)
from tapfm_eval.predictions.shared import joint_folds, shared_rows
from tapfm_eval.predictions.table import COLUMNS, SPLITS, predictions_frame
from tapfm_eval.protocol.schema import IDENTIFIER, NEGATIVE_CONTROL
from tapfm_eval.scoring.plan import DeclaredThreshold, ScorePlan

COHORT = "cohort"  # what a cohort is called that nobody named


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What a user may say beside the files; all of it has a default."""

    files: tuple[Path, ...]
    names: tuple[tuple[str, Path], ...] = ()  # arm, file: further files with the names of their arms
    columns: Mapping[str, str] = field(default_factory=dict)
    manifest: Path | None = None
    split: Path | None = None
    slides_table: Path | None = None
    target: str | None = None
    positive: str | None = None
    cohort: str | None = None
    thresholds: tuple[DeclaredThreshold, ...] = ()
    subgroups: tuple[str, ...] = ()
    level: float = 0.95
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Gathered:
    """Everything that a scored study is made from."""

    table: pd.DataFrame  # the predictions table, checked; all patients, shared or not
    plan: ScorePlan
    covariates: pd.DataFrame  # cohort, patient_id and the subgroups' columns as text; one row a patient


def gather(options: ScoreOptions) -> Gathered:
    """Reads everything and puts it together.

    Raises:
        InputError: With the faults of all files.
    """
    problems = list(_option_problems(options))
    given = [(None, path) for path in options.files] + [(name, path) for name, path in options.names]
    manifest, patient_of = _sides(options, problems)
    read_options = ImportOptions(
        columns=options.columns, positive=options.positive, target=options.target, patient_of=patient_of,
        labelled=manifest is None, covariates=options.subgroups,
    )  # fmt: skip
    imported: list[tuple[str | None, Path, ImportedPredictions]] = []
    for name, path in given:
        try:
            imported.append((name, path, import_predictions(path, read_options)))
        except InputError as error:
            problems += error.problems
    if problems:
        raise PredictionsError(problems)
    problems += _several_arms(imported)
    parts = [_named(read, _arm(name, path, read), options.cohort or COHORT, name) for name, path, read in imported]
    for (_, path, _), rows in zip(imported, parts, strict=True):
        problems += _name_problems(path, rows)
    table = pd.concat(parts, ignore_index=True)
    problems += _repeated(table, imported, parts)
    notes = [f"{path.name}: {note}" for _, path, read in imported for note in read.notes]
    if manifest is not None:
        table = _with_manifest(table, manifest, options, problems, notes)
    problems += _label_conflicts(table)
    if problems:
        raise PredictionsError(problems)
    checked = predictions_frame(list(table[list(COLUMNS)].itertuples(index=False, name=None)))
    checked = _common_targets(checked, notes)
    _refuse_tested_again(checked)
    notes += [*_part_notes(checked, options.split), *_joint_notes(checked)]
    _refuse_nothing_shared(checked)
    files = tuple(
        ScoredFile("" if read.source == "tapfm-eval" and name is None else _arm(name, path, read), path.name,
                   read.source, read.sha256, len(read.rows))
        for name, path, read in imported
    )  # fmt: skip
    cohorts = tuple(dict.fromkeys(checked["cohort"]))
    arms = tuple(dict.fromkeys(arm for part in parts for arm in part["arm"]))
    targets = tuple(dict.fromkeys(t for part in parts for t in part["target"] if t in set(checked["target"])))
    title = options.title or f"Scored predictions: {', '.join(arms[:4])}" + (" ..." if len(arms) > 4 else "")
    plan = ScorePlan(title, options.level, targets, arms, cohorts, options.thresholds, options.subgroups, files,
                     tuple(dict.fromkeys(notes)), _of_rehearsal([read for _, _, read in imported]))  # fmt: skip
    covariates = _covariates(checked, manifest, [read for _, _, read in imported], options)
    if unknown := [d for d in plan.thresholds if d.arm and d.arm not in arms]:
        raise PredictionsError(
            Problem("--threshold", f"an arm: {', '.join(arms)}", d.arm, "Correct the name before `=`.") for d in unknown
        )
    return Gathered(checked, plan, covariates)


def _of_rehearsal(imported: Iterable[ImportedPredictions]) -> bool:
    """Whether a table is of a rehearsal: no other has predictions of its negative control."""
    return any(read.source == "tapfm-eval" and (read.rows["target"] == NEGATIVE_CONTROL).any() for read in imported)


def _option_problems(options: ScoreOptions) -> Iterable[Problem]:
    if not options.files and not options.names:
        yield Problem("tapfm-eval score", "a file of predictions", "none", "Name one: tapfm-eval score mine.csv")
    for role in options.columns:
        if role not in ROLES:
            yield Problem(f"--columns {role}", f"one of {', '.join(ROLES)}", role, "Correct the name before `=`.")
    if options.split is not None and options.manifest is None:
        remedy = "Give the manifest that the split was made for; or a column `split` in the file."
        yield Problem("--split", "--manifest beside it", "no manifest", remedy)
    for flag, name in (("--target", options.target), ("--cohort", options.cohort)):
        if name is not None and not re.fullmatch(IDENTIFIER, name):
            yield Problem(flag, "letters, digits, dots, hyphens and underscores", repr(name)[:80], "Choose another.")
    for name in dict.fromkeys(options.subgroups):
        if options.subgroups.count(name) > 1:
            yield Problem(
                "--subgroups", "each column once", f"{name} {options.subgroups.count(name)} times", "Leave one."
            )
        if name in ("cohort", "patient_id"):
            remedy = "Leave it out: patients are kept by it."
            yield Problem("--subgroups", "columns other than cohort and patient_id", name, remedy)
    for declared in options.thresholds:
        if not 0 < declared.value <= 1:
            remedy = "A score at or above it counts as positive."
            yield Problem("--threshold", "above 0 and at most 1", f"{declared.value:g}", remedy)
    if not 0 < options.level < 1:
        yield Problem("--level", "between 0 and 1", f"{options.level:g}", "0.95 gives 95% intervals.")


def _sides(options: ScoreOptions, problems: list[Problem]) -> tuple[Manifest | None, dict[str, str] | None]:
    """The manifest, and the patient of each slide where a table or the manifest says it."""
    manifest, patient_of = None, None
    try:
        if options.manifest is not None:
            manifest = read_manifest(options.manifest, options.cohort or COHORT)
            named = manifest.table[manifest.table["slide_id"] != ""]
            patient_of = dict(zip(named["slide_id"], named["patient_id"], strict=True)) or None
        if options.slides_table is not None:
            patient_of = read_slide_table(options.slides_table)
    except InputError as error:
        problems += error.problems
    return manifest, patient_of


def _arm(name: str | None, path: Path, read: ImportedPredictions) -> str:
    """The arm of a file: as said, else the folder of CLAM's or STAMP's folds, else the file's name."""
    if name is not None:
        return name
    place = path.resolve()
    stem = place.stem
    if read.source == "CLAM" and re.fullmatch(r"fold_[0-9]{1,4}", stem):
        stem = place.parent.name
    elif read.source == "STAMP":
        stem = place.parent.parent.name if re.fullmatch(r"split-[0-9]{1,4}", place.parent.name) else place.parent.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64].rstrip("-._") or "model"


def _several_arms(imported: Iterable[tuple[str | None, Path, ImportedPredictions]]) -> Iterable[Problem]:
    """Files that cannot be given the one name that the user gave."""
    for name, path, read in imported:
        own = list(dict.fromkeys(read.rows["arm"]))
        if name is not None and len(own) > 1:
            remedy = "Give the file without --name, or one with the rows of one arm."
            yield Problem(f"--name {name}={path}", "a file of one arm", f"{len(own)}: {', '.join(own[:5])}", remedy)


def _named(read: ImportedPredictions, arm: str, cohort: str, wanted: str | None) -> pd.DataFrame:
    """The rows under the arm that was asked for, else arm and cohort filled in where the file names none.

    And whether the file says fold and split itself.
    """
    rows = read.rows
    arms = arm if wanted is not None else rows["arm"].where(rows["arm"] != "", arm)
    return rows.assign(
        arm=arms, cohort=rows["cohort"].where(rows["cohort"] != "", cohort),
        file=read.where, says_fold="fold" in read.stated, says_split="split" in read.stated,
    )  # fmt: skip


def _name_problems(path: Path, rows: pd.DataFrame) -> Iterable[Problem]:
    """Names become file names and headings: they keep to letters, digits, dots, hyphens and underscores."""
    for column in ("arm", "cohort", "target"):
        for name in dict.fromkeys(rows[column]):
            if not re.fullmatch(IDENTIFIER, name):
                expected = f"a name of the {column} of at most 64 letters, digits, dots, hyphens and underscores"
                flag = {"arm": "--name ARM=FILE", "cohort": "--cohort", "target": "--target"}[column]
                yield Problem(f"{path}, {column}", expected, repr(name)[:80], f"Rename it, or give {flag}.")


def _repeated(
    table: pd.DataFrame, imported: list[tuple[str | None, Path, ImportedPredictions]], parts: list[pd.DataFrame]
) -> Iterable[Problem]:
    """Two files that say something about the same patient as the same arm."""
    key = ["arm", "seed", "fold", "cohort", "split", "patient_id", "slide_id", "target"]
    owner: dict[tuple[object, ...], int] = {}
    clashing: dict[tuple[int, int], int] = {}
    for number, rows in enumerate(parts):
        for values in rows[key].itertuples(index=False, name=None):
            first = owner.setdefault(values, number)
            if first != number:
                clashing[first, number] = clashing.get((first, number), 0) + 1
    for (first, second), count in clashing.items():
        one, other = imported[first][1], imported[second][1]
        got = f"arm {parts[second]['arm'].iloc[0]} in both, {count} rows"
        remedy = f"Name the arms: --name first={one} --name second={other}; or give a column fold or seed."
        yield Problem(f"{one} and {other}", "different arms, folds or seeds", got, remedy)


def _with_manifest(
    table: pd.DataFrame, manifest: Manifest, options: ScoreOptions, problems: list[Problem], notes: list[str]
) -> pd.DataFrame:
    """Labels from the manifest, and the parts of a split."""
    targets = list(dict.fromkeys(table["target"]))
    columns = {target: target for target in targets if target in manifest.table}
    for target in targets:
        if target not in columns:
            expected = f"a column {target!r} for the target"
            remedy = "Name the target as the manifest does: --target COLUMN."
            problems.append(Problem(str(manifest.path), expected, "no such column", remedy))
    values = {}
    if options.positive is not None:
        for target, column in columns.items():
            spelt = set(manifest.table[column]) - {"", options.positive}
            values[target] = {options.positive: 1, **({spelt.pop(): 0} if len(spelt) == 1 else {})}
    try:
        labels = patient_labels(manifest, columns, values)
    except InputError as error:
        remedy = "Say how the positive class is spelt: --positive TEXT; or write 0 and 1."
        problems += [  # what helps with such a cell elsewhere are options of other commands
            replace(problem, remedy=remedy) if problem.expected == "0, 1 or empty" else problem
            for problem in error.problems
        ]
        return table
    strangers = sorted(set(table["patient_id"]) - set(labels.index))
    if strangers:
        got = f"{len(strangers)} others: {', '.join(strangers[:5])}" + (" ..." if len(strangers) > 5 else "")
        remedy = "Correct the ids, or delete these rows."
        problems.append(Problem("predictions", f"patients of {manifest.path}", got, remedy))
        return table
    unscored = len(set(labels.index) - set(table["patient_id"]))
    if unscored:
        notes.append(f"{unscored} patients of {manifest.path.name} have no score by any arm")
    known = [
        labels.at[patient, target] if target in labels else float("nan")
        for patient, target in zip(table["patient_id"], table["target"], strict=True)
    ]
    manifest_labels = pd.Series(known, index=table.index, dtype="float64")
    differing = table["label"].notna() & (table["label"] != manifest_labels)
    for _, row in table[differing].drop_duplicates(["patient_id", "target"]).iterrows():
        where = f"{manifest.path}, patient {row['patient_id']}, {row['target']}"
        got = f"{row['label']:g} in the predictions"
        problems.append(Problem(where, "the label that the predictions give", got, "Correct one of them."))
    table = table.assign(label=manifest_labels)
    if options.split is None:
        return table
    return _with_split(table, manifest, options.split, problems)


def _with_split(table: pd.DataFrame, manifest: Manifest, path: Path, problems: list[Problem]) -> pd.DataFrame:
    try:
        split = read_split(path, manifest)
    except InputError as error:
        problems += error.problems
        return table
    foldless = dict.fromkeys(table.loc[~table["says_fold"], "file"]) if len(split.folds) > 1 else {}
    if foldless:
        expected = f"the fold of each score, as {path} has {len(split.folds)}"
        remedy = "Name the column that holds it (--columns fold=NAME), or give a split of one fold."
        problems += [Problem(file, expected, "no column fold", remedy) for file in foldless]
        return table
    part = {
        (str(p), int(f)): str(s)
        for p, f, s in split.table[["patient_id", "fold", "split"]].itertuples(index=False, name=None)
    }
    pairs = list(zip(table["patient_id"], table["fold"], strict=True))
    absent = sorted({f"{patient} (fold {fold})" for patient, fold in pairs if (patient, fold) not in part})
    if absent:
        got = f"{len(absent)} others: {', '.join(absent[:5])}" + (" ..." if len(absent) > 5 else "")
        remedy = "Name the column that holds the fold (--columns fold=NAME), or correct the ids."
        problems.append(Problem("predictions", f"patients and folds of {path}", got, remedy))
        return table
    split_says = pd.Series([part[pair] for pair in pairs], index=table.index, dtype=str)
    differing = table.assign(wanted=split_says)[table["says_split"] & (table["split"] != split_says)]
    for (file, said, wanted), rows in differing.groupby(["file", "split", "wanted"], sort=True):
        patients = list(dict.fromkeys(rows["patient_id"]))
        where = str(file) + (f", row {rows['row'].iloc[0]}" if rows["row"].iloc[0] else "")
        got = f"{said} in {len(rows)} rows, of patients {', '.join(patients[:5])}" + (
            " ..." if len(patients) > 5 else ""
        )
        remedy = "Correct one of them; whom the model was trained on, it cannot be judged on."
        problems.append(Problem(where, f"{wanted}, as {path} says", got, remedy))
    return table.assign(split=split_says)


def _label_conflicts(table: pd.DataFrame) -> Iterable[Problem]:
    for (cohort, target), rows in table.groupby(["cohort", "target"], sort=True):
        said = rows.assign(label=rows["label"].fillna(-1)).groupby("patient_id")["label"].nunique()
        for patient in said.index[said > 1]:
            own = rows.loc[rows["patient_id"] == patient]
            got = ", ".join(
                sorted({"unknown" if pd.isna(x) else f"{x:g}" for x in own["label"]})
            ) + f" (arms {', '.join(sorted(set(own['arm'])))})"  # fmt: skip
            where = f"{cohort}, patient {patient}, {target}"
            remedy = "Correct the labels, or give --manifest."
            if own["label"].isna().any():
                remedy = "Fill in the label where it is empty (an empty one says: unknown), or give --manifest."
            yield Problem(where, "one label in all rows and files", got, remedy)


def _common_targets(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The targets that every arm scored; the others are named and left out."""
    by_arm = table.groupby("arm")["target"].agg(set)
    common = set.intersection(*by_arm)
    left = sorted(set(table["target"]) - common)
    if left and common:
        notes.append(f"targets that not every arm scored are left out: {', '.join(left)}")
        return table[table["target"].isin(common)].reset_index(drop=True)
    if not common:
        said = "; ".join(f"{arm}: {', '.join(sorted(targets))}" for arm, targets in by_arm.items())
        remedy = "Name it alike in all files: --target NAME."
        raise PredictionsError(Problem("predictions", "a target that all arms scored", said, remedy))
    return table


def _refuse_tested_again(table: pd.DataFrame) -> None:
    """A patient counts once: scores by models of several folds would count the patient as often."""
    problems = []
    for (cohort, arm, seed), rows in table.groupby(["cohort", "arm", "seed"], sort=True):
        again = tested_again(rows)
        if len(again):
            where = f"predictions, arm {arm}, seed {seed}, cohort {cohort}"
            remedy = "Score one fold at a time, or folds whose test parts do not overlap: each would count anew."
            problems.append(Problem(where, TESTED_ONCE, tested_again_said(again), remedy))
    if problems:
        raise PredictionsError(problems)


def _part_notes(table: pd.DataFrame, split: Path | None) -> Iterable[str]:
    """How many rows each part has, where a split file parted them or training patients are left out."""
    for cohort, rows in table.groupby("cohort", sort=True):
        if split is not None or (rows["split"] == "train").any():
            said = [
                f"{len(own)} rows of {own['patient_id'].nunique()} patients {part}"
                + (" (left out: the model was trained on them)" if part == "train" else "")
                for part in SPLITS
                if len(own := rows[rows["split"] == part])
            ]
            yield f"{cohort}{'' if split is None else f', parted by {split.name}'}: {', '.join(said)}"


def _joint_notes(table: pd.DataFrame) -> Iterable[str]:
    """In which parts patients are compared within the folds of several models."""
    moved = table[joint_folds(table) != table["fold"]]
    for cohort, split in moved[["cohort", "split"]].drop_duplicates().itertuples(index=False, name=None):
        yield f"{cohort} {split}: arms or seeds differ in folds; patients are compared within the folds of all"


def _refuse_nothing_shared(table: pd.DataFrame) -> None:
    shared = shared_rows(table)
    if not ((shared["split"] != "validation") & shared["label"].notna()).any():
        if table["split"].isin(["train", "validation"]).all():
            got = ", ".join(f"{number} rows {part}" for part, number in sorted(table["split"].value_counts().items()))
            remedy = "Add the rows of patients on whom the models are to be judged, as `test` or `external`."
            raise PredictionsError(Problem("predictions", "rows of test or external patients", got, remedy))
        said = "; ".join(
            f"{arm}: {rows['patient_id'].nunique()} patients, folds {', '.join(map(str, sorted(set(rows['fold']))))}"
            for arm, rows in table.groupby("arm")
        )
        remedy = "Give files about the same patients with the same ids, folds and parts, or score them one by one."
        raise PredictionsError(
            Problem("predictions", "test or external patients with labels that all arms scored", said, remedy)
        )


def _covariates(
    table: pd.DataFrame, manifest: Manifest | None, imported: list[ImportedPredictions], options: ScoreOptions
) -> pd.DataFrame:
    """One row a patient with the subgroups' columns, from the manifest or else from the files themselves."""
    patients = (
        table[["cohort", "patient_id"]].drop_duplicates().sort_values(["cohort", "patient_id"], ignore_index=True)
    )
    if not options.subgroups:
        return patients
    if manifest is not None:
        source = patient_covariates(manifest.included).table
    else:
        rows = pd.concat([read.covariates for read in imported], ignore_index=True)
        source = rows.fillna("").drop_duplicates().set_index("patient_id")
    lacking = [name for name in options.subgroups if name not in source]
    if lacking:
        files = [read.where for read in imported] if options.manifest is None else [str(options.manifest)]
        where = " and ".join(files)
        remedy = "Correct --subgroups, or give a manifest with the column."
        raise PredictionsError(Problem(where, f"a column {name!r}", "no such column", remedy) for name in lacking)
    twice = sorted(set(source.index[source.index.duplicated()]))
    if twice:
        got = f"several for {', '.join(map(str, twice[:5]))}"
        remedy = "Give every row of a patient the same value."
        raise PredictionsError(Problem("--subgroups", "one value a patient", got, remedy))
    found = source[list(options.subgroups)].astype(str).replace({"nan": "", "NA": ""})
    return patients.join(found.reindex(patients["patient_id"]).fillna("").reset_index(drop=True))
