"""Verifies a run folder: hashes, then predictions, then every number and every byte that follows from them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.errors import InputError, Problem, RunError
from tapfm_eval.fingerprints import fixed_files, read_records, renewed_files
from tapfm_eval.predictions.table import read_predictions
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.provenance import software, source_commit
from tapfm_eval.reporting import report_inputs, run_cohorts, run_failures
from tapfm_eval.scoring.inputs import is_scored
from tapfm_eval.verification.derived import compare_report, compare_results
from tapfm_eval.verification.hashes import (
    compare_weights,
    compare_with_journal,
    compare_with_provenance,
    same_software,
)
from tapfm_eval.verification.mismatch import Mismatch, refused
from tapfm_eval.verification.predictions import compare_with_cohorts, compare_with_units


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared, and what did not match."""

    folder: Path
    mismatches: tuple[Mismatch, ...]
    compared: Mapping[str, int]  # how many files, rows, values
    notes: tuple[str, ...]  # what could not be compared, and why

    @property
    def matches(self) -> bool:
        """Whether everything is as it was recorded and as it is computed now."""
        return not self.mismatches


def verify_run(root: Path) -> Verification:
    """Recomputes every hash and every number of a run from its folder alone.

    Caught is whatever was edited after the analysis: protocol, manifest, split, trained weights, predictions, results,
    tables, figures, report. Whoever edits a unit's predictions, `predictions.csv` and the journal together and renders
    everything anew has made a folder that agrees with itself; the hash of the predictions in a report that was handed
    out before tells.

    Raises:
        RunError: There is no finished run in the folder, or something in it is no file of its own.
    """
    if not (root / "predictions.csv").is_file():
        raise RunError(
            Problem(str(root), "the folder of a finished run", "no predictions.csv in it",
                    "Name a folder as the last line of `tapfm-eval run` or `tapfm-eval score` printed it.")
        )  # fmt: skip
    _refuse_what_is_no_file(root)
    records = read_records(root)
    found = list(compare_with_journal(root, records))
    differing, weights, absent = compare_weights(root)
    found += differing
    compared = {"files hashed": len(fixed_files(root)) + len(renewed_files(root)) + weights}
    notes = ["Slides and training are not recomputed: verification starts from the predictions."]
    if absent:
        notes.append(f"Weights absent: those of {absent} of {weights + absent} units are not in the folder.")
    exact = same_software(root, software(), source_commit())
    if not exact:
        notes.append(
            "The run was made with other versions than are installed here, or on another system: numbers are compared "
            "to nine digits, and report and figures by their recorded hashes alone."
        )
    if not is_scored(root):
        found += _run_parts(root, compared)
    try:
        inputs = report_inputs(root)
    except InputError as error:
        found += [mismatch for mismatch in refused(error) if mismatch not in found]
        notes.append("Results and report could not be recomputed from what the folder holds.")
    else:
        differing, compared["values of results.json"] = compare_results(root, inputs, exact=exact)
        found += differing
        differing, compared["files rendered anew"] = compare_report(root, inputs, records, exact=exact)
        found += differing
    return Verification(root, tuple(found), compared, tuple(notes))


def _refuse_what_is_no_file(root: Path) -> None:
    """Devices and pipes, which may never end, and links out of the folder, whose content is not the run's.

    Raises:
        RunError: There is one. Embeddings and tiles are passed over: nothing here reads them.
    """
    problems: list[Problem] = []
    for place, folders, files in os.walk(root):
        here = Path(place)
        folders[:] = [name for name in folders if not (here == root and name in ("features", "tiles"))]
        for path in (here / name for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
                got = f"a link to {path.resolve()}"
            elif not (path.is_file() or path.is_dir()):
                got = "a link to nothing" if path.is_symlink() else "a device, pipe or socket"
            else:
                continue
            problems.append(Problem(str(path), "a file of the run's own", got, "Put the file itself there."))
    if problems:
        raise RunError(problems)


def _run_parts(root: Path, compared: dict[str, int]) -> list[Mismatch]:
    """The checks that need a protocol, units and cohorts."""
    found: list[Mismatch] = []
    try:
        protocol = read_protocol(root / "protocol.yaml", backbones=CARDS, as_run=True)
    except InputError as error:
        return refused(error)
    found += compare_with_provenance(root, protocol)
    try:
        combined = read_predictions(root / "predictions.csv")
    except InputError as error:
        return found + refused(error)
    compared["rows of predictions.csv"] = len(combined)
    try:
        cohorts, failed = run_cohorts(protocol, root), run_failures(root)
    except InputError as error:
        found += refused(error)
        folds = tuple(sorted({int(fold) for fold in combined["fold"]}))
        return found + compare_with_units(root, protocol, folds, [], combined)
    found += compare_with_units(root, protocol, cohorts[protocol.development].folds, failed, combined)
    return found + compare_with_cohorts(protocol, cohorts, failed, combined)
