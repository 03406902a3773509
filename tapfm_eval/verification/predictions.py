"""The predictions of a run against what they were put together from: units, manifests, splits, failures."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.errors import InputError
from tapfm_eval.predictions.table import KEY, read_predictions
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.verification.mismatch import ABSENT, Mismatch, few, refused

NAME = "predictions.csv"


def compare_with_units(
    root: Path, protocol: Protocol, folds: tuple[int, ...], failed: list[Exclusion], combined: pd.DataFrame
) -> list[Mismatch]:
    """Rows of `predictions.csv` that the units' own files do not hold, or hold otherwise.

    Units that came to a slide before it failed have predicted it; its rows count for none.
    """
    found: list[Mismatch] = []
    tables = []
    for arm in protocol.arms:
        for seed in protocol.seeds:
            for fold in folds:
                for name in ("validation.csv", NAME):
                    path = root / "arms" / arm.id / f"seed-{seed}" / f"fold-{fold}" / name
                    try:
                        tables.append(read_predictions(path))
                    except InputError as error:
                        found += refused(error)
    if not tables:
        return found
    keys = list(KEY)
    units = pd.concat(tables, ignore_index=True)
    lost = {(exclusion.cohort, exclusion.slide_id) for exclusion in failed}
    units = units[[key not in lost for key in zip(units["cohort"], units["slide_id"], strict=True)]]
    both = combined.merge(units, on=keys, how="outer", suffixes=("", "_unit"), indicator=True)
    differing = []
    for row in both.sort_values(keys).to_dict("records"):
        place = f"{NAME}, {_key(row)}"
        if row["_merge"] != "both":
            in_combined = row["_merge"] == "left_only"
            differing.append(
                Mismatch(place, "a row" if in_combined else ABSENT, "no row in the unit" if in_combined else "a row")
            )
            continue
        for column in ("label", "score"):
            stored, unit = float(row[column]), float(row[f"{column}_unit"])
            if not (stored == unit or (np.isnan(stored) and np.isnan(unit))):
                differing.append(Mismatch(f"{place}, {column}", repr(stored), f"{unit!r} in the unit"))
    return found + few(differing, NAME)


def _key(row: Mapping[object, object]) -> str:
    model = f"{row['arm']} seed {row['seed']} fold {row['fold']}"
    return f"{model}, {row['cohort']} {row['split']}, {row['slide_id']}, {row['target']}"


def compare_with_cohorts(
    protocol: Protocol, cohorts: Mapping[str, Cohort], failed: list[Exclusion], combined: pd.DataFrame
) -> list[Mismatch]:
    """Labels that the manifests contradict, and rows that the splits do not call for, or call for in vain."""
    return few(_labels(protocol, cohorts, combined), NAME) + few(_members(protocol, cohorts, failed, combined), NAME)


def _labels(protocol: Protocol, cohorts: Mapping[str, Cohort], combined: pd.DataFrame) -> Iterator[Mismatch]:
    said = combined.drop_duplicates(["cohort", "patient_id", "target"])
    for name, rows in said.groupby("cohort", sort=True):
        cohort = cohorts.get(str(name))
        if cohort is None:
            yield Mismatch(f"{NAME}, cohort {name}", "rows", "no such cohort in the protocol")
            continue
        known = cohort.labels
        for patient, target, label in zip(rows["patient_id"], rows["target"], rows["label"], strict=True):
            if patient in known.index and target in known.columns:
                manifest = float(known.loc[[patient], target].iloc[0])
                if not (label == manifest or (np.isnan(label) and np.isnan(manifest))):
                    where = f"{NAME}, {name}, patient {patient}, {target}, label"
                    yield Mismatch(where, _label(label), f"{_label(manifest)} in inputs/{name}/manifest.csv")


def _label(value: float) -> str:
    return "unknown" if np.isnan(value) else str(int(value))


def _members(
    protocol: Protocol, cohorts: Mapping[str, Cohort], failed: list[Exclusion], combined: pd.DataFrame
) -> Iterator[Mismatch]:
    """Every slide of every part of every unit, held against manifest and split."""
    lost = {(exclusion.cohort, exclusion.slide_id) for exclusion in failed}
    folds = cohorts[protocol.development].folds
    expected: dict[tuple[str, str, int], set[tuple[str, str]]] = {}
    for name, cohort in cohorts.items():
        slides = [
            (str(patient), str(slide))
            for patient, slide in zip(cohort.slides["patient_id"], cohort.slides["slide_id"], strict=True)
            if (name, str(slide)) not in lost
        ]
        for fold in folds:
            if cohort.split is None:
                expected[name, "external", fold] = set(slides)
                continue
            for part in ("validation", "test"):
                members = set(cohort.split.patients(fold, part))
                expected[name, part, fold] = {slide for slide in slides if slide[0] in members}
    found: dict[tuple[str, int, int, str, str, str], set[tuple[str, str]]] = {}
    columns = ["arm", "seed", "fold", "cohort", "split", "target", "patient_id", "slide_id"]
    for *model, patient, slide in combined[columns].itertuples(index=False, name=None):
        key = (str(model[0]), int(model[1]), int(model[2]), str(model[3]), str(model[4]), str(model[5]))
        found.setdefault(key, set()).add((str(patient), str(slide)))
    for arm in (arm.id for arm in protocol.arms):
        for seed in protocol.seeds:
            for (name, part, fold), wanted in expected.items():
                for target in protocol.targets:
                    have = found.pop((arm, seed, fold, name, part, target), set())
                    where = f"{NAME}, {arm} seed {seed} fold {fold}, {name} {part}, {target}"
                    for _, slide in sorted(wanted - have):
                        yield Mismatch(f"{where}, {slide}", ABSENT, f"a row: the {part} part holds the slide")
                    for _, slide in sorted(have - wanted):
                        yield Mismatch(f"{where}, {slide}", "a row", f"none: the {part} part does not hold the slide")
    for arm, seed, fold, name, part, target in found:
        where = f"{NAME}, {arm} seed {seed} fold {fold}, {name} {part}, {target}"
        yield Mismatch(where, "rows", "none: the protocol asks for no such model, part or target")
