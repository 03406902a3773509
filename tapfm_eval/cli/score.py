"""`tapfm-eval score`: the analysis and report of predictions that any model made."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapfm_eval.errors import InputError, Problem

if TYPE_CHECKING:
    from tapfm_eval.scoring.plan import DeclaredThreshold
    from tapfm_eval.scoring.score import ScoreOutcome

EXAMPLE = (
    "Example: `tapfm-eval score mine.csv` (columns patient, label, score)  \n"
    "`tapfm-eval score ours.csv theirs.csv --columns patient=ID,label=EGFR,score=p --threshold 0.5`"
)


def score(
    predictions: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PREDICTIONS...",
            help="CSV with patient, label, score; CLAM fold_*.csv; STAMP "
            "patient-preds.csv; or this suite's table. Several files are arms to compare.",
        ),
    ] = None,
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            metavar="patient=ID,label=y,score=p",
            help="A plain CSV's columns by role: patient, label, score, slide, target, fold, seed, split, cohort, arm.",
        ),
    ] = "",
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="ARM=FILE", help="A file with the name of its arm.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Name of the one target of the files.")] = None,
    positive: Annotated[
        str | None, typer.Option("--positive", metavar="TEXT", help="How the positive class is spelt, if not 1.")
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold", metavar="[ARM=]NUMBER", help="Threshold fixed beforehand: at or above is positive."
        ),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", metavar="FILE", help="Take labels and subgroups from this manifest.")
    ] = None,
    split: Annotated[
        Path | None, typer.Option("--split", metavar="FILE", help="Split of the manifest: who validates, who tests.")
    ] = None,
    slides_table: Annotated[
        Path | None,
        typer.Option("--slides-table", metavar="FILE", help="CSV with case_id,slide_id: the patient of each slide."),
    ] = None,
    cohort: Annotated[str | None, typer.Option("--cohort", help="Name of the cohort.")] = None,
    subgroups: Annotated[
        str, typer.Option("--subgroups", metavar="A,B", help="Columns by which AUROCs are broken down.")
    ] = "",
    level: Annotated[float, typer.Option("--level", help="Level of the intervals.")] = 0.95,
    title: Annotated[str | None, typer.Option("--title", help="Title of the report.")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder under which the study is kept.")] = Path(
        "reports"
    ),
    formats: Annotated[str, typer.Option("--format", help="html, pdf or html,pdf.")] = "html,pdf",
    paper: Annotated[str, typer.Option("--paper", help="a4 or letter.")] = "a4",
    as_json: Annotated[bool, typer.Option("--json", help="JSON: the folder, its files and who was compared.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The last line alone.")] = False,
) -> None:
    """Analyse predictions of any model and write the whole report; needs no slides, weights, GPU or protocol."""
    import json

    from tapfm_eval.report.write import FORMATS, PAPERS
    from tapfm_eval.scoring.gather import ScoreOptions
    from tapfm_eval.scoring.score import score_predictions
    from tapfm_eval.serialise import plain

    problems: list[Problem] = []
    wanted = tuple(part.strip() for part in formats.split(","))
    problems += [
        Problem("--format", "html, pdf or html,pdf", repr(part), "Correct it.")
        for part in wanted
        if part not in FORMATS
    ]
    if paper not in PAPERS:
        problems.append(Problem("--paper", "a4 or letter", repr(paper), "Correct it."))
    roles = _pairs("--columns", [part for part in columns.split(",") if part.strip()], problems)
    repeated = sorted({role for role, _ in roles if [other for other, _ in roles].count(role) > 1})
    problems += [
        Problem("--columns", "each role once", f"{role} of several columns", "Name one column of it.")
        for role in repeated
    ]
    names = _pairs("--name", name or [], problems)
    thresholds = _thresholds(threshold or [], problems)
    if problems:
        raise InputError(problems)
    options = ScoreOptions(
        files=tuple(predictions or ()), names=tuple((arm, Path(file)) for arm, file in names), columns=dict(roles),
        manifest=manifest, split=split, slides_table=slides_table, target=target, positive=positive, cohort=cohort,
        thresholds=thresholds, subgroups=tuple(part.strip() for part in subgroups.split(",") if part.strip()),
        level=level, title=title,
    )  # fmt: skip
    command = shlex.join(["tapfm-eval", *sys.argv[1:]])
    outcome = score_predictions(options, out, formats=wanted, paper=paper, command=command)
    if as_json:
        content = {"format": "tapfm-eval/scored/1", "folder": str(outcome.folder),
                   "report": [str(path) for path in outcome.report], "sharing": plain(outcome.sharing),
                   "notes": list(outcome.notes)}  # fmt: skip
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    if not quiet:
        _show(outcome)
    reports = [str(path) for path in outcome.report if path.name.startswith("report.")]
    typer.echo(f"Report: {'  '.join(reports)}")


def _pairs(flag: str, texts: list[str], problems: list[Problem]) -> list[tuple[str, str]]:
    """`NAME=VALUE` texts, in order."""
    found = []
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if name and equals and value:
            found.append((name, value))
        else:
            example = "--name ours=ours.csv" if flag == "--name" else f"{flag} patient=ID,label=y,score=p"
            problems.append(Problem(flag, "NAME=VALUE", repr(text), f"Write for example {example}."))
    return found


def _thresholds(texts: list[str], problems: list[Problem]) -> "tuple[DeclaredThreshold, ...]":
    from tapfm_eval.scoring.plan import DeclaredThreshold

    found = []
    for text in texts:
        arm, equals, value = text.rpartition("=")
        try:
            found.append(DeclaredThreshold(arm.strip() if equals else "", float(value)))
        except ValueError:
            problems.append(Problem("--threshold", "NUMBER or ARM=NUMBER", repr(text), "Write for example 0.5."))
    return tuple(found)


def _show(outcome: "ScoreOutcome") -> None:
    """Whom each arm scored, and the AUROCs, on stdout."""
    import json

    from rich.console import Console
    from rich.table import Table

    from tapfm_eval.report.numbers import fixed

    results = json.loads((outcome.folder / "results.json").read_text(encoding="utf-8"))
    left = {(row.cohort, row.split, row.target, row.arm): row.left_out for row in outcome.sharing}
    console = Console(highlight=False, emoji=False)
    for part in dict.fromkeys((row["cohort"], row["split"]) for row in results["aurocs"]):
        table = Table(box=None, pad_edge=False, title=" ".join(part), title_justify="left")
        for name in ("target", "arm"):  # on a narrow screen they go on below: cut off, two arms may look alike
            table.add_column(name, overflow="fold")
        for name in ("positives", "patients", "left out", "AUROC", "interval"):
            table.add_column(name, no_wrap=True)
        for row in results["aurocs"]:
            if (row["cohort"], row["split"]) != part:
                continue
            auroc = row["auroc"]
            shown = [fixed(float("nan") if auroc[k] is None else auroc[k], 3) for k in ("value", "lower", "upper")]
            interval = "–" if auroc["lower"] is None else f"{shown[1]} to {shown[2]}"
            table.add_row(
                row["target"], row["arm"], str(auroc["positives"]), str(auroc["n"]),
                str(left.get((*part, row["target"], row["arm"]), 0)), shown[0], interval,
            )  # fmt: skip
        console.print(table)
    reasons = [f"{row['target']}, {row['arm']}: {row['auroc']['reason']}" for row in results["aurocs"]
               if row["auroc"]["reason"]]  # fmt: skip
    for note in (*outcome.notes, *dict.fromkeys(reasons)):
        console.print(note, markup=False)
