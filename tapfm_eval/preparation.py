"""Everything that is checked and laid out before a run starts: slides, weights, folder, inputs; or their rehearsal."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tapfm_eval import __version__
from tapfm_eval.backbones.cards import CARDS, BackboneCard, card_sha256, stand_in
from tapfm_eval.cohort.load import Cohort, load_cohorts
from tapfm_eval.cohort.locate import SlideSearch, find_slides, regions_sha256
from tapfm_eval.errors import InputError, Problem, ProtocolError, SlideError
from tapfm_eval.locks import take_in_turn
from tapfm_eval.methods.recipe import recipe_sha256, resolve_recipe
from tapfm_eval.progress import Reporter
from tapfm_eval.protocol.load import protocol_sha256, read_protocol
from tapfm_eval.protocol.lock import (
    Lock,
    Look,
    differences,
    find_looks,
    lock_path,
    lock_problems,
    lock_text,
    look_problems,
    read_lock,
)
from tapfm_eval.protocol.schema import LastBlocks, Protocol
from tapfm_eval.rehearsal.expected import draw_expected
from tapfm_eval.rehearsal.plan import draw_sample, plan_rehearsal, write_slides
from tapfm_eval.rundir import RunFolder, run_id, sha256_file, write_bytes, write_text
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.tiles import tile_spec
from tapfm_eval.stages.imported import CohortFeatures, features_problems, find_features
from tapfm_eval.stages.tiling import allowed_failures, slide_regions

LOCAL_PATHS = Path("paths.toml")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a user may say beside the protocol; none of it changes a number, given the same slides and weights."""

    slides: Mapping[str, Path] = field(default_factory=dict)  # cohort -> folder of its slides
    weights: Mapping[str, Path] = field(default_factory=dict)  # backbone -> local checkpoint
    local_slides: Mapping[str, Path] = field(default_factory=dict)  # the same from paths.toml, for any study
    local_weights: Mapping[str, Path] = field(default_factory=dict)
    features: Mapping[str, Path] = field(default_factory=dict)  # cohort -> features of another tool, for its slides
    out: Path = Path("reports")
    store: Path | None = None  # folder under which embeddings are kept; None: in the run folder
    device: str | None = None  # None: the GPU if there is one
    workers: int = 2
    arms: tuple[str, ...] = ()  # train only these, and stop before any test patient is predicted
    rehearse: bool = False
    command: str = ""
    executor: str = "local"  # local, or ray
    address: str | None = None  # of a Ray cluster; None: an instance of the command's own
    checkpoint_seconds: float = 600.0  # of training between two checkpoints
    checkpoint_slides: int | None = None  # as well after so many slides


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is ready to start: everything checked, its inputs copied into its folder."""

    protocol: Protocol  # as run
    protocol_hash: str  # of the protocol that was asked for
    run_id: str
    folder: RunFolder
    cohorts: Mapping[str, Cohort]  # loaded from the folder's own copies
    searches: tuple[SlideSearch, ...]
    cards: Mapping[str, BackboneCard]
    planted: Mapping[str, float] | None  # None for a real run
    hashes: Mapping[str, str]
    features: Mapping[str, CohortFeatures] = field(default_factory=dict)  # cohorts that come without slides
    earlier: tuple[Look, ...] = ()  # runs of this protocol id that looked at test patients before this one


def local_paths(file: Path = LOCAL_PATHS) -> tuple[dict[str, Path], dict[str, Path]]:
    """Slide folders by cohort and checkpoints by backbone from a local `paths.toml`; empty where there is none.

    Raises:
        InputError: The file is not what it should be.
    """
    if not file.is_file():
        return {}, {}
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(Problem(str(file), "TOML", str(error), "Mend the file.")) from None
    problems, found = [], {"slides": dict[str, Path](), "weights": dict[str, Path]()}
    for section, entries in content.items():
        if section not in found or not isinstance(entries, dict):
            problems.append(Problem(f"{file}, {section}", "a table [slides] or [weights]", repr(entries)[:60], ""))
            continue
        for name, value in entries.items():
            if isinstance(value, str):
                found[section][name] = Path(value)
            else:
                problems.append(Problem(f"{file}, {section}.{name}", "a path in quotes", repr(value)[:60], ""))
    if problems:
        raise InputError(problems)
    return found["slides"], found["weights"]


def with_local_paths(protocol: Protocol, options: RunOptions) -> RunOptions:
    """The options with the local paths that this protocol needs; what a flag says goes first."""
    wanted = protocol.cohorts.keys() - options.features.keys()
    slides = {name: path for name, path in options.local_slides.items() if name in wanted}
    backbones = {arm.backbone for arm in protocol.arms}
    weights = {name: path for name, path in options.local_weights.items() if name in backbones}
    return replace(options, slides={**slides, **options.slides}, weights={**weights, **options.weights})


def check_options(protocol: Protocol, options: RunOptions, path: Path) -> None:
    known = [arm.id for arm in protocol.arms]
    problems = [
        Problem("--arm", f"an arm of {path}: {', '.join(known)}", arm, "Correct it.")
        for arm in options.arms
        if arm not in known
    ]
    problems += [
        Problem(f"{path}, arms[{i}].adapt.last_blocks", f"at most {CARDS[arm.backbone].depth}",
                str(arm.adapt.last_blocks), "Use a smaller number, or `adapt: full`.")
        for i, arm in enumerate(protocol.arms)
        if isinstance(arm.adapt, LastBlocks) and arm.adapt.last_blocks > CARDS[arm.backbone].depth
    ]  # fmt: skip
    if options.device is not None and not re.fullmatch(r"cpu|cuda(:[0-9]{1,2})?", options.device):
        problems.append(Problem("--device", "cpu, cuda or cuda:N", repr(options.device), "Leave it out to choose."))
    if options.executor not in ("local", "ray"):
        problems.append(Problem("--executor", "local or ray", repr(options.executor), "Correct it."))
    if options.address is not None and options.executor != "ray":
        problems.append(Problem("--address", "--executor ray beside it", options.executor, "Add --executor ray."))
    if options.executor == "ray" and (options.device or "").startswith("cuda:"):
        problems.append(Problem("--device", "cpu or cuda, with --executor ray", str(options.device),
                                "Ray gives each unit a GPU of its own."))  # fmt: skip
    for flag, given, names in (
        ("--slides", options.slides, list(protocol.cohorts)),
        ("--weights", options.weights, [arm.backbone for arm in protocol.arms]),
        ("--features", options.features, list(protocol.cohorts)),
    ):
        problems += [
            Problem(flag, f"one of {', '.join(dict.fromkeys(names))}", name, "Correct the name before `=`.")
            for name in given
            if name not in names
        ]
        if options.rehearse and given:
            remedy = f"Leave out {flag} to rehearse, or --rehearse to run the study."
            problems.append(Problem(flag, "none in a rehearsal, which draws its own", ", ".join(given), remedy))
    problems += [
        Problem(f"--features {name}", "either features or slides of a cohort", "both", "Leave out one of them.")
        for name in options.features
        if name in options.slides
    ]
    problems += features_problems(protocol, options.features, path)
    for i, arm in enumerate(protocol.arms):
        card = CARDS[arm.backbone]
        # where all features are there, the tool that made them has fitted its tiles to the backbone
        if protocol.tiles.tile_px != card.tile_px and protocol.cohorts.keys() - options.features.keys():
            problems.append(
                Problem(f"{path}, tiles.tile_px", f"{card.tile_px}, which {arm.backbone} (arms[{i}]) takes",
                        str(protocol.tiles.tile_px), f"Write `tile_px: {card.tile_px}`.")
            )  # fmt: skip
    if problems:
        raise ProtocolError(dict.fromkeys(problems))


def load_study(protocol: Protocol, path: Path, options: RunOptions) -> dict[str, Cohort]:
    """The cohorts of a study; in a rehearsal a cohort that is only expected is drawn.

    Raises:
        ProtocolError: A real run of a protocol whose development cohort is only expected.
        InputError: The problems of all manifests and splits.
    """
    expected = [name for name, plan in protocol.cohorts.items() if plan.expected is not None]
    if not expected or options.rehearse:
        return load_cohorts(protocol, path.parent, draw_expected(protocol))
    raise ProtocolError(
        Problem(
            f"{path}, cohorts.{name}", "`manifest` and `split` of your development cohort", "`expected` alone",
            "In a copy of the protocol with an id of its own, write in place of `expected:` the lines "
            "`manifest: FILE` (CSV, one row a slide: patient_id, slide_id, path, and a column for each of "
            f"{', '.join(protocol.column(target, name) for target in protocol.targets)}; docs/guide.md, step 3) and "
            "`split: FILE`, which `tapfm-eval split MANIFEST` makes. "
            f"`tapfm-eval run {path} --rehearse` tries the whole study now, without any of these.",
        )
        for name in expected
    )  # fmt: skip


def lock_protocol(path: Path, out: Path) -> tuple[Lock, tuple[str, ...] | None]:
    """Writes the lock of a protocol beside it.

    Args:
        path: The protocol.
        out: The folder under which its runs lie.

    Returns:
        The lock, and the names of what it had otherwise before; None where there was no lock of this version.

    Raises:
        ProtocolError: A run has looked at test patients under this version with other content.
        InputError: Protocol, manifests or splits are wrong.
    """
    protocol = read_protocol(path, backbones=CARDS)
    now = _content(protocol, load_cohorts(protocol, path.parent))
    problems = look_problems(path, find_looks(out, protocol.id, protocol.version), now)
    before = read_lock(lock_path(path))
    same = before is not None and (before.id, before.version) == (now.id, now.version)
    if problems:
        raise ProtocolError(problems)
    write_text(lock_path(path), lock_text(now))
    return now, differences(before.sha256, now.sha256) if before is not None and same else None


def _content(protocol: Protocol, cohorts: Mapping[str, Cohort]) -> Lock:
    """What the version of a protocol stands for, as it is now."""
    return Lock(protocol.id, protocol.version, _hashes(protocol, cohorts, {}))


def _refuse_other_content(protocol: Protocol, cohorts: Mapping[str, Cohort], path: Path, out: Path) -> None:
    """Holds a version to one content: that of its lock, and that under which test patients were looked at."""
    now = _content(protocol, cohorts)
    problems = lock_problems(path, read_lock(lock_path(path)), now)
    problems = problems or look_problems(path, find_looks(out, protocol.id, protocol.version), now)
    if problems:
        raise ProtocolError(problems)


def look_section(earlier: tuple[Look, ...]) -> dict[str, dict[str, str]]:
    """A section of the provenance that names earlier looks at test patients; none where there was none."""
    said = {f"{look.folder.parent.name}/{look.folder.name}": look.time for look in earlier}
    return {"earlier looks at test patients": said} if said else {}


def _earlier_looks(out: Path, protocol_id: str, folder: Path) -> tuple[Look, ...]:
    looks = find_looks(out, protocol_id)
    own = next((look.time for look in looks if look.folder == folder), None)
    return tuple(look for look in looks if look.folder != folder and (own is None or look.time < own))


def prepare_run(protocol: Protocol, cohorts: Mapping[str, Cohort], path: Path, options: RunOptions) -> Prepared:
    _refuse_other_content(protocol, cohorts, path, options.out)
    with_slides = {name: cohort for name, cohort in cohorts.items() if name not in options.features}
    searches = tuple(find_slides(cohort, options.slides.get(name)) for name, cohort in with_slides.items())
    problems = [problem for search in searches for problem in _missing(search, cohorts[search.cohort])]
    problems += [
        Problem(f"--weights {name}", "a file", str(file), "Check the path.")
        for name, file in options.weights.items()
        if not file.is_file()
    ]
    _refuse_shared_slides(cohorts)
    if problems:
        way_on = f"`tapfm-eval run {path} --rehearse` tries the whole study on synthetic slides, without any of these."
        raise InputError([*problems, Problem(str(path), "slides for every cohort", "none or some missing", way_on)])
    _refuse_unreadable(searches, protocol)
    cards = {arm.backbone: CARDS[arm.backbone] for arm in protocol.arms}
    features = {name: find_features(cohorts[name], folder, cards) for name, folder in options.features.items()}
    hashes = _hashes(protocol, cohorts, options.weights)
    hashes |= {f"features {name}": given.sha256 for name, given in features.items()}
    if protocol.tiles.regions != "none":
        hashes |= {f"regions {search.cohort}": regions_sha256(search.files) for search in searches}
    identity = run_id({"version": __version__, **hashes})
    folder = RunFolder(options.out / f"{protocol.id}-{protocol.version}" / identity)
    local = _copy_inputs(protocol, cohorts, folder)
    return Prepared(
        protocol, hashes["protocol"], identity, folder, load_cohorts(local, folder.root / "inputs"), searches,
        cards, None, hashes, features,
        _earlier_looks(options.out, protocol.id, folder.root),
    )  # fmt: skip


def _missing(search: SlideSearch, cohort: Cohort) -> list[Problem]:
    """What keeps a cohort from being run, with the ways on; one problem a kind, not one a slide."""
    problems, name = [], search.cohort
    total = len(cohort.slides)
    if search.root is None and total:
        problems.append(
            Problem(f"cohort {name}", f"a folder with its {total} slides", "none",
                    f"Give it with --slides {name}=DIR, or under [slides] in {LOCAL_PATHS}. "
                    f"The names of the slides are in {cohort.manifest.path}, column `path`; "
                    f"`tapfm-eval cohort download-list {cohort.manifest.path}` lists them for gdc-client.")
        )  # fmt: skip
    elif search.root is not None and not search.root.is_dir():
        problems.append(Problem(f"--slides {name}", "a folder", str(search.root), "Check the path."))
    elif search.missing:
        shown = ", ".join(search.missing[:3]) + (" ..." if len(search.missing) > 3 else "")
        problems.append(
            Problem(f"cohort {name}, {search.root}", f"{total} slide files", f"{len(search.missing)} missing: {shown}",
                    f"Add them, or exclude their rows in {cohort.manifest.path} with a reason.")
        )  # fmt: skip
    if search.unlinked:
        problems.append(
            Problem(str(cohort.manifest.path), "a slide for each patient",
                    f"{len(search.unlinked)} of {len(cohort.patients)} patients without slide_id and path",
                    "Fill in both columns, one row a slide; `tapfm-eval cohort link` matches files to patients.")
        )  # fmt: skip
    return problems


def _refuse_unreadable(searches: tuple[SlideSearch, ...], protocol: Protocol) -> None:
    """Opens every slide before anything is written, and stops where more fail than the protocol allows."""
    problems: list[Problem] = []
    for search in searches:
        failed: list[Problem] = []
        for file in search.files:
            try:
                with open_slide(file.path, slide_id=file.slide_id, manifest_mpp=file.manifest_mpp) as reader:
                    slide_regions(file, reader.info, tile_spec(protocol.tiles))
            except SlideError as error:
                failed += error.problems
        if len(failed) > allowed_failures(protocol.failures, len(search.files)):
            problems += failed
    if problems:
        raise SlideError(problems)


def _refuse_shared_slides(cohorts: Mapping[str, Cohort]) -> None:
    owner: dict[str, str] = {}
    for name, cohort in cohorts.items():
        for slide_id in map(str, cohort.slides["slide_id"]):
            first = owner.setdefault(slide_id, name)
            if first != name:
                remedy = "Give its rows in one of the manifests a reason in `exclude`."
                raise InputError(Problem(f"cohorts {first} and {name}", "slides of their own", slide_id, remedy))


def prepare_rehearsal(
    protocol: Protocol, cohorts: Mapping[str, Cohort], options: RunOptions, reporter: Reporter
) -> Prepared:
    hashes = _hashes(protocol, cohorts, {})
    identity = f"rehearsal-{run_id({'version': __version__, **hashes})}"
    folder = RunFolder(options.out / f"{protocol.id}-{protocol.version}" / identity)
    sample = draw_sample(protocol, cohorts)  # refuses before anything is written
    with take_in_turn(folder.lock("slides"), lambda _: reporter.check()):
        plan = plan_rehearsal(protocol, cohorts, folder.root / "inputs", sample)
        with reporter.stage("Drawing synthetic slides", len(plan.jobs)) as advance:
            write_slides(plan, options.workers, advance)
    local = load_cohorts(plan.protocol, plan.inputs)
    searches = tuple(find_slides(cohort, plan.slides[name]) for name, cohort in local.items())
    cards = {arm.backbone: stand_in(CARDS[arm.backbone]) for arm in plan.protocol.arms}
    planted = dict(protocol.rehearsal.planted)
    return Prepared(plan.protocol, hashes["protocol"], identity, folder, local, searches, cards, planted, hashes)


def _hashes(protocol: Protocol, cohorts: Mapping[str, Cohort], weights: Mapping[str, Path]) -> dict[str, str]:
    """Everything that defines a run, by name."""
    found = {"protocol": protocol_sha256(protocol)}
    for arm in protocol.arms:
        found[f"card {arm.backbone}"] = card_sha256(CARDS[arm.backbone])
        found[f"recipe {arm.id}"] = recipe_sha256(resolve_recipe(protocol, arm))
    for name, cohort in cohorts.items():
        found[f"manifest {name}"] = cohort.manifest.sha256
        if cohort.split is not None:
            found[f"split {name}"] = cohort.split.sha256
    for name, file in weights.items():
        found[f"weights {name}"] = sha256_file(file)
    return found


def _copy_inputs(protocol: Protocol, cohorts: Mapping[str, Cohort], folder: RunFolder) -> Protocol:
    """Copies manifests and splits into the run folder; returns the protocol that points at the copies."""
    plans = {}
    for name, cohort in cohorts.items():
        target = folder.root / "inputs" / name
        _copy(cohort.manifest.path, target / "manifest.csv")
        if cohort.split is not None:
            _copy(cohort.split.path, target / "split.csv")
        split = None if cohort.split is None else f"{name}/split.csv"
        plans[name] = protocol.cohorts[name].model_copy(update={"manifest": f"{name}/manifest.csv", "split": split})
    return protocol.model_copy(update={"cohorts": plans})


def _copy(source: Path, target: Path) -> None:
    """Copies a file whole, unless it is there: another process of the same run may be reading it."""
    content = source.read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        write_bytes(target, content)
