"""A finished run to its report: analysis recomputed from the run folder alone, without torch."""

import csv
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tapfm_eval.analysis import analyse, panels_of, shown_cases
from tapfm_eval.audit.findings import Finding, findings_of
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.cohort.load import Cohort, load_cohorts
from tapfm_eval.errors import Problem, RunError
from tapfm_eval.fingerprints import paper_of, read_records, record_analysis
from tapfm_eval.predictions.table import read_predictions
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.rehearsal.check import check_rehearsal
from tapfm_eval.rehearsal.plan import changes_of
from tapfm_eval.report.inputs import RehearsalSummary, ReportInputs
from tapfm_eval.report.pictures import read_pictures
from tapfm_eval.report.write import FORMATS, write_report
from tapfm_eval.results import CaseResult, RehearsalCheck, UnitResult
from tapfm_eval.rundir import LOOKED, REPORTED, RunFolder, looks, sha256_file, write_text
from tapfm_eval.scoring.inputs import is_scored, scored_inputs
from tapfm_eval.serialise import results_json


def write_analysis(
    root: Path, *, formats: tuple[str, ...] = ("html", "pdf"), paper: str = "a4", show_ids: bool = False
) -> tuple[tuple[Path, ...], tuple[RehearsalCheck, ...]]:
    """Analyses a finished run from its folder alone and writes results and report; needs no torch.

    A format that the folder has already is written anew beside those asked for: it would tell of an older analysis, and
    may name patients where the new one does not. Its paper stays as it was.

    Raises:
        RunError: The folder does not hold a finished run.
    """
    folder = RunFolder(root)
    if folder.predictions.is_file() and not any(event["event"] == REPORTED for event in folder.events()):
        folder.journal(REPORTED)
    inputs = report_inputs(root)
    older = tuple(name for name in FORMATS if name not in formats and (root / f"report.{name}").is_file())
    if "pdf" in older:
        paper = paper_of(read_records(root))
    formats = (*formats, *older)
    write_text(folder.results, results_json(inputs.results))
    written = write_report(inputs, root, formats=formats, paper=paper, show_ids=show_ids)
    record_analysis(root, formats, paper, show_ids=show_ids)
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
    if is_scored(root):
        return scored_inputs(root)
    protocol = read_protocol(folder.protocol, backbones=CARDS, as_run=True)
    predictions = read_predictions(folder.predictions)
    cohorts = run_cohorts(protocol, root)
    with _as_written(folder.provenance) as stated:
        planted = stated["planted"]
        if planted is not None:
            planted = {str(target): float(auroc) for target, auroc in planted.items()}
        identity = str(stated["protocol_sha256"]), str(stated["run_id"])
        sections = {str(title): dict(entries) for title, entries in stated["sections"].items()}
    # a report in somebody's hands then says which predictions it was made from
    sections.setdefault("hashes (sha256)", {})["predictions"] = sha256_file(folder.predictions)
    for name in (LOOKED, REPORTED):
        first = next((str(event.get("time")) for event in folder.events() if event["event"] == name), None)
        if first is not None:
            sections.setdefault("run", {})[f"{name}, first time"] = first
    with _as_written(root / "audit.json") as audited:
        findings: tuple[Finding, ...] = findings_of(audited)
    annotated = None if protocol.tiles.regions == "none" else run_annotated(root)
    results = analyse(protocol, predictions, cohorts, run_failures(root), annotated)
    summary = None
    if planted is not None:
        summary = RehearsalSummary(
            planted, check_rehearsal(protocol, panels_of(predictions, protocol), planted), changes_of(cohorts)
        )
    seen = () if summary is not None else looks(folder)  # a rehearsal's do not count
    return ReportInputs(
        protocol, *identity, results, _unit_results(folder, protocol), sections, summary, findings,
        pictures=read_pictures(root), looks=tuple(f"{look.time}, run {look.run} ({look.what})" for look in seen),
    )  # fmt: skip


def run_cases(root: Path) -> tuple[CaseResult, ...]:
    """The patients whose slides the report of a run will show; chosen from its predictions alone."""
    folder = RunFolder(root)
    protocol = read_protocol(folder.protocol, backbones=CARDS, as_run=True)
    return shown_cases(protocol, read_predictions(folder.predictions), run_cohorts(protocol, root))


def run_cohorts(protocol: Protocol, root: Path) -> dict[str, Cohort]:
    """The cohorts of a run, from the copies of manifests and splits in its folder."""
    return load_cohorts(_localised(protocol, root), root / "inputs")


def run_failures(root: Path) -> list[Exclusion]:
    """The slides that left a run after its manifests were read."""
    with _as_written(root / "failures.json") as content:
        return [Exclusion(*row) for row in content["failures"]]


def run_annotated(root: Path) -> dict[str, frozenset[str]]:
    """The slides of a run whose tiles annotations restrict, by cohort."""
    from tapfm_eval.stages.tiling import ANNOTATED, tiled_rows

    found: dict[str, set[str]] = {}
    for row in tiled_rows(root):
        slides = found.setdefault(row["cohort"], set())
        if row["regions"] == ANNOTATED:
            slides.add(row["slide_id"])
    return {cohort: frozenset(slides) for cohort, slides in found.items()}


@contextmanager
def _as_written(path: Path) -> Iterator[Any]:
    """The content of a JSON file of a run; whatever goes wrong while it is taken apart is the file's fault."""
    remedy = "Run the same command again: it keeps what is done and writes the file anew."
    try:
        yield json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        missing = str(error.filename or path)
        raise RunError(Problem(missing, "a file of every run", "no such file", remedy)) from None
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"[:120]
        raise RunError(Problem(str(path), "the file as the run wrote it", got, remedy)) from None


def _localised(protocol: Protocol, root: Path) -> Protocol:
    plans = {}
    for name, plan in protocol.cohorts.items():
        split = f"{name}/split.csv" if (root / "inputs" / name / "split.csv").is_file() else None
        plans[name] = plan.model_copy(update={"manifest": f"{name}/manifest.csv", "split": split})
    return protocol.model_copy(update={"cohorts": plans})


def _unit_results(folder: RunFolder, protocol: Protocol) -> tuple[UnitResult, ...]:
    """What each unit came to, in the order of the protocol."""
    arms = [arm.id for arm in protocol.arms]
    found = [_unit_result(path) for path in (folder.root / "arms").glob("*/seed-*/fold-*/selection.json")]
    known = [unit for unit in found if unit.arm in arms]
    return tuple(sorted(known, key=lambda unit: (arms.index(unit.arm), unit.seed, unit.fold)))


def _unit_result(path: Path) -> UnitResult:
    with _as_written(path) as chosen, (path.parent / "history.csv").open(encoding="utf-8", newline="") as file:
        history = list(csv.DictReader(file))
        return UnitResult(
            chosen["arm"], chosen["seed"], chosen["fold"], chosen["epochs"], chosen["selected_epoch"],
            chosen["validation_auroc"], tuple(chosen["metric_targets"]), chosen["seconds"],
            chosen["peak_memory_mb"] or math.nan, chosen["memory_of"],
            tuple(float(row["train_loss"]) for row in history),
            tuple(float(row["validation_loss"]) for row in history),
            tuple(float(row["validation_auroc"]) for row in history),
        )  # fmt: skip
