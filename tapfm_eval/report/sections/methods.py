"""What was done, in sentences that a paper can quote, generated from the protocol."""

from tapfm_eval.methods.recipe import resolve_recipe
from tapfm_eval.protocol.schema import NEGATIVE_CONTROL, LastBlocks, Lora, Protocol
from tapfm_eval.report.blocks import Block, Bullets, Paragraph, Section
from tapfm_eval.report.numbers import percent, visible
from tapfm_eval.report.scope import Scope
from tapfm_eval.report.sections.arms import arms_table, smoothing_note
from tapfm_eval.report.sections.methods_statistics import REFERENCES, named, statistics_paragraphs

_CLAM = (
    "Lu et al. Data-efficient and weakly supervised computational pathology on whole-slide images. "
    "Nat Biomed Eng 2021. doi:10.1038/s41551-020-00682-w."
)
_LORA = "Hu et al. LoRA: Low-Rank Adaptation of Large Language Models. ICLR 2022, arXiv:2106.09685."
_AGGREGATOR_PAPERS = {
    "abmil": "Ilse, Tomczak, Welling. Attention-based Deep Multiple Instance Learning. ICML 2018, arXiv:1802.04712.",
    "clam-sb": _CLAM,
    "clam-mb": _CLAM,
    "dsmil": "Li, Li, Eliceiri. Dual-stream Multiple Instance Learning Network for Whole Slide Image Classification "
    "with Self-supervised Contrastive Learning. CVPR 2021, arXiv:2011.08939.",
    "varmil": "Schirris et al. DeepSMILE: Contrastive self-supervised pre-training benefits MSI and HRD classification "
    "directly from H&E whole-slide images in colorectal and breast cancer. Med Image Anal 2022.",
    "transmil": "Shao et al. TransMIL: Transformer based Correlated Multiple Instance Learning for Whole Slide Image "
    "Classification. NeurIPS 2021, arXiv:2106.00908.",
}


def methods_section(scope: Scope) -> Section:
    """Methods text, the arms with every number of their recipes, and references."""
    protocol = scope.inputs.protocol
    paragraphs = (_patients(scope), _slides(scope), _models(scope), *statistics_paragraphs(scope))
    blocks: list[Block] = [Paragraph(visible(text)) for text in paragraphs]
    if scope.inputs.rehearsal is not None:
        blocks.append(
            Paragraph(
                "Numbers are those of this rehearsal. What a real run does otherwise is listed under Rehearsal.",
                "note",
            )
        )
    blocks += [arms_table(protocol), Bullets(_references(protocol), "References")]
    return Section("methods", "Methods", tuple(blocks))


def _references(protocol: Protocol) -> tuple[str, ...]:
    """The papers behind this study's aggregators and adaptation, then those behind every study."""
    used = [_AGGREGATOR_PAPERS[arm.aggregator] for arm in protocol.arms if arm.aggregator in _AGGREGATOR_PAPERS]
    if any(isinstance(arm.adapt, Lora) for arm in protocol.arms):
        used.append(_LORA)
    return (REFERENCES[0], *dict.fromkeys(used), *REFERENCES[1:])


def _patients(scope: Scope) -> str:
    protocol, units = scope.inputs.protocol, scope.inputs.units
    plan = protocol.cohorts[protocol.development]
    folds = sorted({unit.fold for unit in units}) or ([] if plan.folds == "all" else list(plan.folds))
    if len(folds) > 1:
        split = f"in {len(folds)} folds of training, validation and test patients"
    elif folds and plan.folds != "all":
        split = f"into training, validation and test patients (fold {folds[0]})"
    else:
        split = "into training, validation and test patients"
    averaged = max((sum(unit.arm == arm for unit in units) for arm in scope.arms), default=1) > 1
    external = (
        f" The models were tested externally on patients of {named(protocol.external)}, not used in training or "
        "selection" + (
            "; their scores are means of logits over all folds and seeds of an arm." if averaged else "."
        )
        if protocol.external
        else " There was no external cohort."
    )  # fmt: skip
    seeds = (
        f"each arm was trained once, with seed {protocol.seeds[0]}"
        if len(protocol.seeds) == 1
        else f"each arm was trained anew with each of the seeds {named([str(seed) for seed in protocol.seeds])}"
    )
    if len(folds) > 1:
        seeds = seeds.replace("trained once", "trained once on each fold")
    targets = [target for target in protocol.targets if target != NEGATIVE_CONTROL]
    return (
        f"Models were developed on {protocol.development}, split by patient {split}; {seeds}.{external} "
        f"{'The target was' if len(targets) == 1 else 'Targets were'} {named(targets)}, "
        f"{'' if len(targets) == 1 else 'each '}mutated or not; "
        f"{'' if len(targets) == 1 else 'one model of an arm predicts all of them. '}"
        "Patients without a known label for a target are left out of that target alone. The patient is the unit of "
        "every count and statistic: scores of a patient’s slides are combined as the mean of their logits."
    ).replace("not; Patients", "not. Patients").replace("not; one", "not, and one")  # fmt: skip


def _slides(scope: Scope) -> str:
    protocol = scope.inputs.protocol
    tiles = protocol.tiles
    imported = _imported(scope)
    if set(imported) >= set(protocol.cohorts):
        return (
            "No slide was read: the models saw tile features that another tool had made of frozen backbones "
            f"({tiles.tile_px} px at {tiles.mpp:g} µm per pixel, as the files state or their owner declared)."
        )
    sentences = [
        "Tissue was told from glass by Otsu’s threshold. Slides were cut into non-overlapping tiles of "
        f"{tiles.tile_px} px at {tiles.mpp:g} µm per pixel, finer scans averaged down; the scale is the slide’s or the "
        f"manifest’s own and was never guessed. A tile was kept when at least {percent(tiles.min_tissue)} of it was "
        "tissue.",
    ]
    if tiles.regions != "none":
        kinds = (
            "" if isinstance(tiles.regions, str) else f" of {named([f'“{name}”' for name in tiles.regions.classes])}"
        )
        sentences.append(
            f"Where a slide had annotations{kinds}, only tiles whose centre lies inside one were kept; slides without "
            "an annotation file kept all their tissue."
        )
    drawing = [arm for arm in protocol.arms if arm.tiles_per_slide is not None]
    several = "patients with several slides lent one of them to each epoch, drawn anew"
    if drawing:
        whom = "Training" if len(drawing) == len(protocol.arms) else "Training of the arms that say so"
        sentences.append(f"{whom} drew tiles of a slide anew in each epoch, without replacement; {several}.")
    else:
        sentences.append(f"Training used all tiles of a slide; {several}.")
    if any(resolve_recipe(protocol, arm).augment for arm in protocol.arms):
        sentences.append("Tiles of adapted arms were flipped, turned by quarter turns and blurred at random.")
    sentences.append("Inference used all tiles of all slides, unaltered.")
    if imported:
        sentences.append(f"In place of slides of {named(imported)}, tile features of another tool were given.")
    sentences.append(
        "Slides that could not be read or held no tissue were excluded, at most "
        f"{percent(protocol.failures.max_share, 1).replace('.0%', '%')} of a cohort."
        if protocol.failures.policy == "exclude"
        else "A slide that could not be read or held no tissue stopped the study."
    )
    return " ".join(sentences)


def _imported(scope: Scope) -> list[str]:
    """Cohorts that came as features of another tool in place of slides; a run keeps the hash of each."""
    hashes = scope.inputs.provenance.get("hashes (sha256)", {})
    return [name for name in scope.inputs.protocol.cohorts if f"features {name}" in hashes]


def _models(scope: Scope) -> str:
    protocol = scope.inputs.protocol
    ties = named([tie.replace("_", " ") for tie in protocol.selection.ties])
    adapted = [arm for arm in protocol.arms if arm.adapt != "frozen"]
    frozen = [arm for arm in protocol.arms if arm.adapt == "frozen"]
    one = len(protocol.arms) == 1
    lines = [
        ("One arm was trained, a backbone with an aggregator" if one else
         f"Compared were {len(protocol.arms)} arms, each a backbone with an aggregator and a way of adapting it")
        + " (table below), by the recipe of Kumar et al. (AdamW, cosine schedule with warm restarts, one slide a step) "
        "with the departures that the protocol states."
    ]  # fmt: skip
    if adapted:
        lines.append(
            "Aggregator and backbone have an optimizer each: the aggregator’s step gives gradients of tile embeddings "
            "and weights, and the backbone’s step passes them on exactly, in micro-batches, whatever the number of "
            "tiles."
        )
        if any(isinstance(arm.adapt, Lora) for arm in adapted):
            lines.append("LoRA trains low-rank additions to the attention layers and leaves the weights as published.")
        if any(isinstance(arm.adapt, LastBlocks) for arm in adapted):
            lines.append("Where the last blocks are adapted, those before them stay as published.")
    if frozen:
        whom = "Frozen backbones" if adapted else "All backbones stayed frozen and"
        lines.append(f"{whom} described each tile once, before training.")
    lines.append(
        "The loss is binary cross-entropy weighted by the prevalence among training patients; scores are corrected for "
        f"these weights, so that they stand at that prevalence.{smoothing_note(protocol)} The epoch with the highest "
        + ("AUROC" if len(protocol.targets) == 1 else "macro-average AUROC")
        + f" on validation patients was selected (targets with at least {protocol.selection.min_per_class} patients of "
        f"each class; ties: {ties})."
    )
    looks = len(scope.inputs.looks)
    lines.append(
        f"Test and external patients were predicted {looks} times under this version of the protocol."
        if looks > 1
        else "Test and external patients were predicted once, after every arm, seed and fold had been selected."
    )
    return " ".join(lines)
