"""Every item of both guidelines stands in the checklist, and nothing that they do not have.

The item numbers were compared with published copies of TRIPOD+AI 2024 (27 items, 52 with their letters) and STARD 2015
(30 items, 34 with their letters).
"""

import re
from collections.abc import Iterator

from tapfm_eval.report.sections.checklist import BY_HUMAN, FROM_DATA

TRIPOD_AI = (
    "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b 18c "
    "18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
)
STARD_2015 = "1 2 3 4 5 6 7 8 9 10a 10b 11 12a 12b 13a 13b 14 15 16 17 18 19 20 21a 21b 22 23 24 25 26 27 28 29 30"


def named(column: str) -> Iterator[str]:
    for item in (*FROM_DATA, *BY_HUMAN):
        yield from filter(None, re.split(r",\s*", getattr(item, column)))


def test_every_item_of_both_guidelines_is_mapped_and_no_other() -> None:
    assert (len(TRIPOD_AI.split()), len(STARD_2015.split())) == (52, 34)
    assert set(named("tripod_ai")) == set(TRIPOD_AI.split())
    assert set(named("stard")) == set(STARD_2015.split())


def test_what_data_answer_names_a_section_and_what_a_human_must_names_none() -> None:
    assert all(item.section for item in FROM_DATA)
    assert not any(item.section for item in BY_HUMAN)
