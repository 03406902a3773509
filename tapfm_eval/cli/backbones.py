"""`tapfm-eval backbones`: look at backbones."""

from typing import Annotated

import typer

backbones_app = typer.Typer(help="Look at backbones.", no_args_is_help=True)


@backbones_app.command("list", epilog="Example: `tapfm-eval backbones list`")
def backbones_list(as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False) -> None:
    """Print the backbones that protocols may name, with their licences."""
    from tapfm_eval.backbones.cards import CARDS

    if as_json:
        import json

        from tapfm_eval.serialise import plain

        typer.echo(json.dumps([plain(card) for card in CARDS.values()], indent=2))
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
