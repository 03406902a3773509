"""A finished run in miniature, on disk, made without torch: real manifests, split, units, analysis and report."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.load import load_cohorts
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.predictions.table import predictions_csv, predictions_frame
from tapfm_eval.protocol.load import protocol_sha256, protocol_yaml, read_protocol
from tapfm_eval.provenance import provenance
from tapfm_eval.reporting import write_analysis
from tapfm_eval.rundir import RunFolder, sha256_file, write_json, write_text

PROTOCOL = """
format: tapfm-eval/protocol/1
id: small
version: 1.0.0
title: A small study
intended_use: A test of the software.
seeds: [1]
cohorts:
  dev: {role: development, manifest: dev/manifest.csv, split: dev/split.csv}
  ext: {role: external, manifest: ext/manifest.csv}
targets: {EGFR: {}, KRAS: {}}
arms:
  - {id: tapfm, backbone: uni, aggregator: tapfm, adapt: full, tiles_per_slide: 3}
  - {id: abmil, backbone: uni, aggregator: abmil, adapt: frozen}
analysis:
  primary: {target: EGFR, cohort: ext, arm: tapfm, versus: abmil}
  families: [{name: arms, comparisons: all_pairs}]
  operating_points: [{at_sensitivity: 0.9}, youden]
  subgroups: [sex]
"""
PARTS = ("train", "validation", "test")


def finished_run(root: Path, *, patients: int = 60, shift: float = 1.5) -> Path:
    """Writes the folder of a finished run with two arms and two folds; returns it."""
    rng = np.random.default_rng(5)
    labels: dict[str, dict[str, tuple[int | None, int]]] = {}
    for cohort, prefix in (("dev", "D"), ("ext", "E")):
        drawn = rng.integers(0, 2, (patients, 2))
        labels[cohort] = {
            f"{prefix}{i:03d}": (None if i == 7 else int(drawn[i, 0]), int(drawn[i, 1])) for i in range(patients)
        }
        lines = ["patient_id,slide_id,path,EGFR,KRAS,sex"]
        lines += [
            f"{p},{p}-1,{p}.svs,{'' if egfr is None else egfr},{kras},{'mf'[i % 2]}"
            for i, (p, (egfr, kras)) in enumerate(labels[cohort].items())
        ]
        write_text(root / "inputs" / cohort / "manifest.csv", "\n".join(lines) + "\n")
    split = [(p, fold, PARTS[(i + fold) % 3]) for fold in (0, 1) for i, p in enumerate(labels["dev"])]
    digest = sha256_file(root / "inputs" / "dev" / "manifest.csv")
    table = pd.DataFrame(split, columns=["patient_id", "fold", "split"])
    write_split(root / "inputs" / "dev" / "split.csv", table, {"scheme": "own", "manifest_sha256": digest})
    write_text(root / "protocol.yaml", PROTOCOL)
    protocol = read_protocol(root / "protocol.yaml", backbones=CARDS)
    write_text(root / "protocol.yaml", protocol_yaml(protocol))
    cohorts = load_cohorts(protocol, root / "inputs")
    tables = []
    for arm in ("tapfm", "abmil"):
        for fold in (0, 1):
            wanted = [("dev", part, p) for p, f, part in split if f == fold and part != "train"]
            wanted += [("ext", "external", p) for p in labels["ext"]]
            for name, parts in (("validation.csv", {"validation"}), ("predictions.csv", {"test", "external"})):
                rows = [
                    (arm, 1, fold, cohort, part, p, f"{p}-1", target, math.nan if y is None else float(y), score)
                    for cohort, part, p in wanted
                    if part in parts
                    for target, y in zip(("EGFR", "KRAS"), labels[cohort][p], strict=True)
                    for score in [_score(arm, fold, p, target, y, shift)]
                ]
                tables.append(predictions_frame(rows))
                write_text(unit(root, arm, fold) / name, predictions_csv(tables[-1]))
            chosen = {"arm": arm, "seed": 1, "fold": fold, "epochs": 1, "selected_epoch": 1, "validation_auroc": 0.7,
                      "metric_targets": ["EGFR", "KRAS"], "seconds": 1.0, "peak_memory_mb": 10.0,
                      "memory_of": "process"}  # fmt: skip
            write_text(unit(root, arm, fold) / "history.csv", "train_loss,validation_loss,validation_auroc\n1,1,0.7\n")
            write_json(unit(root, arm, fold) / "selection.json", chosen)
    combined = predictions_frame(list(pd.concat(tables).itertuples(index=False, name=None)))
    write_text(root / "predictions.csv", predictions_csv(combined))
    write_json(root / "failures.json", {"format": "tapfm-eval/failures/1", "failures": []})
    write_json(root / "audit.json", {"format": "tapfm-eval/audit/1", "findings": []})
    hashes = {"protocol": protocol_sha256(protocol), "split dev": sha256_file(root / "inputs" / "dev" / "split.csv")}
    hashes |= {f"manifest {name}": cohort.manifest.sha256 for name, cohort in cohorts.items()}
    write_json(root / "provenance.json", {
        "format": "tapfm-eval/provenance/1", "run_id": "0123456789ab", "protocol_sha256": hashes["protocol"],
        "planted": None, "sections": provenance(hashes, "cpu", "tapfm-eval run small.yaml", (1,)),
    })  # fmt: skip
    RunFolder(root).journal("started")
    write_analysis(root)
    return root


def unit(root: Path, arm: str, fold: int) -> Path:
    """Folder of one unit of the run."""
    return root / "arms" / arm / "seed-1" / f"fold-{fold}"


def _score(arm: str, fold: int, patient: str, target: str, label: int | None, shift: float) -> float:
    noise = np.random.default_rng([*f"{arm}{patient}{target}".encode(), fold]).standard_normal()
    effect = {"tapfm": shift, "abmil": 0.5}[arm] * ((label or 0) - 0.5)
    return 1 / (1 + math.exp(-(effect + noise)))


def edited(path: Path, old: str, new: str) -> None:
    """Replaces one text that occurs in a file."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {path.name}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def read_json(path: Path) -> dict[str, object]:
    """The content of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content
