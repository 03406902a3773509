"""The error tree: every fault that a user can cause or mend is one of these, and carries its exit code."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from pathlib import PurePath

MAX_PART = 700  # characters of one part of a message; a header of 5,000 is no message


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an input: where it is, what was expected, what came, and what to do about it."""

    where: str  # file, then row or key: `cohorts/x.csv, row 18, column EGFR`
    expected: str  # `0, 1 or empty`
    got: str  # the offending value as text, shortened
    remedy: str  # an instruction: `Map it under targets.EGFR.values.`

    def __post_init__(self) -> None:
        """Whatever a file holds, a message stays one that can be read: short, and `where` and `got` on one line."""
        for name in ("where", "expected", "got", "remedy"):
            text = getattr(self, name)
            if name in ("where", "got"):
                text = _printable(text)
            object.__setattr__(self, name, _shortened(text))

    def __str__(self) -> str:
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{self.where}: expected {self.expected}, got {self.got}.{remedy}"


def _printable(text: str) -> str:
    """Control characters written out: a cell or a path must not move the cursor of who reads about it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _shortened(text: str) -> str:
    """At most `MAX_PART` characters: the beginning and the end, which say most."""
    return text if len(text) <= MAX_PART else f"{text[: MAX_PART - 205]} ... {text[-200:]}"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A remedy that offers the known name that is nearest, all of them where several are: one alone would be a guess.

    >>> did_you_mean("h-optimus-O", ["h-optimus-0", "h-optimus-1", "uni"])
    'Did you mean `h-optimus-0` or `h-optimus-1`?'
    >>> did_you_mean("resnet", ["uni"])
    ''
    """
    alike = get_close_matches(name, known, n=max(1, len(known)))
    likeness = {other: SequenceMatcher(a=other, b=name).ratio() for other in alike}
    near = sorted(f"`{other}`" for other, ratio in likeness.items() if ratio == max(likeness.values()))
    return f"Did you mean {' or '.join(near)}?" if near else ""


class TapfmEvalError(Exception):
    """Root of the tree; `exit_code` 2 is wrong input, 1 means that the command worked and found something."""

    exit_code = 2


class InputError(TapfmEvalError):
    """An input is not what it claims to be; lists every problem found, not the first alone."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[object, ...]:
        """An error that a worker process raised arrives whole."""
        return type(self), (self.problems,)


class ProtocolError(InputError):
    """The protocol file is wrong."""


class ManifestError(InputError):
    """A cohort manifest is wrong."""


class SplitError(InputError):
    """A split file is wrong, or does not fit its manifest."""


class SlideError(InputError):
    """A slide cannot be read, or lacks what is needed to read it at a known scale."""

    def cause(self, slide_id: str, *files: PurePath) -> str:
        """What is wrong without where, for records that others read: the names of slide and `files` are taken out."""
        text = "; ".join(f"expected {problem.expected}, got {problem.got}" for problem in self.problems)
        for path in files:
            for name in (f"slide {slide_id} ({path})", str(path), path.name):  # the longest first
                text = text.replace(name, "the file")
        return text


class BackboneError(InputError):
    """A backbone is unknown, or its weights cannot be had or do not fit."""


class PredictionsError(InputError):
    """A predictions table is wrong."""


class StatisticsError(InputError):
    """Arrays handed to a statistic are malformed: NaN scores, labels other than 0 and 1, shapes that disagree."""


class UnreadableSlideError(SlideError):
    """Tiles of a slide that was readable when they were laid cannot be read now."""

    def __init__(self, slide_id: str, problem: Problem) -> None:
        self.slide_id = slide_id
        super().__init__(problem)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.slide_id, *self.problems)


class RunError(InputError):
    """The run folder is in a state that the command cannot work with."""


class StudyError(TapfmEvalError):
    """The study ran and stopped on a finding: too many failed slides, audit errors, a failed rehearsal check."""

    exit_code = 1


class PausedError(TapfmEvalError):
    """A signal stopped the command midway with everything kept; the same command resumes."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again
