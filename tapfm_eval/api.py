"""The commands as functions, for notebooks and scripts: the same names, the same results, records instead of text.

    >>> from tapfm_eval import api

Nothing heavy is imported before a function is called, and only `run` needs torch. What is wrong is raised as one of
`tapfm_eval.errors`, whose `problems` say where, what was expected, what came and what to do; docs/api.md shows it all.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from tapfm_eval.audit.findings import Finding
    from tapfm_eval.comparison import RunsCompared
    from tapfm_eval.doctor import Check
    from tapfm_eval.planning import StudyPlan
    from tapfm_eval.scoring.score import ScoreOutcome
    from tapfm_eval.study import RunOutcome
    from tapfm_eval.verification import Verification

Place = str | os.PathLike[str]


def run(
    protocol: Place,
    *,
    rehearse: bool = False,
    slides: Mapping[str, Place] | None = None,
    weights: Mapping[str, Place] | None = None,
    features: Mapping[str, Place] | None = None,
    arms: Sequence[str] = (),
    device: str | None = None,
    workers: int = 2,
    out: Place = "reports",
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
        quiet: No progress on stderr.
    """
    from tapfm_eval.preparation import RunOptions, local_paths
    from tapfm_eval.progress import Reporter
    from tapfm_eval.study import run_protocol

    known_slides, known_weights = local_paths()
    options = RunOptions(
        slides=_paths(slides), weights=_paths(weights), features=_paths(features), local_slides=known_slides,
        local_weights=known_weights, out=Path(out), device=device, workers=workers, arms=tuple(arms),
        rehearse=rehearse, command="tapfm_eval.api.run",
    )  # fmt: skip
    return run_protocol(Path(protocol), options, Reporter(quiet=quiet))


def audit(study: Place, *, split: Place | None = None, targets: Sequence[str] = ()) -> "tuple[Finding, ...]":
    """All findings about a protocol's cohorts, or about a manifest (.csv) with its split, as `tapfm-eval audit`."""
    from tapfm_eval.audit.audit import audit_manifest, audit_subjects
    from tapfm_eval.audit.findings import KINDS
    from tapfm_eval.audit.gather import gather_manifest, gather_study
    from tapfm_eval.backbones.cards import CARDS
    from tapfm_eval.protocol.load import read_protocol

    path = Path(study)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return audit_manifest(gather_manifest(path, None if split is None else Path(split), list(targets)), ())
    protocol = read_protocol(path, backbones=CARDS, findings=KINDS)
    return audit_subjects(protocol, gather_study(protocol, path.parent), CARDS, ())


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


def report(folder: Place, *, formats: Sequence[str] = ("html", "pdf"), paper: str = "a4") -> tuple[Path, ...]:
    """Analyses a finished run anew and writes its report, as `tapfm-eval report`; returns the files written."""
    from tapfm_eval.reporting import write_analysis

    return write_analysis(Path(folder), formats=tuple(formats), paper=paper)[0]


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


def _path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def _paths(places: Mapping[str, Place] | None) -> dict[str, Path]:
    return {name: Path(place) for name, place in (places or {}).items()}
