"""The report as one HTML file that needs nothing else: no network, no fonts, no scripts from elsewhere."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tapfm_eval.report.blocks import Block, Content, Table, as_shown
from tapfm_eval.report.columns import fit_columns, heading, p_values_whole
from tapfm_eval.report.csvfile import table_csv
from tapfm_eval.report.palette import ACCENT, DARK_TWINS, FAINT, HAIRLINE, INK, MUTED

TEMPLATES = Path(__file__).parent / "templates"
_NAMES = {INK: "ink", MUTED: "muted", HAIRLINE: "hairline", FAINT: "faint", ACCENT: "accent"}


def render_html(content: Content, figures: Mapping[str, str]) -> str:
    """The report as HTML; the same content gives the same bytes.

    Args:
        content: What the report says; every text of it is escaped.
        figures: SVG by the id of each figure of the content, as `figures.draw` makes it.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_held_together,
    )
    return environment.get_template("report.html.j2").render(
        content=content,
        kind_of=_kind_of,
        csv_link=_csv_link,
        as_shown=as_shown,
        fit_columns=fit_columns,
        heading=heading,
        svg_of=lambda figure: inline_svg(figures[figure.id], figure.id),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
        script=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),  # noqa: S704  our own file
        light={_variable(colour): colour for colour in DARK_TWINS},
        dark={_variable(colour): twin for colour, twin in DARK_TWINS.items()},
    )


def _held_together(value: object) -> object:
    """Our texts with p values that no line break parts from their sign; markup, links and numbers as they are."""
    return p_values_whole(value) if type(value) is str else value


def _kind_of(block: Block) -> str:
    return type(block).__name__


def _variable(colour: str) -> str:
    return f"--{_NAMES.get(colour, 'c' + colour[1:])}"


def _csv_link(table: Table) -> str:
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(table_csv(table).encode()).decode()


def inline_svg(svg: str, name: str) -> Markup:
    """The figure for embedding: ids made unique by `name`, colours bound to the page's theme, no declarations.

    The text of the figure was escaped by its maker; only markup around it is changed here.
    """
    start = svg.index("<svg")
    body = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg[start:], count=1, flags=re.DOTALL)
    body = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', body, count=1
    )
    body = body.replace("xlink:href", "href")
    body = re.sub(r'(<[^<>]*? id=")([^"]*)"', rf'\1{name}-\2"', body)
    body = re.sub(r'((?:href="|url\()#)', rf"\1{name}-", body)
    for colour in DARK_TWINS:
        body = body.replace(f": {colour}", f": var({_variable(colour)})")
    return Markup(body)  # noqa: S704  made by matplotlib, which escapes text
