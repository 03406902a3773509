"""A stand-in for a cohort that is only expected: patients with the stated prevalences, for rehearsals only."""

import hashlib
from pathlib import Path

import pandas as pd

from tapfm_eval.cohort.load import Drawn
from tapfm_eval.cohort.manifest import BOOKKEEPING, Manifest
from tapfm_eval.cohort.splits import Split
from tapfm_eval.protocol.schema import Expected, Protocol
from tapfm_eval.randomness import wide_generator

SCHEME = "expected"
"""The scheme of a drawn split."""
SHARES = {"validation": 0.1, "test": 0.1}
"""The paper's holdout, by patient; the rest trains."""
_NUMERIC = ("age", "mpp", "magnification")


def draw_expected(protocol: Protocol) -> dict[str, Drawn]:
    """Manifest and split of each cohort that the protocol declares by `expected`, by name.

    Exactly the stated share of patients is positive, each target on its own; nothing else is known of a patient, and
    the protocol's subgroups are unknown for all. The same first seed gives the same cohort.
    """
    return {
        name: _draw(protocol, name, plan.expected)
        for name, plan in protocol.cohorts.items()
        if plan.expected is not None
    }


def _draw(protocol: Protocol, name: str, expected: Expected) -> Drawn:
    seed, count = protocol.seeds[0], expected.patients
    patients = [f"{name}-{number:0{len(str(count))}d}" for number in range(1, count + 1)]
    table = pd.DataFrame({"patient_id": patients, "slide_id": "", "path": "", "exclude": ""}, index=range(2, count + 2))
    table.index.name = "row"
    for column in protocol.analysis.subgroups:
        if column not in BOOKKEEPING:
            table[column] = float("nan") if column in _NUMERIC else ""
    for target in protocol.targets:
        order = wide_generator(seed, "expected label", name, target).permutation(count)
        positives = round(count * expected.prevalence[target])
        table[protocol.column(target, name)] = ["1" if place < positives else "0" for place in order]
    manifest = Manifest(name, Path(f"cohorts.{name}.expected"), _sha256(table), table)
    order = wide_generator(seed, "expected split", name).permutation(count)
    parts = ["train"] * count
    start = 0
    for part, share in SHARES.items():
        for place in order[start : start + round(count * share)]:
            parts[int(place)] = part
        start += round(count * share)
    rows = pd.DataFrame({"patient_id": patients, "fold": 0, "split": parts})
    split = Split(manifest.path, _sha256(rows), SCHEME, seed, manifest.sha256, {"scheme": SCHEME}, rows)
    return Drawn(manifest, split)


def _sha256(table: pd.DataFrame) -> str:
    return hashlib.sha256(table.to_csv(index=False, lineterminator="\n").encode()).hexdigest()
