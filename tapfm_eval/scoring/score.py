"""Predictions in, a folder with analysis and report out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval import __version__
from tapfm_eval.predictions.shared import Sharing, count_sharing, shared_rows
from tapfm_eval.predictions.table import predictions_csv
from tapfm_eval.provenance import provenance
from tapfm_eval.reporting import write_analysis
from tapfm_eval.rundir import RunFolder, run_id, sha256_file, write_json, write_text
from tapfm_eval.scoring.gather import Gathered, ScoreOptions, gather
from tapfm_eval.scoring.inputs import COVARIATES, PLAN
from tapfm_eval.scoring.plan import plan_content


@dataclass(frozen=True, slots=True)
class ScoreOutcome:
    """What a scoring came to."""

    folder: Path
    report: tuple[Path, ...]
    sharing: tuple[Sharing, ...]
    notes: tuple[str, ...]


def score_predictions(
    options: ScoreOptions, out: Path, *, formats: Sequence[str] = ("html", "pdf"), paper: str = "a4", command: str = ""
) -> ScoreOutcome:
    """Analyses predictions of any model and writes folder and report; the same files and options give the same folder.

    Args:
        options: The files, and what they do not say themselves.
        out: Folder under which the study is kept.
        formats: html, pdf or both.
        paper: a4 or letter.
        command: What was typed, for the record.

    Raises:
        InputError: With every fault of the files and options; nothing has been written.
    """
    gathered = gather(options)
    predictions = predictions_csv(gathered.table)
    content = plan_content(gathered.plan)
    identity = run_id({"version": __version__, "plan": content, "predictions": predictions,
                       "covariates": gathered.covariates.to_csv(index=False)})  # fmt: skip
    folder = RunFolder(out / "scored" / f"{gathered.plan.arms[0][:40]}-{identity}")
    write_text(folder.predictions, predictions)
    write_json(folder.root / PLAN, content)
    if gathered.plan.subgroups:
        write_text(folder.root / COVARIATES, gathered.covariates.to_csv(index=False, lineterminator="\n"))
    sections = provenance(_hashes(gathered, options), "none: no model was run", command, (1,))
    write_json(folder.provenance, {
        "format": "tapfm-eval/provenance/1", "run_id": identity, "protocol_sha256": gathered.plan.sha256,
        "planted": None, "sections": sections,
    })  # fmt: skip
    written, _ = write_analysis(folder.root, formats=tuple(formats), paper=paper)
    sharing = count_sharing(gathered.table, shared_rows(gathered.table))
    return ScoreOutcome(folder.root, written, sharing, gathered.plan.notes)


def _hashes(gathered: Gathered, options: ScoreOptions) -> dict[str, str]:
    found = {f"predictions {file.arm or 'file'}: {file.name}": file.sha256 for file in gathered.plan.files}
    for name, path in (
        ("manifest", options.manifest),
        ("split", options.split),
        ("slides table", options.slides_table),
    ):
        if path is not None:
            found[f"{name} {path.name}"] = sha256_file(path)
    return found
