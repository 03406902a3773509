"""The resolved training recipe of an arm: preset, then the protocol's departures, then the arm's own."""

import hashlib
import json
from dataclasses import asdict, dataclass

from tapfm_eval.protocol.schema import Arm, Protocol, TrainingChanges

PAPER_EPOCHS_TAPFM = 20
PAPER_EPOCHS_OTHERS = 50
CPU_MICRO_BATCH = 16


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every number of an arm's training; nothing is left to a default elsewhere."""

    epochs: int
    lr_backbone: float
    lr_aggregator: float
    weight_decay: float
    restart_epochs: int
    restart_growth: int
    label_smoothing: float
    lambda_attention: float
    temperature: float
    layer_norm: bool
    drop_path: float
    augment: bool
    micro_batch: int
    fused_attention: bool
    compile_blocks: bool


def paper_recipe(arm: Arm) -> Recipe:
    """The recipe of arXiv 2506.05184 for this arm.

    Baselines train longer and, when fine-tuned, back-propagate through z alone (lambda 0). Frozen arms see stored
    embeddings, which cannot be augmented.
    """
    tapfm, adapted = arm.aggregator == "tapfm", arm.adapt != "frozen"
    return Recipe(
        epochs=PAPER_EPOCHS_TAPFM if tapfm else PAPER_EPOCHS_OTHERS,
        lr_backbone=1e-6,
        lr_aggregator=1e-5,
        weight_decay=1e-4,
        restart_epochs=10,
        restart_growth=2,
        label_smoothing=0.1,
        lambda_attention=1.0 if tapfm and adapted else 0.0,
        temperature=0.1,
        layer_norm=True,
        drop_path=0.0,
        augment=adapted,
        micro_batch=CPU_MICRO_BATCH,
        fused_attention=True,
        compile_blocks=False,
    )


def states_micro_batch(protocol: Protocol, arm: Arm) -> bool:
    """Whether the protocol fixes how many tiles go through the backbone of `arm` at a time."""
    return arm.training.micro_batch is not None or protocol.training.micro_batch is not None


def resolve_recipe(protocol: Protocol, arm: Arm) -> Recipe:
    """The recipe that `arm` is trained with under `protocol`."""
    values = {name: getattr(paper_recipe(arm), name) for name in Recipe.__dataclass_fields__}
    for changes in (protocol.training, arm.training):
        for name in TrainingChanges.model_fields:
            value = getattr(changes, name)
            if value is not None:
                values[name] = value
    if arm.adapt == "frozen":
        values |= {"lambda_attention": 0.0, "augment": False, "drop_path": 0.0}
    if arm.aggregator != "tapfm":
        values["lambda_attention"] = 0.0
    return Recipe(**values)


def recipe_sha256(recipe: Recipe) -> str:
    """Hash of a resolved recipe: a preset that comes to other numbers is another study."""
    return hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest()


def recipe_words(recipe: Recipe) -> str:
    """The recipe on a line, in the protocol's own words.

    >>> recipe_words(Recipe(20, 1e-6, 1e-5, 1e-4, 10, 2, 0.1, 1.0, 0.1, True, 0.0, True, 16, True, False))[:46]
    'epochs: 20, lr_backbone: 1e-06, lr_aggregator:'
    """
    return ", ".join(f"{name}: {json.dumps(value)}" for name, value in asdict(recipe).items())
