"""`tapfm-eval protocol`: look at protocols."""

from pathlib import Path
from typing import Annotated

import typer

protocol_app = typer.Typer(help="Look at protocols.", no_args_is_help=True)

ProtocolPath = Annotated[Path, typer.Argument(metavar="PROTOCOL", help="Protocol YAML, such as protocols/luad.yaml.")]


@protocol_app.command("show", epilog="Example: `tapfm-eval protocol show protocols/luad.yaml`")
def protocol_show(
    protocol: ProtocolPath,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of YAML.")] = False,
) -> None:
    """Print the resolved protocol, every default written out."""
    from tapfm_eval.backbones.cards import CARDS
    from tapfm_eval.protocol.load import protocol_sha256, protocol_yaml, read_protocol

    read = read_protocol(protocol, backbones=CARDS)
    if as_json:
        typer.echo(read.model_dump_json(indent=2))
    else:
        typer.echo(f"# sha256 {protocol_sha256(read)}\n{protocol_yaml(read)}", nl=False)


@protocol_app.command("schema", epilog="Example: `tapfm-eval protocol schema > protocol.schema.json`")
def protocol_schema() -> None:
    """Print the JSON schema of a protocol, for editors."""
    import json

    from tapfm_eval.protocol.load import protocol_schema as schema

    typer.echo(json.dumps(schema(), indent=2))
