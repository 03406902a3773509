"""Slides that fail: how many may, what is recorded of them, and how a slide is told from a storage that is away."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.cohort.locate import SlideFile
from tapfm_eval.errors import Problem, RunError, SlideError, StudyError, UnreadableSlideError
from tapfm_eval.locks import take_in_turn
from tapfm_eval.protocol.schema import Failures
from tapfm_eval.rundir import RunFolder, write_json
from tapfm_eval.stages.tiling import allowed_failures

FORMAT = "tapfm-eval/failures/1"
AT_FIRST = "slides"
"""The stage of slides that failed before anything was learnt from them; all other failures came later and stay."""
_PROBED = 5  # other slides that are tried before a storage counts as away


@dataclass(frozen=True, slots=True)
class Losses:
    """What a study may lose, and where it is written down."""

    folder: RunFolder
    policy: Failures
    totals: Mapping[str, int]  # slides that each cohort set out with


def read_failures(folder: RunFolder) -> tuple[Exclusion, ...]:
    """The slides that a run has lost so far.

    Raises:
        RunError: The record cannot be read.
    """
    path = folder.root / "failures.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["failures"]
        return tuple(Exclusion(*map(str, row)) for row in rows)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(
            Problem(str(path), "the slides that the run has lost", f"{type(error).__name__}: {error}"[:120],
                    "Restore the file, or start anew with another --out.")
        ) from None  # fmt: skip


def lost_later(folder: RunFolder) -> tuple[Exclusion, ...]:
    """The slides that were lost with the study under way: they stay out of it, readable again or not."""
    return tuple(failure for failure in read_failures(folder) if failure.stage != AT_FIRST)


def write_failures(folder: RunFolder, failed: Iterable[Exclusion]) -> None:
    """Writes the slides that a run has lost, sorted."""
    found = {(f.cohort, f.slide_id): f for f in failed}
    rows = [[f.cohort, f.patient_id, f.slide_id, f.stage, f.reason, f.file] for _, f in sorted(found.items())]
    content = {"format": FORMAT, "failures": rows}
    write_json(folder.root / "failures.json", content)


def check_failures(failed: Iterable[Exclusion], losses: Losses) -> None:
    """Stops the study where the protocol says that this many failures are too many.

    Raises:
        StudyError: Under `stop` any failed slide; under `exclude` more than `max_share` of a cohort's slides.
    """
    failed = list(failed)
    for cohort, total in losses.totals.items():
        lost = [failure for failure in failed if failure.cohort == cohort]
        allowed = allowed_failures(losses.policy, total)
        if len(lost) > allowed:
            shown = "\n".join(f"  {failure.slide_id} ({failure.file}): {failure.reason}" for failure in lost[:10])
            more = f"\n  and {len(lost) - 10} more" if len(lost) > 10 else ""
            raise StudyError(
                f"{cohort}: {len(lost)} of {total} slides failed, the protocol allows {allowed:.0f} "
                f"(failures.policy: {losses.policy.policy}).\n{shown}{more}\n"
                "What is done is kept. Put whole files in their place and give the same command again."
            )


def record_failure(losses: Losses, slide: SlideFile, stage: str, error: SlideError) -> Exclusion:
    """Writes down that a slide failed with the study under way, if the protocol allows one more; several processes may.

    Raises:
        StudyError: It does not; the slide is not written down, so that the same command resumes once it is mended.
    """
    reason = error.cause(slide.slide_id, slide.path)
    failure = Exclusion(slide.cohort, slide.patient_id, slide.slide_id, stage, reason, str(slide.path))
    with take_in_turn(losses.folder.lock("failures"), lambda _: None):
        known = read_failures(losses.folder)
        if not any((f.cohort, f.slide_id) == (failure.cohort, failure.slide_id) for f in known):
            check_failures([*known, failure], losses)
            write_failures(losses.folder, [*known, failure])
            losses.folder.journal("slide excluded", cohort=slide.cohort, slide=slide.slide_id, stage=stage)
    return failure


def check_storage(slide: SlideFile, others: Sequence[SlideFile]) -> None:
    """Tells a slide that cannot be read from a storage that is away, for which no slide is to blame.

    Raises:
        RunError: None of the cohort's next slides can be read either.
    """
    near = [other for other in others if other.cohort == slide.cohort and other.slide_id != slide.slide_id][:_PROBED]
    if near and not any(_can_be_read(other) for other in near):
        raise RunError(
            Problem(f"{slide.path.parent}, slides of {slide.cohort}", "slides that can be read",
                    f"none of {len(near) + 1} tried",
                    "Bring the storage back. Nothing that is done is lost, no slide was excluded, and the same "
                    "command resumes.")
        )  # fmt: skip


def _can_be_read(slide: SlideFile) -> bool:
    try:
        with slide.path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def despite_failures(
    losses: Losses, slides: Sequence[SlideFile], stage: str, say: Callable[[str], None], work: Callable[[], None]
) -> None:
    """Does `work`, again without each slide that cannot be read, as long as the protocol allows it.

    Args:
        losses: What the study may lose.
        slides: All of the study, whichever this work needs: from the others a storage is known that is away.
        stage: What the work is, for the record: training, prediction.
        say: Told of each slide that is left out.
        work: Leaves out the slides of `lost_later`; raises UnreadableSlideError after its own attempts.

    Raises:
        StudyError: Too many slides failed.
        RunError: The storage is away.
    """
    while True:
        try:
            return work()
        except UnreadableSlideError as error:
            slide = next(slide for slide in slides if slide.slide_id == error.slide_id)
            check_storage(slide, slides)
            record_failure(losses, slide, stage, error)
            say(f"Slide {slide.slide_id} of {slide.cohort} is excluded: {error}")
