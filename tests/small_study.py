"""A study that takes seconds: twelve synthetic slides, two arms, two folds, a tiny backbone of random weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import torch
from safetensors.torch import save_file

from tapfm_eval import preparation, reporting, study
from tapfm_eval.backbones.cards import CARDS, BackboneCard
from tapfm_eval.backbones.load import build_backbone
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.preparation import RunOptions
from tapfm_eval.rehearsal.synthetic import write_slide
from tapfm_eval.rundir import sha256_file
from tapfm_eval.verification import verify

DEVELOPMENT, EXTERNAL = 8, 4
PROTOCOL = """
format: tapfm-eval/protocol/1
id: brief
version: 1.0.0
title: A brief study
intended_use: A test of the software.
seeds: [1]
cohorts:
  here: {role: development, manifest: here.csv, split: split.csv}
  there: {role: external, manifest: there.csv}
targets: {GENE: {}}
arms:
  - {id: tapfm, backbone: tiny, aggregator: tapfm, adapt: {last_blocks: 1}, tiles_per_slide: 3}
  - {id: abmil, backbone: tiny, aggregator: abmil, adapt: frozen}
training: {epochs: 2, lr_backbone: 1.0e-4, lr_aggregator: 1.0e-3, micro_batch: 2, drop_path: 0.1}
selection: {min_per_class: 1}
analysis:
  primary: {target: GENE, cohort: there, arm: tapfm, versus: abmil}
failures: {policy: exclude, max_share: 0.3}
"""
FOLDS = (("train", "train", "train", "train", "validation", "validation", "test", "test"),
         ("test", "test", "train", "train", "train", "train", "validation", "validation"))  # fmt: skip
Patch = Callable[[object, str, object], None]


def tiny_card() -> BackboneCard:
    """A real timm network, small enough for a test, that keeps UNI's input."""
    arguments = {"img_size": 224, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3, "init_values": 1e-1}
    return replace(
        CARDS["uni"], name="tiny", title="Tiny ViT", architecture="vit_tiny_patch16_224",
        timm_arguments=MappingProxyType(arguments), dim=48, depth=2, heads=3, parameters=0,
    )  # fmt: skip


def know_tiny(patch: Patch = setattr) -> None:
    """Lets the suite know the tiny backbone and no other."""
    for module in (preparation, reporting, study, verify):
        patch(module, "CARDS", {"tiny": tiny_card()})


def small_study(folder: Path) -> tuple[Path, RunOptions]:
    """Writes slides, manifests, split, weights and protocol; returns the protocol and the options to run it."""
    rows = {"here": ["patient_id,slide_id,path,GENE"], "there": ["patient_id,slide_id,path,GENE"]}
    for i in range(DEVELOPMENT + EXTERNAL):
        cohort = "here" if i < DEVELOPMENT else "there"
        path = folder / cohort / f"slide{i}.svs"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_slide(path, seed=7, slide_id=f"slide{i}", mpp=0.5, effects={}, tissue_tiles=4)
        rows[cohort].append(f"P{i},slide{i},slide{i}.svs,{i % 2}")
    for cohort, lines in rows.items():
        (folder / f"{cohort}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = pd.DataFrame(
        [(f"P{i}", fold, part) for fold, parts in enumerate(FOLDS) for i, part in enumerate(parts)],
        columns=["patient_id", "fold", "split"],
    )
    write_split(folder / "split.csv", table, {"scheme": "own", "manifest_sha256": sha256_file(folder / "here.csv")})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_file(dict(build_backbone(tiny_card()).state_dict()), str(folder / "tiny.safetensors"))
    (folder / "brief.yaml").write_text(PROTOCOL, encoding="utf-8")
    return folder / "brief.yaml", brief_options(folder)


def brief_options(folder: Path) -> RunOptions:
    """How the study in this folder is run: a checkpoint after every slide."""
    return RunOptions(
        slides={name: folder / name for name in ("here", "there")}, weights={"tiny": folder / "tiny.safetensors"},
        out=folder / "reports", device="cpu", workers=0, checkpoint_slides=1,
    )  # fmt: skip
