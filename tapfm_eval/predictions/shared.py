"""Whom all arms scored: arms are compared on the patients they share, and those they do not are counted."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, slots=True)
class Sharing:
    """Patients of one arm on one target in one part, and how many of them every arm scored."""

    cohort: str
    split: str
    target: str
    arm: str
    scored: int  # patients that the arm scored
    shared: int  # of these, scored by every arm (and by all models of each arm): they are analysed
    labelled: int  # of the shared, with a known label

    @property
    def left_out(self) -> int:
        """Patients that the arm scored and another did not."""
        return self.scored - self.shared


def shared_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of patients that every model of every arm scored.

    Test and validation patients are shared within their fold: scores of different fold models are never compared. Where
    the models were split differently (one of them into no folds), `fold` is numbered anew, so that patients of one fold
    are patients of one fold of every model. On external patients every seed and fold of every arm must have scored the
    patient, or its average would be of fewer models than another's.
    """
    used = table[table["split"] != "train"]
    if used.empty:
        return used
    used = used.assign(fold=joint_folds(used))
    external = used["split"] == "external"
    place = used["fold"].where(~external, -1)
    model = used["arm"] + "|" + used["seed"].astype(str) + "|" + used["fold"].astype(str).where(external, "")
    keyed = used.assign(_place=place, _model=model)
    # a part is judged by all arms of the table, whether or not they have it
    arms = set(table["arm"])
    units: dict[tuple[str, bool], int] = {}
    for is_external, part in keyed.groupby(external):
        for cohort, rows in part.groupby("cohort"):
            found = {arm: rows.loc[rows["arm"] == arm, "_model"].nunique() for arm in arms}
            # an arm without the part can share nothing: one model more than exist
            units[str(cohort), bool(is_external)] = sum(max(1, number) for number in found.values())
    keys = ["cohort", "split", "_place", "patient_id", "target"]
    counts = keyed.groupby(keys)["_model"].transform("nunique")
    needed = pd.Series(
        [units[cohort, out] for cohort, out in zip(keyed["cohort"], external, strict=True)], index=keyed.index
    )
    return used[counts == needed]


def joint_folds(table: pd.DataFrame) -> pd.Series:
    """The fold within which each row is compared: its own, or, where models were split differently, of all of them.

    Two patients of a part are in one joint fold where every model has them in one fold; joint folds are numbered from 0
    in the order of the models' folds. Patients whom a model lacks keep their fold: they are not shared. A part in
    which a model has a patient in several folds (validation patients drawn anew in each) keeps its folds.
    """
    found = table["fold"].copy()
    models = table["arm"] + "|" + table["seed"].astype(str)
    apart = table[table["split"].isin(["test", "validation"])].assign(_model=models)
    for _, rows in apart.groupby(["cohort", "split"], sort=True):
        placed = rows[["patient_id", "_model", "fold"]].drop_duplicates()
        if placed.duplicated(["patient_id", "_model"]).any():
            continue
        if not placed.groupby("patient_id")["fold"].nunique().gt(1).any():
            continue
        folds = placed.pivot(index="patient_id", columns="_model", values="fold").dropna()
        joint = folds.groupby(list(folds.columns), sort=True).ngroup()
        found.loc[rows.index] = rows["patient_id"].map(joint).fillna(rows["fold"]).astype("int64")
    return found


def count_sharing(table: pd.DataFrame, shared: pd.DataFrame) -> tuple[Sharing, ...]:
    """For each part, target and arm: patients scored, shared, and labelled."""
    found = []
    used = table[table["split"] != "train"]
    for (cohort, split, target, arm), rows in used.groupby(["cohort", "split", "target", "arm"], sort=True):
        kept = shared[
            (shared["cohort"] == cohort) & (shared["split"] == split) & (shared["target"] == target)
            & (shared["arm"] == arm)
        ]  # fmt: skip
        found.append(
            Sharing(
                str(cohort), str(split), str(target), str(arm), rows["patient_id"].nunique(),
                kept["patient_id"].nunique(), kept.loc[kept["label"].notna(), "patient_id"].nunique(),
            )
        )  # fmt: skip
    return tuple(found)
