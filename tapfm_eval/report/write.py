"""Writes a report into a run's folder: HTML, PDF, words, figures and tables, each whole or not at all."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tapfm_eval.errors import InputError, Problem

if TYPE_CHECKING:
    from tapfm_eval.report.inputs import ReportInputs

FORMATS = ("html", "pdf")
PAPERS = ("a4", "letter")


def write_report(
    inputs: "ReportInputs",
    folder: Path,
    *,
    formats: Sequence[str] = FORMATS,
    paper: str = "a4",
    show_ids: bool = False,
) -> tuple[Path, ...]:
    """The files written: `report.html`, `report.pdf`, `content.json`, `figures/*.svg`, `tables/*.csv`.

    The same inputs give the same bytes. Everything is made before anything is written, and each file replaces its
    predecessor in one step, so that a report that cannot be made leaves an older one untouched.

    Args:
        inputs: The facts of the run.
        folder: The run's folder; made if it is absent.
        formats: Which of `html` and `pdf`; words, figures and tables are always written.
        paper: Size of the PDF's pages.
        show_ids: Print patient and slide ids in the table of exclusions; otherwise they are numbered.

    Raises:
        InputError: A format or paper that does not exist.
    """
    unknown = [
        Problem("the report's format", " or ".join(FORMATS), repr(name), "Leave it out for both.")
        for name in formats
        if name not in FORMATS
    ]
    if paper not in PAPERS:
        unknown.append(Problem("the report's paper", " or ".join(PAPERS), repr(paper), "Leave it out for a4."))
    if unknown:
        raise InputError(unknown)
    # Imported here: matplotlib and typst take most of a second, and the command line imports this module to start.
    from tapfm_eval.report.content import build_content
    from tapfm_eval.report.csvfile import table_csv
    from tapfm_eval.report.figures import draw
    from tapfm_eval.report.words import content_json

    content = build_content(inputs, show_ids=show_ids)
    figures = {figure.id: draw(figure.drawing) for figure in content.figures}
    files: dict[Path, bytes] = {}
    if "html" in formats:
        from tapfm_eval.report.html import render_html

        files[folder / "report.html"] = render_html(content, figures).encode()
    if "pdf" in formats:
        from tapfm_eval.report.pdf import render_pdf

        files[folder / "report.pdf"] = render_pdf(content, figures, paper=paper)
    files[folder / "content.json"] = content_json(content).encode()
    files |= {folder / "figures" / f"{name}.svg": svg.encode() for name, svg in figures.items()}
    files |= {folder / "tables" / f"{table.id}.csv": table_csv(table).encode() for table in content.tables}
    for path, data in files.items():
        _write_whole(path, data)
    return tuple(files)


def _write_whole(path: Path, data: bytes) -> None:
    """Writes to a temporary file beside the target, flushes it to disk and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
