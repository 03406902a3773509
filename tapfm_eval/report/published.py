"""What the paper reports for the same model on the same task, so that a reader can set it beside a new result."""

from dataclasses import dataclass

from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import AurocResult


@dataclass(frozen=True, slots=True)
class Published:
    """A point estimate of Kumar et al. 2025 (arXiv 2506.05184), trained at one institution and tested on TCGA."""

    backbone: str
    aggregator: str
    adapt: str
    disease: str  # as it occurs in names of cohorts: luad, blca
    target: str
    tcga_auroc: float


PUBLISHED = (
    Published("h-optimus-0", "tapfm", "full", "blca", "FGFR3", 0.9021),
    Published("gigapath", "tapfm", "full", "blca", "FGFR3", 0.8994),
    Published("h-optimus-0", "abmil", "frozen", "blca", "FGFR3", 0.8786),
    Published("h-optimus-0", "tapfm", "full", "luad", "EGFR", 0.8553),
)


def published_value(protocol: Protocol, result: AurocResult) -> float | None:
    """The paper's AUROC for this arm on this target in TCGA; None where it has none, and on validation patients."""
    plan = next((plan for plan in protocol.arms if plan.id == result.arm), None)
    name = result.cohort.lower()
    if plan is None or "tcga" not in name or result.split == "validation":
        return None
    for entry in PUBLISHED:
        same_model = (entry.backbone, entry.aggregator, entry.adapt) == (plan.backbone, plan.aggregator, plan.adapt)
        if same_model and entry.disease in name and entry.target == result.target:
            return entry.tcga_auroc
    return None


def published_note(protocol: Protocol) -> str:
    """What sets the paper's figures apart from those of this protocol."""
    trained_on = protocol.development
    return (
        "Published: Kumar et al. 2025, trained on an institutional cohort and tested on all of TCGA, a point estimate "
        f"without interval. Here the models were trained on {trained_on}, so the two are not like for like."
    )
