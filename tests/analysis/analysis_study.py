"""A study in miniature, on disk, whose scores separate the classes by a known shift."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapfm_eval.analysis import analyse
from tapfm_eval.cohort.load import Cohort, load_cohorts
from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.predictions.table import predictions_frame
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import Results

Floats = NDArray[np.float64]
ARMS, TARGETS = ("a", "b", "c"), ("EGFR", "ALK")


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def make_protocol(**changes: Any) -> Protocol:
    content: dict[str, Any] = {
        "format": "tapfm-eval/protocol/1", "id": "p", "version": "1.0.0", "title": "t", "intended_use": "u",
        "seeds": [1, 2],
        "cohorts": {
            "dev": {"role": "development", "manifest": "dev.csv", "split": "split.csv"},
            "ext": {"role": "external", "manifest": "ext.csv"},
        },
        "targets": {target: {} for target in TARGETS},
        "arms": [{"id": arm, "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"} for arm in ARMS],
        "analysis": {
            "primary": {"target": "EGFR", "cohort": "ext", "arm": "a", "versus": "b"},
            "families": [{"name": "against a", "comparisons": {"all_against": "a"}},
                         {"name": "pairs", "comparisons": "all_pairs"}],
            "operating_points": [{"at_sensitivity": 0.9}, {"at_specificity": 0.9}, "youden"],
            "subgroups": ["sex", "age"],
        },
    }  # fmt: skip
    analysis = {**content["analysis"], **changes.pop("analysis", {})}
    return Protocol.model_validate({**content, **changes, "analysis": analysis})


class Study:
    """Two folds of development and an external cohort, with scores that separate the classes by a known shift."""

    def __init__(self, folder: Path, protocol: Protocol, *, external: int = 60, rare: int = 6) -> None:
        self.protocol = protocol
        rng = np.random.default_rng(3)
        self.labels = {
            "dev": self._labels(80, "D", rng, rare=20),
            "ext": self._labels(external, "E", rng, rare=rare),
        }
        for name in ("dev", "ext"):
            rows = [
                f"{p},{p}-1,{p}.svs,{'mf'[i % 2]},{40 + i % 30},{self._cell(y[0])},{self._cell(y[1])}"
                for i, (p, y) in enumerate(self.labels[name].items())
            ]
            header = "patient_id,slide_id,path,sex,age,EGFR,ALK"
            (folder / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
        patients = list(self.labels["dev"])
        self.parts = {  # fold -> part -> patients; test parts are disjoint
            0: {"test": patients[:20], "validation": patients[20:40], "train": patients[40:]},
            1: {"test": patients[60:], "validation": patients[40:60], "train": patients[:40]},
        }
        lines = [f"{p},{fold},{part}" for fold, parts in self.parts.items() for part, ps in parts.items() for p in ps]
        digest = read_manifest(folder / "dev.csv", "dev").sha256
        head = json.dumps({"scheme": "kfold", "seed": 1, "manifest_sha256": digest})
        (folder / "split.csv").write_text("\n".join([f"# tapfm-eval/split/1 {head}", "patient_id,fold,split", *lines]))
        self.cohorts: dict[str, Cohort] = load_cohorts(protocol, folder)

    @staticmethod
    def _labels(count: int, prefix: str, rng: np.random.Generator, rare: int) -> dict[str, Floats]:
        egfr = rng.permutation(np.arange(count) % 2).astype(float)
        alk = rng.permutation(np.arange(count) < rare).astype(float)
        egfr[:3] = np.nan
        alk[3] = np.nan
        return {f"{prefix}{i:03d}": np.array(row) for i, row in enumerate(zip(egfr, alk, strict=True))}

    @staticmethod
    def _cell(label: float) -> str:
        return "" if math.isnan(label) else str(int(label))

    def rows(self, shifts: Mapping[str, float] | None = None) -> Iterator[tuple[object, ...]]:
        shift_of = {"a": 3.0, "b": 1.0, "c": 0.0} if shifts is None else shifts
        for arm in ARMS:
            for seed in self.protocol.seeds:
                for fold, parts in self.parts.items():
                    where = [("dev", part, patients) for part, patients in parts.items() if part != "train"]
                    where.append(("ext", "external", list(self.labels["ext"])))
                    for cohort, part, patients in where:
                        for patient in patients:
                            for j, target in enumerate(TARGETS):
                                label = self.labels[cohort][patient][j]
                                key = [*f"{arm}{patient}{target}".encode(), seed, fold]
                                noise = np.random.default_rng(key).standard_normal()
                                score = expit(shift_of[arm] * (np.nan_to_num(label) - 0.5) + noise)
                                yield (arm, seed, fold, cohort, part, patient, f"{patient}-1", target, label, score)

    def predictions(self, shifts: Mapping[str, float] | None = None) -> pd.DataFrame:
        return predictions_frame(list(self.rows(shifts)))

    def results(self, predictions: pd.DataFrame | None = None) -> Results:
        return analyse(self.protocol, self.predictions() if predictions is None else predictions, self.cohorts, [])
