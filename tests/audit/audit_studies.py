"""A study on disk that an audit finds nothing wrong with, and ways to plant a fault in it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from tapfm_eval.audit.audit import audit_manifest, audit_subjects
from tapfm_eval.audit.findings import Finding
from tapfm_eval.audit.gather import gather_manifest, gather_study
from tapfm_eval.audit.slides import audit_slides
from tapfm_eval.backbones.cards import CARDS, BackboneCard
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.rundir import sha256_file

PROTOCOL: dict[str, Any] = {
    "format": "tapfm-eval/protocol/1",
    "id": "small",
    "version": "1.0.0",
    "title": "Small",
    "intended_use": "Research use.",
    "seeds": [1],
    "cohorts": {
        "ours": {"role": "development", "manifest": "ours.csv", "split": "split.csv"},
        "theirs": {"role": "external", "manifest": "theirs.csv"},
    },
    "targets": {"GENE": {}, "OTHER": {}},
    "arms": [{"id": "a", "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"}],
}

CLEAN_CARD = replace(
    CARDS["uni"],
    pretraining_cohorts=MappingProxyType({"*": "excluded"}),
    forbids_clinical_use=False,
    forbids_commercial_use=False,
)


def factorial(prefix: str, blocks: int = 3, replicates: int = 2) -> pd.DataFrame:
    """A cohort in which every two columns are independent, but for the site, which lies in one block.

    Columns: patient_id, slide_id, path, GENE, OTHER, site, sex, stage, age, mpp, block.
    """
    cells = product(range(blocks), range(2), range(2), range(2), range(2), range(2), range(2), range(replicates))
    rows = []
    for i, (block, gene, other, site, sex, stage, scan, _) in enumerate(cells):
        patient = f"{prefix}{i:04d}"
        rows.append(
            {
                "patient_id": patient,
                "slide_id": f"{patient}_1",
                "path": f"{patient}_1.svs",
                "GENE": str(gene),
                "OTHER": str(other),
                "site": f"{prefix}-site{2 * block + site}",
                "sex": ("female", "male")[sex],
                "stage": ("I", "II")[stage],
                "age": str(50 + (i * 7) % 31),
                "mpp": ("0.25", "0.5")[scan],
                "block": str(block),
            }
        )
    return pd.DataFrame(rows)


def three_folds(table: pd.DataFrame) -> pd.DataFrame:
    """Fold f tests on block f, validates on the next and trains on the third."""
    parts = ("test", "validation", "train")
    patients = table.drop_duplicates("patient_id")
    return pd.DataFrame(
        [
            (patient, fold, parts[(int(block) - fold) % 3])
            for fold in range(3)
            for patient, block in zip(patients["patient_id"], patients["block"], strict=True)
        ],
        columns=["patient_id", "fold", "split"],
    )


@dataclass
class Study:
    """A study that a test may spoil before it is audited."""

    folder: Path
    ours: pd.DataFrame = field(default_factory=lambda: factorial("P"))
    theirs: pd.DataFrame = field(default_factory=lambda: factorial("Q", blocks=1, replicates=4))
    split: pd.DataFrame | None = None  # None: three folds
    scheme: str = "site-preserved"
    protocol: dict[str, Any] = field(default_factory=dict)  # keys that replace those of PROTOCOL
    card: BackboneCard = CLEAN_CARD

    def write(self) -> Path:
        """Writes manifests and split; returns the folder."""
        self.ours.drop(columns="block").to_csv(self.folder / "ours.csv", index=False)
        self.theirs.drop(columns="block").to_csv(self.folder / "theirs.csv", index=False)
        split = three_folds(self.ours) if self.split is None else self.split
        meta = {"scheme": self.scheme, "seed": 1, "folds": 3, "manifest_sha256": sha256_file(self.folder / "ours.csv")}
        write_split(self.folder / "split.csv", split, meta)
        return self.folder

    def audit(self, slides: dict[str, Path] | None = None) -> tuple[Finding, ...]:
        """All findings about the study."""
        folder = self.write()
        protocol = Protocol.model_validate({**PROTOCOL, **self.protocol})
        cards = {arm.backbone: self.card for arm in protocol.arms}
        gathered = gather_study(protocol, folder)
        seen = audit_slides(gathered.subjects, slides) if slides else ()
        return audit_subjects(protocol, gathered, cards, seen)

    def audit_ours(self, targets: Iterable[str] = ("GENE", "OTHER")) -> tuple[Finding, ...]:
        """All findings about the development manifest and its split alone."""
        folder = self.write()
        return audit_manifest(gather_manifest(folder / "ours.csv", folder / "split.csv", list(targets)))


Fault = Callable[[Study], None]


def found(findings: Iterable[Finding], code: str) -> list[Finding]:
    """The findings with this code."""
    return [finding for finding in findings if finding.code == code]


def one(findings: Iterable[Finding], code: str) -> Finding:
    """The finding with this code, of which there must be one."""
    matching = found(findings, code)
    assert len(matching) == 1, [(f.code, f.where, f.what) for f in findings]
    return matching[0]
