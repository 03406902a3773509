"""`tapfm-eval protocol`: look at protocols, compare them, lock them."""

from pathlib import Path
from typing import Annotated

import typer

from tapfm_eval.cli.messages import AsJson, Quiet, print_json

protocol_app = typer.Typer(help="Look at protocols, compare them, lock them.", no_args_is_help=True)

ProtocolPath = Annotated[Path, typer.Argument(metavar="PROTOCOL", help="Protocol YAML, such as protocols/luad.yaml.")]


@protocol_app.command("show", epilog="Example: `tapfm-eval protocol show protocols/luad.yaml`")
def protocol_show(
    protocol: ProtocolPath,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of YAML.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Its id, version and sha256 alone.")] = False,
) -> None:
    """Print the resolved protocol, every default written out."""
    from tapfm_eval.backbones.cards import CARDS
    from tapfm_eval.methods.recipe import recipe_words, resolve_recipe
    from tapfm_eval.protocol.load import protocol_sha256, protocol_yaml, read_protocol

    read = read_protocol(protocol, backbones=CARDS)
    if as_json:
        typer.echo(read.model_dump_json(indent=2))
    elif quiet:
        typer.echo(f"{read.id} {read.version}  sha256 {protocol_sha256(read)}")
    else:
        typer.echo(f"# sha256 {protocol_sha256(read)}\n{protocol_yaml(read)}", nl=False)
        typer.echo("# What `training` comes to, arm by arm:")
        for arm in read.arms:
            typer.echo(f"#   {arm.id}: {{{recipe_words(resolve_recipe(read, arm))}}}")


@protocol_app.command("diff", epilog="Example: `tapfm-eval protocol diff protocols/luad.yaml protocols/blca.yaml`")
def protocol_diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="Protocol YAML.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one, or another version.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print every key that two resolved protocols state differently. Exit code 0 if there is none, 1 if there are."""
    from tapfm_eval import api

    found = api.protocol_diff(first, second)
    reused = bool(found) and not {"id", "version"} & {one.key for one in found}
    if as_json:
        rows = [{"key": one.key, "a": one.first, "b": one.second} for one in found]
        content = {"format": "tapfm-eval/protocol-diff/1", "a": str(first), "b": str(second), "differences": rows,
                   "same_version": reused}  # fmt: skip
        print_json(content)
    elif found:
        if not quiet:
            _show_differences([(one.key, one.first, one.second) for one in found], str(first), str(second))
        typer.echo(f"{len(found)} key{'s' * (len(found) != 1)} differ{'s' * (len(found) == 1)}.{_REUSED * reused}")
    else:
        typer.echo(f"{first} and {second} say the same.")
    if found:
        raise typer.Exit(1)


_REUSED = (
    " Both bear the same id and version, which stand for one content: a lock refuses the second. Raise its version."
)


def _show_differences(rows: list[tuple[str, object, object]], first: str, second: str) -> None:
    import json

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("key", first, second):
        table.add_column(Text(title), overflow="fold")
    for key, *sides in rows:
        said = ["–" if side is None else side if isinstance(side, str) else json.dumps(side, ensure_ascii=False)
                for side in sides]  # fmt: skip
        table.add_row(Text(key), *(Text(side) for side in said))
    Console(highlight=False, emoji=False).print(table)


@protocol_app.command("lock", epilog="Example: `tapfm-eval protocol lock protocols/luad.yaml`")
def protocol_lock(
    protocol: ProtocolPath,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder under which its runs lie.")] = Path(
        "reports"
    ),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the lock beside the protocol: hashes of protocol, manifests, splits and backbone cards, to be committed.

    `run` then refuses other content under the same version. Once a run has looked at test patients, so does `lock`.
    """
    from tapfm_eval.preparation import lock_protocol
    from tapfm_eval.protocol.lock import lock_path

    lock, changed = lock_protocol(protocol, out)
    if as_json:
        print_json({"format": "tapfm-eval/locked/1", "lock": str(lock_path(protocol)), "id": lock.id,
                    "version": lock.version, "sha256": dict(sorted(lock.sha256.items())),
                    "changed": None if changed is None else list(changed)})  # fmt: skip
        return
    for name, value in () if quiet else sorted(lock.sha256.items()):
        typer.echo(f"{value[:12]}  {name}")
    said = "" if changed is None else f"; {', '.join(changed)} changed since" if changed else "; as before"
    typer.echo(f"Locked: {lock_path(protocol)}, version {lock.version}{said}")


@protocol_app.command("schema", epilog="Example: `tapfm-eval protocol schema > protocol.schema.json`")
def protocol_schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="The keys as tables, as in docs/protocols.md.")] = False,
) -> None:
    """Print the JSON schema of a protocol, for editors."""
    import json

    from tapfm_eval.protocol.load import protocol_schema as schema
    from tapfm_eval.protocol.reference import protocol_reference

    typer.echo(protocol_reference() if markdown else json.dumps(schema(), indent=2), nl=not markdown)
