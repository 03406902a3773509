"""What the report quotes of the simulations in docs/statistics*.md; a test holds it to the tables there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PairedTest:
    """How the paired t test and its 95% interval fared, as shares of simulated studies of 400 patients."""

    rejected_alike: float  # of equal pairs at nominal .05, at most, where positives spread alike in both arms
    rejected_unlike: float  # the same where their spreads differ
    covered: tuple[float, float]  # with 5 or 10 positives, over all AUROCs, correlations and spreads
    covered_near_1: float  # at least, with fewer than FEW_POSITIVES and an AUROC of .95


PAIRED_TEST = PairedTest(rejected_alike=0.053, rejected_unlike=0.248, covered=(0.831, 0.957), covered_near_1=0.803)
FEW_POSITIVES = 20  # patients of the rarer class from which on intervals of a difference near 1 cover .92 or more
COVARIATES_COVERED = (0.83, 0.889)  # .5 by intervals of covariates alone that tell nothing
NEAR_1 = 0.9  # an AUROC between those measured: at .85 only like scores and very few positives fall short
