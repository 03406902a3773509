"""What every command shares: its switches, and errors as a person who made the mistake wants to read them."""

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tapfm_eval.errors import InputError, Problem, TapfmEvalError

MAX_SHOWN = 40
ALIKE_SHOWN = 5  # of one fault: a wrong column is as many faults as the file has rows
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
    count, left = len(error.problems), MAX_SHOWN
    console.print(Text(f"{count} problem{'s' if count != 1 else ''}", style="bold red"))
    hidden = 0
    for alike in _alike(error.problems):
        few = alike[: min(ALIKE_SHOWN, left)]
        left -= len(few)
        for problem in few:
            _show_problem(console, problem)
        if few and len(alike) > len(few):
            console.print(f"  and {len(alike) - len(few)} more that expected {alike[0].expected}", markup=False)
        elif not few:
            hidden += len(alike)
    if hidden:
        console.print(f"  and {hidden} more")


def _show_problem(console: Console, problem: Problem) -> None:
    console.print(Padding(Text(problem.where, style="bold"), (0, 0, 0, 2)))
    for name, value, style in (
        ("expected", problem.expected, "default"),
        ("got", problem.got, "default"),
        ("remedy", problem.remedy, "cyan"),
    ):
        if value:
            console.print(Padding(Text(f"{name:<9}", style="dim").append(value, style=style), (0, 0, 0, 4)))


def _alike(problems: Sequence[Problem]) -> list[tuple[Problem, ...]]:
    """Problems of one expectation and remedy together, in the order in which the first of each came."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.expected, problem.remedy), []).append(problem)
    return [tuple(group) for group in groups.values()]
