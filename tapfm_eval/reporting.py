"""A finished run to its report: analysis recomputed from the run folder alone, without torch."""

import csv
import json
from pathlib import Path

from tapfm_eval.analysis import analyse, panels_of
from tapfm_eval.audit.findings import Finding, findings_of
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.cohort.load import load_cohorts
from tapfm_eval.errors import Problem, RunError
from tapfm_eval.predictions.table import read_predictions
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.rehearsal.check import check_rehearsal
from tapfm_eval.rehearsal.plan import CHANGES
from tapfm_eval.report.inputs import RehearsalSummary, ReportInputs
from tapfm_eval.report.write import write_report
from tapfm_eval.results import RehearsalCheck, UnitResult
from tapfm_eval.rundir import RunFolder, write_text
from tapfm_eval.serialise import results_json


def write_analysis(
    root: Path, *, formats: tuple[str, ...] = ("html", "pdf"), paper: str = "a4"
) -> tuple[tuple[Path, ...], tuple[RehearsalCheck, ...]]:
    """Analyses a finished run from its folder alone and writes results and report; needs no torch.

    Raises:
        RunError: The folder does not hold a finished run.
    """
    inputs = report_inputs(root)
    write_text(RunFolder(root).results, results_json(inputs.results))
    written = write_report(inputs, root, formats=formats, paper=paper)
    checks = () if inputs.rehearsal is None else inputs.rehearsal.checks
    return written, checks


def report_inputs(root: Path) -> ReportInputs:
    """Everything a report is made from, recomputed from a run folder: predictions, manifests, splits, histories.

    Raises:
        RunError: The folder does not hold a finished run.
    """
    folder = RunFolder(root)
    if not folder.predictions.is_file():
        raise RunError(
            Problem(str(root), "the folder of a finished run", "no predictions.csv in it",
                    "Name a folder as the last line of `tapfm-eval run` printed it; an unfinished run resumes.")
        )  # fmt: skip
    protocol = read_protocol(folder.protocol, backbones=CARDS, as_run=True)
    stated = json.loads(folder.provenance.read_text(encoding="utf-8"))
    predictions = read_predictions(folder.predictions)
    cohorts = load_cohorts(_localised(protocol, root), root / "inputs")
    failures = json.loads((root / "failures.json").read_text(encoding="utf-8"))["failures"]
    failed = [Exclusion(*row) for row in failures]
    audited = _findings(root / "audit.json")
    results = analyse(protocol, predictions, cohorts, failed)
    summary = None
    if stated["planted"] is not None:
        checks = check_rehearsal(protocol, panels_of(predictions, protocol), stated["planted"])
        summary = RehearsalSummary(stated["planted"], checks, CHANGES)
    return ReportInputs(
        protocol,
        stated["protocol_sha256"],
        stated["run_id"],
        results,
        _unit_results(folder),
        stated["sections"],
        summary,
        audited,
    )


def _findings(path: Path) -> tuple[Finding, ...]:
    if not path.is_file():
        raise RunError(
            Problem(str(path), "the findings of the run's audit", "no such file",
                    "Run the same command again: it keeps what is done and writes them anew.")
        )  # fmt: skip
    return findings_of(json.loads(path.read_text(encoding="utf-8")))


def _localised(protocol: Protocol, root: Path) -> Protocol:
    plans = {}
    for name, plan in protocol.cohorts.items():
        split = f"{name}/split.csv" if (root / "inputs" / name / "split.csv").is_file() else None
        plans[name] = plan.model_copy(update={"manifest": f"{name}/manifest.csv", "split": split})
    return protocol.model_copy(update={"cohorts": plans})


def _unit_results(folder: RunFolder) -> tuple[UnitResult, ...]:
    units = []
    for path in sorted((folder.root / "arms").glob("*/seed-*/fold-*/selection.json")):
        chosen = json.loads(path.read_text(encoding="utf-8"))
        with (path.parent / "history.csv").open(encoding="utf-8", newline="") as file:
            history = list(csv.DictReader(file))
        units.append(
            UnitResult(
                chosen["arm"], chosen["seed"], chosen["fold"], chosen["epochs"], chosen["selected_epoch"],
                chosen["validation_auroc"], tuple(chosen["metric_targets"]), chosen["seconds"],
                chosen["peak_memory_mb"],
                tuple(float(row["train_loss"]) for row in history),
                tuple(float(row["validation_loss"]) for row in history),
                tuple(float(row["validation_auroc"]) for row in history),
            )
        )  # fmt: skip
    return tuple(units)
