"""How long an audit takes without slides: the shipped study, and one of ten thousand rows at a hundred sites.

    python tests/benchmarks/audit_speed.py [--rows N] [--sites N]

Seconds of processor time. The aim is 10,000 rows in less than 5 on one core, and less than 3 for the shipped study.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tapfm_eval.audit.audit import audit_manifest, audit_protocol
from tapfm_eval.audit.gather import gather_manifest
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.load import load_cohorts
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.rundir import sha256_file

LUAD = Path(__file__).resolve().parents[2] / "protocols" / "luad.yaml"


def cohort(rows: int, sites: int) -> pd.DataFrame:
    """A cohort with four rare targets, a hundred sites, all standard covariates and seven others."""
    rng = np.random.default_rng(1)
    patients = [f"P{i:05d}" for i in range(rows)]
    table = pd.DataFrame({"patient_id": patients, "slide_id": [f"{p}_1" for p in patients]})
    table["path"] = table["slide_id"] + ".svs"
    for target, prevalence in (("EGFR", 0.15), ("KRAS", 0.3), ("ALK", 0.03), ("TP53", 0.5)):
        table[target] = (rng.random(rows) < prevalence).astype(int).astype(str)
        table.loc[rng.random(rows) < 0.05, target] = ""
    table["site"] = [f"site{i}" for i in rng.integers(0, sites, rows)]
    for column, values in (
        ("scanner", "ABC"), ("mpp", ("0.25", "0.5")), ("sex", ("female", "male")), ("race", "abcde"),
        ("stage", ("I", "II", "III", "IV")), ("smoking", ("never", "former", "current")), ("specimen", ("FFPE",)),
    ):  # fmt: skip
        table[column] = rng.choice(list(values), rows)
    table["age"] = rng.integers(30, 90, rows).astype(str)
    table["batch"] = [f"batch {i}" for i in rng.integers(0, 20, rows)]
    table["country"] = rng.choice(list("abcdefgh"), rows, p=[0.5, 0.3, 0.1, 0.05, 0.03, 0.01, 0.005, 0.005])
    table["pack_years"], table["dx_year"] = rng.integers(0, 120, rows).astype(str), rng.integers(1995, 2020, rows)
    table["grade"], table["fixation"] = rng.choice(list("123"), rows), rng.choice(["FFPE", "PAXgene"], rows)
    table["comment"] = [f"seen on day {i}" for i in range(rows)]
    table["md5"] = [f"{i:032x}" for i in range(rows)]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--sites", type=int, default=100)
    arguments = parser.parse_args()
    protocol = read_protocol(LUAD, backbones=CARDS)
    cohorts = load_cohorts(protocol, LUAD.parent)
    start = time.process_time()
    findings = audit_protocol(protocol, cohorts, CARDS)
    print(f"shipped study: {time.process_time() - start:.2f} s, {len(findings)} findings")
    with tempfile.TemporaryDirectory() as folder:
        manifest, split = Path(folder) / "m.csv", Path(folder) / "split.csv"
        table = cohort(arguments.rows, arguments.sites)
        table.to_csv(manifest, index=False)
        parts = np.array(["test", "validation", "train", "train", "train"])
        rows = [
            (patient, fold, parts[(i - fold) % 5]) for fold in range(5) for i, patient in enumerate(table["patient_id"])
        ]
        meta = {"scheme": "kfold", "seed": 1, "folds": 5, "manifest_sha256": sha256_file(manifest)}
        write_split(split, pd.DataFrame(rows, columns=["patient_id", "fold", "split"]), meta)
        start = time.process_time()
        gathered = gather_manifest(manifest, split, ["EGFR", "KRAS", "ALK", "TP53"])
        read = time.process_time()
        findings = audit_manifest(gathered)
        done = time.process_time()
    print(
        f"{arguments.rows:,} rows, {arguments.sites} sites, 5 folds: read {read - start:.2f} s, audit "
        f"{done - read:.2f} s, {len(findings)} findings"
    )


if __name__ == "__main__":
    main()
