"""Runs a protocol stage by stage; with the CLI the only module that knows all stages."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tapfm_eval.audit.audit import audit_protocol
from tapfm_eval.audit.findings import KINDS, Finding, audit_content, standing_errors
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.errors import InputError, Problem, RunError, StudyError
from tapfm_eval.preparation import (
    Prepared,
    RunOptions,
    check_options,
    load_study,
    look_section,
    prepare_rehearsal,
    prepare_run,
    with_local_paths,
)
from tapfm_eval.progress import Reporter
from tapfm_eval.protocol.load import protocol_yaml, read_protocol
from tapfm_eval.results import RehearsalCheck
from tapfm_eval.rundir import RunFolder, write_json, write_text

if TYPE_CHECKING:
    from tapfm_eval.methods.unit import Unit
    from tapfm_eval.protocol.schema import Arm, Protocol
    from tapfm_eval.stages.tiling import Tiling
    from tapfm_eval.stages.units import StudyData


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run came to."""

    folder: Path
    report: tuple[Path, ...]  # empty where the run stopped before predictions, as `--arm` does
    checks: tuple[RehearsalCheck, ...]  # of a rehearsal

    @property
    def failed_checks(self) -> tuple[RehearsalCheck, ...]:
        """The checks that a rehearsal did not pass."""
        return tuple(check for check in self.checks if not check.passed)


def run_protocol(path: Path, options: RunOptions, reporter: Reporter) -> RunOutcome:
    """Runs the whole study that a protocol states, or its rehearsal; what is done already is kept.

    Raises:
        InputError: Something given is wrong; nothing has been run.
        StudyError: The study stopped on a finding.
    """
    protocol = read_protocol(path, backbones=CARDS, findings=KINDS)
    check_options(protocol, options, path)
    options = with_local_paths(protocol, options)
    cohorts = load_study(protocol, path, options)
    with reporter.stage("Auditing cohorts", 1) as advance:
        findings = audit_protocol(protocol, cohorts, CARDS)
        advance(1)
    _stop_on_errors(findings, protocol, path)
    if options.rehearse:
        prepared = prepare_rehearsal(protocol, cohorts, options, reporter)
    else:
        prepared = prepare_run(protocol, cohorts, path, options)
    return _execute(prepared, findings, options, reporter)


def _stop_on_errors(findings: Sequence[Finding], protocol: "Protocol", path: Path) -> None:
    errors = standing_errors(findings, (override.finding for override in protocol.overrides))
    if errors:
        said = [f"  {error.code} ({error.where}): {error.what} {error.remedy}" for error in errors]
        raise StudyError("\n".join([
            f"The audit found {len(errors)} error{'s' if len(errors) != 1 else ''}, and nothing has been run.",
            *said,
            f"`tapfm-eval audit {path}` shows all findings with their rows. To accept one knowingly, write "
            "`overrides: [{finding: CODE, reason: ...}]` into the protocol; the report prints it.",
        ]))  # fmt: skip


def _execute(prepared: Prepared, findings: Sequence[Finding], options: RunOptions, reporter: Reporter) -> RunOutcome:
    # torch is imported here and not before: every refusal above comes at once
    import torch

    from tapfm_eval.methods.sources import StudySlide
    from tapfm_eval.provenance import provenance
    from tapfm_eval.slides.tiles import tile_spec
    from tapfm_eval.stages.imported import take_features
    from tapfm_eval.stages.tiling import check_failures, tile_slides
    from tapfm_eval.stages.units import (
        StudyData,
        check_units,
        check_weights,
        embed_slides,
        is_trained,
        train_and_save,
        unit_steps,
        units_of,
    )

    protocol, folder = prepared.protocol, prepared.folder
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        got = f"{torch.cuda.device_count()} of them"
        raise InputError(Problem(f"--device {device}", "a GPU of that number", got, "Use --device cpu or another one."))
    if device.type == "cpu":
        # half the cores for arithmetic, whatever the number of readers, so that these change no result
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    if prepared.cohorts.keys() - prepared.features.keys():  # where all come as features, no backbone is run
        check_weights(prepared.cards, options.weights, protocol.seeds[0])
    write_text(folder.protocol, protocol_yaml(protocol))
    described = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
    write_json(folder.provenance, {
        "format": "tapfm-eval/provenance/1",
        "run_id": prepared.run_id,
        "protocol_sha256": prepared.protocol_hash,
        "planted": prepared.planted,
        "sections": provenance(prepared.hashes, described, options.command, protocol.seeds)
        | look_section(prepared.earlier),
    })  # fmt: skip
    accepted = {override.finding: override.reason for override in protocol.overrides}
    write_json(folder.root / "audit.json", audit_content(findings, accepted))
    folder.journal("started", command=options.command, device=described)

    files = [file for search in prepared.searches for file in search.files]
    with reporter.stage("Finding tissue", len(files)) as advance:
        tiling = tile_slides(files, tile_spec(protocol.tiles), folder, options.workers, advance)
    for given in prepared.features.values():
        with reporter.stage(f"Reading features of {given.cohort}", len(given.files)) as advance:
            taken = take_features(given, prepared.cards, tile_spec(protocol.tiles), folder, advance)
        tiling = tiling.joined_by(taken, folder)
    _write_failures(folder, tiling.failed)
    check_failures(tiling.failed, files, protocol.failures)
    _same_slides(folder, tiling)
    slides = tuple(
        StudySlide(s.file.slide_id, s.file.patient_id, s.file.cohort, s.file.path, s.file.manifest_mpp, s.grid)
        for s in tiling.slides
    )
    data = StudyData(
        protocol, prepared.cohorts, slides, prepared.cards, options.weights, folder, device, options.workers
    )
    arms = [arm for arm in protocol.arms if not options.arms or arm.id in options.arms]
    for backbone in dict.fromkeys(arm.backbone for arm in arms if arm.adapt == "frozen"):
        for cohort in prepared.cohorts:
            with reporter.stage(f"Embedding {cohort} with {backbone}", len(data.of(cohort))) as advance:
                embed_slides(data, backbone, cohort, advance)
    units = units_of(protocol, prepared.cohorts[protocol.development].folds)
    check_units(data, arms, units)
    for arm, unit in units:
        if arm in arms and not is_trained(data, unit):
            with reporter.stage(f"Training {unit}", unit_steps(data, arm, unit)) as advance:
                train_and_save(data, arm, unit, advance)
            folder.journal("selected", arm=unit.arm, seed=unit.seed, fold=unit.fold)
    if options.arms:
        reporter.say("Stopped before test and external patients: --arm trains only.")
        return RunOutcome(folder.root, (), ())
    _predict(data, units, reporter)
    from tapfm_eval.reporting import write_analysis

    with reporter.stage("Writing the report", 1) as advance:
        report, checks = write_analysis(folder.root)
        advance(1)
    folder.journal("reported", files=[file.name for file in report])
    return RunOutcome(folder.root, report, checks)


def _same_slides(folder: RunFolder, tiling: "Tiling") -> None:
    """Holds a run to the slides it began with: a file changed since would mix two sets of slides in one result.

    Raises:
        RunError: A slide of the run is another file than before, failed since, or can be read now.
    """
    stated = {slide.file.slide_id: slide.grid.fingerprint for slide in tiling.slides}
    stated |= {failure.slide_id: "failed" for failure in tiling.failed}
    path = folder.root / "slides.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))["slides"]
        changed = sorted(name for name in before.keys() | stated.keys() if before.get(name) != stated.get(name))
        if changed:
            shown = ", ".join(changed[:5]) + (" ..." if len(changed) > 5 else "")
            raise RunError(
                Problem(str(folder.root), "the slides that this run began with", f"{len(changed)} changed: {shown}",
                        "Put the files back; or start anew with another --out, or after deleting this folder.")
            )  # fmt: skip
    else:
        write_json(path, {"format": "tapfm-eval/slides/1", "slides": stated})


def _write_failures(folder: RunFolder, failed: Sequence[Exclusion]) -> None:
    rows = [[f.cohort, f.patient_id, f.slide_id, f.stage, f.reason] for f in failed]
    write_json(folder.root / "failures.json", {"format": "tapfm-eval/failures/1", "failures": rows})


def _predict(data: "StudyData", units: "Sequence[tuple[Arm, Unit]]", reporter: Reporter) -> None:
    """The one look at test and external patients, after every arm, seed and fold is selected."""
    import pandas as pd

    from tapfm_eval.predictions.table import check_predictions, predictions_csv, read_predictions
    from tapfm_eval.stages.units import predict_and_save, unit_folder

    todo = [(arm, unit) for arm, unit in units if not (unit_folder(data, unit) / "predictions.csv").is_file()]
    if todo:
        data.folder.journal("test and external patients predicted", units=len(todo))
    external = sum(len(data.of(name)) for name in data.protocol.external)
    for arm, unit in todo:
        total = len(data.part(unit.fold, "test")) + external
        with reporter.stage(f"Predicting {unit}", total) as advance:
            predict_and_save(data, arm, unit, advance)
    tables = [
        read_predictions(unit_folder(data, unit) / name)
        for _, unit in units
        for name in ("validation.csv", "predictions.csv")
    ]
    combined = check_predictions(pd.concat(tables, ignore_index=True), str(data.folder.predictions))
    write_text(data.folder.predictions, predictions_csv(combined))
