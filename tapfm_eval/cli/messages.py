"""What every command shares: its switches, and errors as a person who made the mistake wants to read them."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tapfm_eval.errors import InputError, TapfmEvalError

MAX_SHOWN = 40
AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines: one object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="The last line alone.")]


def print_json(content: object) -> None:
    """Prints plain data, and paths, as JSON."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def show_error(error: TapfmEvalError) -> None:
    """Prints an error to stderr: for each problem where, expected, got and what to do."""
    console = Console(stderr=True, highlight=False, soft_wrap=False)
    if not isinstance(error, InputError):
        console.print(Text("Stopped. ", style="bold red").append(str(error), style="default"), soft_wrap=True)
        return
    count = len(error.problems)
    console.print(Text(f"{count} problem{'s' if count != 1 else ''}", style="bold red"))
    for problem in error.problems[:MAX_SHOWN]:
        console.print(Padding(Text(problem.where, style="bold"), (0, 0, 0, 2)))
        for name, value, style in (
            ("expected", problem.expected, "default"),
            ("got", problem.got, "default"),
            ("remedy", problem.remedy, "cyan"),
        ):
            if value:
                console.print(Padding(Text(f"{name:<9}", style="dim").append(value, style=style), (0, 0, 0, 4)))
    if count > MAX_SHOWN:
        console.print(f"  and {count - MAX_SHOWN} more")
