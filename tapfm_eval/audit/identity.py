"""Who a patient is behind the ids that tables use: barcodes of public programmes, spellings of the same id."""

import re
from pathlib import PurePosixPath

from tapfm_eval.cohort.imported import slide_name

_TCGA = re.compile(r"(?<![0-9A-Z])TCGA-?([0-9A-Z]{2})-?([0-9A-Z]{4})(?![0-9A-Z])")
_CPTAC = re.compile(r"(?<![0-9A-Z])(C3[LN])-?([0-9]{5})(?![0-9])")

PROGRAMMES = ("TCGA", "CPTAC", "GTEx", "PAIP", "CAMELYON", "PANDA", "MGB", "MSK", "Providence")
"""Programmes whose slides pretraining sets are known to hold or to leave out."""


def barcode(text: str) -> str:
    """The patient's barcode in a patient id, slide name or path; empty where there is none.

    TCGA (`TCGA-05-4244`) and CPTAC (`C3L-00001`) barcodes are told whatever their case and separators.

    >>> barcode("tcga_05_4244_01Z-00-DX1.svs"), barcode("C3N-00203-21"), barcode("P17")
    ('TCGA-05-4244', 'C3N-00203', '')
    """
    plain = re.sub(r"[_. /]", "-", text.upper())
    if found := _TCGA.search(plain):
        return f"TCGA-{found.group(1)}-{found.group(2)}"
    if found := _CPTAC.search(plain):
        return f"{found.group(1)}-{found.group(2)}"
    return ""


def programmes(cohort: str, barcodes: frozenset[str]) -> tuple[str, ...]:
    """The programmes that a cohort's patients come from, by their barcodes or else by its name; none where unknown.

    >>> programmes("lung", frozenset({"TCGA-05-4244", "C3L-00001"})), programmes("cptac-luad", frozenset())
    (('TCGA', 'CPTAC'), ('CPTAC',))
    """
    if barcodes:
        tcga = {code.startswith("TCGA") for code in barcodes}
        return tuple(name for name, is_tcga in (("TCGA", True), ("CPTAC", False)) if is_tcga in tcga)
    words = re.split(r"[^a-z0-9]+", cohort.casefold())
    return tuple(name for name in PROGRAMMES if name.casefold() in words)[:1]


def spelling(patient_id: str) -> str:
    """The id without what hands change when they copy it: case, and which separator stands between its parts.

    >>> spelling("LU_017") == spelling("lu-017"), spelling("1-11") == spelling("11-1")
    (True, False)
    """
    return re.sub(r"[-_. ]+", "-", patient_id.casefold())


def file_key(path: str) -> str:
    """A slide's file name without folder and ending, lower case."""
    return slide_name(PurePosixPath(path).name).casefold() if path else ""
