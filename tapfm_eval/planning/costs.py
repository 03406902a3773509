"""Memory and hours of every unit of a study on one GPU, from a measured probe or else from the paper's figures."""

from collections.abc import Mapping
from dataclasses import dataclass

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.methods.recipe import Recipe, resolve_recipe
from tapfm_eval.planning.probe import ArmProbe
from tapfm_eval.planning.published import BYTES_FROZEN, BYTES_FULL, FORWARD, backbone_cost
from tapfm_eval.protocol.schema import Arm, LastBlocks, Lora, Protocol

BACKWARD = 1 - FORWARD
BACKWARD_THROUGH = 1 / 3  # gradients of activations alone, as below a low-rank adapter


@dataclass(frozen=True, slots=True)
class EmbeddingCost:
    """Embedding the slides of a cohort once with a frozen backbone; all its frozen arms share the result."""

    backbone: str
    cohort: str
    slides: int
    hours: float
    memory_gb: float
    source: str


@dataclass(frozen=True, slots=True)
class UnitCost:
    """One arm, seed and fold."""

    arm: str
    seed: int
    fold: int
    train_hours: float  # all epochs
    select_hours: float  # validation patients after every epoch, all their tiles
    predict_hours: float  # test patients of the fold and every external patient, once
    drawn_tiles: float  # read for training, in all epochs: as many a slide as the arm draws
    whole_slides: (
        int  # read with all their tiles, or all their embeddings: training without a draw, selection, prediction
    )
    predicted_slides: int  # test and external

    @property
    def hours(self) -> float:
        """Everything that the unit takes on one GPU."""
        return self.train_hours + self.select_hours + self.predict_hours


@dataclass(frozen=True, slots=True)
class ArmCost:
    """One arm with all its units, one after the other on one GPU; embeddings of frozen backbones are apart."""

    arm: str
    backbone: str
    adapt: str
    epochs: int
    tiles_per_slide: int | None  # None: all
    memory_gb: float  # on the GPU, at most
    trained_parameters: float  # of the backbone; those of the aggregator are few beside it
    units: tuple[UnitCost, ...]
    source: str

    @property
    def hours(self) -> float:
        """The sum over its units."""
        return sum(unit.hours for unit in self.units)


def arm_costs(
    protocol: Protocol,
    cohorts: Mapping[str, Cohort],
    cards: Mapping[str, BackboneCard],
    probes: Mapping[str, ArmProbe],
) -> tuple[ArmCost, ...]:
    """The cost of each arm."""
    return tuple(_arm(protocol, arm, cohorts, cards[arm.backbone], probes.get(arm.id)) for arm in protocol.arms)


def embedding_costs(
    protocol: Protocol,
    cohorts: Mapping[str, Cohort],
    cards: Mapping[str, BackboneCard],
    probes: Mapping[str, ArmProbe],
) -> tuple[EmbeddingCost, ...]:
    """The cost of each frozen backbone on each cohort."""
    found = []
    for name in dict.fromkeys(arm.backbone for arm in protocol.arms if arm.adapt == "frozen"):
        seconds, source = _inference(protocol, cards[name], probes)
        memory = _memory(cards[name], "frozen", resolve_recipe(protocol, _frozen(protocol, name)))
        found += [
            EmbeddingCost(name, cohort.name, slides, slides * seconds / 3600, memory, source)
            for cohort in cohorts.values()
            for slides in (slide_count(cohort),)
        ]
    return tuple(found)


def slide_count(cohort: Cohort) -> int:
    """Slides of a cohort; a patient whose slides are not named yet counts as one."""
    return len(cohort.slides) + len(cohort.unlinked)


def adaptation_name(arm: Arm) -> str:
    """How far the backbone is adapted, in words."""
    if isinstance(arm.adapt, LastBlocks):
        return f"last {arm.adapt.last_blocks} blocks"
    return f"LoRA rank {arm.adapt.lora.rank}" if isinstance(arm.adapt, Lora) else arm.adapt


def _arm(
    protocol: Protocol, arm: Arm, cohorts: Mapping[str, Cohort], card: BackboneCard, probe: ArmProbe | None
) -> ArmCost:
    recipe, cost = resolve_recipe(protocol, arm), backbone_cost(card)
    frozen, source = arm.adapt == "frozen", cost.source if probe is None else probe.source
    memory = _memory(card, arm.adapt, recipe) if probe is None else probe.memory_gb
    inference = _inference(protocol, card, {} if probe is None else {arm.id: probe})[0]
    # what a slide costs in an epoch: its draw of tiles, or all of them at the price of inference, times the passes
    tiles = arm.tiles_per_slide
    work = _work(arm, card, tiles is None or tiles > recipe.micro_batch)
    forward = inference if tiles is None else tiles * cost.seconds_per_tile * FORWARD
    per_slide = work / FORWARD * forward
    development = cohorts[protocol.development]
    external = sum(slide_count(cohorts[name]) for name in protocol.external if name in cohorts)
    units = []
    for seed in protocol.seeds:
        for fold in development.folds:
            validation, test = (_slides(development, fold, part) for part in ("validation", "test"))
            patients = len(_part(development, fold, "train"))
            predict = 0.0 if frozen else (test + external) * inference / 3600
            if probe is not None:
                # measured: training and selection together, shared out by slides
                epoch = recipe.epochs * probe.seconds_per_slide / 3600
                trained, selected = epoch * patients, epoch * len(_part(development, fold, "validation"))
            elif frozen:
                trained = selected = 0.0
            else:
                trained = recipe.epochs * patients * per_slide / 3600
                selected = recipe.epochs * validation * inference / 3600
            drawn = 0 if tiles is None else recipe.epochs * patients * tiles
            whole = recipe.epochs * (validation + (patients if tiles is None else 0)) + test + external
            units.append(UnitCost(arm.id, seed, fold, trained, selected, predict, drawn, whole, test + external))
    return ArmCost(
        arm.id, arm.backbone, adaptation_name(arm), recipe.epochs, arm.tiles_per_slide, memory,
        trained_parameters(card, arm.adapt), tuple(units), source,
    )  # fmt: skip


def _work(arm: Arm, card: BackboneCard, twice: bool) -> float:
    """Work of one tile and epoch, in units of a full one-pass training step; a second pass runs forward again."""
    if isinstance(arm.adapt, LastBlocks):
        share = arm.adapt.last_blocks / card.depth
        return FORWARD + BACKWARD * share + (FORWARD if twice else 0.0)
    if isinstance(arm.adapt, Lora):
        return FORWARD + BACKWARD_THROUGH + (FORWARD if twice else 0.0)
    return 1.0 + (FORWARD if twice else 0.0)


def _memory(card: BackboneCard, adapt: object, recipe: Recipe) -> float:
    """GPU memory in GB: parameters with what trains them, and the activations of one micro-batch."""
    activations = recipe.micro_batch * backbone_cost(card).gb_per_tile
    trained = trained_parameters(card, adapt)
    if adapt == "frozen":  # one block's activations at a time
        activations /= card.depth
    elif isinstance(adapt, LastBlocks):
        activations *= trained / card.parameters
    fixed = card.parameters - (0 if isinstance(adapt, Lora) else trained)  # adapters come on top
    return (trained * BYTES_FULL + fixed * BYTES_FROZEN) / 1e9 + activations


def trained_parameters(card: BackboneCard, adapt: object) -> float:
    """How many parameters of a backbone train, adapters included."""
    if adapt == "frozen":
        return 0.0
    if isinstance(adapt, LastBlocks):
        return card.parameters * min(1.0, adapt.last_blocks / card.depth)
    if isinstance(adapt, Lora):
        return 2.0 * card.depth * adapt.lora.rank * card.width * 3  # of qkv and proj: rank x (in + out)
    return float(card.parameters)


def _inference(protocol: Protocol, card: BackboneCard, probes: Mapping[str, ArmProbe]) -> tuple[float, str]:
    """Seconds a slide takes with all its tiles, and where the figure comes from."""
    for arm in protocol.arms:
        probe = probes.get(arm.id)
        if probe is not None and arm.backbone == card.name and probe.inference_seconds_per_slide is not None:
            return probe.inference_seconds_per_slide, probe.source
    cost = backbone_cost(card)
    return cost.seconds_per_slide, cost.source


def _frozen(protocol: Protocol, backbone: str) -> Arm:
    return next(arm for arm in protocol.arms if arm.backbone == backbone and arm.adapt == "frozen")


def _part(cohort: Cohort, fold: int, part: str) -> tuple[str, ...]:
    assert cohort.split is not None
    return tuple(cohort.split.patients(fold, part))


def _slides(cohort: Cohort, fold: int, part: str) -> int:
    """Slides of a part's patients; one for a patient without a named slide."""
    patients = set(_part(cohort, fold, part))
    named = cohort.slides["patient_id"].isin(patients)
    return int(named.sum()) + len(patients - set(cohort.slides.loc[named, "patient_id"]))
