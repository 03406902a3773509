"""The commands as functions, for notebooks and scripts: the same names, the same results, records instead of text.

    >>> from tapfm_eval import api

Nothing heavy is imported before a function is called; only `run`, `diagnose_blocks`, `backbones_check` and
`backbones_fetch` need torch. What is wrong is raised as one of `tapfm_eval.errors`, whose `problems` say where, what
was expected, what came and what to do; docs/api.md shows it all.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from tapfm_eval.audit.findings import Finding
    from tapfm_eval.backbones.cards import BackboneCard
    from tapfm_eval.backbones.check import BackboneCheck
    from tapfm_eval.cohort.download import DownloadList, SlideCheck
    from tapfm_eval.cohort.import_folder import ImportRecord
    from tapfm_eval.cohort.link import Links
    from tapfm_eval.cohort.split_maker import SplitPlan
    from tapfm_eval.comparison import RunsCompared
    from tapfm_eval.diagnosis import Diagnosis
    from tapfm_eval.doctor import Check
    from tapfm_eval.planning import StudyPlan
    from tapfm_eval.protocol.diff import Difference
    from tapfm_eval.protocol.lock import Lock
    from tapfm_eval.protocol.schema import Protocol
    from tapfm_eval.scoring.score import ScoreOutcome
    from tapfm_eval.study import RunOutcome
    from tapfm_eval.verification import Verification

Place = str | os.PathLike[str]
WORKERS = min(8, os.cpu_count() or 1)


def run(
    protocol: Place,
    *,
    rehearse: bool = False,
    slides: Mapping[str, Place] | None = None,
    weights: Mapping[str, Place] | None = None,
    features: Mapping[str, Place] | None = None,
    arms: Sequence[str] = (),
    device: str | None = None,
    workers: int = WORKERS,
    out: Place = "reports",
    store: Place | None = None,
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
    checkpoint_minutes: float = 10.0,
    checkpoint_slides: int | None = None,
    quiet: bool = False,
) -> "RunOutcome":
    """Runs a study, or its rehearsal, as `tapfm-eval run`; the same call resumes.

    Args:
        protocol: The protocol's file.
        rehearse: Synthetic slides and small random networks instead of slides, weights and GPU.
        slides: Folder of the slides by cohort; `paths.toml` in the working folder fills gaps.
        weights: Local checkpoint by backbone, likewise.
        features: Folder of tile features of other tools by cohort, instead of slides.
        arms: Train these alone, and stop before any test patient.
        device: cpu, cuda or cuda:N; None takes the GPU if there is one.
        workers: Processes that read slides.
        out: Folder under which the run is kept.
        store: Folder for embeddings, where they shall not lie in the run's own.
        executor: ray trains units side by side, on this machine or a cluster.
        address: A Ray cluster that this machine belongs to.
        checkpoint_minutes: Of work between two checkpoints.
        checkpoint_slides: A checkpoint after so many slides as well.
        quiet: No progress on stderr.
    """
    from tapfm_eval.preparation import RunOptions, local_paths
    from tapfm_eval.progress import Reporter
    from tapfm_eval.study import run_protocol

    known_slides, known_weights = local_paths()
    options = RunOptions(
        slides=_paths(slides), weights=_paths(weights), features=_paths(features), local_slides=known_slides,
        local_weights=known_weights, out=Path(out), store=_path(store), device=device, workers=workers,
        arms=tuple(arms), rehearse=rehearse, command="tapfm_eval.api.run", executor=executor, address=address,
        checkpoint_seconds=60 * checkpoint_minutes, checkpoint_slides=checkpoint_slides,
    )  # fmt: skip
    return run_protocol(Path(protocol), options, Reporter(quiet=quiet))


def audit(
    study: Place,
    *,
    split: Place | None = None,
    targets: Sequence[str] = (),
    values: Mapping[str, Mapping[str, int | None]] | None = None,
    slides: Mapping[str, Place] | None = None,
) -> "tuple[Finding, ...]":
    """All findings about a protocol's cohorts, or about a manifest (.csv) with its split, as `tapfm-eval audit`.

    Args:
        study: The file of a protocol or of a manifest.
        split: Of the manifest.
        targets: Label columns of the manifest; none means all.
        values: What cells other than 0, 1 and empty stand for, by label column of the manifest; None is unknown.
        slides: Folder of slides by cohort; each slide is opened. A manifest's cohort is named by its file.
    """
    from tapfm_eval.audit.audit import audit_manifest, audit_subjects
    from tapfm_eval.audit.findings import KINDS
    from tapfm_eval.audit.gather import gather_manifest, gather_study
    from tapfm_eval.audit.slides import audit_slides
    from tapfm_eval.backbones.cards import CARDS
    from tapfm_eval.protocol.load import read_protocol

    path, folders = Path(study), _paths(slides)
    if path.suffix.lower() not in (".yaml", ".yml"):
        alone = gather_manifest(path, _path(split), list(targets), values)
        return audit_manifest(alone, audit_slides(alone.subjects, folders) if folders else ())
    protocol = read_protocol(path, backbones=CARDS, findings=KINDS)
    gathered = gather_study(protocol, path.parent)
    opened = audit_slides(gathered.subjects, folders) if folders else ()
    return audit_subjects(protocol, gathered, CARDS, opened)


@dataclass(frozen=True, slots=True)
class SplitMade:
    """A split that was written."""

    path: Path
    plan: "SplitPlan"  # the table, its imbalance, and what fell short
    findings: "tuple[Finding, ...]"  # warnings and errors about manifest and split


def split(
    manifest: Place,
    out: Place,
    *,
    targets: Sequence[str],
    values: Mapping[str, Mapping[str, int | None]] | None = None,
    scheme: str = "site-preserved",
    folds: int | None = None,
    seed: int = 1,
    shares: tuple[float, float, float] | None = None,
    min_per_class: int = 3,
) -> SplitMade:
    """Splits a cohort by patient, writes the split and audits it, as `tapfm-eval split`.

    Args:
        manifest: Of the cohort.
        out: The file to write; it must not be there yet.
        targets: Label columns that are balanced together.
        values: What cells other than 0, 1 and empty stand for, by label column; None is unknown.
        scheme: holdout, kfold or site-preserved.
        folds: How many; 5 by default, and not for a holdout.
        seed: The same seed gives the same bytes.
        shares: Of a holdout: train, validation, test; 0.6, 0.2 and 0.2 by default.
        min_per_class: Patients of each class that every block should hold.
    """
    import tempfile

    from tapfm_eval.audit.audit import audit_manifest
    from tapfm_eval.audit.gather import gather_manifest
    from tapfm_eval.cohort.manifest import read_manifest
    from tapfm_eval.cohort.split_maker import SCHEMES, Shares, split_manifest
    from tapfm_eval.cohort.splits import write_split
    from tapfm_eval.errors import InputError, Problem
    from tapfm_eval.rundir import write_bytes

    names, path = list(dict.fromkeys(targets)), Path(out)
    chosen = next((known for known in SCHEMES if known == scheme), None)
    problems = []
    if chosen is None:
        problems.append(Problem("--scheme", " or ".join(SCHEMES), repr(scheme), "Choose one of them."))
    if folds is not None and scheme == "holdout":
        remedy = "Leave it out, or take --scheme kfold or site-preserved."
        problems.append(Problem("--folds", "none beside --scheme holdout, which has one fold", str(folds), remedy))
    if shares is not None and scheme != "holdout":
        got = ", ".join(f"{share:g}" for share in shares)
        remedy = "Add --scheme holdout, or leave it out."
        problems.append(Problem("--shares", f"none beside --scheme {scheme}, whose folds are equal", got, remedy))
    if not names:
        problems.append(Problem("--targets", "at least one label column", "none", "Name it: --targets EGFR."))
    if path.exists():
        remedy = "Give another name, or delete it."
        problems.append(Problem(f"--out {path}", "a file that is not there yet", "an existing one", remedy))
    if problems or chosen is None:
        raise InputError(problems)
    source = Path(manifest)
    made = split_manifest(
        read_manifest(source, source.stem), {name: name for name in names},
        scheme=chosen, seed=seed, folds=5 if folds is None else folds,
        shares=Shares() if shares is None else Shares(*shares), min_per_class=min_per_class, values=values,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_split(Path(folder) / "split.csv", made.table, made.meta)
        write_bytes(path, (Path(folder) / "split.csv").read_bytes())
    found = audit_manifest(gather_manifest(source, path, names, values))
    return SplitMade(path, made, tuple(finding for finding in found if finding.severity != "note"))


def plan(
    protocol: Place,
    *,
    auroc: float = 0.8,
    correlation: float = 0.5,
    power: float = 0.8,
    probe: Place | None = None,
    gpus: Sequence[str] = (),
) -> "StudyPlan":
    """Interval widths, power, memory, hours, their end on given GPUs, and storage of a study, as `tapfm-eval plan`."""
    from tapfm_eval.planning import Assumptions, plan_study, read_probe

    measured = {} if probe is None else read_probe(Path(probe))
    assumptions = Assumptions(auroc, correlation, power)
    return plan_study(Path(protocol), assumptions=assumptions, probes=measured, gpus=gpus)


def score(
    *files: Place,
    names: Mapping[str, Place] | None = None,
    columns: Mapping[str, str] | None = None,
    thresholds: Mapping[str, float] | float | None = None,
    manifest: Place | None = None,
    split: Place | None = None,
    slides_table: Place | None = None,
    target: str | None = None,
    positive: str | None = None,
    cohort: str | None = None,
    subgroups: Sequence[str] = (),
    level: float = 0.95,
    title: str | None = None,
    out: Place = "reports",
    formats: Sequence[str] = ("html", "pdf"),
    paper: str = "a4",
) -> "ScoreOutcome":
    """The whole analysis and report of predictions of any model, as `tapfm-eval score`.

    Args:
        files: CSV with patient, label, score; CLAM, STAMP or this suite's table. Several files are arms.
        names: Further files by the name of their arm.
        columns: Column of a plain CSV by role: patient, label, score, slide, target, fold, seed, split, cohort, arm.
        thresholds: One for all arms, or by arm; fixed before the labels were known.
        manifest: Labels and subgroups come from it.
        split: Of the manifest: who validates, who tests.
        slides_table: CSV with case_id, slide_id: the patient of each slide.
        target: Name of the one target of the files.
        positive: How the positive class is spelt, if not 1.
        cohort: Name of the cohort.
        subgroups: Columns by which AUROCs are broken down.
        level: Level of the intervals.
        title: Title of the report.
        out: Folder under which the study is kept.
        formats: html, pdf or both.
        paper: a4 or letter.
    """
    from tapfm_eval.scoring.gather import ScoreOptions
    from tapfm_eval.scoring.plan import DeclaredThreshold
    from tapfm_eval.scoring.score import score_predictions

    if isinstance(thresholds, Mapping):
        declared = tuple(DeclaredThreshold(arm, value) for arm, value in thresholds.items())
    else:
        declared = () if thresholds is None else (DeclaredThreshold("", thresholds),)
    named = tuple((arm, Path(file)) for arm, file in (names or {}).items())
    options = ScoreOptions(
        files=tuple(Path(file) for file in files), names=named,
        columns=dict(columns or {}), manifest=_path(manifest), split=_path(split), slides_table=_path(slides_table),
        target=target, positive=positive, cohort=cohort, thresholds=declared, subgroups=tuple(subgroups), level=level,
        title=title,
    )  # fmt: skip
    return score_predictions(options, Path(out), formats=tuple(formats), paper=paper, command="tapfm_eval.api.score")


def report(
    folder: Place, *, formats: Sequence[str] = ("html", "pdf"), paper: str = "a4", show_ids: bool = False
) -> tuple[Path, ...]:
    """Analyses a finished run anew and writes its report, as `tapfm-eval report`; returns the files written.

    Args:
        folder: The run's.
        formats: html, pdf or both.
        paper: a4 or letter.
        show_ids: Name patients and slides; otherwise they are numbered.
    """
    from tapfm_eval.reporting import write_analysis

    return write_analysis(Path(folder), formats=tuple(formats), paper=paper, show_ids=show_ids)[0]


def compare(
    run_a: Place, run_b: Place, *, arms: Sequence[tuple[str, str]] = (), level: float | None = None
) -> "RunsCompared":
    """Two finished runs on the patients that both predicted, as `tapfm-eval compare`."""
    from tapfm_eval.comparison import compare_runs

    return compare_runs(Path(run_a), Path(run_b), arms=arms, level=level)


def verify(folder: Place) -> "Verification":
    """Recomputes every hash and number of a run, as `tapfm-eval verify`."""
    from tapfm_eval.verification import verify_run

    return verify_run(Path(folder))


def doctor(protocol: Place | None = None, *, out: Place = "reports", offline: bool = False) -> "tuple[Check, ...]":
    """What this machine has and lacks for a run, as `tapfm-eval doctor`."""
    from tapfm_eval.doctor import examine

    return examine(Path(out), _path(protocol), offline=offline)


def diagnose_blocks(
    protocol: Place,
    arm: str,
    *,
    rehearse: bool = False,
    slides: Mapping[str, Place] | None = None,
    weights: Mapping[str, Place] | None = None,
    patients: int = 64,
    epochs: int = 1,
    share: float = 0.85,
    device: str | None = None,
    workers: int = WORKERS,
    out: Place = "reports",
    quiet: bool = False,
) -> "Diagnosis":
    """How many last blocks of an arm's backbone are worth training, as `tapfm-eval diagnose-blocks`.

    Args:
        protocol: The protocol's file.
        arm: Arm whose backbone is looked at.
        rehearse: Synthetic slides and a small random network.
        slides: Folder of the development cohort's slides, by cohort.
        weights: Local checkpoint by backbone.
        patients: Training patients of the probe.
        epochs: Epochs of the probe.
        share: Share of the drift that the last blocks must hold.
        device: cpu, cuda or cuda:N; None takes the GPU if there is one.
        workers: Processes that read slides.
        out: Folder under which results are kept.
        quiet: No progress on stderr.
    """
    from tapfm_eval.diagnosis import ProbePlan
    from tapfm_eval.diagnosis import diagnose_blocks as diagnose
    from tapfm_eval.preparation import RunOptions, local_paths
    from tapfm_eval.progress import Reporter

    known_slides, known_weights = local_paths()
    options = RunOptions(
        slides=_paths(slides), weights=_paths(weights), local_slides=known_slides, local_weights=known_weights,
        out=Path(out), device=device, workers=workers, rehearse=rehearse,
    )  # fmt: skip
    return diagnose(Path(protocol), arm, ProbePlan(patients, epochs, share), options, Reporter(quiet=quiet))


def protocol_show(protocol: Place) -> "Protocol":
    """The resolved protocol, every default written out, as `tapfm-eval protocol show`."""
    from tapfm_eval.backbones.cards import CARDS
    from tapfm_eval.protocol.load import read_protocol

    return read_protocol(Path(protocol), backbones=CARDS)


def protocol_diff(first: Place, second: Place) -> "tuple[Difference, ...]":
    """Every key that two resolved protocols state differently, as `tapfm-eval protocol diff`."""
    from tapfm_eval.errors import InputError, Problem
    from tapfm_eval.protocol.diff import protocol_difference

    read, problems = [], list[Problem]()
    for path in (first, second):
        try:
            read.append(protocol_show(path))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(dict.fromkeys(problems))
    return protocol_difference(*read)


def protocol_lock(protocol: Place, *, out: Place = "reports") -> "tuple[Lock, tuple[str, ...] | None]":
    """Writes the lock beside the protocol, as `tapfm-eval protocol lock`.

    Args:
        protocol: The protocol's file.
        out: Folder under which its runs lie.

    Returns:
        The lock, and the names of what it had otherwise before; None where there was none of this version.
    """
    from tapfm_eval.preparation import lock_protocol

    return lock_protocol(Path(protocol), Path(out))


def protocol_schema() -> dict[str, Any]:
    """The JSON schema of a protocol, as `tapfm-eval protocol schema`."""
    from tapfm_eval.protocol.load import protocol_schema as schema

    return schema()


def cohort_download_list(manifest: Place) -> "DownloadList":
    """What `gdc-client` is to download for a cohort, as `tapfm-eval cohort download-list`."""
    from tapfm_eval.cohort.download import download_list
    from tapfm_eval.cohort.manifest import read_manifest

    return download_list(read_manifest(Path(manifest), Path(manifest).stem))


def cohort_check(
    manifest: Place, slides: Place, *, md5: bool = True, opened: bool = True, quiet: bool = False
) -> "SlideCheck":
    """Which slides of a cohort are missing, damaged or of unknown scale, as `tapfm-eval cohort check`.

    Args:
        manifest: Of the cohort.
        slides: Folder of its slides.
        md5: Read every file for its md5.
        opened: Open every slide.
        quiet: No progress on stderr.
    """
    from tapfm_eval.audit.slides import faults_on_opening, slide_files
    from tapfm_eval.cohort.download import check_slides, with_faults
    from tapfm_eval.cohort.manifest import read_manifest
    from tapfm_eval.progress import Reporter

    read, reporter, folder = read_manifest(Path(manifest), Path(manifest).stem), Reporter(quiet=quiet), Path(slides)
    with reporter.stage("Checking files", len(read.included)) as advance:
        found = check_slides(read, folder, verify_md5=md5, advance=advance)
    if not opened:
        return found
    faulty = {fault.row for fault in found.faults if fault.fault != "regions"}
    files = [file for file in slide_files(read, read.included, folder) if file.row not in faulty]
    with reporter.stage("Opening slides", len(files)) as advance:
        return with_faults(found, read, faults_on_opening(files, advance), verify_md5=md5)


def cohort_link(
    manifest: Place,
    slides: Place,
    out: Place,
    *,
    record: Place | None = None,
    table: Place | None = None,
    specimens: Sequence[str] = (),
) -> "Links":
    """Fills in the slides of a manifest that names patients, as `tapfm-eval cohort link`.

    Args:
        manifest: It lists patients.
        slides: Folder of slides, which are matched to them by name.
        out: The manifest to write.
        record: How each file was matched; by default `out` with the ending `.links.csv`.
        table: CSV `slide_id,specimen[,patient_id]`.
        specimens: To keep, where a patient has several.
    """
    from tapfm_eval.cohort.link import link_slides, read_slide_table, write_links
    from tapfm_eval.cohort.manifest import read_manifest
    from tapfm_eval.errors import InputError, Problem

    path = Path(out)
    beside = path.with_suffix(".links.csv") if record is None else Path(record)
    problems = [
        Problem(str(place), "a file that is not there yet", "an existing one", "Give another name, or delete it.")
        for place in (path, beside)
        if place.exists()
    ]
    absent = dict.fromkeys(place.parent for place in (path, beside) if not place.parent.is_dir())
    problems += [Problem(str(folder), "a folder", "none", "Make it, or give another name.") for folder in absent]
    if problems:
        raise InputError(problems)
    facts = None if table is None else read_slide_table(Path(table))
    read = read_manifest(Path(manifest), Path(manifest).stem)
    links = link_slides(read, Path(slides), facts, frozenset(specimens))
    write_links(links, path, beside)
    return links


def cohort_import(
    *files: Place,
    tool: str,
    out: Place,
    slides_table: Place | None = None,
    target: str | None = None,
    values: Mapping[str, Mapping[str, int | None]] | None = None,
    validation: float | None = None,
    seed: int = 1,
    slides: Place | None = None,
) -> "ImportRecord":
    """Turns another tool's tables into a manifest and a split, as `tapfm-eval cohort import`.

    Args:
        files: Tables of the other tool.
        tool: clam, stamp, patho-bench, tapfm, eagle, nnmil or slideflow.
        out: Folder to make for manifest and split.
        slides_table: STAMP's, or `slide_id,patient_id` for tapfm and eagle.
        target: What the column `label` of clam and nnmil stands for.
        values: What cells other than 0, 1 and empty stand for, by label column; None is unknown.
        validation: Share of training patients to draw for validation, where a fold has none.
        seed: Of that draw.
        slides: Folder of the slides, to fill in their paths.
    """
    from tapfm_eval.cohort.import_folder import Tables, import_cohort

    tables = Tables(tuple(Path(file) for file in files), _path(slides_table), target, _path(slides), values)
    return import_cohort(tool, tables, Path(out), validation, seed)


def backbones_list() -> "tuple[BackboneCard, ...]":
    """The backbones that protocols may name, as `tapfm-eval backbones list`."""
    from tapfm_eval.backbones.cards import CARDS

    return tuple(CARDS.values())


def backbones_check(name: str | None = None, *, weights: Place | None = None) -> "tuple[BackboneCheck, ...]":
    """Whether networks build and their weights load, as `tapfm-eval backbones check`.

    Args:
        name: A backbone; None checks all, without asking the hub.
        weights: Local checkpoint of that backbone instead of the hub.
    """
    from tapfm_eval.errors import InputError, Problem

    if name is None and weights is not None:
        raise InputError(Problem("--weights", "the name of the backbone too", "none", "Write `check NAME --weights`."))
    cards = backbones_list() if name is None else (_card(name),)
    from tapfm_eval.backbones.check import check_backbone  # after the name was found to be right: it imports torch

    return tuple(check_backbone(card, weights=_path(weights), ask_hub=name is not None) for card in cards)


def backbones_fetch(name: str, to: Place) -> Path:
    """Brings a backbone's weights to a folder, checked, as `tapfm-eval backbones fetch`; returns their file."""
    card = _card(name)
    from tapfm_eval.backbones.check import fetch_weights

    return fetch_weights(card, Path(to))


def predictions(folder: Place) -> "pd.DataFrame":
    """The predictions of a finished run, one row a model, slide and target."""
    from tapfm_eval.predictions.table import read_predictions
    from tapfm_eval.rundir import RunFolder

    return read_predictions(RunFolder(Path(folder)).predictions)


def results(folder: Place) -> dict[str, Any]:
    """`results.json` of a finished run: everything that its report says, as plain data.

    Raises:
        RunError: The folder holds no results.
    """
    import json

    from tapfm_eval.errors import Problem, RunError
    from tapfm_eval.rundir import RunFolder

    path = RunFolder(Path(folder)).results
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise RunError(Problem(str(path), "the results of a finished run", got, "Make them anew: report.")) from None
    return dict(content)


def _card(name: str) -> "BackboneCard":
    from tapfm_eval.backbones.cards import CARDS
    from tapfm_eval.errors import InputError, Problem, did_you_mean

    if name not in CARDS:
        remedy = did_you_mean(name, CARDS) or "`tapfm-eval backbones list` prints them."
        raise InputError(Problem("NAME", "a backbone", repr(name), remedy))
    return CARDS[name]


def _path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def _paths(places: Mapping[str, Place] | None) -> dict[str, Path]:
    return {name: Path(place) for name, place in (places or {}).items()}
