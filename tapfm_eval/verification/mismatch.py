"""One thing in a run folder that is not what it should be."""

from collections.abc import Iterable
from dataclasses import dataclass

from tapfm_eval.errors import InputError

ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A stored value beside what was recomputed or recorded."""

    where: str  # file and place: `results.json, aurocs[3] (EGFR, arm-a, tcga test).auroc.value`
    stored: str  # what the folder holds
    recomputed: str  # what follows from the run's inputs, or what the journal recorded

    @property
    def file(self) -> str:
        """The file within the folder."""
        return self.where.partition(",")[0].partition(" against ")[0]


def refused(error: InputError) -> list[Mismatch]:
    """The problems of an input that cannot be read as what it claims to be, as mismatches."""
    return [Mismatch(problem.where, problem.got, problem.expected) for problem in error.problems]


def few(found: Iterable[Mismatch], where: str, limit: int = 50) -> list[Mismatch]:
    """The first mismatches, and one more that counts the rest."""
    every = list(found)
    rest = len(every) - limit
    return every if rest <= 0 else [*every[:limit], Mismatch(where, f"{rest} more differences", "none")]
