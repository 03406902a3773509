"""Widths of columns: what must stay on one line does, and nothing else is squeezed for it."""

import pytest

from tapfm_eval.report.blocks import Cell, Column, RowGroup, Table
from tapfm_eval.report.columns import ROOM, SIZES, ColumnFit, fit_columns, heading, p_values_whole


def fitted(*columns: tuple[Column, str], rows: int = 1, width: float = 1.0) -> ColumnFit:
    row = tuple(Cell(text, (text,)) for _, text in columns)
    return fit_columns(Table("t", "T", tuple(c for c, _ in columns), (RowGroup("", (row,) * rows),), width=width))


def words(text: str) -> tuple[Column, str]:
    return Column("A", ("a",)), text


def numeral(text: str) -> tuple[Column, str]:
    return Column("B", ("b",), "number"), text


def test_shares_fill_the_table() -> None:
    fit = fitted(words("EGFR"), words("a reason " * 9), numeral("0.81 (0.70–0.89)"))
    assert sum(fit.shares) == pytest.approx(1)
    assert sum(fit.close) == pytest.approx(1)
    assert fit.size == 1


def test_a_numeral_takes_its_line_from_words() -> None:
    fit = fitted(words("word " * 60), *(numeral("0.81 (0.70–0.89)") for _ in range(5)))
    assert all(share * ROOM / fit.size > 6.7 for share in fit.shares[1:])  # sixteen characters of mostly digits
    assert fit.shares[0] > max(fit.shares[1:])


def test_a_table_of_many_numerals_is_set_smaller_and_never_unreadably_small() -> None:
    sizes = [fitted(*(numeral("0.81 (0.70–0.89)") for _ in range(n))).size for n in range(4, 13)]
    assert sizes == sorted(sizes, reverse=True)
    assert {1.0, SIZES[-1]} < set(sizes) <= set(SIZES)


def test_a_reason_among_numerals_may_take_lines_of_its_own() -> None:
    plain = fitted(words("EGFR"), numeral("0.81"))
    reason = fitted(words("EGFR"), numeral("not estimable: no positive patient with a known label"))
    assert plain.lines == 1
    assert reason.size == 1


def test_a_very_long_word_makes_a_high_row_and_no_wide_column() -> None:
    fit = fitted(words("x" * 10_000), numeral("0.81"), words("EGFR"))
    assert fit.lines > 80
    assert max(fit.shares) < 0.8
    assert fit.close_ems < 40


def test_a_narrow_table_has_less_room() -> None:
    columns = [numeral("0.81 (0.70–0.89)")] * 4
    assert fitted(*columns, width=0.45).size < fitted(*columns).size


def test_columns_without_rows_or_width_for_words_are_laid_out_too() -> None:
    assert sum(fitted(words(""), numeral(""), rows=0).shares) == pytest.approx(1)
    assert fit_columns(Table("t", "T", (Column("", ("a",)),), ())).lines == 0


def test_an_interval_in_a_header_is_not_broken() -> None:
    assert heading("Macro AUROC (95% CI)") == "Macro AUROC (95%\u00a0CI)"
    assert heading("Observed / expected (ideal 1)").endswith(" (ideal\u00a01)")


def test_a_p_value_is_not_broken() -> None:
    assert p_values_whole("one-sided p = 0.84; p < 0.001, map = 3") == (
        "one-sided p\u00a0=\u00a00.84; p\u00a0<\u00a00.001, map = 3"
    )
