"""A folder of scored predictions to everything that its report is made from; needs nothing but the folder."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tapfm_eval import statistics
from tapfm_eval.analysis import Panel, analyse, panels_of
from tapfm_eval.cohort.csvfile import read_csv_file
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.manifest import Manifest
from tapfm_eval.errors import Problem, RunError
from tapfm_eval.predictions.shared import count_sharing, shared_rows
from tapfm_eval.predictions.table import read_predictions
from tapfm_eval.report.inputs import ReportInputs, ScoredSummary
from tapfm_eval.results import OperatingPointResult, Results
from tapfm_eval.rundir import RunFolder, sha256_file
from tapfm_eval.scoring.plan import ScoredProtocol, ScorePlan, read_plan, scored_protocol

PLAN = "score.json"
COVARIATES = "inputs/covariates.csv"


def is_scored(root: Path) -> bool:
    """Whether a folder holds predictions that the suite was given, and not a run of a protocol."""
    return (root / PLAN).is_file()


def scored_inputs(root: Path) -> ReportInputs:
    """Everything that the report of a scored study is made from, recomputed from its folder.

    Raises:
        InputError: The folder is not as `tapfm-eval score` writes it.
    """
    folder, plan = RunFolder(root), read_plan(root / PLAN)
    table = read_predictions(folder.predictions)
    _check_names(plan, table, root)
    shared = shared_rows(table)
    splits = {str(name): set(rows["split"]) for name, rows in shared.groupby("cohort")}
    protocol = scored_protocol(plan, splits)
    covariates = _covariates(root, plan)
    cohorts = {name: _cohort(name, protocol, shared, covariates, folder.predictions) for name in plan.cohorts}
    results = analyse(protocol, shared, cohorts, [])
    # no manifest was audited, no slide is at hand, and nobody's way into the study is known: none is made up
    results = replace(
        results, flow=(), exclusions=(), baseline=(), baseline_differences=(), cases=(),
        operating_points=(*results.operating_points, *_declared(plan, protocol, panels_of(shared, protocol))),
    )  # fmt: skip
    sections, run = _provenance(folder)
    sections.setdefault("hashes (sha256)", {})["predictions"] = sha256_file(folder.predictions)
    said = _thresholds_said(results, plan)
    summary = ScoredSummary(plan.files, count_sharing(table, shared), plan.notes, said, plan.rehearsal)
    return ReportInputs(protocol, plan.sha256, run, results, (), sections, None, scored=summary)


def _check_names(plan: ScorePlan, table: pd.DataFrame, root: Path) -> None:
    """The plan and the predictions name the same arms and cohorts."""
    problems = [
        Problem(str(root / PLAN), f"the {column}s of predictions.csv: {', '.join(sorted(set(table[column])))}",
                ", ".join(names), "Run `tapfm-eval score` again.")
        for column, names in (("arm", plan.arms), ("cohort", plan.cohorts), ("target", plan.targets))
        if set(names) != set(table[column])
    ]  # fmt: skip
    if problems:
        raise RunError(problems)


def _covariates(root: Path, plan: ScorePlan) -> pd.DataFrame:
    """Index (cohort, patient_id), a text column a subgroup; empty where there are none."""
    if not plan.subgroups:
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["cohort", "patient_id"]))
    required = ("cohort", "patient_id", *plan.subgroups)
    file = read_csv_file(root / COVARIATES, RunError, "the covariates of scored patients", required)
    rows = pd.DataFrame(list(file.rows), columns=list(file.columns), dtype=str)
    return rows.set_index(["cohort", "patient_id"])[list(plan.subgroups)]


def _cohort(name: str, protocol: ScoredProtocol, shared: pd.DataFrame, covariates: pd.DataFrame, path: Path) -> Cohort:
    """The patients whom all arms scored, as the analysis knows a cohort."""
    rows = shared[shared["cohort"] == name]
    targets = list(protocol.targets)
    labels = rows.pivot_table(index="patient_id", columns="target", values="label", aggfunc="first", dropna=False)
    labels = labels.reindex(index=sorted(set(rows["patient_id"])), columns=targets).astype("float64")
    slides = rows[["patient_id", "slide_id"]].drop_duplicates().sort_values(["patient_id", "slide_id"])
    slides = slides.assign(path="", mpp=np.nan).reset_index(drop=True)
    table = slides[["patient_id", "slide_id", "path"]].assign(exclude="")
    own = covariates[covariates.index.get_level_values(0) == name].droplevel(0).reindex(labels.index)
    if "age" in own:  # the one covariate that is a number
        own = own.assign(age=pd.to_numeric(own["age"], errors="coerce"))
    return Cohort(
        name=name, role=protocol.cohorts[name].role, manifest=Manifest(name, path, "", table), slides=slides,
        labels=labels, assessed=tuple(t for t in targets if labels[t].notna().any()),
        covariates=own, covariate_conflicts=(), split=None, folds=(), exclusions=(), flow=(),
    )  # fmt: skip


def _declared(
    plan: ScorePlan, protocol: ScoredProtocol, panels: Mapping[tuple[str, str], Panel]
) -> Iterator[OperatingPointResult]:
    """Operating points at thresholds that the user stated."""
    level = plan.level
    evaluated = [panel for _, panel in sorted(panels.items()) if panel.split != "validation"]
    for declared, target, arm, panel in itertools.product(plan.thresholds, plan.targets, plan.arms, evaluated):
        if declared.arm not in ("", arm):
            continue
        j = panel.column(target)
        labels = panel.labels[:, j]
        point = statistics.operating_point(labels, panel.scores[arm][:, j], declared.value, level=level)
        total = point.tp + point.fp + point.tn + point.fn
        yield OperatingPointResult(
            rule=f"declared {declared.value:g}", target=target, arm=arm, cohort=panel.cohort, split=panel.split,
            threshold=declared.value, true_positives=point.tp, false_positives=point.fp, true_negatives=point.tn,
            false_negatives=point.fn, sensitivity=point.sensitivity, specificity=point.specificity, ppv=point.ppv,
            npv=point.npv, avoided=statistics.proportion(point.tn + point.fn, total, level=level),
        )  # fmt: skip


def _thresholds_said(results: Results, plan: ScorePlan) -> str:
    """Where the thresholds came from, or why there are none."""
    derived = any(not point.declared for point in results.operating_points)
    said = []
    if derived:
        said.append("Thresholds were fixed on the validation patients that the files hold.")
    if plan.thresholds:
        values = ", ".join(f"{d.value:g}" + (f" for {d.arm}" if d.arm else "") for d in plan.thresholds)
        said.append(
            f"Thresholds declared by the user: {values}; whether before the labels were known, is not recorded."
        )
    if not said:
        said.append(
            "There are no operating points: the files hold no validation patients on whom a threshold could be fixed, "
            "and none was declared. A threshold chosen on the patients that it is judged on would look better than it "
            "is. Give --threshold, or validation patients in a column `split`."
        )
    return " ".join(said)


def _provenance(folder: RunFolder) -> tuple[dict[str, dict[str, str]], str]:
    try:
        stated = json.loads(folder.provenance.read_text(encoding="utf-8"))
        sections = {str(title): {str(k): str(v) for k, v in entries.items()}
                    for title, entries in stated["sections"].items()}  # fmt: skip
        return sections, str(stated["run_id"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        remedy = "Run `tapfm-eval score` again."
        got = f"{type(error).__name__}: {error}"[:120]
        raise RunError(Problem(str(folder.provenance), "the record as `score` wrote it", got, remedy)) from None
