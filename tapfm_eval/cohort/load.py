"""Which patients and slides a protocol studies: manifests, labels and splits put together, every departure counted."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import pandas as pd

from tapfm_eval.cohort.covariates import CovariateConflict, Covariates, patient_covariates
from tapfm_eval.cohort.flow import Exclusion, FlowStep, Member, depart, first_step
from tapfm_eval.cohort.labels import patient_labels
from tapfm_eval.cohort.manifest import BOOKKEEPING, STANDARD, Manifest, read_manifest
from tapfm_eval.cohort.splits import PARTS, TESTED_ONCE, Split, read_split, tested_again, tested_again_said
from tapfm_eval.errors import InputError, Problem
from tapfm_eval.protocol.schema import CohortPlan, Protocol


@dataclass(frozen=True, slots=True)
class Cohort:
    """The patients of one cohort that are in the study, and how all others left."""

    name: str
    role: str  # development or external
    manifest: Manifest  # as listed, before anybody left
    slides: pd.DataFrame
    """patient_id, slide_id, path, mpp (um/px, NaN = unknown), regions ("" = none, None = no such column); sorted by
    patient_id, slide_id. One row a named slide: a patient whose slides are not named yet is in `labels` only."""
    labels: pd.DataFrame  # index patient_id, sorted; a float column a target of the protocol: 0, 1, NaN = unknown
    assessed: tuple[str, ...]  # the targets for which the manifest has a column
    covariates: pd.DataFrame  # index as `labels`; text ("" = unknown), but `age` float
    covariate_conflicts: tuple[CovariateConflict, ...]  # rows of a patient that differ, outside the subgroups
    split: Split | None  # restricted to the patients in the study; None for external cohorts
    folds: tuple[int, ...]  # the folds to run; empty for external cohorts
    exclusions: tuple[Exclusion, ...]
    flow: tuple[FlowStep, ...]

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients in the study, sorted."""
        return tuple(self.labels.index)

    @property
    def unlinked(self) -> tuple[str, ...]:
        """The patients in the study whose slides the manifest does not name yet (`cohort link` names them)."""
        named = set(self.slides["patient_id"])
        return tuple(patient for patient in self.labels.index if patient not in named)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A cohort without files: its manifest and split as a rehearsal draws them for one that is only expected."""

    manifest: Manifest
    split: Split


def load_cohorts(protocol: Protocol, base: Path, drawn: Mapping[str, Drawn] | None = None) -> dict[str, Cohort]:
    """The cohorts of a protocol, by name in the protocol's order.

    A cohort that the protocol only declares by `expected` has no files and is left out, unless it is given in `drawn`.

    In the study are the rows without a reason in `exclude`, of patients with a known label of at least one target and,
    in the development cohort, a place in the split.

    Args:
        protocol: The protocol.
        base: The folder of the protocol file, to which manifest and split paths are relative.
        drawn: Stand-ins for cohorts that are only expected, by name.

    Raises:
        InputError: One error with the problems of all cohorts.
    """
    problems: list[Problem] = []
    cohorts: dict[str, Cohort] = {}
    manifests: dict[str, Manifest] = {}
    drawn = drawn or {}
    present = [name for name, plan in protocol.cohorts.items() if plan.manifest is not None or name in drawn]
    for name in present:
        try:
            manifests[name] = _manifest(protocol.cohorts[name], name, base, drawn)
        except InputError as error:
            problems.extend(error.problems)
    for name, manifest in manifests.items():
        try:
            split = drawn[name].split if name in drawn else None
            cohorts[name] = _load(protocol, name, manifest, base, split)
        except InputError as error:
            problems.extend(error.problems)
    if len(manifests) == len(present):
        problems += _subgroup_problems(protocol, manifests)
    problems += _shared(cohorts)
    if problems:
        raise InputError(problems)
    return cohorts


def given_path(base: Path, path: str) -> Path:
    """The path from the working folder, without `x/..` where dropping it leads to the same file."""
    joined = base / path
    plain = Path(os.path.normpath(joined))
    try:
        return plain if plain.samefile(joined) else joined
    except (OSError, ValueError):  # no such file: the reader says so
        return plain


def _manifest(plan: CohortPlan, name: str, base: Path, drawn: Mapping[str, Drawn]) -> Manifest:
    if plan.manifest is None:
        return drawn[name].manifest
    return read_manifest(given_path(base, plan.manifest), name)


def _load(protocol: Protocol, name: str, manifest: Manifest, base: Path, split: Split | None) -> Cohort:
    plan = protocol.cohorts[name]
    problems = _column_problems(protocol, name, manifest)
    assessed = tuple(target for target in protocol.targets if protocol.column(target, name) in manifest.table)
    columns = {target: protocol.column(target, name) for target in assessed}
    labels = pd.DataFrame()
    try:
        values = {target: protocol.targets[target].values for target in assessed}
        labels = patient_labels(manifest, columns, values)
    except InputError as error:
        problems.extend(error.problems)
    try:
        split = _planned_split(plan, manifest, base) if split is None else split
    except InputError as error:
        problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    cohort = _in_study(protocol, name, manifest, labels.reindex(columns=list(protocol.targets)), assessed, split)
    problems = _emptiness(cohort)
    subgroups = set(protocol.analysis.subgroups)
    for conflict in cohort.covariate_conflicts:
        if conflict.column in subgroups:
            where = f"{manifest.path}, patient {conflict.patient_id}, column {conflict.column}"
            got = f"{', '.join(map(repr, conflict.values))} (rows {', '.join(map(str, conflict.rows))})"
            remedy = "It is a subgroup of the analysis: give every row of the patient the same value."
            problems.append(Problem(where, "one value for the patient", got, remedy))
    if problems:
        raise InputError(problems)
    return cohort


def _planned_split(plan: CohortPlan, manifest: Manifest, base: Path) -> Split | None:
    if plan.split is None:
        return None
    whole = read_split(given_path(base, plan.split), manifest)
    absent = [] if plan.folds == "all" else sorted(set(plan.folds) - set(whole.folds))
    if absent:
        where = f"protocol, cohorts.{manifest.name}.folds"
        expected = f"folds of {whole.path}: {', '.join(map(str, whole.folds))}"
        raise InputError(Problem(where, expected, ", ".join(map(str, absent)), "Name folds that the split has."))
    split = chosen_folds(whole, plan)
    again = tested_again(split.table)
    if len(again):
        remedy = (
            "Each of these folds would count the patient anew. In the protocol, name one fold "
            f"(cohorts.{manifest.name}.folds: [{split.folds[0]}]) or folds whose test parts do not overlap; "
            "or make a split of such folds with `tapfm-eval split`."
        )
        raise InputError(Problem(f"{split.path}, test", TESTED_ONCE, tested_again_said(again), remedy))
    return split


def chosen_folds(split: Split, plan: CohortPlan) -> Split:
    """The split with the folds alone that the protocol names."""
    if plan.folds == "all":
        return split
    return replace(split, table=split.table[split.table["fold"].isin(plan.folds)].reset_index(drop=True))


def _in_study(
    protocol: Protocol,
    name: str,
    manifest: Manifest,
    labels: pd.DataFrame,
    assessed: tuple[str, ...],
    split: Split | None,
) -> Cohort:
    rows = manifest.table
    flow = [first_step(name, "in the manifest", _members(rows))]
    exclusions: list[Exclusion] = []

    def narrow(kept: pd.DataFrame, step: str, reason: str) -> pd.DataFrame:
        departure = depart(name, step, _members(rows), _members(kept), "manifest", reason)
        flow.append(departure.step)
        exclusions.extend(departure.exclusions)
        return kept

    for reason in sorted(set(rows["exclude"]) - {""}):
        rows = narrow(rows[rows["exclude"] != reason], "kept by the manifest", reason)
    labelled = labels.index[labels.notna().any(axis=1)]
    reason = f"no known label of {', '.join(protocol.targets)}"
    rows = narrow(rows[rows["patient_id"].isin(labelled)], "with a known label", reason)
    if split is not None:
        in_split = rows["patient_id"].isin(set(split.table["patient_id"]))
        rows = narrow(rows[in_split], "in the split", f"not in {split.path.name}")
    labels = labels.loc[sorted(set(rows["patient_id"]))]
    if split is not None:
        in_study = split.table["patient_id"].isin(labels.index)
        split = replace(split, table=split.table[in_study].reset_index(drop=True))
    label_columns = frozenset(protocol.column(target, name) for target in protocol.targets)
    covariates: Covariates = patient_covariates(rows, label_columns - set(protocol.analysis.subgroups))
    return Cohort(
        name=name,
        role=protocol.cohorts[name].role,
        manifest=manifest,
        slides=_slides(rows),
        labels=labels,
        assessed=assessed,
        covariates=covariates.table,
        covariate_conflicts=covariates.conflicts,
        split=split,
        folds=() if split is None else split.folds,
        exclusions=tuple(exclusions),
        flow=tuple(flow),
    )


def _members(rows: pd.DataFrame) -> list[Member]:
    return list(zip(rows["patient_id"], rows["slide_id"], strict=True))


def _slides(rows: pd.DataFrame) -> pd.DataFrame:
    named = rows[rows["slide_id"] != ""].sort_values(["patient_id", "slide_id"], ignore_index=True)
    if "mpp" not in named:
        named["mpp"] = float("nan")
    if "regions" not in named:
        named["regions"] = None
    return named[["patient_id", "slide_id", "path", "mpp", "regions"]]


def _column_problems(protocol: Protocol, name: str, manifest: Manifest) -> list[Problem]:
    """A target without a column is `not assessed`, unless the protocol names the column or trains on the cohort."""
    problems = []
    where = f"{manifest.path}, row 1"
    development = protocol.cohorts[name].role == "development"
    for target, plan in protocol.targets.items():
        column = protocol.column(target, name)
        if column in manifest.table:
            continue
        if name in plan.columns:
            remedy = f"Correct targets.{target}.columns.{name}, or add the column."
        elif development:
            remedy = f"Add the column, name another under targets.{target}.columns.{name}, or drop the target."
        else:
            continue
        problems.append(Problem(where, f"a column {column!r} for target {target}", "no such column", remedy))
    wanted = [protocol.column(target, name) for target in protocol.targets]
    if not development and not problems and not any(column in manifest.table for column in wanted):
        expected = f"a column for at least one target: {', '.join(wanted)}"
        remedy = "Add one, or name this cohort's columns under targets.<target>.columns."
        problems.append(Problem(where, expected, "none of them", remedy))
    return problems


def _emptiness(cohort: Cohort) -> list[Problem]:
    where = str(cohort.manifest.path)
    if not cohort.patients:
        said = "; ".join(f"{step.excluded_patients} left: {step.reason}" for step in cohort.flow[1:])
        return [Problem(where, "patients in the study", f"none ({said})", "Mend the manifest, the split or both.")]
    if cohort.split is None:
        return []
    return [
        Problem(
            f"{cohort.split.path}, fold {fold}",
            f"{part} patients with a known label",
            "none",
            "Make the split again from this manifest.",
        )
        for fold in cohort.folds
        for part in PARTS
        if not cohort.split.patients(fold, part)
    ]


def _subgroup_problems(protocol: Protocol, manifests: dict[str, Manifest]) -> list[Problem]:
    """A standard column that one cohort lacks is `not assessed` there; one that all lack cannot be meant."""
    problems = []
    for column in protocol.analysis.subgroups:
        lacking = [
            name for name, manifest in manifests.items() if column not in manifest.table or column in BOOKKEEPING
        ]
        if not lacking or (column in STANDARD and len(lacking) < len(manifests)):
            continue
        where = ", ".join(str(manifests[name].path) for name in lacking)
        remedy = "Add it to the manifest, or take it out of analysis.subgroups."
        problems.append(Problem(where, f"a covariate {column!r} for analysis.subgroups", "no such column", remedy))
    return problems


def _shared(cohorts: dict[str, Cohort]) -> list[Problem]:
    """Patients and slides in two cohorts: an external patient must be one, and a slide's scores are kept by its id."""
    patients = {name: set(cohort.patients) for name, cohort in cohorts.items()}
    slides = {name: set(cohort.slides["slide_id"]) for name, cohort in cohorts.items()}
    leave = "Give their rows in one of the manifests a reason in `exclude`"
    problems = []
    for noun, ids, remedy in (
        ("patient", patients, f"{leave}."),
        ("slide", slides, f"{leave}; if they are different slides of one name, rename them in one manifest."),
    ):
        for first, second in combinations(cohorts, 2):
            if shared := sorted(ids[first] & ids[second]):
                got = f"{len(shared)} in both: {', '.join(shared[:10])}" + (", ..." if len(shared) > 10 else "")
                where = f"{cohorts[first].manifest.path} and {cohorts[second].manifest.path}"
                problems.append(Problem(where, f"cohorts without a {noun} in common", got, remedy))
    return problems
