"""What a protocol may say: one frozen record, every field typed, unknown keys refused."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

FORMAT = "tapfm-eval/protocol/1"
IDENTIFIER = r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$"

Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=r"^[^\x00-\x1f]+$")]

AGGREGATORS = ("tapfm", "abmil", "clam-sb", "clam-mb", "dsmil", "varmil", "transmil", "mean")
NEGATIVE_CONTROL = "NULL"  # the target that a rehearsal adds: permuted labels with nothing planted for them
RESERVED_TARGETS = frozenset({"macro", NEGATIVE_CONTROL})


def word_or_record(value: Any) -> str:
    """Tells a union's plain word from its record, so that an error names the branch that was meant."""
    return "record" if isinstance(value, dict | BaseModel) else "word"


class Record(BaseModel):
    """Base of every part of a protocol: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        use_attribute_docstrings=True,  # `protocol schema` says what each key means
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses `seeds: [yes]`, which would otherwise be read as the number 1."""
        parts = value if isinstance(value, list | tuple) else (value,)
        truth = cls.model_fields[str(info.field_name)].annotation == bool | None
        if not truth and any(isinstance(part, bool) for part in parts):
            raise ValueError("expected a number or text, not true or false")
        return value


class Expected(Record):
    """What is expected of a development cohort that its owner has yet to supply; for `plan` and rehearsals."""

    patients: Annotated[int, Field(ge=100, le=200_000)]
    """Patients with a slide and a known label."""
    prevalence: dict[str, Fraction]
    """Share of positive patients, for each target of the protocol."""


class CohortPlan(Record):
    """One cohort: where its manifest lies and what it is for."""

    role: Literal["development", "external"]
    """`development` trains, validates and tests under a split; `external` is only ever predicted."""
    manifest: RelativePath | None = None
    """Manifest CSV, relative to the protocol file."""
    split: RelativePath | None = None
    """Split CSV, relative to the protocol file; development cohorts only."""
    folds: Annotated[
        Annotated[Literal["all"], Tag("word")] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Tag("list")],
        Discriminator(lambda value: "list" if isinstance(value, list | tuple) else "word"),
    ] = "all"
    """The folds of the split that are run."""
    expected: Expected | None = None
    """Size and prevalences of a development cohort that is yet to be supplied, in place of `manifest` and `split`."""

    @model_validator(mode="after")
    def _split_belongs_to_development(self) -> Self:
        if self.expected is not None:
            if self.role == "external":
                raise ValueError("an external cohort needs `manifest`: `expected` is for a development cohort alone")
            if self.manifest is not None or self.split is not None or self.folds != "all":
                raise ValueError("give either `expected`, or `manifest` with `split` and `folds`, not both")
            return self
        if self.manifest is None:
            raise ValueError("a cohort needs `manifest`, or `expected` where it is yet to be supplied")
        if self.role == "development" and self.split is None:
            raise ValueError("a development cohort needs `split`: make one and name its file here")
        if self.role == "external" and (self.split is not None or self.folds != "all"):
            raise ValueError("an external cohort has no `split` and no `folds`: every patient of it is external")
        if self.folds != "all" and (not self.folds or len(set(self.folds)) != len(self.folds)):
            raise ValueError("`folds` must be `all` or a list of different fold numbers")
        return self


class Target(Record):
    """One binary label to predict; the column has the target's name unless said otherwise."""

    columns: dict[str, str] = Field(default_factory=dict)
    """Column by cohort, where its name differs."""
    values: dict[str, Literal[0, 1] | None] = Field(default_factory=dict)
    """Maps other spellings in the column to 0, 1 or null (unknown): `{mut: 1, wt: 0}`."""


class Patients(Record):
    """How a patient's slides become one training example and one score."""

    training: Literal["one_slide_per_epoch"] = "one_slide_per_epoch"
    """Each epoch draws one slide a patient."""
    score: Literal["mean_logit"] = "mean_logit"
    """Scores of a patient's slides are combined as the mean of their logits (clipped at 1e-6)."""


class AnnotatedRegions(Record):
    """Which annotations of a slide restrict its tiles."""

    classes: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...], Field(min_length=1, max_length=100)
    ]
    """Names of the annotation classes that count, spelt as in QuPath."""


class Tiles(Record):
    """The tile grid laid over tissue."""

    mpp: Annotated[float, Field(gt=0.05, lt=20)] = 0.5
    """Micrometres per pixel of the tiles that the model sees."""
    tile_px: Annotated[int, Field(ge=32, le=1024)] = 224
    """Edge of a tile in pixels at `mpp`."""
    tissue: Literal["otsu"] = "otsu"
    """How tissue is told from glass."""
    min_tissue: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Least share of a tile's area that must be tissue."""
    regions: Annotated[
        Annotated[Literal["none", "annotations"], Tag("word")] | Annotated[AnnotatedRegions, Tag("record")],
        Discriminator(word_or_record),
    ] = "none"
    """`annotations` or `{classes: [...]}`: only tiles whose centre lies inside an annotation (QuPath GeoJSON) of the
    slide, of any class or of these. A slide without a file keeps its whole tissue."""


class LoraPlan(Record):
    """Low-rank adapters on the qkv and proj layers of every block."""

    rank: Annotated[int, Field(ge=1, le=256)] = 8
    """Rank of each adapter."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """Scale of the adapters is alpha / rank; alpha equals the rank unless given."""


class Lora(Record):
    """Adapt by low-rank adapters."""

    lora: LoraPlan
    """Rank and scale of the adapters."""


class LastBlocks(Record):
    """Adapt the last blocks and the final norm."""

    last_blocks: Annotated[int, Field(ge=1, le=200)]
    """How many of the last blocks train; those before them stay as published."""


class TrainingChanges(Record):
    """Departures from the preset; what is None keeps the preset's value."""

    epochs: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Passes over the training patients."""
    lr_backbone: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Peak learning rate of the backbone's optimizer."""
    lr_aggregator: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Peak learning rate of the aggregator's optimizer."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    """AdamW weight decay; biases and norms have none."""
    restart_epochs: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Length of the first cosine period."""
    restart_growth: Annotated[int, Field(ge=1, le=10)] | None = None
    """How many times as long each following period is."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] | None = None
    """Labels become label * (1 - s) + s / 2."""
    lambda_attention: Annotated[float, Field(ge=0, le=10)] | None = None
    """Weight of the attention term of the backbone's loss (TAPFM)."""
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None
    """Temperature of the softmax over scaled attention (TAPFM)."""
    layer_norm: bool | None = None
    """LayerNorm before the classifier (TAPFM)."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Stochastic depth rate of the last block; earlier blocks grow to it linearly."""
    augment: bool | None = None
    """Flips, quarter turns and blur of the tiles."""
    micro_batch: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Tiles per backbone pass; bounds memory, changes no result beyond rounding. Left out: 16 on a CPU; on a GPU the
    most that it holds, tried once for each arm."""
    fused_attention: bool | None = None
    """Attention by a fused kernel; `false` multiplies plain matrices, which differs in rounding."""
    compile_blocks: bool | None = None
    """Blocks of the backbone through torch.compile: faster on a GPU after a minute's start, with another rounding."""


class Training(TrainingChanges):
    """The recipe of all arms: a preset and departures from it."""

    preset: Literal["paper"] = "paper"
    """`paper`: the recipe of arXiv 2506.05184."""


def _adaptation_kind(value: Any) -> str:
    if isinstance(value, Lora) or (isinstance(value, dict) and "lora" in value):
        return "lora"
    if isinstance(value, LastBlocks | dict):
        return "last_blocks"
    return "word"


Adapt = Annotated[
    Annotated[Literal["frozen", "full"], Tag("word")]
    | Annotated[LastBlocks, Tag("last_blocks")]
    | Annotated[Lora, Tag("lora")],
    Discriminator(_adaptation_kind),
]


class Arm(Record):
    """One model of the comparison: a backbone, an aggregator and how far the backbone is adapted."""

    id: Identifier
    """Name of the arm in tables and comparisons."""
    backbone: Identifier
    """Name of a backbone card."""
    aggregator: str
    """tapfm, abmil, clam-sb, clam-mb, dsmil, varmil, transmil or mean."""
    adapt: Adapt
    """frozen, full, {last_blocks: N} or {lora: {rank: N}}."""
    tiles_per_slide: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Tiles drawn anew from a slide in each epoch; None: all of them. Inference uses all tiles."""
    training: TrainingChanges = TrainingChanges()
    """Departures of this arm from the protocol's `training`."""

    @field_validator("aggregator")
    @classmethod
    def _known_aggregator(cls, value: str) -> str:
        if value not in AGGREGATORS:
            raise ValueError(f"expected one of {', '.join(AGGREGATORS)}")
        return value


class Selection(Record):
    """How validation patients choose the epoch."""

    metric: Literal["macro_auroc"] = "macro_auroc"
    """The mean AUROC over targets; the best epoch is selected."""
    min_per_class: Annotated[int, Field(ge=1, le=1000)] = 3
    """A target enters the metric only with this many validation patients of each class."""
    ties: tuple[Literal["validation_loss", "earliest"], ...] = ("validation_loss", "earliest")
    """What decides between epochs of equal metric, in order."""


class NonInferiority(Record):
    """A - B is not worse than -margin."""

    margin: Annotated[float, Field(gt=0, lt=0.5)]
    """How much lower than the other arm's the AUROC may be."""


class NonInferiorityPlan(Record):
    """Wraps the margin under its name, as the protocol spells it."""

    non_inferiority: NonInferiority
    """`{margin: 0.05}`."""


class Primary(Record):
    """The one comparison that the study stands or falls with."""

    target: str
    """The target that is tested."""
    cohort: str
    """The cohort on whose external or test patients."""
    arm: str
    """The arm that is claimed to be better, or no worse."""
    versus: str
    """The arm that it is compared with."""
    hypothesis: Annotated[
        Annotated[Literal["superiority"], Tag("word")] | Annotated[NonInferiorityPlan, Tag("record")],
        Discriminator(word_or_record),
    ] = "superiority"
    """`superiority`, or `{non_inferiority: {margin: 0.05}}`."""
    one_sided_alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.025
    """Level of the one-sided test."""


class AllAgainst(Record):
    """Every other arm is compared with this one."""

    all_against: str
    """Id of the arm."""


class Family(Record):
    """Comparisons whose p values are adjusted together: on each target and cohort, one family."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    """As the report calls the family."""
    comparisons: Annotated[
        Annotated[Literal["all_pairs"], Tag("word")] | Annotated[AllAgainst, Tag("record")],
        Discriminator(word_or_record),
    ]
    """`all_pairs`, or `{all_against: ARM}`."""


class AtRule(Record):
    """A threshold at a stated value of one measure, fixed on validation patients."""

    at_sensitivity: Fraction | None = None
    """Sensitivity at least this, with the best specificity."""
    at_specificity: Fraction | None = None
    """Specificity at least this, with the best sensitivity."""
    at_npv: Fraction | None = None
    """Negative predictive value at least this, ruling out as many patients as possible."""
    at_ppv: Fraction | None = None
    """Positive predictive value at least this, with the best sensitivity."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("give exactly one of at_sensitivity, at_specificity, at_npv, at_ppv")
        return self

    @property
    def rule(self) -> str:
        """`at_sensitivity` and so on."""
        return next(iter(self.model_dump(exclude_none=True)))

    @property
    def value(self) -> float:
        """The stated value."""
        return float(next(iter(self.model_dump(exclude_none=True).values())))


class AnalysisPlan(Record):
    """What is estimated and tested, fixed in advance."""

    level: Fraction = 0.95
    """Level of every two-sided interval."""
    primary: Primary | None = None
    """The primary comparison; a study without one is exploratory."""
    families: tuple[Family, ...] = ()
    """Families of further comparisons."""
    multiplicity: Literal["holm", "hochberg", "bh"] = "holm"
    """How p values within a family are adjusted; `bh` is Benjamini and Hochberg."""
    operating_points: tuple[
        Annotated[
            Annotated[Literal["youden"], Tag("word")] | Annotated[AtRule, Tag("record")], Discriminator(word_or_record)
        ],
        ...,
    ] = ()
    """Rules by which thresholds are fixed on validation patients: `youden`, or one of `at_...`."""
    subgroups: tuple[str, ...] = ()
    """Manifest columns by which AUROCs are broken down."""


class Failures(Record):
    """What happens to slides that cannot be read or hold no tissue."""

    policy: Literal["exclude", "stop"] = "exclude"
    """`exclude`: they leave the study, counted; `stop`: the first one stops it."""
    max_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    """With `exclude`: the run stops when more than this share of a cohort's slides failed."""


BINDING = frozenset({
    "manifest-fault", "split-fault", "label-fault", "label-conflict", "column-missing", "cohort-empty", "study-refused",
    "slide-missing",
})  # fmt: skip
"""Codes of audit findings that nobody can accept: what they find cannot be loaded, so that no reason makes it run."""


class Override(Record):
    """An audit finding that the study accepts knowingly; printed on the report."""

    finding: str
    """Code of the finding, as `tapfm-eval audit` prints it; faults of the files cannot be accepted."""
    reason: Annotated[str, StringConstraints(min_length=10, max_length=2000)]
    """Why it is accepted, in at least 10 characters."""


class Rehearsal(Record):
    """Sizes and planted effects of a rehearsal; it never touches a real run."""

    train: Annotated[int, Field(ge=8, le=2000)] = 40
    """Training patients drawn."""
    validation: Annotated[int, Field(ge=6, le=2000)] = 16
    """Validation patients drawn."""
    test: Annotated[int, Field(ge=4, le=2000)] = 24
    """Test patients drawn."""
    external: Annotated[int, Field(ge=8, le=2000)] = 48
    """Patients drawn from each external cohort."""
    planted: dict[str, Annotated[float, Field(gt=0.5, lt=0.999)]] = Field(default_factory=dict)
    """AUROC of the effect planted for each target."""


class Protocol(Record):
    """A whole study, fixed in advance."""

    format: Literal["tapfm-eval/protocol/1"]
    """Name and version of this format."""
    id: Identifier
    """Name of the study, and of its run folders."""
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    """Three numbers; other content needs another version once a run has looked at test patients."""
    title: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    """One line for the report's first page."""
    intended_use: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    """What the model would be used for; the audit holds the backbones' licences against it."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...], Field(min_length=1, max_length=100)]
    """One whole training per seed."""
    cohorts: Annotated[dict[Identifier, CohortPlan], Field(min_length=1)]
    """Cohorts by name: exactly one for development, any number of external ones."""
    targets: Annotated[dict[Identifier, Target], Field(min_length=1)]
    """Targets by name, in the order of the classifier's outputs; `{}` where the column has the target's name."""
    patients: Patients = Patients()
    """Several slides a patient."""
    tiles: Tiles = Tiles()
    """The tile grid."""
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]
    """The models that are compared."""
    training: Training = Training()
    """The recipe of all arms."""
    selection: Selection = Selection()
    """How epochs are selected."""
    analysis: AnalysisPlan = AnalysisPlan()
    """The analysis plan."""
    failures: Failures = Failures()
    """What happens to slides that fail."""
    overrides: tuple[Override, ...] = ()
    """Audit findings accepted knowingly."""
    rehearsal: Rehearsal = Rehearsal()
    """Sizes and planted effects of a rehearsal."""

    @property
    def development(self) -> str:
        """Name of the development cohort."""
        return next(name for name, cohort in self.cohorts.items() if cohort.role == "development")

    @property
    def external(self) -> tuple[str, ...]:
        """Names of the external cohorts, in order."""
        return tuple(name for name, cohort in self.cohorts.items() if cohort.role == "external")

    def column(self, target: str, cohort: str) -> str:
        """The manifest column that holds `target` in `cohort`."""
        return self.targets[target].columns.get(cohort, target)
