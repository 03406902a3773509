"""Which real patients a rehearsal borrows, so that every planted target has patients of both classes to show itself."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tapfm_eval.errors import Problem, ProtocolError
from tapfm_eval.randomness import wide_generator

# least patients of each class for each planted target: enough for an interval outside, enough to learn from in training
MIN_PER_CLASS = {"train": 13, "validation": 3, "test": 4, "external": 12}
MIN_TESTED = 10  # the same for test patients where no external cohort is there to be tested on instead
# the same for targets that are not planted, as far as the cohort has them: training needs both classes, and an external
# cohort without a known negative shows how the report speaks of that
UNPLANTED = {"train": 2, "validation": 0, "test": 1, "external": 2}


def draw_patients(
    labels: pd.DataFrame, targets: Sequence[str], size: int, part: str, *, seed: int, where: str, least: int
) -> tuple[str, ...]:
    """`size` patients, sorted, with at least `least` of each class for each planted target, and a few of the others.

    Patients come in an order of their own (per seed and patient); those that fill the emptiest need are taken first,
    the rest follow in order. Depends on the patients and the seed alone.

    Args:
        labels: Index patient_id, a column per target with 0, 1 or NaN.
        targets: The planted targets; one without a known label in this cohort makes no demand.
        size: How many to draw; all of them where there are fewer.
        part: train, validation, test or external.
        seed: The protocol's first seed.
        where: The protocol key, for messages.
        least: Patients of each class for each planted target.

    Raises:
        ProtocolError: The cohort has too few patients of a class.
    """
    order = sorted(
        labels.index, key=lambda patient: wide_generator(seed, "rehearsal draw", part, str(patient)).random()
    )
    needs = {(t, c): least for t in targets if labels[t].notna().any() for c in (0.0, 1.0)}
    problems = [
        Problem(where, f"{need} patients with {target} = {int(value)}", str(int((labels[target] == value).sum())),
                f"Leave {target} out of rehearsal.planted, or give a cohort with more of them.")
        for (target, value), need in needs.items()
        if (labels[target] == value).sum() < need
    ]  # fmt: skip
    if problems:
        raise ProtocolError(problems)
    for target in [str(column) for column in labels.columns if column not in targets]:
        needs |= {(target, c): min(UNPLANTED[part], int((labels[target] == c).sum())) for c in (0.0, 1.0)}
    carriers = {key: [p for p in order if labels.at[p, key[0]] == key[1]] for key in needs}
    drawn: dict[str, None] = {}
    # the scarcest class first: its few patients also fill the needs of others
    for key in sorted(needs, key=lambda k: (len(carriers[k]), k)):
        have = sum(patient in drawn for patient in carriers[key])
        fresh = [patient for patient in carriers[key] if patient not in drawn]
        drawn |= dict.fromkeys(fresh[: max(0, needs[key] - have)])
    if len(drawn) > size:
        raise ProtocolError(
            Problem(where, f"at least {len(drawn)} patients, so that every planted target has "
                    f"{least} of each class", str(size), f"Raise it to {len(drawn)} or more.")
        )  # fmt: skip
    drawn |= dict.fromkeys([patient for patient in order if patient not in drawn][: size - len(drawn)])
    return tuple(sorted(drawn))


def permuted(labels: Mapping[str, float], *, seed: int, group: str) -> dict[str, float]:
    """The same labels dealt out anew among the same patients: a target with nothing behind it."""
    patients = sorted(labels)
    order = wide_generator(seed, "rehearsal null", group).permutation(len(patients))
    values = np.array([labels[patient] for patient in patients])[order]
    return dict(zip(patients, values.tolist(), strict=True))
