"""The commands. Everything heavy is imported inside them, so that `--help` answers at once."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from tapfm_eval import __version__
from tapfm_eval.cli.audit import audit
from tapfm_eval.cli.backbones import backbones_app
from tapfm_eval.cli.cohort import cohort_app
from tapfm_eval.cli.compare import EXAMPLE as COMPARE_EXAMPLE
from tapfm_eval.cli.compare import compare
from tapfm_eval.cli.diagnose import EXAMPLE as DIAGNOSE_EXAMPLE
from tapfm_eval.cli.diagnose import diagnose_blocks
from tapfm_eval.cli.doctor import EXAMPLE as DOCTOR_EXAMPLE
from tapfm_eval.cli.doctor import doctor
from tapfm_eval.cli.messages import AsJson, Quiet, print_json
from tapfm_eval.cli.pairs import pairs
from tapfm_eval.cli.plan import EXAMPLE as PLAN_EXAMPLE
from tapfm_eval.cli.plan import plan
from tapfm_eval.cli.protocol import ProtocolPath, protocol_app
from tapfm_eval.cli.score import EXAMPLE as SCORE_EXAMPLE
from tapfm_eval.cli.score import score
from tapfm_eval.cli.split import EXAMPLE as SPLIT_EXAMPLE
from tapfm_eval.cli.split import split
from tapfm_eval.cli.verify import EXAMPLE as VERIFY_EXAMPLE
from tapfm_eval.cli.verify import verify
from tapfm_eval.errors import InputError, PausedError, Problem

app = typer.Typer(
    name="tapfm-eval",
    help="Clinical validation of pathology foundation models adapted to predict gene mutations from H&E slides. "
    "Research use only.",
    epilog="Exit codes: 0 done; 1 the command worked and found something; 2 wrong use or input; 75 a signal stopped it "
    "and the same command resumes; 130 Ctrl-C ended it.  \nExample: `tapfm-eval run protocols/luad.yaml --rehearse`",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(protocol_app, name="protocol")
app.command("audit", epilog="Example: `tapfm-eval audit protocols/luad.yaml`")(audit)
app.command("split", epilog=SPLIT_EXAMPLE)(split)
app.add_typer(cohort_app, name="cohort")
app.add_typer(backbones_app, name="backbones")
app.command("score", epilog=SCORE_EXAMPLE)(score)
app.command("plan", epilog=PLAN_EXAMPLE)(plan)
app.command("compare", epilog=COMPARE_EXAMPLE)(compare)
app.command("verify", epilog=VERIFY_EXAMPLE)(verify)
app.command("doctor", epilog=DOCTOR_EXAMPLE)(doctor)
app.command("diagnose-blocks", epilog=DIAGNOSE_EXAMPLE)(diagnose_blocks)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tapfm-eval {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: `tapfm-eval run protocols/luad.yaml --rehearse`")
def run(
    protocol: ProtocolPath,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Try the whole study in minutes: no slides, weights, GPU or network.")
    ] = False,
    slides: Annotated[
        list[str] | None, typer.Option("--slides", metavar="COHORT=DIR", help="Folder of a cohort's slides.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", metavar="BACKBONE=FILE", help="Local checkpoint instead of the hub."),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features", metavar="COHORT=DIR", help="Tile features of TRIDENT, CLAM or STAMP instead of slides."
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", metavar="ID", help="Train this arm only, and stop before any test patient."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda or cuda:N; the GPU if there is one.")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=0, max=256, show_default="one a core, 8 at most", help="Processes that read slides."
        ),
    ] = min(8, os.cpu_count() or 1),
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder under which the run is kept.")] = Path(
        "reports"
    ),
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", metavar="DIR", help="Folder for embeddings, where they shall not lie in the run's own."
        ),
    ] = None,
    executor: Annotated[
        str,
        typer.Option("--executor", metavar="local|ray", help="ray: units side by side, on this machine or a cluster."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="auto|HOST:PORT", help="A Ray cluster that this machine belongs to."),
    ] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option("--checkpoint-minutes", min=0, help="Of work between two checkpoints.")
    ] = 10.0,
    checkpoint_slides: Annotated[
        int | None, typer.Option("--checkpoint-slides", min=1, help="A checkpoint after so many slides as well.")
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; the last line alone.")] = False,
) -> None:
    """Run a study: tile, train every arm, select, predict once, analyse, report. Resumes by itself.

    Several processes may run the same command: each takes what is free. SIGINT, SIGTERM and SIGUSR1 stop it with
    everything kept. Exit code 75: not finished yet, the same command goes on.
    """
    from tapfm_eval.preparation import RunOptions, local_paths
    from tapfm_eval.progress import Reporter
    from tapfm_eval.study import run_protocol

    known_slides, known_weights = local_paths()
    options = RunOptions(
        slides=pairs("--slides", slides), weights=pairs("--weights", weights),
        local_slides=known_slides, local_weights=known_weights,
        features=pairs("--features", features), out=out, store=store, device=device, workers=workers,
        arms=tuple(arm or ()), rehearse=rehearse, command=shlex.join(["tapfm-eval", *sys.argv[1:]]),
        executor=executor, address=address,
        checkpoint_seconds=60 * checkpoint_minutes, checkpoint_slides=checkpoint_slides,
    )  # fmt: skip
    outcome = run_protocol(protocol, options, Reporter(quiet=quiet))
    if outcome.follows:
        return
    for check in outcome.checks:
        if not quiet or not check.passed:
            typer.echo(f"{'passed' if check.passed else 'FAILED'}  {check.name}: {check.detail}", err=True)
    for unit, holder in outcome.held.items():
        typer.echo(f"not done: {unit} is held by {holder}", err=True)
    if as_json:
        checks = [{"name": check.name, "passed": check.passed, "detail": check.detail} for check in outcome.checks]
        held = {str(unit): str(holder) for unit, holder in outcome.held.items()}
        print_json({"format": "tapfm-eval/ran/1", "folder": str(outcome.folder), "held": held, "checks": checks,
                    "report": [str(path) for path in outcome.report]})  # fmt: skip
    else:
        typer.echo(f"{'Report: ' if outcome.report else 'Run: '}{_shown(outcome.folder, outcome.report)}")
    if outcome.held:
        raise typer.Exit(PausedError.exit_code)
    if outcome.failed_checks:
        raise typer.Exit(1)


def _shown(folder: Path, report: tuple[Path, ...]) -> str:
    return "  ".join(str(path) for path in report if path.name.startswith("report.")) or str(folder)


@app.command(epilog="Example: `tapfm-eval report reports/luad-1.0.0/rehearsal-0123456789ab`")
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    formats: Annotated[str, typer.Option("--format", help="html, pdf or html,pdf.")] = "html,pdf",
    paper: Annotated[str, typer.Option("--paper", help="a4 or letter.")] = "a4",
    show_ids: Annotated[
        bool, typer.Option("--show-ids", help="Name patients and slides; otherwise they are numbered.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Analyse a finished run anew from its folder alone and write its report."""
    from tapfm_eval.reporting import write_analysis

    wanted = tuple(part.strip() for part in formats.split(","))
    problems = [
        Problem("--format", "html, pdf or html,pdf", repr(part), "Correct it.")
        for part in wanted
        if part not in ("html", "pdf")
    ]
    if paper not in ("a4", "letter"):
        problems.append(Problem("--paper", "a4 or letter", repr(paper), "Correct it."))
    if problems:
        raise InputError(problems)
    written, _ = write_analysis(folder, formats=wanted, paper=paper, show_ids=show_ids)
    if as_json:
        print_json(
            {"format": "tapfm-eval/reported/1", "folder": str(folder), "report": [str(path) for path in written]}
        )
    else:
        typer.echo(f"Report: {_shown(folder, written)}")
