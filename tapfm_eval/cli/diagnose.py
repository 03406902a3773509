"""`tapfm-eval diagnose-blocks`: how many last blocks of a backbone are worth training."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapfm_eval.cli.pairs import pairs
from tapfm_eval.cli.protocol import ProtocolPath

if TYPE_CHECKING:
    from tapfm_eval.diagnosis import Diagnosis

EXAMPLE = "Example: `tapfm-eval diagnose-blocks protocols/luad.yaml --arm tapfm-hoptimus0 --rehearse`"


def diagnose_blocks(
    protocol: ProtocolPath,
    arm: Annotated[str, typer.Option("--arm", metavar="ID", help="Arm whose backbone is looked at.")],
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Try it on synthetic slides and a small random network.")
    ] = False,
    slides: Annotated[
        list[str] | None,
        typer.Option("--slides", metavar="COHORT=DIR", help="Slides of the development cohort; a few dozen will do."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", metavar="BACKBONE=FILE", help="Local checkpoint instead of the hub."),
    ] = None,
    patients: Annotated[int, typer.Option("--patients", min=2, help="Training patients of the probe.")] = 64,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of the probe.")] = 1,
    share: Annotated[
        float, typer.Option("--share", min=0.01, max=1.0, help="Share of the drift that the last blocks must hold.")
    ] = 0.85,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda or cuda:N; the GPU if there is one.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=256, show_default="one a core, 8 at most", help="Slide readers.")
    ] = min(8, os.cpu_count() or 1),
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder under which results are kept.")] = Path(
        "reports"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train a whole backbone briefly on training patients and say how many last blocks hold the drift.

    Prints the drift of each block and N*, the number for `adapt: {last_blocks: N}`; keeps figure and table.
    """
    from tapfm_eval.diagnosis import ProbePlan, diagnosis_json
    from tapfm_eval.diagnosis import diagnose_blocks as diagnose
    from tapfm_eval.preparation import RunOptions, local_paths
    from tapfm_eval.progress import Reporter

    known_slides, known_weights = local_paths()
    options = RunOptions(
        slides=pairs("--slides", slides), weights=pairs("--weights", weights), local_slides=known_slides,
        local_weights=known_weights, out=out, device=device, workers=workers, rehearse=rehearse,
    )  # fmt: skip
    found = diagnose(protocol, arm, ProbePlan(patients, epochs, share), options, Reporter(quiet=quiet))
    if as_json:
        typer.echo(diagnosis_json(found))
    else:
        _show(found)


def _show(found: "Diagnosis") -> None:
    from rich.console import Console
    from rich.table import Table

    drift = found.drift
    table = Table("block", "CKA", "share of drift", "held by it and later", box=None, pad_edge=False)
    for i, (cka, share) in enumerate(zip(drift.cka, drift.shares, strict=True)):
        table.add_row(str(i + 1), f"{cka:.6f}", f"{share:.1%}", f"{drift.last(drift.depth - i):.1%}")
    Console().print(table)
    if found.last_blocks is None:
        typer.echo("No block moved: train for more epochs or patients, or at a higher rate.")
    else:
        typer.echo(
            f"N* = {found.last_blocks} of {drift.depth} blocks hold {found.plan.share:.0%} of the drift after "
            f"{found.plan.epochs} epoch{'s' if found.plan.epochs > 1 else ''} on {found.patients} patients: "
            f"`adapt: {{last_blocks: {found.last_blocks}}}`"
        )
    typer.echo(f"Kept in {found.folder}")
