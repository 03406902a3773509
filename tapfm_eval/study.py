"""Runs a protocol stage by stage; with the CLI the only module that knows all stages."""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tapfm_eval.audit.audit import audit_protocol
from tapfm_eval.audit.findings import KINDS, Finding, audit_content, standing_errors
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.locate import SlideFile
from tapfm_eval.errors import InputError, Problem, RunError, StudyError, TapfmEvalError
from tapfm_eval.executors.local import LocalExecutor
from tapfm_eval.executors.ray import RayExecutor, check_installed
from tapfm_eval.executors.sight import Place
from tapfm_eval.executors.work import Executor, Work, usable_cores
from tapfm_eval.locks import Holder, Lock, take_in_turn
from tapfm_eval.methods.recipe import resolve_recipe
from tapfm_eval.parallel import processes_here, started_by_torchrun
from tapfm_eval.preparation import (
    Prepared,
    RunOptions,
    check_options,
    load_study,
    look_section,
    prepare_rehearsal,
    prepare_run,
    with_local_paths,
)
from tapfm_eval.progress import Reporter
from tapfm_eval.protocol.load import protocol_yaml, read_protocol
from tapfm_eval.provenance import environment, environments, provenance, shared_software
from tapfm_eval.results import RehearsalCheck
from tapfm_eval.rundir import (
    RunFolder,
    sweep_old,
    write_json,
    write_text,
)
from tapfm_eval.stages.bodies import SentStudy, Study, WholeStudy, is_done, trained_unit
from tapfm_eval.stages.constancy import FAILED, same_slides, same_weights, slides_before
from tapfm_eval.stages.failures import (
    AT_FIRST,
    Losses,
    check_failures,
    lost_later,
    read_failures,
    write_failures,
)
from tapfm_eval.stages.graph import Graph, Resources
from tapfm_eval.stages.memory import host_memory_mb, stored_memory_mb
from tapfm_eval.stages.study_graph import EMBEDDED_TOGETHER, Means, study_graph, tile_graph
from tapfm_eval.stages.tiling import Tiling, is_tiled, tile_slides
from tapfm_eval.stopping import Stopping, deaf, stopping

if TYPE_CHECKING:
    import torch

    from tapfm_eval.methods.ranks import Ranks
    from tapfm_eval.methods.unit import Unit
    from tapfm_eval.protocol.schema import Arm, Protocol
    from tapfm_eval.stages.units import StudyData

BODIES = "tapfm_eval.stages.bodies"
TILING = "tapfm_eval.stages.tiling"
_SLIDES_LOOKED_FOR = 5  # of each cohort on every machine; one that is there will do


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run came to."""

    folder: Path
    report: tuple[Path, ...]  # empty where the run stopped before predictions, as `--arm` does
    checks: tuple[RehearsalCheck, ...]  # of a rehearsal
    held: Mapping[str, Holder] = field(default_factory=dict)  # units that other processes are at, so that ours ended
    follows: bool = False  # under torchrun: another process leads, and says what the run came to

    @property
    def failed_checks(self) -> tuple[RehearsalCheck, ...]:
        """The checks that a rehearsal did not pass."""
        return tuple(check for check in self.checks if not check.passed)


def run_protocol(path: Path, options: RunOptions, reporter: Reporter) -> RunOutcome:
    """Runs the whole study that a protocol states, or its rehearsal; what is done already is kept.

    Raises:
        InputError: Something given is wrong; nothing has been run.
        StudyError: The study stopped on a finding.
        PausedError: A signal came; everything is kept.
    """
    protocol = read_protocol(path, backbones=CARDS, findings=KINDS)
    check_options(protocol, options, path)
    if options.executor == "ray":
        check_installed()
    options = with_local_paths(protocol, options)
    if options.executor == "ray":
        options = _absolute(options)
    with contextlib.ExitStack() as open_:
        ranks = None
        if started_by_torchrun():
            options, ranks = _join(options, open_)
            if not ranks.leads:
                return _follow(protocol, path, options, ranks)
        stop = open_.enter_context(stopping(options.out, options.workers))
        before, reporter.check = reporter.check, stop.check
        try:
            with _leading(ranks) as begin:
                return _lead(protocol, path, options, reporter, ranks, stop, begin)
        finally:
            reporter.check = before


def _absolute(options: RunOptions) -> RunOptions:
    """The options with whole paths: the workers of a standing cluster live in the folder where that was started."""

    def whole(paths: Mapping[str, Path]) -> dict[str, Path]:
        return {name: path.absolute() for name, path in paths.items()}

    store = None if options.store is None else options.store.absolute()
    return replace(options, out=options.out.absolute(), store=store, slides=whole(options.slides),
                   weights=whole(options.weights), features=whole(options.features))  # fmt: skip


def _join(options: RunOptions, open_: contextlib.ExitStack) -> "tuple[RunOptions, Ranks]":
    """Joins the processes that torchrun has started; each has a device of its own."""
    from tapfm_eval.methods.ranks import joined_ranks

    if options.executor != "local":
        remedy = "Leave out one of the two: Ray starts its own processes."
        raise InputError(Problem("--executor", "local under torchrun", options.executor, remedy))
    facts = {**shared_software(), "folder of runs": str(options.out.absolute())}
    ranks = open_.enter_context(joined_ranks(options.device, facts))
    return replace(options, device=str(ranks.device)), ranks


def _follow(protocol: "Protocol", path: Path, options: RunOptions, ranks: "Ranks") -> RunOutcome:
    """What a process does under torchrun that does not lead: its part of every bag, until the leader ends."""
    from tapfm_eval.stages.units import follow_training

    with deaf():
        begun = ranks.say()
        if begun is None:  # the leader ended before it had anything to share
            return RunOutcome(options.out, (), (), follows=True)
        failure, data = None, None
        try:
            data = replace(_followed(protocol, path, options, begun), ranks=ranks)
        except Exception as error:  # the leader says it, as it says everything
            failure = error
        with contextlib.suppress(TapfmEvalError):
            ranks.assemble(failure)
        while (told := ranks.say()) is not None:
            assert data is not None, "nobody trains where somebody is not prepared"
            arm, seed, fold = told["train"]
            unit = trained_unit(data, {"arm": arm, "seed": seed, "fold": fold})
            lost = data.without_named((cohort, slide) for cohort, slide in told["lost"])
            follow_training(lost, *unit, told["key"])
        return RunOutcome(options.out, (), (), follows=True)


def _followed(protocol: "Protocol", path: Path, options: RunOptions, begun: Mapping[str, str]) -> "StudyData":
    """The study as a process sees it that does not lead.

    Raises:
        RunError: It sees another run folder than the leader, or would make another run of it.
    """
    quiet, folder = Reporter(quiet=True), Path(begun["folder"])
    if not (folder / begun["mark"]).is_file():  # before anything is written there
        raise RunError(
            Problem(f"--out {options.out}", f"the run folder {folder} on a file system that all processes share",
                    "none", "Give a shared folder with --out, under the same path on every machine.")
        )  # fmt: skip
    prepared = _prepared(protocol, load_study(protocol, path, options), path, options, quiet)
    if prepared.folder.root.absolute() != folder:
        raise RunError(
            Problem("torchrun", f"the run that the leading process makes ({folder.name})", prepared.run_id,
                    "Give all machines the same protocol, manifests, splits, slides and weights.")
        )  # fmt: skip
    device = _device(options, None)
    weights = _weights(prepared, options)  # read here: they may be others under the same path
    run = _Run(prepared, options, quiet, environment(device.described), weights, device.threads)
    return _study_data(run, device.torch, _tile(run, None))


@contextlib.contextmanager
def _leading(ranks: "Ranks | None") -> "Iterator[Callable[[RunFolder], None]]":
    """Gives what is called once the followers may prepare, and returns when they have; lets them go in the end."""

    def begin(folder: RunFolder) -> None:
        if ranks is not None:
            mark = folder.lock(f"seen-by-all-{uuid.uuid4().hex}")  # a new name: no machine has an old answer to it
            write_text(mark, "")
            try:
                ranks.say({"folder": str(folder.root.absolute()), "mark": str(mark.relative_to(folder.root))})
                ranks.assemble()
            finally:
                mark.unlink(missing_ok=True)

    try:
        yield begin
    except Exception as error:
        if ranks is not None:
            ranks.let_go(error)
        raise
    if ranks is not None:
        ranks.let_go()


def _prepared(
    protocol: "Protocol", cohorts: Mapping[str, Cohort], path: Path, options: RunOptions, reporter: Reporter
) -> Prepared:
    if options.rehearse:
        return prepare_rehearsal(protocol, cohorts, options, reporter)
    return prepare_run(protocol, cohorts, path, options)


def _lead(
    protocol: "Protocol",
    path: Path,
    options: RunOptions,
    reporter: Reporter,
    ranks: "Ranks | None",
    stop: Stopping,
    begin: Callable[[RunFolder], None],
) -> RunOutcome:
    cohorts = load_study(protocol, path, options)
    with reporter.stage("Auditing cohorts", 1) as advance:
        findings = audit_protocol(protocol, cohorts, CARDS)
        advance(1)
    _stop_on_errors(findings, protocol, path)
    prepared = _prepared(protocol, cohorts, path, options, reporter)
    stop.kept_in = prepared.folder.root
    with contextlib.ExitStack() as open_:
        ray = open_.enter_context(_ray(prepared, options)) if options.executor == "ray" else None
        return _execute(prepared, findings, options, reporter, ray, ranks, begin)


def _stop_on_errors(findings: Sequence[Finding], protocol: "Protocol", path: Path) -> None:
    errors = standing_errors(findings, (override.finding for override in protocol.overrides))
    if errors:
        said = [f"  {error.code} ({error.where}): {error.what} {error.remedy}" for error in errors]
        raise StudyError("\n".join([
            f"The audit found {len(errors)} error{'s' if len(errors) != 1 else ''}, and nothing has been run.",
            *said,
            f"`tapfm-eval audit {path}` shows all findings with their rows. To accept one knowingly, write "
            "`overrides: [{finding: CODE, reason: ...}]` into the protocol; the report prints it.",
        ]))  # fmt: skip


def _execute(
    prepared: Prepared,
    findings: Sequence[Finding],
    options: RunOptions,
    reporter: Reporter,
    ray: RayExecutor | None,
    ranks: "Ranks | None",
    begin: Callable[[RunFolder], None],
) -> RunOutcome:
    # torch is imported from here on and not before: every refusal above comes at once
    from tapfm_eval.stages.units import check_units, check_weights, units_of

    protocol, folder = prepared.protocol, prepared.folder
    device = _device(options, ray)
    if ray is not None:  # first, as weights take minutes to read
        ray.check_sight(folder.root, _places(prepared, options))
    if _runs_backbones(prepared):
        check_weights(prepared.cards, options.weights, protocol.seeds[0])
    weights = _weights(prepared, options)
    run = _Run(prepared, options, reporter, environment(device.described), weights, device.threads)
    _begin(run, findings)
    data = replace(_study_data(run, device.torch, _tile(run, ray)), ranks=ranks)
    begin(folder)
    arms = [arm for arm in protocol.arms if not options.arms or arm.id in options.arms]
    units = units_of(protocol, prepared.cohorts[protocol.development].folds)
    check_units(data.without(lost_later(folder)), arms, units)
    held = _do(run, data, _graph(run, data, arms, _means(run, data, device, ray)), ray)
    if options.arms:
        reporter.say("Stopped before test and external patients: --arm trains only.")
    if options.arms or held:
        return RunOutcome(folder.root, (), (), held)
    report, checks = _report(run, data, units)
    return RunOutcome(folder.root, report, checks)


def _places(prepared: Prepared, options: RunOptions) -> list[Place]:
    """What every machine must see: weights, and slides, as the mount point of a share that is away is a folder too."""
    slides = [tuple(file.path for file in search.files[:_SLIDES_LOOKED_FOR]) for search in prepared.searches]
    return [*filter(None, slides), *((path,) for path in sorted(options.weights.values()))]


def _runs_backbones(prepared: Prepared) -> bool:
    """Whether any cohort comes as slides: where all come as features, no backbone is run."""
    return bool(prepared.cohorts.keys() - prepared.features.keys())


def _weights(prepared: Prepared, options: RunOptions) -> dict[str, str]:
    """The hash of the weights of each backbone that is run."""
    from tapfm_eval.stages.units import weights_hashes

    return weights_hashes(prepared.cards, options.weights) if _runs_backbones(prepared) else {}


@dataclass(frozen=True, slots=True)
class _Device:
    torch: "torch.device"
    described: str
    threads: int | None = None  # of arithmetic on a CPU


@dataclass(frozen=True, slots=True)
class _Run:
    """What the steps of one session share."""

    prepared: Prepared
    options: RunOptions
    reporter: Reporter
    environment: Mapping[str, str]  # where and with what this process computes
    weights: Mapping[str, str]  # hashes of the backbones' weights
    threads: int | None  # of arithmetic on a CPU

    @property
    def folder(self) -> RunFolder:
        return self.prepared.folder

    @property
    def losses(self) -> Losses:
        totals = {search.cohort: len(search.files) for search in self.prepared.searches}
        totals |= {name: len(given.files) for name, given in self.prepared.features.items()}
        return Losses(self.folder, self.prepared.protocol.failures, totals)

    def in_turn(self, name: str, doing: str) -> Lock:
        """The lock of a step that all processes of a run go through one after another."""
        said: list[Holder] = []

        def waiting(holder: Holder) -> None:
            if not said:
                self.reporter.say(f"Waiting for {doing}: {holder} is at it.")
            said.append(holder)
            self.reporter.check()

        return take_in_turn(self.folder.lock(name), waiting)


def _ray(prepared: Prepared, options: RunOptions) -> RayExecutor:
    return RayExecutor(prepared.folder.root / "logs", options.address)


def _device(options: RunOptions, ray: RayExecutor | None) -> _Device:
    import torch

    if ray is not None and (options.device == "cuda" or (options.device is None and ray.has_gpus())):
        return _Device(torch.device("cuda"), "cuda, by Ray")
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        got = f"{torch.cuda.device_count()} of them"
        raise InputError(Problem(f"--device {device}", "a GPU of that number", got, "Use --device cpu or another one."))
    if device.type == "cpu":
        # half the cores for arithmetic, whatever the number of readers, so that these change no result
        threads = max(1, usable_cores() // (2 * processes_here()))
        if ray is not None:  # of the largest machine, where this one is larger
            threads = max(1, min(threads, int(max(machine.get("CPU", 0.0) for machine in ray.machines())) // 2))
        torch.set_num_threads(threads)
        return _Device(device, str(device), threads)
    return _Device(device, f"{device} ({torch.cuda.get_device_name(device)})")


def _means(run: _Run, data: "StudyData", device: _Device, ray: RayExecutor | None) -> Means:
    """What a unit may use: on a GPU its readers have their share of the machine's cores."""
    gpu, readers = device.torch.type == "cuda", run.options.workers
    if ray is None:
        return Means(gpu, device.threads or 1, readers)
    machines = tuple(
        Resources(machine.get("CPU", 0.0), machine.get("GPU", 0.0), machine.get("memory", 0.0) / 2**20)
        for machine in ray.machines()
    )
    shares = [machine.cpus / machine.gpus for machine in machines if machine.gpus]
    memory = _memory(data, gpu, readers)
    return Means(gpu, device.threads or 1, readers, min(shares, default=1e9), memory, machines)


def _memory(data: "StudyData", gpu: bool, readers: int) -> dict[str, float]:
    """MB of the host that an arm asks for, by its id, and embedding by `features/BACKBONE`."""
    counts = [len(slide.grid) for slide in data.slides]
    tiles, largest = sum(counts), max(counts, default=0)
    found = {}
    for arm in data.protocol.arms:
        card, recipe = data.cards[arm.backbone], resolve_recipe(data.protocol, arm)
        if arm.adapt == "frozen":
            found[arm.id] = stored_memory_mb(card, gpu=gpu, largest=largest, tiles=tiles)
            found[f"features/{arm.backbone}"] = host_memory_mb(
                card, arm.adapt, recipe, gpu=gpu, readers=readers, tiles=EMBEDDED_TOGETHER * largest
            )
        else:
            found[arm.id] = host_memory_mb(card, arm.adapt, recipe, gpu=gpu, readers=readers, tiles=tiles)
    return found


def _begin(run: _Run, findings: Sequence[Finding]) -> None:
    """Protocol, provenance and audit of the run; each session is a line of the journal."""
    protocol, folder = run.prepared.protocol, run.folder
    with run.in_turn("begin", "the start of the run"):
        folder.place_features(run.options.store)
        sweep_old(folder.root, "tiles/*", "features/*/*", "tables", "figures")
        same_weights(folder, run.weights)
        write_text(folder.protocol, protocol_yaml(protocol))
        accepted = {override.finding: override.reason for override in protocol.overrides}
        write_json(folder.root / "audit.json", audit_content(findings, accepted))
        folder.journal("started", command=run.options.command, environment=dict(run.environment))
        if not folder.provenance.is_file():
            _write_provenance(run)


def _write_provenance(run: _Run) -> None:
    """What the run is made from and with; of several machines or versions, each."""
    prepared = run.prepared
    hashes = {**prepared.hashes, **{f"weights {name}": digest for name, digest in run.weights.items()}}
    sections = provenance(hashes, run.environment["device"], run.options.command, prepared.protocol.seeds)
    write_json(run.folder.provenance, {
        "format": "tapfm-eval/provenance/1",
        "run_id": prepared.run_id,
        "protocol_sha256": prepared.protocol_hash,
        "planted": prepared.planted,
        "sections": sections | environments(run.folder) | look_section(prepared.earlier),
    })  # fmt: skip


def _tile(run: _Run, ray: RayExecutor | None) -> Tiling:
    """The tile grids of all slides that the study has not lost."""
    from tapfm_eval.slides.tiles import tile_spec
    from tapfm_eval.stages.imported import take_features

    spec, folder = tile_spec(run.prepared.protocol.tiles), run.folder
    with run.in_turn("tiles", "the search for tissue"):
        gone = {(failure.cohort, failure.slide_id) for failure in lost_later(folder)}
        files = [f for search in run.prepared.searches for f in search.files if (f.cohort, f.slide_id) not in gone]
        if ray is not None:
            if folder.all_features.is_symlink():
                ray.check_sight(folder.root, [(folder.all_features.readlink(),)])
            graph = tile_graph(files, run.folder, run.prepared.hashes)
            work = Work(f"{TILING}:tile_one", f"{TILING}:is_tiled", (spec, run.folder), run.folder)
            ray.run(graph.left(partial(is_tiled, (spec, run.folder))), work, run.reporter)
        # what Ray has tiled is only looked at once more
        with run.reporter.stage("Finding tissue", len(files)) as advance:
            tiling = tile_slides(files, spec, folder, run.options.workers, advance)
        for given in run.prepared.features.values():
            with run.reporter.stage(f"Reading features of {given.cohort}", len(given.files)) as advance:
                taken = take_features(given, run.prepared.cards, spec, folder, advance)
            tiling = tiling.joined_by(taken, folder)
        # what was read before and fails now has been learnt from, and stays out
        known = slides_before(folder)
        failed = [
            replace(failure, stage="reading") if known.get(failure.slide_id, FAILED) != FAILED else failure
            for failure in tiling.failed
        ]
        with run.in_turn("failures", "the record of failures"):
            later = [failure for failure in read_failures(folder) if failure.stage != AT_FIRST]
            check_failures([*later, *failed], run.losses)
            same_slides(folder, tiling)
            write_failures(folder, [*later, *failed])
    return tiling


def _study_data(run: _Run, device: "torch.device", tiling: Tiling) -> "StudyData":
    from tapfm_eval.methods.checkpoint import Pace
    from tapfm_eval.methods.sources import StudySlide
    from tapfm_eval.stages.units import StudyData

    prepared, options = run.prepared, run.options
    slides = tuple(
        StudySlide(s.file.slide_id, s.file.patient_id, s.file.cohort, s.file.path, s.file.manifest_mpp, s.grid)
        for s in tiling.slides
    )
    pace = Pace(seconds=options.checkpoint_seconds, slides=options.checkpoint_slides)
    return StudyData(
        prepared.protocol, prepared.cohorts, slides, prepared.cards, options.weights, prepared.folder, device,
        options.workers, pace, run.environment, run.weights,
    )  # fmt: skip


def _graph(run: _Run, data: "StudyData", arms: "Sequence[Arm]", means: Means) -> Graph:
    """What is to be done after the search for tissue."""
    from tapfm_eval.methods.unit import Unit
    from tapfm_eval.stages.units import predict_steps, unit_steps

    protocol, cohorts = run.prepared.protocol, run.prepared.cohorts
    return study_graph(
        protocol, cohorts[protocol.development].folds,
        {cohort: [slide.slide_id for slide in data.of(cohort)] for cohort in cohorts}, run.folder, means,
        arms=arms, look=not run.options.arms, hashes=run.prepared.hashes,
        training_steps=lambda arm, seed, fold: unit_steps(data, arm, Unit(arm.id, seed, fold)),
        prediction_steps=lambda arm, seed, fold: predict_steps(data, Unit(arm.id, seed, fold)),
    )  # fmt: skip


def _do(run: _Run, data: "StudyData", graph: Graph, ray: RayExecutor | None) -> Mapping[str, Holder]:
    """Whatever of the graph is not done; returns who holds what other processes are at."""
    files = tuple(
        SlideFile(slide.cohort, slide.patient_id, slide.slide_id, slide.path, slide.manifest_mpp)
        for slide in data.slides
    )
    study: Study
    if ray is None:
        study = WholeStudy(data, files, run.losses, run.reporter)
        executor: Executor = LocalExecutor()
    else:
        study, executor = SentStudy(replace(data, slides=()), files, run.losses, run.threads), ray
    work = Work(f"{BODIES}:perform", f"{BODIES}:is_done", study, run.folder)
    return executor.run(graph.left(partial(is_done, study)), work, run.reporter)


def _report(
    run: _Run, data: "StudyData", units: "Sequence[tuple[Arm, Unit]]"
) -> tuple[tuple[Path, ...], tuple[RehearsalCheck, ...]]:
    """The combined table of predictions, the analysis and the report."""
    from tapfm_eval.reporting import write_analysis

    with run.in_turn("report", "the report"):
        _combine(run, data, units)
        _draw(run, data)
        _write_provenance(run)
        with run.reporter.stage("Writing the report", 1) as advance:
            report, checks = write_analysis(run.folder.root)
            advance(1)
        run.folder.journal("reported", files=[file.name for file in report])
    return report, checks


def _draw(run: _Run, data: "StudyData") -> None:
    """Small pictures of the slides that the report will show, while the slides are at hand."""
    from tapfm_eval.reporting import run_cases
    from tapfm_eval.stages.heatmaps import draw_cases

    cases = run_cases(run.folder.root)
    if cases:
        with run.reporter.stage("Drawing heatmaps", len(cases)) as advance:
            draw_cases(cases, data.slides, run.folder, advance)


def _combine(run: _Run, data: "StudyData", units: "Sequence[tuple[Arm, Unit]]") -> None:
    """All units' predictions as one table; a slide that any unit could not read counts for none."""
    import pandas as pd

    from tapfm_eval.predictions.table import check_predictions, predictions_csv, read_predictions
    from tapfm_eval.stages.units import unit_folder

    tables = [
        read_predictions(unit_folder(data, unit) / name)
        for _, unit in units
        for name in ("validation.csv", "predictions.csv")
    ]
    whole = pd.concat(tables, ignore_index=True)
    lost = {(failure.cohort, failure.slide_id) for failure in read_failures(run.folder)}
    kept = [key not in lost for key in zip(whole["cohort"], whole["slide_id"], strict=True)]
    combined = check_predictions(whole[kept].reset_index(drop=True), str(run.folder.predictions))
    write_text(run.folder.predictions, predictions_csv(combined))
