"""Which real patients a rehearsal borrows, so that every planted target has patients of both classes to show itself."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tapfm_eval.errors import Problem, ProtocolError
from tapfm_eval.rehearsal.planting import generator

# least patients of each class for each planted target: enough for an interval outside, enough to learn from in training
MIN_PER_CLASS = {"train": 13, "validation": 3, "test": 4, "external": 12}


def draw_patients(
    labels: pd.DataFrame, targets: Sequence[str], size: int, part: str, *, seed: int, where: str
) -> tuple[str, ...]:
    """`size` patients, sorted, with at least `MIN_PER_CLASS[part]` of each class for each planted target.

    Patients come in an order of their own (per seed and patient); those that fill the emptiest need are taken first,
    the rest follow in order. Depends on the patients and the seed alone.

    Args:
        labels: Index patient_id, a column per target with 0, 1 or NaN.
        targets: The planted targets; one without a known label in this cohort makes no demand.
        size: How many to draw; all of them where there are fewer.
        part: train, validation, test or external.
        seed: The protocol's first seed.
        where: The protocol key, for messages.

    Raises:
        ProtocolError: The cohort has too few patients of a class.
    """
    order = sorted(labels.index, key=lambda patient: generator(seed, "rehearsal draw", part, str(patient)).random())
    needs = {(t, c): MIN_PER_CLASS[part] for t in targets if labels[t].notna().any() for c in (0.0, 1.0)}
    problems = [
        Problem(where, f"{need} patients with {target} = {int(value)}", str(int((labels[target] == value).sum())),
                f"Leave {target} out of rehearsal.planted, or give a cohort with more of them.")
        for (target, value), need in needs.items()
        if (labels[target] == value).sum() < need
    ]  # fmt: skip
    if problems:
        raise ProtocolError(problems)
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
                    f"{MIN_PER_CLASS[part]} of each class", str(size), f"Raise it to {len(drawn)} or more.")
        )  # fmt: skip
    drawn |= dict.fromkeys([patient for patient in order if patient not in drawn][: size - len(drawn)])
    return tuple(sorted(drawn))


def permuted(labels: Mapping[str, float], *, seed: int, group: str) -> dict[str, float]:
    """The same labels dealt out anew among the same patients: a target with nothing behind it."""
    patients = sorted(labels)
    order = generator(seed, "rehearsal null", group).permutation(len(patients))
    values = np.array([labels[patient] for patient in patients])[order]
    return dict(zip(patients, values.tolist(), strict=True))
