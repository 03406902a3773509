"""The arms with every number of their training: what differs in columns, what all share in a note."""

from dataclasses import fields

from tapfm_eval.methods.recipe import Recipe, resolve_recipe
from tapfm_eval.protocol.schema import Arm, LastBlocks, Lora, Protocol
from tapfm_eval.report.blocks import Cell, Column, RowGroup, Table
from tapfm_eval.report.numbers import count_cell, text_cell, visible

_AGGREGATORS = {
    "tapfm": ("TAPFM", "pools by the attention of the backbone’s last block"),
    "abmil": ("ABMIL", "by gated attention"),
    "mean": ("mean", "weighs all tiles alike"),
    "clam-sb": ("CLAM-SB", "by gated attention, single branch, with clustering"),
    "clam-mb": ("CLAM-MB", "the same with a branch per target"),
    "dsmil": ("DSMIL", "by likeness to the critical tile"),
    "varmil": ("VarMIL", "by attention-weighted mean and variance"),
    "transmil": ("TransMIL", "by self-attention among tiles"),
}
_COLUMNS = ("epochs", "lr_backbone", "lr_aggregator", "weight_decay", "label_smoothing")  # always shown
_WORDS = {
    "restart_epochs": "epochs to the first restart",
    "restart_growth": "growth of restarts",
    "lambda_attention": "λ of attention",
    "temperature": "temperature",
    "layer_norm": "LayerNorm",
    "drop_path": "stochastic depth",
    "augment": "augmentation",
    "micro_batch": "micro-batch",
    "fused_attention": "fused attention",
    "compile_blocks": "compiled blocks",
}
_OF_TAPFM = ("temperature", "layer_norm")
_OF_ADAPTED = ("lr_backbone", "drop_path", "augment", "micro_batch", "fused_attention", "compile_blocks")


def arms_table(protocol: Protocol) -> Table:
    """Arms and recipes; a setting that all arms share, of those that have it, stands in the note and in the CSV."""
    recipes = {arm: resolve_recipe(protocol, arm) for arm in protocol.arms}
    others = [field.name for field in fields(Recipe) if field.name not in _COLUMNS]
    values = {
        name: list(dict.fromkeys(getattr(recipe, name) for arm, recipe in recipes.items() if _has(arm, name)))
        for name in others
    }
    shared = [f"{_WORDS.get(name, name.replace('_', ' '))} {_text(found[0])}"
              for name, found in values.items() if len(found) == 1]  # fmt: skip
    told = dict.fromkeys(arm.aggregator for arm in protocol.arms)
    pooled = "; ".join(" ".join(_AGGREGATORS[name]) for name in told if name in _AGGREGATORS)
    return Table(
        "arms",
        "Arms and their training recipes",
        (
            Column("Arm", ("arm",), width=2.0),
            Column("Backbone", ("backbone",), width=1.3),
            Column("Aggregator", ("aggregator",), width=1.1),
            Column("Adapted", ("adapted",), width=1.4),
            Column("Tiles per slide", ("tiles_per_slide",), "number", 0.8),
            Column("Epochs", ("epochs",), "number", 0.8),
            Column("Rate, backbone", ("lr_backbone",), "number", 1.0),
            Column("Rate, aggregator", ("lr_aggregator",), "number", 1.0),
            Column("Weight decay", ("weight_decay",), "number", 0.8),
            Column("Label smoothing", ("label_smoothing",), "number", 1.0),
            *(
                Column(_WORDS.get(name, name.replace("_", " ")).capitalize(), (name,), "number", 1.0,
                       shown=len(values[name]) > 1)
                for name in others
            ),
        ),
        (RowGroup("", tuple(_row(arm, recipe, others) for arm, recipe in recipes.items())),),
        note=f"{pooled}. Tiles per slide and epoch in training."
        + (f" Alike in all arms that have it: {', '.join(shared)}." if shared else ""),
    )  # fmt: skip


def smoothing_note(protocol: Protocol) -> str:
    """That labels were smoothed, and what scores keep of it; empty where none were."""
    amounts = sorted({resolve_recipe(protocol, arm).label_smoothing for arm in protocol.arms} - {0.0})
    if not amounts:
        return ""
    return (
        f" Label smoothing (up to {amounts[-1]:g}) is not undone: it draws scores together, so that calibration slopes "
        "above 1 are to be expected."
    )


def _has(arm: Arm, name: str) -> bool:
    """Whether a setting means anything for an arm."""
    adapted, tapfm = arm.adapt != "frozen", arm.aggregator == "tapfm"
    if name == "lambda_attention":
        return adapted and tapfm
    return (adapted or name not in _OF_ADAPTED) and (tapfm or name not in _OF_TAPFM)


def _row(arm: Arm, recipe: Recipe, others: list[str]) -> tuple[Cell, ...]:
    tiles = Cell("all", (None,)) if arm.tiles_per_slide is None else count_cell(arm.tiles_per_slide)
    short = _AGGREGATORS.get(arm.aggregator, (visible(arm.aggregator), ""))[0]
    return (
        text_cell(arm.id),
        text_cell(arm.backbone),
        Cell(short, (arm.aggregator,)),
        text_cell(_adaptation(arm)),
        tiles,
        *(_cell(arm, recipe, name) for name in (*_COLUMNS, *others)),
    )


def _cell(arm: Arm, recipe: Recipe, name: str) -> Cell:
    value = getattr(recipe, name)
    if not _has(arm, name):
        return Cell("–", (None,))
    return Cell(_text(value), (_text(value) if isinstance(value, bool) else value,), float(value))


def _text(value: float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}".replace("e-0", "e-").replace("-", "−")


def _adaptation(arm: Arm) -> str:
    if isinstance(arm.adapt, Lora):
        alpha = arm.adapt.lora.alpha
        return f"LoRA, rank {arm.adapt.lora.rank}" + ("" if alpha is None else f", alpha {alpha:g}")
    if isinstance(arm.adapt, LastBlocks):
        return f"last {arm.adapt.last_blocks} blocks"
    return {"frozen": "frozen", "full": "all blocks"}[arm.adapt]
