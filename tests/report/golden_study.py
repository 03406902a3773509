"""A fixed study from its files to the inputs of a report; as a script, writes the expected tables anew.

`golden/` holds a protocol, two manifests, a split and predictions (drawn once, seed 20): three arms on four targets,
two folds, one external cohort that does not assess MET, ALK in three patients, one external patient whose slide failed.
`golden/tables/` holds what the report says of them. After a wanted change:

    python tests/report/golden_study.py
"""

from functools import cache
from pathlib import Path

from tapfm_eval.analysis import analyse
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.cohort.load import load_cohorts
from tapfm_eval.predictions.table import read_predictions
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.report.content import build_content
from tapfm_eval.report.csvfile import table_csv
from tapfm_eval.report.inputs import ReportInputs

FOLDER = Path(__file__).parent / "golden"
TABLES = FOLDER / "tables"


@cache
def golden_inputs() -> ReportInputs:
    """The inputs of the golden report, analysed from its files."""
    protocol = read_protocol(FOLDER / "protocol.yaml", backbones=CARDS)
    reason = "expected a whole-slide image, got a folder"
    failed = [Exclusion("away", "W069", "W069-1", "slides", reason, "slides/W069.svs")]
    results = analyse(protocol, read_predictions(FOLDER / "predictions.csv"), load_cohorts(protocol, FOLDER), failed)
    return ReportInputs(
        protocol=protocol,
        protocol_sha256="0" * 64,
        run_id="golden",
        results=results,
        units=(),
        provenance={"Software": {"tapfm-eval": "as tested"}},
        rehearsal=None,
    )


@cache
def golden_tables() -> dict[str, str]:
    """Every table of the report as CSV, by its name."""
    return {table.id: table_csv(table) for table in build_content(golden_inputs()).tables}


if __name__ == "__main__":
    TABLES.mkdir(exist_ok=True)
    for path in TABLES.glob("*.csv"):
        path.unlink()
    for name, text in golden_tables().items():
        (TABLES / f"{name}.csv").write_text(text, encoding="utf-8")
