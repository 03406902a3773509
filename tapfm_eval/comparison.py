"""Two runs against each other: the same arms, or named pairs of arms, on the patients that both predicted unseen."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapfm_eval import statistics
from tapfm_eval.analysis.comparisons import paired_difference
from tapfm_eval.analysis.discrimination import macro_targets
from tapfm_eval.analysis.panels import Panel, missing_estimate, panels_of, studied
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.errors import Problem, RunError
from tapfm_eval.predictions.shared import shared_rows
from tapfm_eval.predictions.table import read_predictions
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import EvaluatedSplit
from tapfm_eval.rundir import RunFolder
from tapfm_eval.scoring.inputs import PLAN, is_scored
from tapfm_eval.scoring.plan import read_plan, scored_protocol
from tapfm_eval.statistics.records import Comparison, Estimate

SHOWN = 5  # names in a message
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RunDifference:
    """An arm of run A against an arm of run B on one target, among the patients that both predicted unseen."""

    cohort: str
    split: EvaluatedSplit
    target: str  # `macro` for the mean over the targets
    arm_a: str
    arm_b: str
    patients_a: int  # patients of the part that A predicted, with a known label
    patients_b: int
    shared: int  # of these, predicted by both
    auroc_a: Estimate  # on the shared patients
    auroc_b: Estimate
    difference: Comparison  # A - B
    p_adjusted: float  # Holm, over all rows of the comparison

    @property
    def only_a(self) -> int:
        """Patients that A predicted and B did not; they are left out."""
        return self.patients_a - self.shared

    @property
    def only_b(self) -> int:
        """Patients that B predicted and A did not; they are left out."""
        return self.patients_b - self.shared


@dataclass(frozen=True, slots=True)
class RunsCompared:
    """What two runs came to, side by side."""

    run_a: Path
    run_b: Path
    level: float
    rows: tuple[RunDifference, ...]
    notes: tuple[str, ...]  # what could not be compared, and how patients were matched


@dataclass(frozen=True, slots=True)
class _Run:
    root: Path
    protocol: Protocol
    panels: dict[tuple[str, str], Panel]
    rehearsal: bool

    @property
    def arms(self) -> list[str]:
        return [arm.id for arm in self.protocol.arms]


def compare_runs(
    run_a: Path, run_b: Path, *, arms: Sequence[tuple[str, str]] = (), level: float | None = None
) -> RunsCompared:
    """Paired comparisons of two finished runs, recomputed from their predictions; needs no torch.

    Compared are test and external patients alone. On external patients an arm's score is the mean over its folds and
    seeds, as in the report of each run. A test patient is compared with patients of the same fold only; where the two
    runs split the cohort differently, of the same fold in both.

    Args:
        run_a: Folder of a finished run, or of `score`.
        run_b: Another.
        arms: Pairs of an arm of A and an arm of B; empty: the arms that have the same name in both, or the only ones.
        level: Level of the intervals; None: that of the runs.

    Raises:
        RunError: A folder holds no finished run, or the two have no arm, target, cohort or patient in common, or they
            disagree on labels.
    """
    a, b = _read(run_a), _read(run_b)
    level = _level(a, b, level)
    if a.rehearsal != b.rehearsal:
        real, played = (b, a) if a.rehearsal else (a, b)
        remedy = "The slides of a rehearsal are synthetic: compare runs of one kind."
        raise RunError(Problem(f"{played.root}", f"a real run, as {real.root} is", "a rehearsal", remedy))
    pairs = _pairs(a, b, arms)
    targets = [target for target in studied(a.protocol) if target in studied(b.protocol)]
    if not targets:
        got = f"{', '.join(studied(a.protocol))} and {', '.join(studied(b.protocol))}"
        remedy = "Compare runs of one question; in `tapfm-eval score`, name the target with --target."
        raise RunError(Problem(f"{a.root} and {b.root}", "a target of both", got, remedy))
    notes = _left_out_notes(a, b, targets)
    parts = [key for key in a.panels if key in b.panels and key[1] != "validation"]
    rows: list[RunDifference] = []
    for key in sorted(parts, key=lambda key: (list(a.protocol.cohorts).index(key[0]), key[1])):
        rows += _rows_of(a, b, a.panels[key], b.panels[key], pairs, targets, level, notes)
    if not rows:
        remedy = "Compare runs about the same patients with the same cohort names and ids."
        raise RunError(
            Problem(f"{a.root} and {b.root}", "test or external patients that both predicted",
                    f"{_parts_said(a)}; and {_parts_said(b)}", remedy)
        )  # fmt: skip
    adjusted = statistics.adjust_p([row.difference.p_value for row in rows], method="holm")
    done = tuple(replace(row, p_adjusted=float(p)) for row, p in zip(rows, adjusted, strict=True))
    return RunsCompared(run_a, run_b, level, done, tuple(dict.fromkeys(notes)))


def _read(root: Path) -> _Run:
    folder = RunFolder(root)
    if not folder.predictions.is_file():
        remedy = "Name a folder as the last line of `tapfm-eval run` or `tapfm-eval score` printed it."
        raise RunError(Problem(str(root), "the folder of a finished run", "no predictions.csv in it", remedy))
    table = read_predictions(folder.predictions)
    if is_scored(root):
        table = shared_rows(table)
        splits = {str(name): set(rows["split"]) for name, rows in table.groupby("cohort")}
        protocol: Protocol = scored_protocol(read_plan(root / PLAN), splits)
    else:
        protocol = read_protocol(folder.protocol, backbones=CARDS, as_run=True)
    return _Run(root, protocol, panels_of(table, protocol), _is_rehearsal(folder.provenance))


def _is_rehearsal(provenance: Path) -> bool:
    try:
        return json.loads(provenance.read_text(encoding="utf-8"))["planted"] is not None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"
        remedy = "Give the same command again: it writes the file anew."
        raise RunError(Problem(str(provenance), "the record that every run keeps", got, remedy)) from None


def _level(a: _Run, b: _Run, wanted: float | None) -> float:
    if wanted is not None:
        if not 0 < wanted < 1:
            raise RunError(Problem("--level", "between 0 and 1", f"{wanted:g}", "0.95 gives 95% intervals."))
        return wanted
    one, other = a.protocol.analysis.level, b.protocol.analysis.level
    if one != other:
        got = f"{one:g} in {a.root}, {other:g} in {b.root}"
        raise RunError(Problem("analysis.level", "one level of the intervals", got, f"Choose: --level {one:g}."))
    return one


def _pairs(a: _Run, b: _Run, wanted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    had = f"{', '.join(a.arms)} in {a.root}; {', '.join(b.arms)} in {b.root}"
    if wanted:
        wrong = [f"{one}={other}" for one, other in wanted if one not in a.arms or other not in b.arms]
        if wrong:
            raise RunError(Problem(f"--arms {', '.join(wrong)}", f"A=B of the arms {had}", "others", "Correct them."))
        return list(dict.fromkeys(wanted))
    same = [(arm, arm) for arm in a.arms if arm in b.arms]
    if a.root.resolve() == b.root.resolve():
        remedy = "Name two arms of the run: --arms A=B. (Its report compares them already.)"
        raise RunError(Problem(str(b.root), "another run", "the same folder twice", remedy))
    if same:
        return same
    if len(a.arms) == len(b.arms) == 1:
        return [(a.arms[0], b.arms[0])]
    remedy = f"Say which are compared: --arms {a.arms[0]}={b.arms[0]}."
    raise RunError(Problem(f"{a.root} and {b.root}", "an arm of both", had, remedy))


def _left_out_notes(a: _Run, b: _Run, targets: Sequence[str]) -> list[str]:
    notes = []
    for one, other in ((a, b), (b, a)):
        alone = [target for target in studied(one.protocol) if target not in targets]
        if alone:
            notes.append(f"targets of {one.root} alone are left out: {', '.join(alone)}")
        parts = [f"{cohort} {split}" for cohort, split in one.panels if split != "validation"
                 and (cohort, split) not in other.panels]  # fmt: skip
        if parts:
            notes.append(f"patients of {one.root} alone are left out: {', '.join(parts)}")
    if a.rehearsal:
        notes.append("both are rehearsals: the slides are synthetic")
    return notes


def _parts_said(run: _Run) -> str:
    said = [f"{panel.cohort} {panel.split} ({len(panel.patients)} patients)" for panel in run.panels.values()
            if panel.split != "validation"]  # fmt: skip
    return f"{run.root}: {', '.join(said) or 'none'}"


def _rows_of(
    a: _Run, b: _Run, one: Panel, other: Panel, pairs: Sequence[tuple[str, str]], targets: Sequence[str], level: float,
    notes: list[str],
) -> list[RunDifference]:  # fmt: skip
    """The comparisons of one part; none where the runs share no patient of it."""
    matched = _match(one, other)
    if not len(matched):
        notes.append(f"{one.cohort} {one.split}: no patient in both, of {len(one.patients)} and {len(other.patients)}")
        return []
    _refuse_other_labels(a, b, one, other, matched, targets)
    at_a, at_b = matched["a"].to_numpy(), matched["b"].to_numpy()
    folds, note = _folds(one, other, at_a, at_b)
    if note:
        notes.append(f"{one.cohort} {one.split}: {note}")
    columns_a, columns_b = ([panel.column(target) for target in targets] for panel in (one, other))
    patients = tuple(one.patients[i] for i in at_a)
    found = []
    for arm_a, arm_b in pairs:
        panel = Panel(
            one.cohort, one.split, patients, folds, one.labels[at_a][:, columns_a],
            {"a": one.scores[arm_a][at_a][:, columns_a], "b": other.scores[arm_b][at_b][:, columns_b]}, tuple(targets),
        )  # fmt: skip
        for target in (*targets, "macro") if len(targets) > 1 else targets:
            difference = paired_difference(panel, target, "a", "b", level)
            auroc_a, auroc_b = _aurocs(panel, target, level)
            found.append(
                RunDifference(
                    one.cohort, one.split, target, arm_a, arm_b, _known(one, target, targets, arm_a),
                    _known(other, target, targets, arm_b), _known(panel, target, targets, "a", "b"), auroc_a, auroc_b,
                    difference, math.nan,
                )
            )  # fmt: skip
    return found


def _match(one: Panel, other: Panel) -> pd.DataFrame:
    """Rows `a` and `b` of the patients in both; by patient and fold where a patient is tested in several folds."""
    frames = []
    for panel in (one, other):
        folds = panel.folds if panel.folds is not None else np.zeros(len(panel.patients), dtype=np.int64)
        frames.append(pd.DataFrame({"patient": panel.patients, "fold": folds, "row": range(len(panel.patients))}))
    several = any(frame["patient"].duplicated().any() for frame in frames)
    key = ["patient", "fold"] if several else ["patient"]
    merged = frames[0].merge(frames[1], on=key, how="inner", suffixes=("_a", "_b"))
    return merged.rename(columns={"row_a": "a", "row_b": "b"})[["patient", "a", "b"]]


def _folds(one: Panel, other: Panel, at_a: Whole, at_b: Whole) -> tuple[Whole | None, str]:
    """Within which folds patients are compared, and a note where the two runs split them differently."""
    first = None if one.folds is None else one.folds[at_a]
    second = None if other.folds is None else other.folds[at_b]
    if first is None or second is None:
        return (second if first is None else first), ""
    joint = pd.factorize(pd.MultiIndex.from_arrays([first, second]))[0].astype(np.int64)
    if len(np.unique(joint)) == len(np.unique(first)) == len(np.unique(second)):
        return first, ""
    return joint, "the runs split the patients differently, so they are compared within their folds of both"


def _refuse_other_labels(
    a: _Run, b: _Run, one: Panel, other: Panel, matched: pd.DataFrame, targets: Sequence[str]
) -> None:
    problems = []
    for target in targets:
        first = one.labels[matched["a"], one.column(target)]
        second = other.labels[matched["b"], other.column(target)]
        differing = ~((first == second) | (np.isnan(first) & np.isnan(second)))
        if differing.any():
            names = list(dict.fromkeys(matched["patient"][differing]))
            said = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
            where = f"{one.cohort} {one.split}, {target}, {a.root} and {b.root}"
            got = f"{len(names)} patients with another: {said}"
            problems.append(Problem(where, "the same labels in both runs", got, "Run both on one manifest."))
    if problems:
        raise RunError(problems)


def _known(panel: Panel, target: str, targets: Sequence[str], *arms: str) -> int:
    """Patients with a known label and a score; of any target for the macro-average."""
    names = targets if target == "macro" else [target]
    known = np.logical_or.reduce([~np.isnan(panel.known(name, *arms)) for name in names])
    return len({patient for patient, counts in zip(panel.patients, known, strict=True) if counts})


def _aurocs(panel: Panel, target: str, level: float) -> tuple[Estimate, Estimate]:
    """The AUROCs of both arms on the patients that both predicted."""
    found = []
    for arm in ("a", "b"):
        if target == "macro":
            usable = macro_targets(panel, "a", "b")
            labels = panel.matrix(usable, "a", "b") if usable else np.empty((0, 0))
            if not usable:
                found.append(missing_estimate(level, "MOVER", "no target with both classes", len(panel.patients)))
                continue
            scores = panel.score(arm, *usable).reshape(labels.shape)
            found.append(statistics.macro_auroc(labels, scores, level=level, strata=panel.folds))
        else:
            labels = panel.known(target, "a", "b")
            found.append(statistics.auroc(labels, panel.score(arm, target), level=level, strata=panel.folds))
    return found[0], found[1]
