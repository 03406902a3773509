"""How numbers are written: rounded once, here, to what their intervals can carry."""

import math
import unicodedata
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from statistics import median

from tapfm_eval.report.blocks import Cell
from tapfm_eval.statistics.records import Comparison, Estimate

MINUS = "\u2212"
_KEPT_FORMAT_CHARACTERS = frozenset("\u00ad\u200c\u200d")  # soft hyphen, joiners: they shape text, hide none


def visible(text: str) -> str:
    """The text with every character that would hide or reorder its neighbours spelt out, as in `[U+202E]`.

    Control characters, bidirectional and zero-width marks, private-use and unassigned code points are written as their
    number, so that what is read is what is there. Line feeds stay.

    >>> visible("TCGA\\u202e-01")
    'TCGA[U+202E]-01'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _shows(character) else f"[U+{ord(character):04X}]" for character in text)


def _shows(character: str) -> bool:
    if character == "\n" or character in _KEPT_FORMAT_CHARACTERS:
        return True
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def count(number: int) -> str:
    """A whole number with thousands set apart: `10,482`."""
    return f"{number:,}".replace("-", MINUS)


def counted(number: int, noun: str) -> str:
    """A whole number with its noun: `1 patient`, `2 patients`."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def fixed(number: float, decimals: int) -> str:
    """A number with a true minus sign and no negative zero; `not estimable` for NaN."""
    if math.isnan(number):
        return "not estimable"
    if math.isinf(number):
        return "∞" if number > 0 else f"{MINUS}∞"
    text = f"{number:.{decimals}f}"
    if text.startswith("-"):
        text = text[1:] if float(text) == 0 else MINUS + text[1:]
    return text


def signed(number: float, decimals: int) -> str:
    """A difference with its sign, plus included: `+0.04`."""
    text = fixed(number, decimals)
    return f"+{text}" if number > 0 and float(f"{number:.{decimals}f}") != 0 else text


def percent(share: float, decimals: int = 0) -> str:
    """A share as a percentage, halves up: `26%`; 13 of 40 is 33% as 31 of 40 is 78%."""
    if not math.isfinite(share):
        return fixed(share, decimals)
    step = Decimal(1).scaleb(-decimals)
    return f"{fixed(float(Decimal(100 * share).quantize(step, ROUND_HALF_UP)), decimals)}%"


def interval_name(level: float) -> str:
    """How an interval of this level is headed: `95% CI`."""
    return f"{percent(level, 1).replace('.0%', '%')} CI"


def p_text(p: float) -> str:
    """A p value to two decimals; three below 0.01 and where rounding would hide on which side of 0.05 or 0.025 it lies.

    >>> p_text(0.0004), p_text(0.0314), p_text(0.0496), p_text(0.998)
    ('<0.001', '0.03', '0.050', '>0.99')
    """
    if math.isnan(p):
        return "–"
    if p < 0.001:
        return "<0.001"
    if p < 0.01 or 0.0245 <= p < 0.0255 or 0.045 <= p < 0.055:
        return f"{p:.3f}"
    return ">0.99" if p > 0.99 else f"{p:.2f}"


def decimals_for(estimates: Iterable[Estimate | Comparison], *, fine_below: float) -> int:
    """Three decimals where the median interval is narrower than `fine_below`, else two: one rule for a whole report.

    With an interval of 0.70 to 0.89 the third decimal of an AUROC is noise, and printing it claims a precision that the
    study has not got.
    """
    return decimals_for_widths((e.upper - e.lower for e in estimates), fine_below=fine_below)


def decimals_for_widths(widths: Iterable[float], *, fine_below: float) -> int:
    """The same rule for intervals of these widths; those that are not estimable have no say."""
    finite = [width for width in widths if math.isfinite(width)]
    return 3 if finite and median(finite) < fine_below else 2


def interval_text(lower: float, upper: float, decimals: int) -> str:
    """The limits: `0.70–0.89`, or `−0.02 to 0.09` where a minus sign would meet the dash."""
    joint = " to " if lower < 0 or upper < 0 else "–"
    return f"{_sized(lower, decimals)}{joint}{_sized(upper, decimals)}"


def _sized(number: float, decimals: int) -> str:
    """A number with a decimal less from 10 on, and none from 100 on: a slope of 1807.05 claims too much."""
    size = abs(number)
    return fixed(number, decimals if size < 9.995 else 0 if size >= 99.5 else max(0, decimals - 1))


def estimate_text(estimate: Estimate, decimals: int) -> str:
    """`0.81 (0.70–0.89)`, or `not estimable: reason`."""
    reason = f": {visible(estimate.reason)}" if estimate.reason else ""
    if math.isnan(estimate.value):
        return f"not estimable{reason}"
    if math.isnan(estimate.lower) or math.isnan(estimate.upper):
        return f"{_sized(estimate.value, decimals)} (interval not estimable{reason})"
    return f"{_sized(estimate.value, decimals)} ({interval_text(estimate.lower, estimate.upper, decimals)})"


def difference_text(difference: Comparison, decimals: int) -> str:
    """`+0.04 (−0.01 to 0.09)`; `>0` or `<0` for a limit that excludes 0 and would print as 0."""
    reason = f": {visible(difference.reason)}" if difference.reason else ""
    if math.isnan(difference.value):
        return f"not estimable{reason}"
    if math.isnan(difference.lower) or math.isnan(difference.upper):
        return f"{signed(difference.value, decimals)} (interval not estimable{reason})"
    lower, upper = fixed(difference.lower, decimals), fixed(difference.upper, decimals)
    if difference.lower > 0 and float(lower) == 0:
        lower = ">0"
    elif difference.upper < 0 and float(upper.replace(MINUS, "-")) == 0:
        upper = "<0"
    return f"{signed(difference.value, decimals)} ({lower} to {upper})"


def text_cell(text: str) -> Cell:
    """A cell of text; the CSV keeps the characters as they came."""
    return Cell(visible(text), (text,))


def covariate_name(name: str) -> str:
    """A covariate as a reader knows it, in every section alike: `mpp` is `scan, µm/px`."""
    return {"mpp": "scan, µm/px", "pack_years": "pack-years"}.get(name, name)


def count_cell(number: int) -> Cell:
    """A cell with a whole number."""
    return Cell(count(number), (number,), float(number))


def counts(positives: int, n: int) -> str:
    """`23 / 161`: of all, how many have it."""
    return f"{count(positives)} / {count(n)}"


def events_cell(positives: int, n: int) -> Cell:
    """`23 / 161`: patients with the mutation, of all with a known label."""
    return Cell(counts(positives, n), (positives, n), float(positives))


def estimate_cell(estimate: Estimate, decimals: int) -> Cell:
    """An estimate with its interval; unrounded in the CSV."""
    values = (estimate.value, estimate.lower, estimate.upper)
    return Cell(estimate_text(estimate, decimals), values, _order(estimate.value))


def share_text(estimate: Estimate) -> str:
    """A share in per cent with its interval, the sign left to the heading: `37 (30–44)`; a dash where it is unknown."""
    if math.isnan(estimate.value):
        return "–"
    value = fixed(100 * estimate.value, 0)
    if math.isnan(estimate.lower) or math.isnan(estimate.upper):
        return value
    return f"{value} ({interval_text(100 * estimate.lower, 100 * estimate.upper, 0)})"


def share_cell(estimate: Estimate) -> Cell:
    """A share in per cent with its interval; a fraction, unrounded, in the CSV."""
    return Cell(share_text(estimate), (estimate.value, estimate.lower, estimate.upper), _order(estimate.value))


def difference_cell(difference: Comparison, decimals: int) -> Cell:
    """A difference with its interval; unrounded in the CSV."""
    values = (difference.value, difference.lower, difference.upper)
    return Cell(difference_text(difference, decimals), values, _order(difference.value))


def number_cell(number: float, decimals: int) -> Cell:
    """A cell with a decimal number."""
    return Cell("–" if math.isnan(number) else fixed(number, decimals), (number,), _order(number))


def p_cell(p: float) -> Cell:
    """A cell with a p value; a dash where no test was made."""
    return Cell(p_text(p), (p,), _order(p))


def _order(number: float) -> float | None:
    return number if math.isfinite(number) else None
