"""What the paper reports for the same model on the same task, so that a reader can set it beside a new result."""

from dataclasses import dataclass

from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import AurocResult, MacroResult


@dataclass(frozen=True, slots=True)
class Published:
    """Point estimates of Kumar et al. 2025 (arXiv 2506.05184): trained at one institution, tested there and on TCGA."""

    backbone: str
    aggregator: str
    adapt: str
    disease: str  # as it occurs in names of cohorts: luad, blca
    target: str
    several: bool  # of a model of several targets, and not of this one alone
    own: float | None  # on the test patients of the paper's own institution
    tcga: float | None


PUBLISHED = (
    Published("h-optimus-0", "tapfm", "full", "blca", "FGFR3", False, 0.8647, 0.9021),
    Published("gigapath", "tapfm", "full", "blca", "FGFR3", False, None, 0.8994),
    Published("h-optimus-0", "abmil", "frozen", "blca", "FGFR3", False, 0.8412, 0.8786),
    Published("h-optimus-0", "varmil", "frozen", "blca", "FGFR3", False, 0.8401, None),
    Published("h-optimus-0", "varmil", "full", "blca", "FGFR3", False, 0.8526, 0.8889),
    Published("h-optimus-0", "abmil", "full", "blca", "FGFR3", False, 0.8512, None),
    Published("h-optimus-0", "tapfm", "full", "luad", "EGFR", False, 0.8491, 0.8553),
    Published("h-optimus-0", "tapfm", "full", "luad", "EGFR", True, 0.8765, None),  # derived from the macro figure
    Published("h-optimus-0", "tapfm", "full", "luad", "KRAS", True, 0.8153, None),
    Published("h-optimus-0", "tapfm", "full", "luad", "MET", True, 0.8420, None),
    Published("h-optimus-0", "tapfm", "full", "luad", "ALK", True, 0.8702, None),
)
# The paper's best frozen baseline for EGFR (0.7742 and 0.8295) is not here: it does not say which arm that was.


PUBLISHED_MACRO = ("h-optimus-0", "tapfm", "full", "luad", frozenset({"EGFR", "KRAS", "MET", "ALK"}), 0.8510)
"""The paper's one macro AUROC: on the test patients of its own institution."""


def published_macro(protocol: Protocol, result: MacroResult) -> float | None:
    """The paper's macro AUROC for this arm, over the same targets on test patients of a cohort like its own."""
    plan = next((plan for plan in protocol.arms if plan.id == result.arm), None)
    name = result.cohort.lower()
    if plan is None or result.split != "test" or "tcga" in name or "cptac" in name:
        return None
    *model, disease, targets, value = PUBLISHED_MACRO
    same = (plan.backbone, plan.aggregator, plan.adapt) == tuple(model)
    return value if same and disease in name and frozenset(result.targets) == targets else None


def published_value(protocol: Protocol, result: AurocResult) -> float | None:
    """The paper's AUROC for this arm on this target; None where it has none, and on validation patients.

    In TCGA, whatever the cohort's role. On test patients of another development cohort, the paper's own institution.
    Where the paper has no figure of a model of several targets, that of a model of this target alone stands in.
    """
    plan = next((plan for plan in protocol.arms if plan.id == result.arm), None)
    name = result.cohort.lower()
    if plan is None or result.split == "validation" or "cptac" in name:
        return None
    tcga = "tcga" in name
    if not tcga and result.split != "test":
        return None  # somebody else's external cohort
    several = len(protocol.targets) > 1
    found = {
        entry.several: entry.tcga if tcga else entry.own
        for entry in PUBLISHED
        if (entry.backbone, entry.aggregator, entry.adapt) == (plan.backbone, plan.aggregator, plan.adapt)
        and entry.disease in name
        and entry.target == result.target
    }
    value = found.get(several)
    return found.get(False) if value is None else value


def published_note(protocol: Protocol) -> str:
    """What sets the paper's figures apart from those of this protocol."""
    trained_on = protocol.development
    note = (
        "Published: Kumar et al. 2025, trained on an institutional cohort and tested on its own test patients and on "
        f"all of TCGA, a point estimate without interval. Here the models were trained on {trained_on}, so the two are "
        "not like for like."
    )
    if len(protocol.targets) > 1:
        note += " In TCGA the paper's models were of one target alone."
        if "EGFR" in protocol.targets and "tcga" not in trained_on.lower():
            note += " That of EGFR among several targets follows from the paper's macro AUROC and its other targets."
    return note
