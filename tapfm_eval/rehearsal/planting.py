"""Which visual effect stands for which target, and how strongly each patient carries it."""

import math
from collections.abc import Mapping

from scipy.special import ndtri

from tapfm_eval.errors import Problem, ProtocolError
from tapfm_eval.randomness import wide_generator

EFFECTS: tuple[str, ...] = (
    "stromal_eosin",  # stroma from loose and bluish to dense and pink
    "lumens",  # white area inside glands
    "pigment",  # golden-brown granules (haemosiderin) between glands
    "mucin",  # blue-grey pools between glands
    "nuclear_darkness",  # haematoxylin of epithelial and stromal nuclei
    "red_cells",  # orange-red erythrocytes between glands
    "lymphocytes",  # clusters of small, round, very dark nuclei between glands
    "nuclear_size",  # radius of nuclei
    "nuclear_density",  # nuclei per length of gland wall and area of stroma
)
"""Names of the effects, in the order in which planted targets take them: the first are the easiest to see."""

_STRENGTH_LIMITS = (-4.0, 7.0)  # four standard deviations about the means of both classes, up to AUROC 0.98
_HALF_DOSE = 1.0  # strength at the middle of an effect's range: between the classes at AUROC 0.92
_DOSE_SCALE = 1.2  # keeps the strengths of nearly all patients on the straight part of the curve


def dose(strength: float) -> float:
    """Position in (0, 1) within an effect's range: strictly increasing in the strength, so it keeps every AUROC."""
    return 1.0 / (1.0 + math.exp(-(strength - _HALF_DOSE) / _DOSE_SCALE))


def separation(auroc: float) -> float:
    """Distance between the class means, in standard deviations, that gives this AUROC to a binormal score.

    With scores N(0, 1) for label 0 and N(mu, 1) for label 1, AUROC = Phi(mu / sqrt(2)) (Hanley 1988,
    doi:10.1177/0272989X8800800308).

    >>> round(separation(0.95), 3)
    2.326
    """
    return math.sqrt(2.0) * float(ndtri(auroc))


def effect_of_target(planted: Mapping[str, float]) -> dict[str, str]:
    """The effect that stands for each planted target: targets in their order take `EFFECTS` in theirs.

    Raises:
        ProtocolError: more targets than effects, or an AUROC outside [0.5, 1); all problems at once.
    """
    problems = [
        Problem(
            where=f"rehearsal.planted.{target}",
            expected="an AUROC of at least 0.5 and below 1",
            got=repr(auroc),
            remedy="Plant e.g. 0.90, or leave the target out to plant nothing.",
        )
        for target, auroc in planted.items()
        if not 0.5 <= auroc < 1.0
    ]
    if len(planted) > len(EFFECTS):
        problems.append(
            Problem(
                where="rehearsal.planted",
                expected=f"at most {len(EFFECTS)} targets, one for each visual effect ({', '.join(EFFECTS)})",
                got=f"{len(planted)} targets ({', '.join(planted)})",
                remedy=f"Leave {len(planted) - len(EFFECTS)} of them out of rehearsal.planted.",
            )
        )
    if problems:
        raise ProtocolError(problems)
    return dict(zip(planted, EFFECTS, strict=False))


def plant(
    labels: Mapping[str, Mapping[str, int | None]], planted: Mapping[str, float], *, seed: int
) -> dict[str, dict[str, float]]:
    """Strength of every planted effect in each patient of a group, the same for all slides of a patient.

    In each class the strengths are the quantiles of N(0, 1) (label 0) or N(mu, 1) (label 1), dealt to the patients in
    an order of their own, with mu such that the strengths separate the classes with the planted AUROC. Quantiles and
    not free draws: among a dozen positives a free draw of AUROC 0.90 is often below 0.80, and then the rehearsal would
    look for an effect that is not there. An unknown or absent label counts as 0. A label whose target is not planted
    (a negative control) changes nothing.

    Args:
        labels: patient_id to target to 0, 1 or None (unknown), for the patients of one part of the study.
        planted: target to AUROC, in the protocol's order.
        seed: the protocol's seed.

    Returns:
        patient_id to effect name to strength, in standard deviations of a class.

    Raises:
        ProtocolError: as `effect_of_target`.
    """
    lowest, highest = _STRENGTH_LIMITS
    strengths: dict[str, dict[str, float]] = {patient: {} for patient in labels}
    for target, effect in effect_of_target(planted).items():
        for label, mean in ((0, 0.0), (1, separation(planted[target]))):
            members = [patient for patient in labels if (labels[patient].get(target) or 0) == label]
            place = {p: (float(wide_generator(seed, "rehearsal effect", p, target).random()), p) for p in members}
            for rank, patient in enumerate(sorted(members, key=place.__getitem__)):
                strength = mean + float(ndtri((rank + 0.5) / len(members)))
                strengths[patient][effect] = min(max(strength, lowest), highest)
    return strengths
