"""What the units of a study do, in any process that sees the run folder."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from tapfm_eval.cohort.locate import SlideFile
from tapfm_eval.errors import Problem, RunError
from tapfm_eval.progress import Once, Reporter
from tapfm_eval.provenance import environment
from tapfm_eval.rundir import LOOKED, PREDICTED, RunFolder, looks_of_others, sha256_file
from tapfm_eval.stages.failures import Losses, despite_failures, lost_later
from tapfm_eval.stages.graph import WorkUnit

if TYPE_CHECKING:
    from tapfm_eval.methods.unit import Unit
    from tapfm_eval.protocol.schema import Arm
    from tapfm_eval.stages.units import StudyData

Advance = Callable[[int], None]
Guard = Callable[[], None]


class Study(Protocol):
    """What all units share."""

    @property
    def files(self) -> tuple[SlideFile, ...]:
        """All slides."""
        ...

    @property
    def losses(self) -> Losses:
        """What the study may lose."""
        ...

    def data(self, unit: WorkUnit) -> "StudyData":
        """The study, with at least the slides that this unit needs."""
        ...

    def say(self, message: str) -> None:
        """Tells the user, or the unit's log."""
        ...


@dataclass(frozen=True, slots=True)
class WholeStudy:
    """A study in the memory of the process that runs it."""

    whole: "StudyData"
    files: tuple[SlideFile, ...]
    losses: Losses
    reporter: Reporter

    def data(self, unit: WorkUnit) -> "StudyData":
        """The study."""
        return self.whole

    def say(self, message: str) -> None:
        """Tells the user."""
        self.reporter.say(message)


@dataclass(frozen=True, slots=True)
class SentStudy:
    """A study on its way to other processes: the slides without their tiles, which are read where they are needed."""

    bare: "StudyData"
    files: tuple[SlideFile, ...]
    losses: Losses
    threads: int | None  # of arithmetic on a CPU: those of the process that sent it, so that no result differs

    def data(self, unit: WorkUnit) -> "StudyData":
        """The study with the slides that the unit names, or else with those of the cohorts that it needs."""
        import torch

        from tapfm_eval.methods.sources import StudySlide
        from tapfm_eval.slides.tiles import read_tiles

        device = self.bare.device
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        described = str(device) if device.type == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"
        here = environment(described)
        if here != self.bare.session:  # another machine than the one that began the run, or another state of it
            _journal_once(self.bare.folder, here)
        wanted, named = unit.arguments["cohorts"], unit.arguments.get("slides")
        slides = tuple(
            StudySlide(f.slide_id, f.patient_id, f.cohort, f.path, f.manifest_mpp,
                       read_tiles(self.bare.folder.tiles(f.cohort, f.slide_id)))
            for f in self.files
            if f.cohort in wanted and (named is None or f.slide_id in named)
        )  # fmt: skip
        return replace(self.bare, slides=slides, session=here)

    def say(self, message: str) -> None:
        """Goes to the unit's log, where stdout leads."""
        print(message, flush=True)


def _journal_once(folder: RunFolder, here: Mapping[str, str]) -> None:
    """Writes down an environment that a run has not had before."""
    if not any(event.get("environment") == dict(here) for event in folder.events()):
        folder.journal("started", command="a worker", environment=dict(here))


def is_done(study: Study, unit: WorkUnit) -> bool:
    """Whether a unit's files are there; slides that the study has lost since need none."""
    root = study.losses.folder.root
    missing = [name for name in unit.outputs if not (root / name).is_file()]
    if missing and unit.stage == "features":
        gone = {f"{failure.slide_id}.h5" for failure in lost_later(study.losses.folder)}
        missing = [name for name in missing if name.rpartition("/")[2] not in gone]
    return not missing


def perform(study: Study, unit: WorkUnit, advance: Advance, guard: Guard) -> None:
    """Does one unit."""
    bodies: dict[str, Callable[[Study, WorkUnit, Advance, Guard], None]] = {
        "features": _embed, "train": _train, "select": _select, "predict": _predict,
    }  # fmt: skip
    bodies[unit.stage](study, unit, Once(advance), guard)


def _embed(study: Study, unit: WorkUnit, advance: Advance, guard: Guard) -> None:
    """Some slides of a cohort through a frozen backbone."""
    from tapfm_eval.stages.units import embed_slides

    data, ids = study.data(unit), set(unit.arguments["slides"])

    def attempt() -> None:
        left = data.without(lost_later(data.folder)).slides
        embed_slides(data, unit.arguments["backbone"], [slide for slide in left if slide.slide_id in ids], advance)

    despite_failures(study.losses, study.files, "embedding", study.say, attempt)


def _train(study: Study, unit: WorkUnit, advance: Advance, guard: Guard) -> None:
    """One arm, seed and fold to its selected weights."""
    from tapfm_eval.stages.units import train_and_save

    data = study.data(unit)
    arm, trained = trained_unit(data, unit.arguments)

    def attempt() -> None:
        train_and_save(data.without(lost_later(data.folder)), arm, trained, advance, guard, study.say)

    despite_failures(study.losses, study.files, "training", study.say, attempt)
    data.folder.journal("selected", arm=trained.arm, seed=trained.seed, fold=trained.fold)


def _select(study: Study, unit: WorkUnit, advance: Advance, guard: Guard) -> None:
    """The barrier before the one look: everything is selected, and the look is written down before it is taken.

    Raises:
        RunError: Something is not selected.
    """
    from tapfm_eval.methods.unit import Unit

    folder = study.losses.folder
    units = [Unit(str(arm), int(seed), int(fold)) for arm, seed, fold in unit.arguments["units"]]
    missing = [one for one in units if not (folder.unit(one.arm, one.seed, one.fold) / "selection.json").is_file()]
    if missing:  # the graph sees to it, and this unit does not rely on the graph
        raise RunError(
            Problem(str(folder.root), f"{missing[0]} selected before test patients are predicted", "no selection.json",
                    "Put it back, if you removed it, or give the same command again, which trains it.")
        )  # fmt: skip
    places = {one: folder.unit(one.arm, one.seed, one.fold) for one in units}
    _announce_look(folder, [one for one, place in places.items() if not (place / "predictions.csv").is_file()])
    advance(1)


def _announce_look(folder: RunFolder, todo: "Sequence[Unit]") -> None:
    """Writes down that test and external patients are about to be predicted; once more where they had been before."""
    events = folder.events()
    announced = [event for event in events if event["event"] == LOOKED]
    if not announced:
        if todo:
            others = [asdict(look) for look in looks_of_others(folder)]
            folder.journal(LOOKED, run=folder.root.name, units=len(todo), what="all units", others=others)
        return
    made = Counter(str(event.get("unit")) for event in events if event["event"] == PREDICTED)
    asked: Counter[str] = Counter()
    for event in announced[1:]:
        names = event.get("again")
        asked.update(map(str, names) if isinstance(names, list) else ())
    again = [str(unit) for unit in todo if made[str(unit)] > asked[str(unit)]]
    if again:
        what = f"{'; '.join(again)} once more"
        folder.journal(LOOKED, run=folder.root.name, units=len(again), what=what, again=again)


def check_looked(folder: RunFolder) -> None:
    """Makes sure that the look was written down: the graph sees to it, and this unit does not rely on the graph.

    Raises:
        RunError: It was not.
    """
    if not any(event["event"] == LOOKED for event in folder.events()):
        raise RunError(
            Problem(str(folder.root / "journal.jsonl"), "the line that says that test patients are being predicted",
                    "none: this would be a look before all is selected",
                    "Put the journal back, if you removed it; the same command then resumes.")
        )  # fmt: skip


def _predict(study: Study, unit: WorkUnit, advance: Advance, guard: Guard) -> None:
    """Test and external patients with the selected weights of one arm, seed and fold."""
    from tapfm_eval.stages.units import predict_and_save, unit_folder

    check_looked(study.losses.folder)
    data = study.data(unit)
    arm, trained = trained_unit(data, unit.arguments)

    def attempt() -> None:
        predict_and_save(data.without(lost_later(data.folder)), arm, trained, advance, guard, study.say)

    despite_failures(study.losses, study.files, "prediction", study.say, attempt)
    digest = sha256_file(unit_folder(data, trained) / "predictions.csv")
    data.folder.journal(PREDICTED, unit=str(trained), sha256=digest)


def trained_unit(data: "StudyData", arguments: Mapping[str, Any]) -> "tuple[Arm, Unit]":
    """The arm, seed and fold that a unit of work is about."""
    from tapfm_eval.methods.unit import Unit

    arm = next(arm for arm in data.protocol.arms if arm.id == arguments["arm"])
    return arm, Unit(arm.id, int(arguments["seed"]), int(arguments["fold"]))
