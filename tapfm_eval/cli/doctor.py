"""`tapfm-eval doctor`: what this machine has and lacks for a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapfm_eval.cli.messages import AsJson, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapfm_eval.doctor import Check

EXAMPLE = "Example: `tapfm-eval doctor protocols/luad.yaml`"
STYLES = {"ok": "green", "warning": "yellow", "missing": "bold red"}


def doctor(
    protocol: Annotated[
        Path | None,
        typer.Argument(metavar="[PROTOCOL]", help="Look for its weights, slides and GPU memory as well."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder under which runs will be kept.")] = Path(
        "reports"
    ),
    offline: Annotated[bool, typer.Option("--offline", help="Do not try to reach the Hugging Face hub.")] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="What is missing, and the last line.")] = False,
) -> None:
    """Say what this machine has and lacks for a run, with the remedy. Exit code 1 if anything is missing.

    A warning is something that some runs need: a GPU, a network, a token. With a PROTOCOL its weights and slides are
    needed as well.
    """
    from tapfm_eval.doctor import examine
    from tapfm_eval.serialise import plain

    checks = examine(out, protocol, offline=offline)
    missing = [check for check in checks if check.state == "missing"]
    if as_json:
        content = {"format": "tapfm-eval/doctor/1", "checks": plain(checks)}
        print_json(content)
    else:
        _show(missing if quiet else checks)
        warnings = sum(check.state == "warning" for check in checks)
        typer.echo(
            f"{len(checks)} checks: {len(missing)} missing, {warnings} warning{'' if warnings == 1 else 's'}."
            + _outlook(missing, protocol)
        )
    if missing:
        raise typer.Exit(1)


def _outlook(missing: "Sequence[Check]", protocol: Path | None) -> str:
    """What will run as it is."""
    if all(check.of_study for check in missing):
        rehearsal = f" A rehearsal will run: tapfm-eval run {protocol or 'protocols/luad.yaml'} --rehearse"
        return f" The study itself lacks them.{rehearsal}" if missing else rehearsal
    return ""


def _show(checks: "Sequence[Check]") -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False, emoji=False)
    for check in checks:
        head = Text(f"{check.state:<9}", style=STYLES[check.state]).append(check.name, style="bold")
        console.print(head.append(f"  {check.found}", style="default"))
        if check.remedy:
            console.print(Padding(Text(check.remedy, style="cyan"), (0, 0, 0, 9)))
