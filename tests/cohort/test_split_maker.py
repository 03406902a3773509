"""Splits are by patient, even in labels, the same for the same seed, and site-preserved when that is asked."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.cohort import balance
from tapfm_eval.cohort.balance import Aim, assign, held_by_blocks
from tapfm_eval.cohort.split_maker import Shares, make_split, split_manifest
from tapfm_eval.cohort.splits import read_split, write_split
from tapfm_eval.errors import SplitError


def random_cohort(seed, patients=60, sites=9, targets=2, missing=0.1):
    rng = np.random.default_rng(seed)
    index = pd.Index([f"p{number:04d}" for number in range(patients)], name="patient_id")
    labels = (rng.random((patients, targets)) < rng.uniform(0.1, 0.5, targets)).astype(float)
    labels[rng.random(labels.shape) < missing] = np.nan
    site = np.concatenate([np.arange(sites), rng.integers(0, sites, patients - sites) ** 2 % sites])
    resolution = rng.choice(["0.25", "0.5", ""], patients)
    return (
        pd.DataFrame(labels, index=index, columns=[f"T{number}" for number in range(targets)]),
        pd.Series([f"s{number}" for number in site], index=index),
        pd.Series(resolution, index=index),
    )


@pytest.fixture
def quick(monkeypatch):
    """Fewer nodes and rounds: these tests are about what holds for any answer."""
    monkeypatch.setattr(balance, "_NODES", 2)
    monkeypatch.setattr(balance, "_ROUNDS", 10)


@settings(max_examples=12, derandomize=True, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["holdout", "kfold", "site-preserved"]), st.integers(3, 5))
def test_every_patient_has_one_part_a_fold_and_no_site_lies_on_two_sides(seed, scheme, folds):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(balance, "_NODES", 2)
        patch.setattr(balance, "_ROUNDS", 10)
        labels, sites, resolution = random_cohort(seed)
        arguments = {"scheme": scheme, "seed": seed, "folds": folds, "sites": sites, "resolution": resolution}
        plan = make_split(labels, **arguments)
        shuffled = make_split(labels.sample(frac=1, random_state=seed), **arguments)
    pd.testing.assert_frame_equal(plan.table, shuffled.table)  # row order never matters
    number = 1 if scheme == "holdout" else folds
    assert not plan.table.duplicated(["patient_id", "fold"]).any()
    for fold in range(number):
        rows = plan.table[plan.table["fold"] == fold]
        assert set(rows["patient_id"]) == set(labels.index)
        assert set(rows["split"]) == {"train", "validation", "test"}
        if scheme == "site-preserved":
            sides = rows.groupby(sites.loc[rows["patient_id"]].to_numpy())["split"].nunique()
            assert sides.max() == 1
    if scheme != "holdout":
        tested = plan.table[plan.table["split"] == "test"]["patient_id"]
        assert sorted(tested) == sorted(labels.index)


def test_validation_is_the_next_block(quick):
    labels, sites, _ = random_cohort(3)
    table = make_split(labels, scheme="site-preserved", seed=3, folds=4, sites=sites).table
    for fold in range(4):
        part = lambda number, name: set(  # noqa: E731
            table[(table["fold"] == number) & (table["split"] == name)]["patient_id"]
        )
        assert part(fold, "validation") == part((fold + 1) % 4, "test")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, manifest_of):
    labels, sites, _ = random_cohort(5, missing=0.0)
    rows = [f"{p},{p}-1,{sites[p]},{labels.loc[p, 'T0']:.0f}\n" for p in labels.index]
    manifest = manifest_of("patient_id,slide_id,site,T0\n" + "".join(rows))
    written = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        plan = split_manifest(manifest, {"T0": "T0"}, scheme="kfold", seed=seed)
        write_split(tmp_path / name, plan.table, plan.meta)
        assert read_split(tmp_path / name, manifest).seed == seed
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert written[0].splitlines()[2:] != written[2].splitlines()[2:]


@pytest.mark.parametrize("scheme", ["kfold", "holdout"])
def test_rare_classes_are_spread_evenly_over_patients(scheme):
    labels, sites, resolution = random_cohort(7, patients=400, targets=4)
    labels["rare"] = 0.0
    labels.iloc[:15, -1] = 1.0
    plan = make_split(labels, scheme=scheme, seed=1, sites=sites, resolution=resolution, shares=Shares(0.6, 0.2, 0.2))
    counts = plan.imbalance[plan.imbalance["category"] == "rare=1"]
    assert (counts["patients"] - counts["expected"]).abs().max() < 1.01
    assert not plan.shortfalls
    targets = plan.imbalance[plan.imbalance["category"].str.match(r"T\d=1")]
    assert targets["deviation"].abs().max() < 0.02


def test_shares_of_a_holdout_are_kept():
    labels, _, _ = random_cohort(8, patients=200)
    table = make_split(labels, scheme="holdout", seed=1, shares=Shares(0.7, 0.1, 0.2)).table
    sizes = table["split"].value_counts()
    assert abs(sizes["train"] - 140) <= 2
    assert abs(sizes["validation"] - 20) <= 2


def test_site_preserved_blocks_reach_the_best_assignment_that_exists():
    """The slow twin tries all 3^7 assignments of 7 sites to 3 blocks."""
    rng = np.random.default_rng(0)
    for seed in range(5):
        counts = rng.integers(0, 12, (7, 4)).astype(float)
        aim = Aim(counts, np.array([4.0, 1.0, 1.0, 2.0]), np.array([0.0, 3.0, 0.0, 0.0]), np.full(3, 1 / 3))
        every_block = np.arange(3)
        cost = lambda blocks: float(aim.cost(held_by_blocks(aim, np.array(blocks)), every_block).sum())  # noqa: E731, B023
        best = min(map(cost, itertools.product(range(3), repeat=7)))
        assert cost(assign(aim, np.random.default_rng(seed))) == pytest.approx(best)


def test_the_programme_alone_finds_the_best_assignment():
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 12, (6, 3)).astype(float)
    aim = Aim(counts, np.array([4.0, 1.0, 1.0]), np.array([0.0, 2.0, 0.0]), np.array([0.5, 0.3, 0.2]))
    every_block = np.arange(3)
    cost = lambda blocks: float(aim.cost(held_by_blocks(aim, np.array(blocks)), every_block).sum())  # noqa: E731
    (found,) = balance._programme(aim, np.arange(6))
    best = min(map(cost, itertools.product(range(3), repeat=6)))
    assert cost(found) <= best * 1.02  # the solver stops within 1 % of the optimum


def test_what_remains_uneven_is_reported(quick):
    labels, sites, _ = random_cohort(9)
    labels["rare"] = np.nan
    labels.iloc[0, -1] = 1.0
    plan = make_split(labels, scheme="site-preserved", seed=1, sites=sites)
    assert any("of rare=1, fewer than 3" in text for text in plan.shortfalls)
    total = plan.imbalance[plan.imbalance["category"] == "patients"]["patients"].sum()
    assert total == len(labels)
    assert set(plan.meta["largest_prevalence_difference"]) == {"T0", "T1", "rare"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"scheme": "kfold", "folds": 2}, "3 to 1000 folds"),
        ({"scheme": "holdout", "shares": Shares(0.5, 0.5, 0.5)}, "sum to 1"),
        ({"scheme": "holdout", "shares": Shares(1.0, 0.0, 0.0)}, "positive shares"),
        ({"scheme": "site-preserved"}, "a column `site`"),
        ({"scheme": "kfold", "folds": 100}, "patients for every block"),
        ({"scheme": "site-preserved", "folds": 10, "sites": True}, "at least 10 sites"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_remedy(arguments, expected):
    labels, sites, _ = random_cohort(1)
    if "sites" in arguments:
        arguments = {**arguments, "sites": sites}
    with pytest.raises(SplitError, match=expected):
        make_split(labels, seed=1, **arguments)


def test_a_patient_without_a_site_cannot_be_site_preserved():
    labels, sites, _ = random_cohort(1)
    sites.iloc[4] = ""
    with pytest.raises(SplitError, match="p0004"):
        make_split(labels, scheme="site-preserved", seed=1, sites=sites)
