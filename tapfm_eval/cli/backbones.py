"""`tapfm-eval backbones`: look at backbones, see whether they load, bring their weights to a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapfm_eval.cli.messages import AsJson, Quiet, print_json

if TYPE_CHECKING:
    from tapfm_eval.backbones.check import BackboneCheck

backbones_app = typer.Typer(help="Look at backbones, check that they load, fetch weights.", no_args_is_help=True)


@backbones_app.command("list", epilog="Example: `tapfm-eval backbones list`")
def backbones_list(
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Their names alone.")] = False,
) -> None:
    """Print the backbones that protocols may name, with their licences."""
    from tapfm_eval.backbones.cards import CARDS

    if as_json:
        from tapfm_eval.serialise import plain

        print_json({"format": "tapfm-eval/backbones/1", "backbones": [plain(card) for card in CARDS.values()]})
        return
    if quiet:
        typer.echo("\n".join(CARDS))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "model", "parameters", "input", "access", "licence", box=None, pad_edge=False)
    for card in CARDS.values():
        table.add_row(
            card.name, card.title, f"{card.parameters / 1e6:,.0f} M", f"{card.tile_px} px at {card.mpp} um/px",
            "on request" if card.gated else "open", card.licence,
        )  # fmt: skip
    Console().print(table)


@backbones_app.command("check", epilog="Example: `tapfm-eval backbones check uni --weights uni.bin`")
def backbones_check(
    name: Annotated[
        str | None, typer.Argument(help="A backbone; all of them if left out, without asking the hub.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Local checkpoint instead of the hub.")
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Those that do not load alone.")] = False,
) -> None:
    """Build networks and load their weights; says what stands in the way. Ends at once without a network."""
    from tapfm_eval import api

    checks = list(api.backbones_check(name, weights=weights))
    if as_json or not quiet or any(check.problem for check in checks):
        _print_checks([check for check in checks if check.problem] if quiet else checks, as_json=as_json)
    if any(check.problem for check in checks):
        raise typer.Exit(1)


@backbones_app.command("fetch", epilog="Example: `tapfm-eval backbones fetch h-optimus-0 --to weights`")
def backbones_fetch(
    name: Annotated[str, typer.Argument(help="A backbone.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder for its weights.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Bring a backbone's weights to a folder, checked, for nodes without a network."""
    from tapfm_eval import api
    from tapfm_eval.rundir import sha256_file

    path = api.backbones_fetch(name, to)
    if as_json:
        print_json({"format": "tapfm-eval/fetched/1", "backbone": name, "path": str(path),
                    "sha256": sha256_file(path)})  # fmt: skip
        return
    typer.echo(f"{path}  sha256 {sha256_file(path)}")
    if not quiet:
        typer.echo(f"Run with --weights {name}={path}", err=True)


def _print_checks(checks: "list[BackboneCheck]", *, as_json: bool) -> None:
    if as_json:
        from tapfm_eval.serialise import plain

        print_json({"format": "tapfm-eval/backbone-checks/1", "checks": [plain(check) for check in checks]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "network", "weights", box=None, pad_edge=False)
    for check in checks:
        built = f"{check.parameters / 1e6:,.0f} M parameters"
        state = f"loads from {check.weights}" if check.loads else check.problem or "none on this machine"
        table.add_row(check.name, f"builds, {built}" if check.builds else f"WRONG, {built}", state)
    Console().print(table, markup=False)
