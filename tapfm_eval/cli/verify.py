"""`tapfm-eval verify`: does a run folder still say what its inputs say."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapfm_eval.cli.messages import AsJson, Quiet, print_json

if TYPE_CHECKING:
    from tapfm_eval.verification import Verification

EXAMPLE = "Example: `tapfm-eval verify reports/luad-1.0.0/0123456789ab`"
SHOWN = 20
SHOWN_FILES = 8  # in the last line


def verify(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run, or of `score`.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Recompute every hash and every number of a run from its folder, and name what does not match.

    Exit code 0: everything matches; 1: something does not; 2: there is no run in the folder.
    """
    from tapfm_eval.serialise import plain
    from tapfm_eval.verification import verify_run

    verified = verify_run(folder)
    if as_json:
        content = {"format": "tapfm-eval/verification/1", "run": str(folder), "matches": verified.matches,
                   "compared": plain(verified.compared), "mismatches": plain(verified.mismatches),
                   "notes": list(verified.notes)}  # fmt: skip
        print_json(content)
    else:
        _show(verified, quiet=quiet)
    if not verified.matches:
        raise typer.Exit(1)


def _show(verified: "Verification", *, quiet: bool) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False, emoji=False)
    for mismatch in () if quiet else verified.mismatches[:SHOWN]:
        console.print(Text(mismatch.where, style="bold red"))
        body = Text("stored      ", style="dim").append(mismatch.stored, style="default")
        body.append("\nexpected    ", style="dim").append(mismatch.recomputed, style="default")
        console.print(Padding(body, (0, 0, 0, 4)))
    count = len(verified.mismatches)
    if count > SHOWN and not quiet:
        console.print(f"and {count - SHOWN} more (--json shows all)")
    for note in () if quiet else verified.notes:
        console.print(Text(note, style="dim"))
    said = ", ".join(f"{number:,} {what}" for what, number in verified.compared.items())
    if count:
        files = list(dict.fromkeys(mismatch.file for mismatch in verified.mismatches))
        named = ", ".join(files[:SHOWN_FILES]) + (f" and {len(files) - SHOWN_FILES} more" * (len(files) > SHOWN_FILES))
        console.print(
            f"Does not match: {count} difference{'' if count == 1 else 's'} in {named} ({said}): {verified.folder}",
            soft_wrap=True, markup=False,
        )  # fmt: skip
    else:
        console.print(f"Everything matches ({said}): {verified.folder}", soft_wrap=True, markup=False)
