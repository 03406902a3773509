"""Builds the shipped manifests and the committed splits from the public tables in `../shared/data/cohorts`.

    python cohorts/build.py [--data FOLDER] [--out FOLDER]

Same tables, same bytes. The READMEs are written by hand; tests/cohort/test_shipped_cohorts.py checks their counts.
"""

import argparse
import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path

from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.cohort.split_maker import split_manifest
from tapfm_eval.cohort.splits import write_split

HERE = Path(__file__).resolve().parent
Row = dict[str, str]

RECURRENCE = "slide of a recurrence (TCGA sample type 02)"
REDACTED = "redacted by TCGA"

LUAD_GENES = ("EGFR", "KRAS", "STK11", "KEAP1", "TP53", "BRAF", "ERBB2", "NF1", "RBM10", "SMARCA4")
BLCA_GENES = ("FGFR3", "PIK3CA", "TP53", "RB1", "ERBB2", "KDM6A", "ARID1A", "ELF3", "STAG2", "ERCC2", "TERT")
SPLIT_TARGETS = {"tcga-luad": ("EGFR", "KRAS", "STK11", "TP53"), "tcga-blca": ("FGFR3", "PIK3CA", "TP53", "RB1")}

SMOKING = {
    "Lifelong non-smoker: Less than 100 cigarettes smoked in lifetime": "never",
    "Current smoker: Includes daily and non-daily smokers": "current",
    "Current reformed smoker, more than 15 years": "reformed>15y",
    "Current reformed smoker within past 15 years": "reformed<=15y",
    "Current reformed smoker, years unknown": "reformed, duration unknown",
    "Smoking history not available": "",
    "": "",
}
CPTAC_RACE = {
    "Asian": "asian",
    "Han": "asian",
    "Caucasian": "white",
    "European": "white",
    "White": "white",
    "Black": "black or african american",
    "Hispanic": "",
    "": "",
}
CPTAC_STAGE = {"1": "I", "2": "II", "3": "III", "4": "IV"}
CPTAC_COUNTRY = {"Usa": "USA"}


def whole(cell: str) -> str:
    """`70.0` as `70`, `1.0` as `1`; anything else as it is."""
    return cell.removesuffix(".0")


def spelt(cell: str) -> str:
    """The cell as all cohorts spell it."""
    return {"reformed,duration unknown": "reformed, duration unknown"}.get(cell, whole(cell))


def stage_group(detail: str) -> str:
    """`IIIA` as `III`."""
    return detail.rstrip("AB")


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tcga(
    patients: Iterable[Row], slides: Iterable[Row], labels: Callable[[Row], Row], more: tuple[str, ...]
) -> list[Row]:
    """One row a slide, sorted by patient and slide; `more` names further columns to carry over."""
    by_patient = {row["patient_id"]: row for row in patients}
    rows = []
    for slide in sorted(slides, key=lambda row: (row["patient_id"], row["slide_file"])):
        patient = by_patient[slide["patient_id"]]
        sample = slide["slide_file"][13:15]
        detail = patient["stage"].removeprefix("Stage ")
        exclude = REDACTED if patient["redaction"] else RECURRENCE if sample == "02" else ""
        rows.append(
            {
                "patient_id": slide["patient_id"],
                "slide_id": slide["slide_file"].removesuffix(".svs"),
                "path": slide["slide_file"],
                "exclude": exclude,
                **labels(patient),
                "site": slide["site"],
                "site_name": patient["site_name"],
                "mpp": slide["mpp"],
                "magnification": whole(slide["objective"]),
                "specimen": "FFPE",
                "sample_type": {"01": "primary", "02": "recurrence"}[sample],
                "sex": patient["sex"],
                "age": whole(patient["age"]),
                "race": patient["race"].lower(),
                "ethnicity": patient["ethnicity"].lower(),
                "stage": stage_group(detail),
                "stage_detail": detail,
                **{column: spelt(patient[column]) for column in more},
                "gdc_file_id": slide["gdc_file_id"],
                "md5": slide["md5"],
                "size": slide["size"],
            }
        )
    return rows


def luad_labels(patient: Row) -> Row:
    def fusion(column: str) -> str:
        return "1" if patient[column].startswith("Y") else ""  # empty means never tested, not negative

    return {
        **{gene: whole(patient[gene]) for gene in LUAD_GENES},
        "EGFR_driver": whole(patient["EGFR_driver"]),
        "KRAS_driver": whole(patient["KRAS_driver"]),
        "MET": whole(patient["MET_driver"]),
        "MET_driver": whole(patient["MET_driver"]),
        "MET_nonsilent": whole(patient["MET"]),
        "ALK": fusion("ALK_translocation"),
        "ROS1": fusion("ROS1_translocation"),
        "RET": fusion("RET_translocation"),
    }


def blca_labels(patient: Row) -> Row:
    drivers = {f"{gene}_driver": whole(patient[f"{gene}_driver"]) for gene in ("FGFR3", "PIK3CA")}
    return {**{gene: whole(patient[gene]) for gene in BLCA_GENES}, **drivers}


def cptac_luad(patients: Iterable[Row]) -> list[Row]:
    """One row a patient: the public tables name no slides."""
    rows = []
    for patient in sorted(patients, key=lambda row: row["sample_id"]):
        number = patient["Stage"][:1]
        detail = CPTAC_STAGE.get(number, "") + patient["Stage"][1:]
        rows.append(
            {
                "patient_id": patient["sample_id"],
                "slide_id": "",
                "path": "",
                "exclude": "",
                **{gene: whole(patient[gene]) for gene in LUAD_GENES},
                "RB1": whole(patient["RB1 Mutation Status"]),
                "EGFR_driver": whole(patient["EGFR_driver"]),
                "KRAS_driver": whole(patient["KRAS_driver"]),
                "MET": whole(patient["MET_driver"]),
                "MET_driver": whole(patient["MET_driver"]),
                "MET_nonsilent": whole(patient["MET"]),
                "ALK": whole(patient["ALK Fusion"]),
                "ROS1": whole(patient["ROS1 Fusion"]),
                "RET": whole(patient["RET Fusion"]),
                "sex": patient["Sex"].lower(),
                "age": whole(patient["AGE"]),
                "race": CPTAC_RACE[patient["Ethnicity"]],
                "ethnicity_as_recorded": patient["Ethnicity"],
                "stage": stage_group(detail),
                "stage_detail": detail,
                "smoking": SMOKING[patient["Smoking History"]],
                "pack_years": whole(patient["Pack Years Smoked"]),
                "country": CPTAC_COUNTRY.get(patient["Country Of Origin"], patient["Country Of Origin"]),
                "histological_subtype": patient["Dominant Histological Subtype"],
                "sequencing": patient["Somatic Status"].lower(),
            }
        )
    return rows


def write(rows: list[Row], path: Path) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(buffer.getvalue(), encoding="utf-8", newline="\n")


def build_manifests(data: Path, out: Path) -> None:
    """Writes the three manifests under `out`."""
    luad = tcga(
        read(data / "tcga_luad.csv"),
        read(data / "tcga_luad_slides.csv"),
        luad_labels,
        ("smoking", "pack_years", "dx_year"),
    )
    blca = tcga(read(data / "tcga_blca.csv"), read(data / "tcga_blca_slides.csv"), blca_labels, ("grade", "dx_year"))
    write(luad, out / "tcga-luad" / "manifest.csv")
    write(blca, out / "tcga-blca" / "manifest.csv")
    write(cptac_luad(read(data / "cptac_luad.csv")), out / "cptac-luad" / "manifest.csv")


def build_splits(out: Path) -> None:
    """Writes split-1.csv of both TCGA cohorts from their manifests under `out`."""
    for cohort, targets in SPLIT_TARGETS.items():
        manifest = read_manifest(out / cohort / "manifest.csv", cohort)
        columns = {target: target for target in targets}
        plan = split_manifest(manifest, columns, scheme="site-preserved", seed=1, folds=5)
        write_split(out / cohort / "split-1.csv", plan.table, plan.meta)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data" / "cohorts")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    build_manifests(arguments.data, arguments.out)
    build_splits(arguments.out)
