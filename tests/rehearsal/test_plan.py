"""A rehearsal's plan borrows real patients and labels, adds a null target, shortens arms, and loads like any study."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapfm_eval.cohort.load import Cohort, load_cohorts
from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.errors import ProtocolError
from tapfm_eval.protocol.schema import NEGATIVE_CONTROL, LastBlocks, Lora, Protocol
from tapfm_eval.rehearsal.plan import (
    EPOCHS,
    EPOCHS_FROZEN,
    MAX_SLIDES_PER_PATIENT,
    MICRO_BATCH,
    TILES_PER_SLIDE,
    RehearsalPlan,
    plan_rehearsal,
)
from tapfm_eval.rehearsal.planting import EFFECTS, plant
from tapfm_eval.rehearsal.sample import MIN_PER_CLASS

PLANTED = {"EGFR": 0.95, "KRAS": 0.9}


def make_protocol(**changes: Any) -> Protocol:
    return Protocol.model_validate(
        {
            "format": "tapfm-eval/protocol/1", "id": "p", "version": "1.0.0", "title": "t", "intended_use": "u",
            "seeds": [1],
            "cohorts": {"dev": {"role": "development", "manifest": "dev.csv", "split": "split.csv"},
                        "ext": {"role": "external", "manifest": "ext.csv"}},
            "targets": {"EGFR": {"columns": {"ext": "EGFR_driver"}}, "KRAS": {}, "RARE": {}},
            "arms": [
                {"id": "full", "backbone": "uni", "aggregator": "tapfm", "adapt": "full", "tiles_per_slide": 300},
                {"id": "lora", "backbone": "uni", "aggregator": "tapfm", "adapt": {"lora": {"rank": 8}},
                 "training": {"label_smoothing": 0.2, "epochs": 77}},
                {"id": "last", "backbone": "uni", "aggregator": "abmil", "adapt": {"last_blocks": 2},
                 "tiles_per_slide": 3},
                {"id": "frozen", "backbone": "uni", "aggregator": "abmil", "adapt": "frozen", "tiles_per_slide": 50},
            ],
            "rehearsal": {"train": 40, "validation": 16, "test": 20, "external": 40, "planted": PLANTED},
            **changes,
        }
    )  # fmt: skip


@pytest.fixture
def real(tmp_path: Path) -> Callable[[Protocol], dict[str, Cohort]]:
    """Two cohorts as they come: unnamed slides, patients with several, unknown labels, covariates."""
    rng = np.random.default_rng(0)
    for name, count, columns in (("dev", 220, "EGFR,KRAS,RARE"), ("ext", 120, "EGFR_driver,KRAS")):
        rows = [f"patient_id,slide_id,path,mpp,sex,{columns}"]
        for i in range(count):
            egfr, kras = ("" if rng.random() < 0.1 else int(rng.random() < p) for p in (0.3, 0.4))
            labels = f"{egfr},{kras}" + (f",{int(i == 0)}" if name == "dev" else "")
            for j in range(1 + i % 4):
                slide = "" if i % 4 == 0 and i % 8 else f"{name}{i:03d}-{j}"
                rows.append(f"{name}{i:03d},{slide},,0.25,{'mf'[i % 2]},{labels}")
        (tmp_path / f"{name}.csv").write_text("\n".join(rows) + "\n")
    parts = ["train"] * 3 + ["validation", "test"]
    lines = [f"dev{i:03d},{fold},{parts[(i + fold) % 5]}" for fold in (0, 1) for i in range(220)]
    head = json.dumps({"scheme": "kfold", "manifest_sha256": read_manifest(tmp_path / "dev.csv", "dev").sha256})
    (tmp_path / "split.csv").write_text("\n".join([f"# tapfm-eval/split/1 {head}", "patient_id,fold,split", *lines]))
    return lambda protocol: load_cohorts(protocol, tmp_path)


@pytest.fixture
def cohorts(real: Callable[[Protocol], dict[str, Cohort]]) -> dict[str, Cohort]:
    return real(make_protocol())


@pytest.fixture
def plan(cohorts: dict[str, Cohort], tmp_path: Path) -> RehearsalPlan:
    return plan_rehearsal(make_protocol(), cohorts, tmp_path / "rehearsal")


def test_the_planned_study_loads_with_the_sizes_asked_for(plan: RehearsalPlan) -> None:
    loaded = load_cohorts(plan.protocol, plan.inputs)
    split = loaded["dev"].split
    assert split is not None
    assert split.folds == (0,)
    assert [len(split.patients(0, part)) for part in ("train", "validation", "test")] == [40, 16, 20]
    assert len(loaded["ext"].patients) == 40
    assert all(cohort.unlinked == () for cohort in loaded.values())
    assert all(cohort.exclusions == () for cohort in loaded.values())


def test_patients_labels_and_covariates_are_the_real_ones(plan: RehearsalPlan, cohorts: dict[str, Cohort]) -> None:
    for name, cohort in load_cohorts(plan.protocol, plan.inputs).items():
        real = cohorts[name]
        for target in ("EGFR", "KRAS", "RARE"):
            ours, theirs = cohort.labels[target], real.labels[target].loc[list(cohort.patients)]
            assert np.array_equal(ours.to_numpy(), theirs.to_numpy(), equal_nan=True)
        assert cohort.covariates["sex"].tolist() == real.covariates["sex"].loc[list(cohort.patients)].tolist()
        if real.split is not None and cohort.split is not None:
            for part in ("train", "validation", "test"):
                assert set(cohort.split.patients(0, part)) <= set(real.split.patients(0, part))


def test_every_planted_target_has_both_classes_in_every_part(plan: RehearsalPlan) -> None:
    loaded = load_cohorts(plan.protocol, plan.inputs)
    split = loaded["dev"].split
    assert split is not None
    parts = {part: loaded["dev"].labels.loc[list(split.patients(0, part))] for part in ("train", "validation", "test")}
    for part, labels in {**parts, "external": loaded["ext"].labels}.items():
        for target in PLANTED:
            assert min((labels[target] == 1).sum(), (labels[target] == 0).sum()) >= MIN_PER_CLASS[part]


def test_the_null_target_is_permuted_within_cohort_and_part(plan: RehearsalPlan) -> None:
    loaded = load_cohorts(plan.protocol, plan.inputs)
    split = loaded["dev"].split
    assert split is not None
    parts = [loaded["dev"].labels.loc[list(split.patients(0, part))] for part in ("train", "validation", "test")]
    differing = 0
    for labels in (*parts, loaded["ext"].labels):
        null, egfr = labels[NEGATIVE_CONTROL].to_numpy(), labels["EGFR"].to_numpy()
        assert sorted(map(str, null)) == sorted(map(str, egfr))
        differing += int((np.nan_to_num(null, nan=2) != np.nan_to_num(egfr, nan=2)).sum())
    assert differing > 20


def test_slides_carry_what_is_planted_and_nothing_for_the_null_target(
    plan: RehearsalPlan, cohorts: dict[str, Cohort]
) -> None:
    loaded = load_cohorts(plan.protocol, plan.inputs)
    slides = {row.slide_id: (name, row) for name, c in loaded.items() for row in c.slides.itertuples()}
    assert {job.slide_id for job in plan.jobs} == set(slides)
    strengths = {}
    for name, c in loaded.items():
        split = None if c.split is None else dict(zip(c.split.table["patient_id"], c.split.table["split"], strict=True))
        parts: dict[str, list[str]] = {}
        for patient in c.patients:
            parts.setdefault("external" if split is None else split[patient], []).append(patient)
        for members in parts.values():
            known = cohorts[name].labels.loc[members, list(PLANTED)]
            labels = {
                p: {t: None if np.isnan(known.at[p, t]) else int(known.at[p, t]) for t in PLANTED} for p in members
            }
            strengths |= plant(labels, PLANTED, seed=1)
    for job in plan.jobs:
        name, row = slides[job.slide_id]
        assert job.path == plan.slides[name] / row.path
        assert job.mpp == row.mpp
        assert job.effects == strengths[row.patient_id]
        assert set(job.effects) == set(EFFECTS[: len(PLANTED)])
    assert {job.mpp for job in plan.jobs} == {0.25, 0.5}


def test_a_patient_keeps_a_few_slides_and_an_unnamed_one_gets_a_name(plan: RehearsalPlan) -> None:
    counts = {p: n for c in load_cohorts(plan.protocol, plan.inputs).values()
              for p, n in c.slides.groupby("patient_id").size().items()}  # fmt: skip
    assert set(counts.values()) == {1, MAX_SLIDES_PER_PATIENT}
    named = {job.slide_id for job in plan.jobs}
    assert any(slide.endswith("-rehearsal") for slide in named)
    assert len(named) == len(plan.jobs)


def test_arms_are_shortened_and_keep_the_rest(plan: RehearsalPlan) -> None:
    arms = {arm.id: arm for arm in plan.protocol.arms}
    assert {name: arm.training.epochs for name, arm in arms.items()} == {
        "full": EPOCHS, "lora": EPOCHS, "last": EPOCHS, "frozen": EPOCHS_FROZEN,
    }  # fmt: skip
    assert {name: arm.tiles_per_slide for name, arm in arms.items()} == {
        "full": TILES_PER_SLIDE, "lora": TILES_PER_SLIDE, "last": 3, "frozen": None,
    }  # fmt: skip
    assert MICRO_BATCH < TILES_PER_SLIDE, "else the two-pass step is not rehearsed"
    assert arms["lora"].training.label_smoothing == 0.2
    assert isinstance(arms["lora"].adapt, Lora)
    assert isinstance(arms["last"].adapt, LastBlocks)
    assert [(a.backbone, a.aggregator) for a in plan.protocol.arms] == [
        (a.backbone, a.aggregator) for a in make_protocol().arms
    ]


def test_the_study_keeps_its_targets_analysis_and_seeds(plan: RehearsalPlan) -> None:
    protocol = make_protocol()
    assert list(plan.protocol.targets) == [*protocol.targets, NEGATIVE_CONTROL]
    for name in ("analysis", "seeds", "selection", "tiles", "failures", "rehearsal", "id", "version"):
        assert getattr(plan.protocol, name) == getattr(protocol, name)


def test_the_same_protocol_gives_the_same_files(cohorts: dict[str, Cohort], tmp_path: Path) -> None:
    def content(root: Path) -> dict[str, bytes]:
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}

    one, two = tmp_path / "one", tmp_path / "two"
    plan_rehearsal(make_protocol(), cohorts, one)
    plan_rehearsal(make_protocol(), cohorts, two)
    assert content(one) == content(two)
    assert set(content(one)) == {"dev/manifest.csv", "dev/split.csv", "ext/manifest.csv"}
    three = tmp_path / "three"
    plan_rehearsal(make_protocol(seeds=[2]), cohorts, three)
    assert content(three) != content(one)


def test_what_cannot_be_rehearsed_is_refused_before_anything_is_written(
    real: Callable[[Protocol], dict[str, Cohort]], tmp_path: Path
) -> None:
    rare = {"rehearsal": {"train": 40, "validation": 16, "test": 20, "external": 40, "planted": {"RARE": 0.9}}}
    small = {"rehearsal": {"train": 10, "validation": 16, "test": 20, "external": 40, "planted": PLANTED}}
    for changes, said in ((rare, "rehearsal.train of dev: expected 13 patients with RARE = 1"),
                          (small, "rehearsal.train of dev: expected at least")):  # fmt: skip
        protocol = make_protocol(**changes)
        with pytest.raises(ProtocolError) as error:
            plan_rehearsal(protocol, real(protocol), tmp_path / "refused")
        assert said in str(error.value)
        assert not (tmp_path / "refused").exists()
