"""What was done, in sentences that a paper can quote, generated from the protocol."""

from tapfm_eval.methods.recipe import resolve_recipe
from tapfm_eval.protocol.schema import AllAgainst, Arm, AtRule, LastBlocks, Lora, NonInferiorityPlan, Protocol
from tapfm_eval.report.blocks import Block, Bullets, Cell, Column, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.numbers import count_cell, percent, text_cell, visible
from tapfm_eval.report.scope import Scope

_CLAM = (
    "Lu et al. Data-efficient and weakly supervised computational pathology on whole-slide images. "
    "Nat Biomed Eng 2021. doi:10.1038/s41551-020-00682-w."
)
_AGGREGATORS = {
    "tapfm": "TAPFM (attention of the backbone’s last block)",
    "abmil": "ABMIL (gated attention)",
    "mean": "mean pooling",
    "clam-sb": "CLAM, single branch",
    "clam-mb": "CLAM, a branch per target",
    "dsmil": "DSMIL (critical tile and bag)",
    "varmil": "VarMIL (attention-weighted mean and variance)",
    "transmil": "TransMIL (self-attention among tiles)",
}
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
_CORRECTIONS = {"holm": "Holm", "hochberg": "Hochberg", "bh": "Benjamini and Hochberg"}
REFERENCES = (
    "Kumar et al. Single GPU Task Adaptation of Pathology Foundation Models for Whole Slide Image Analysis. "
    "arXiv:2506.05184, 2025.",
    "Otsu. A threshold selection method from gray-level histograms. IEEE Trans Syst Man Cybern 1979. "
    "doi:10.1109/TSMC.1979.4310076.",
    "DeLong, DeLong, Clarke-Pearson. Comparing the areas under two or more correlated receiver operating "
    "characteristic curves. Biometrics 1988. doi:10.2307/2531595.",
    "Sun, Xu. Fast implementation of DeLong’s algorithm. IEEE Signal Process Lett 2014. doi:10.1109/LSP.2014.2337313.",
    "Newcombe. Confidence intervals for an effect size measure based on the Mann–Whitney statistic, part 2. Stat Med "
    "2006. doi:10.1002/sim.2324.",
    "Holm. A simple sequentially rejective multiple test procedure. Scand J Stat 1979; 6: 65–70.",
    "Cox. Two further applications of a model for binary regression. Biometrika 1958. doi:10.1093/biomet/45.3-4.562.",
    "Vickers, Elkin. Decision curve analysis. Med Decis Making 2006. doi:10.1177/0272989X06295361.",
    "Gu, Ghosal, Roy. Bayesian bootstrap estimation of ROC curve. Stat Med 2008. doi:10.1002/sim.3366.",
    "Austin. Balance diagnostics for comparing the distribution of baseline covariates between treatment groups in "
    "propensity-score matched samples. Stat Med 2009. doi:10.1002/sim.3697.",
    "Wilson. Probable inference, the law of succession, and statistical inference. JASA 1927. "
    "doi:10.1080/01621459.1927.10502953.",
)


def methods_section(scope: Scope) -> Section:
    """Methods text, the arms with every number of their recipes, and references."""
    protocol = scope.inputs.protocol
    paragraphs: tuple[str, ...] = (
        _patients(protocol),
        _slides(protocol),
        _models(protocol),
        statistics_text(scope),
    )
    blocks: list[Block] = [Paragraph(visible(text)) for text in paragraphs]
    if scope.inputs.rehearsal is not None:
        blocks.append(
            Paragraph(
                "Numbers are those of this rehearsal. What a real run does otherwise is listed under Rehearsal.",
                "note",
            )
        )
    blocks += [_arms_table(protocol), Bullets(_references(protocol), "References")]
    return Section("methods", "Methods", tuple(blocks))


def _references(protocol: Protocol) -> tuple[str, ...]:
    """The papers behind this study's aggregators, then those behind every study."""
    used = [_AGGREGATOR_PAPERS[arm.aggregator] for arm in protocol.arms if arm.aggregator in _AGGREGATOR_PAPERS]
    return (REFERENCES[0], *dict.fromkeys(used), *REFERENCES[1:])


def _list(names: tuple[str, ...] | list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "none"


def _patients(protocol: Protocol) -> str:
    plan = protocol.cohorts[protocol.development]
    folds = "all folds" if plan.folds == "all" else f"folds {_list([str(fold) for fold in plan.folds])}"
    external = (
        f" Patients of {_list(protocol.external)} were never seen in training or selection and tested the models "
        "externally; their scores are means of logits over all folds and seeds of an arm."
        if protocol.external
        else " There was no external cohort."
    )
    seeds = _list([str(seed) for seed in protocol.seeds])
    return (
        f"Models were developed on {protocol.development}, split by patient into training, validation and test parts "
        f"({folds} of {plan.split}), with {'seed' if len(protocol.seeds) == 1 else 'seeds'} {seeds}.{external} "
        f"Targets were {_list(list(protocol.targets))}, each mutated or not. Patients without a known label for a "
        "target are left out of that target alone. The patient is the unit of every count and statistic: scores of a "
        "patient’s slides are combined as the mean of their logits."
    )


def _slides(protocol: Protocol) -> str:
    tiles = protocol.tiles
    policy = (
        "Slides that could not be read or held no tissue were excluded, at most "
        f"{percent(protocol.failures.max_share, 1)} of a cohort."
        if protocol.failures.policy == "exclude"
        else "A slide that could not be read or held no tissue stopped the study."
    )
    return (
        f"Tissue was told from glass by Otsu’s threshold. Slides were cut into non-overlapping tiles of "
        f"{tiles.tile_px} px at {tiles.mpp:g} µm per pixel; a tile was kept when at least {percent(tiles.min_tissue)} "
        "of it was tissue. "
        f"Training drew tiles and, for patients with several slides, one slide anew in each epoch; inference used all "
        f"tiles of all slides. {policy}"
    )


def _models(protocol: Protocol) -> str:
    ties = _list([tie.replace("_", " ") for tie in protocol.selection.ties])
    return (
        f"{len(protocol.arms)} arms were compared, each a backbone with an aggregator and a way of adapting it (table "
        "below), trained by the recipe of Kumar et al. with the departures that the protocol states. AdamW with one "
        "optimizer for the aggregator and one for the backbone, cosine schedule with warm restarts, one slide a step. "
        "The loss is binary cross-entropy weighted by the prevalence among training patients; scores are corrected for "
        "these weights, so that they are probabilities at that prevalence. The epoch with the highest macro-average "
        f"AUROC on validation patients was selected (targets with at least {protocol.selection.min_per_class} patients "
        f"of each class; ties: {ties}). Test and external patients were predicted once, after every arm, seed and fold "
        "had been selected."
    )


def statistics_text(scope: Scope) -> str:
    """How intervals, tests and thresholds were computed."""
    plan = scope.inputs.protocol.analysis
    lines = [
        f"Intervals are two-sided at {percent(plan.level, 1).replace('.0%', '%')}. AUROCs are Mann–Whitney estimates; "
        "their intervals are by DeLong’s variance on the logit scale with Student t or, where few patients are in the "
        "rarer class or the AUROC is near 1, the envelope of that and Newcombe’s method 5; tables name the method.",
        "Cross-validated AUROCs are pair-weighted means of within-fold AUROCs; scores of different folds are never "
        "pooled.",
    ]
    if plan.primary is not None:
        primary = plan.primary
        question = (
            f"non-inferiority with a margin of {primary.hypothesis.non_inferiority.margin:g}"
            if isinstance(primary.hypothesis, NonInferiorityPlan)
            else "superiority"
        )
        lines.append(
            f"The primary endpoint is {question} of {primary.arm} to {primary.versus} in AUROC for {primary.target} in "
            f"{primary.cohort}, at one-sided {primary.one_sided_alpha:g}."
        )
    if plan.families or plan.primary is not None:
        lines.append("Arms are compared on the same patients by paired DeLong with a Satterthwaite t test.")
    for family in plan.families:
        what = (
            f"every arm against {family.comparisons.all_against}"
            if isinstance(family.comparisons, AllAgainst)
            else "all pairs of arms"
        )
        lines.append(f"Family “{family.name}”: {what}, p values adjusted by {_CORRECTIONS[plan.multiplicity]}.")
    if plan.operating_points:
        rules = _list([_rule(rule) for rule in plan.operating_points])
        lines.append(
            "Thresholds were fixed on validation patients, out of fold where there are several folds "
            f"({rules}), and carried unchanged to test and external patients; proportions have Wilson intervals."
        )
    lines.append(
        "Calibration is by logistic regression on the logit of the score (intercept in the large, slope), with profile "
        "likelihood intervals, before and after a logistic recalibration that was fitted on validation patients and "
        "carried unchanged. Net benefit weighs a false positive by the odds of the threshold risk. Average precision "
        "is the step-wise area under the precision–recall curve. Bands of ROC curves hold at each false positive rate "
        "by itself."
    )
    lines.append(
        "Confounding was looked for by cross-validated ridge logistic regression on covariates alone, by AUROCs within "
        "strata, and by likelihood ratio tests of the score added to clinical covariates. Groups of patients are "
        "compared by standardised mean differences."
    )
    if plan.subgroups:
        lines.append(f"Subgroups named in advance: {_list(list(plan.subgroups))}.")
    return " ".join(lines)


def _rule(rule: AtRule | str) -> str:
    if isinstance(rule, AtRule):
        return f"{rule.rule.removeprefix('at_')} {rule.value:g}"
    return "Youden’s index"


def _adaptation(arm: Arm) -> str:
    if isinstance(arm.adapt, Lora):
        return f"LoRA, rank {arm.adapt.lora.rank}"
    if isinstance(arm.adapt, LastBlocks):
        return f"last {arm.adapt.last_blocks} blocks"
    return {"frozen": "frozen", "full": "all blocks"}[arm.adapt]


def _arms_table(protocol: Protocol) -> Table:
    return Table(
        "arms",
        "Arms and their training recipes",
        (
            Column("Arm", ("arm",), width=1.9),
            Column("Backbone", ("backbone",), width=1.2),
            Column("Aggregator", ("aggregator",), width=1.9),
            Column("Adapted", ("adapted",), width=1.1),
            Column("Tiles per slide", ("tiles_per_slide",), "number", 0.8),
            Column("Epochs", ("epochs",), "number", 0.7),
            Column("Rate, backbone", ("lr_backbone",), "number", 1.0),
            Column("Rate, aggregator", ("lr_aggregator",), "number", 1.0),
            Column("Weight decay", ("weight_decay",), "number", 0.8),
            Column("Label smoothing", ("label_smoothing",), "number", 0.9),
        ),
        (RowGroup("", tuple(_arm_row(protocol, arm) for arm in protocol.arms)),),
        note="Tiles per slide and epoch in training. The resolved protocol completes the recipe.",
    )


def _arm_row(protocol: Protocol, arm: Arm) -> tuple[Cell, ...]:
    recipe = resolve_recipe(protocol, arm)
    tiles = Cell("all", (None,)) if arm.tiles_per_slide is None else count_cell(arm.tiles_per_slide)
    rate = Cell("–", (None,)) if arm.adapt == "frozen" else _rate(recipe.lr_backbone)
    return (
        text_cell(arm.id),
        text_cell(arm.backbone),
        Cell(_AGGREGATORS.get(arm.aggregator, visible(arm.aggregator)), (arm.aggregator,)),
        text_cell(_adaptation(arm)),
        tiles,
        count_cell(recipe.epochs),
        rate,
        _rate(recipe.lr_aggregator),
        _rate(recipe.weight_decay),
        _rate(recipe.label_smoothing),
    )


def _rate(number: float) -> Cell:
    return Cell(f"{number:g}".replace("e-0", "e-").replace("-", "−"), (number,), number)
