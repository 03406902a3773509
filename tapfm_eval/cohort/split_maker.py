"""How a cohort is split: by patient, alike in labels, sites and scans, and (site-preserved) no site on two sides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from tapfm_eval.cohort.balance import Aim, assign, deal, held_by_blocks
from tapfm_eval.cohort.covariates import patient_covariates
from tapfm_eval.cohort.labels import Spellings, check_targets, patient_labels
from tapfm_eval.cohort.manifest import Manifest
from tapfm_eval.cohort.splits import MAX_FOLDS
from tapfm_eval.errors import Problem, SplitError

Scheme = Literal["holdout", "kfold", "site-preserved"]
SCHEMES: tuple[Scheme, ...] = ("holdout", "kfold", "site-preserved")
_SITE_SIZES = ((10, "under 10 patients"), (30, "10 to 29 patients"))
_LARGE_SITE = "30 or more patients"


@dataclass(frozen=True, slots=True)
class Shares:
    """The parts of a holdout split, as shares of the patients; they sum to 1."""

    train: float = 0.6
    validation: float = 0.2
    test: float = 0.2


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """A split and how even it is."""

    table: pd.DataFrame  # patient_id, fold, split; sorted by fold, patient_id
    imbalance: pd.DataFrame
    """One row a block and category: block (0.. or train/validation/test), category (`EGFR=1`, `site size=...`, ...),
    patients, expected (what an even split would hold), deviation (difference of the category's share of the block
    from its share of the cohort)."""
    shortfalls: tuple[str, ...]  # classes of which a block holds fewer than asked for: `block 2: 1 patient of MET=1`
    meta: Mapping[str, Any]  # for the first line of the split file, without manifest_sha256


def make_split(
    labels: pd.DataFrame,
    *,
    scheme: Scheme,
    seed: int,
    folds: int = 5,
    shares: Shares | None = None,
    sites: "pd.Series[str] | None" = None,
    resolution: "pd.Series[str] | None" = None,
    min_per_class: int = 3,
) -> SplitPlan:
    """A patient-level split, the same for the same arguments.

    `kfold` and `site-preserved` cut the patients into `folds` blocks: fold f tests on block f, validates on block f + 1
    (modulo the number of blocks) and trains on the rest. `holdout` makes one fold with the given shares. Blocks are
    balanced on the labels of all targets together (unknown labels are a class of their own), on site size and on scan
    resolution; under `site-preserved` all patients of a site lie in one block. After: Howard et al. 2021,
    doi:10.1038/s41467-021-24698-1 (site-preserved folds, there by CPLEX).

    Args:
        labels: Index patient_id; a float column a target: 0, 1 or NaN.
        scheme: How to split.
        seed: Source of randomness.
        folds: Number of blocks, at least 3 (`kfold`, `site-preserved`).
        shares: Parts of a `holdout`; 0.6 / 0.2 / 0.2 unless given.
        sites: Site of each patient, index as `labels`; "" = unknown, which `site-preserved` refuses.
        resolution: Scan resolution of each patient, index as `labels`; "" = unknown.
        min_per_class: Patients of each class of each target that every block should hold, where the cohort has enough.

    Raises:
        SplitError: Where the arguments contradict each other or the cohort is too small.
    """
    chosen = shares or Shares()
    _check(labels, scheme, folds, chosen, sites)
    labels = labels.sort_index()
    patients = pd.Index(labels.index)
    rng = np.random.default_rng(seed)
    categories, weights, minimum, kinds = _categories(labels, sites, resolution, min_per_class)
    if scheme == "site-preserved" and sites is not None:
        unit_of, names = pd.factorize(sites.reindex(patients), sort=True)
        counts = np.zeros((len(names), categories.shape[1]))
        np.add.at(counts, unit_of, categories.to_numpy())
        aim = Aim(counts, weights, minimum, np.full(folds, 1 / folds))
        blocks = assign(aim, rng)[unit_of]
    else:
        parts = np.array([chosen.train, chosen.validation, chosen.test])
        block_shares = parts if scheme == "holdout" else np.full(folds, 1 / folds)
        # folds may differ by a few patients if they are then more alike; the shares of a holdout are kept
        size = list(categories).index("patients") if scheme == "kfold" else None
        aim = Aim(categories.to_numpy(), weights, minimum, block_shares, size)
        blocks = deal(aim, rng, kinds)
    block_names = ["train", "validation", "test"] if scheme == "holdout" else [str(block) for block in range(folds)]
    _check_filled(blocks, block_names)
    whole = Aim(categories.to_numpy(), weights, minimum, aim.shares)
    imbalance = _imbalance(whole, blocks, list(categories.columns), block_names)
    short = [
        f"block {row.block}: {row.patients} of {row.category}, fewer than {min_per_class}"
        for row in imbalance.itertuples()
        if "=" in str(row.category) and _is_class(str(row.category), labels) and int(str(row.patients)) < min_per_class
    ]
    meta: dict[str, Any] = {
        "scheme": scheme,
        "seed": seed,
        "targets": list(labels.columns),
        "balanced_on": [name for name, given in (("site", sites), ("resolution", resolution)) if given is not None],
        "patients": len(patients),
        "largest_prevalence_difference": _largest(imbalance, labels),
        "made_with": f"scipy {scipy.__version__}",
    }
    if scheme == "holdout":
        meta["shares"] = [chosen.train, chosen.validation, chosen.test]
        sizes = np.bincount(blocks, minlength=len(block_names))
        meta["shares_reached"] = [round(float(size) / len(patients), 4) for size in sizes]
    else:
        meta["folds"] = folds
    return SplitPlan(_table(patients, blocks, scheme, folds), imbalance, tuple(short), meta)


def split_manifest(
    manifest: Manifest,
    columns: Mapping[str, str],
    *,
    scheme: Scheme,
    seed: int,
    folds: int = 5,
    shares: Shares | None = None,
    values: Spellings | None = None,
    min_per_class: int = 3,
) -> SplitPlan:
    """A split of the patients of a manifest with a known label of at least one target; see `make_split`.

    Args:
        manifest: The cohort; its `site` and `mpp` columns are balanced on where they are there.
        columns: The manifest column of each target.
        scheme: How to split.
        seed: Source of randomness.
        folds: Number of blocks.
        shares: Parts of a holdout.
        values: Other spellings of labels, by target.
        min_per_class: Patients of each class that every block should hold.

    Returns:
        The plan; its `meta` is complete, for `write_split`.

    Raises:
        InputError: Where a target has no column.
        ManifestError: Where labels are wrong.
        SplitError: Where no such split can be made, or a target has patients of one class alone.
    """
    check_targets(manifest, columns.values(), "target")
    labels = patient_labels(manifest, columns, values)
    labels = labels[labels.notna().any(axis=1)]
    _check_classes(labels)
    known = manifest.included
    covariates = patient_covariates(known[known["patient_id"].isin(labels.index)]).table
    plan = make_split(
        labels,
        scheme=scheme,
        seed=seed,
        folds=folds,
        shares=shares,
        sites=covariates.get("site"),
        resolution=covariates.get("mpp"),
        min_per_class=min_per_class,
    )
    meta = {**plan.meta, "manifest_sha256": manifest.sha256}
    return SplitPlan(plan.table, plan.imbalance, plan.shortfalls, meta)


def _check(labels: pd.DataFrame, scheme: Scheme, folds: int, shares: Shares, sites: "pd.Series[str] | None") -> None:
    problems = []
    if not len(labels) or not len(labels.columns):
        problems.append(Problem("patients", "patients with a known label", "none", "Name a target that is labelled."))
    if scheme == "holdout":
        parts = (shares.train, shares.validation, shares.test)
        if min(parts) <= 0 or abs(sum(parts) - 1) > 1e-9:
            got = ", ".join(f"{part:g}" for part in parts)
            problems.append(Problem("shares", "three positive shares that sum to 1", got, "Correct the shares."))
    elif not 3 <= folds <= MAX_FOLDS:
        remedy = "Each fold needs a block to test on, one to validate on and one to train on."
        problems.append(Problem("folds", f"3 to {MAX_FOLDS} folds", str(folds), remedy))
    if scheme == "site-preserved":
        if sites is None:
            remedy = "Add the column, or choose --scheme kfold."
            problems.append(Problem("scheme site-preserved", "a column `site` in the manifest", "none", remedy))
        else:
            unknown = [str(patient) for patient in labels.index[sites.reindex(labels.index).fillna("") == ""]]
            if unknown:
                got = f"{len(unknown)} without: {', '.join(unknown[:10])}" + (", ..." if len(unknown) > 10 else "")
                remedy = "Fill in the site, exclude the rows, or choose --scheme kfold."
                problems.append(Problem("scheme site-preserved", "the site of every patient", got, remedy))
            number = sites.reindex(labels.index).nunique()
            if number < folds:
                remedy = "Ask for fewer folds, or choose --scheme kfold."
                problems.append(Problem("scheme site-preserved", f"at least {folds} sites", str(number), remedy))
    if problems:
        raise SplitError(problems)


def _check_classes(labels: pd.DataFrame) -> None:
    counts = {target: (int((labels[target] == 1).sum()), int((labels[target] == 0).sum())) for target in labels.columns}
    single = {target: both for target, both in counts.items() if not min(both)}
    if single:
        remedy = "Nothing of it can be estimated in this cohort: leave it out."
        raise SplitError(
            Problem(f"target {target}", "patients of both classes", f"{ones} positive, {zeros} negative", remedy)
            for target, (ones, zeros) in single.items()
        )


def _check_filled(blocks: NDArray[np.intp], names: list[str]) -> None:
    sizes = np.bincount(blocks, minlength=len(names))
    empty = [name for name, size in zip(names, sizes, strict=True) if not size]
    if empty:
        got = f"none for block {', '.join(empty)}"
        raise SplitError(Problem("patients", "patients for every block", got, "Ask for fewer folds, or add patients."))


def _categories(
    labels: pd.DataFrame,
    sites: "pd.Series[str] | None",
    resolution: "pd.Series[str] | None",
    min_per_class: int,
) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Indicators (patients, C), their weights (C,), the minima (C,) and the kind of each patient (patients,)."""
    letters = labels.map(lambda label: "?" if np.isnan(label) else f"{label:.0f}")
    columns: dict[str, NDArray[np.float64]] = {"patients": np.ones(len(labels))}
    importance = {"patients": 0.5}
    least = {"patients": 0.0}

    def add(prefix: str, text: "pd.Series[str]", weight: float, minimum: int = 0) -> None:
        for level in sorted(set(text)):
            name = f"{prefix}={level}"
            columns[name] = np.asarray(text == level, dtype=np.float64)
            importance[name] = weight
            least[name] = float(minimum if level in ("0", "1") else 0)

    for target in labels.columns:
        add(target, letters[target], 0.3, min_per_class)
    pattern = letters.agg("".join, axis=1)
    strata = [pattern]
    if len(labels.columns) > 1:
        add("labels", pattern, 1.0)
    if sites is not None:
        at = sites.reindex(labels.index).fillna("")
        size = at.map(at.value_counts())
        site_size = size.map(lambda count: next((name for limit, name in _SITE_SIZES if count < limit), _LARGE_SITE))
        site_size[at == ""] = "unknown site"
        add("site size", site_size, 0.1)
        strata.append(site_size)
    if resolution is not None:
        scan = resolution.reindex(labels.index).fillna("").replace("", "unknown")
        add("resolution", scan, 0.1)
        strata.append(scan)
    table = pd.DataFrame(columns, index=labels.index)
    total = table.sum(axis=0).to_numpy(dtype=np.float64)
    # one patient too many weighs more in a rare category; the exponent and the importances were chosen by the drift of
    # joint prevalence that tests/benchmarks/splits.py measures
    weights = np.array([importance[name] for name in table.columns]) / (total / len(table)) ** 0.3
    joined = ["|".join(cells) for cells in zip(*strata, strict=True)]
    kinds = np.unique(np.array(joined), return_inverse=True)[1].astype(np.intp)
    return table, weights, np.array([least[name] for name in table.columns]), kinds


def _is_class(category: str, labels: pd.DataFrame) -> bool:
    target, _, level = category.rpartition("=")
    return target in labels.columns and level in ("0", "1")


def _imbalance(aim: Aim, blocks: NDArray[np.intp], categories: list[str], names: list[str]) -> pd.DataFrame:
    held = held_by_blocks(aim, blocks)
    total = aim.counts.sum(axis=0)
    everyone = categories.index("patients")
    records = [
        {
            "block": name,
            "category": category,
            "patients": int(held[block, at]),
            "expected": round(float(aim.wanted[at, block]), 3),
            "deviation": float(held[block, at] / held[block, everyone] - total[at] / total[everyone]),
        }
        for block, name in enumerate(names)
        for at, category in enumerate(categories)
    ]
    return pd.DataFrame.from_records(records)


def _largest(imbalance: pd.DataFrame, labels: pd.DataFrame) -> dict[str, float]:
    """By target: the largest difference between a block's prevalence (among known labels) and the cohort's."""
    largest = {}
    held = imbalance.pivot_table(index="block", columns="category", values="patients", aggfunc="sum")
    for target in labels.columns:
        zeros, ones = (held.get(f"{target}={level}", pd.Series(0, index=held.index)) for level in (0, 1))
        known = (zeros + ones).where(zeros + ones > 0)
        overall = float(ones.sum()) / max(float((zeros + ones).sum()), 1.0)
        worst = float((ones / known - overall).abs().max())
        if not np.isnan(worst):
            largest[str(target)] = round(worst, 4)
    return largest


def _table(patients: pd.Index, blocks: NDArray[np.intp], scheme: Scheme, folds: int) -> pd.DataFrame:
    tables = []
    if scheme == "holdout":
        parts = np.array(["train", "validation", "test"])[blocks]
        tables.append(pd.DataFrame({"patient_id": patients, "fold": 0, "split": parts}))
    else:
        for fold in range(folds):
            parts = np.where(blocks == fold, "test", np.where(blocks == (fold + 1) % folds, "validation", "train"))
            tables.append(pd.DataFrame({"patient_id": patients, "fold": fold, "split": parts}))
    return pd.concat(tables, ignore_index=True)
