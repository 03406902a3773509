"""What training costs on the user's own machine: read from a run of theirs, or from a small file of measurements."""

import json
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.errors import InputError, Problem
from tapfm_eval.rundir import RunFolder

FORMAT = "tapfm-eval/probe/1"
_KEYS = ("seconds_per_slide", "memory_gb", "inference_seconds_per_slide")


@dataclass(frozen=True, slots=True)
class ArmProbe:
    """What was measured of one arm."""

    arm: str
    seconds_per_slide: float  # of training and selection: a unit's seconds over epochs x (train + validation slides)
    memory_gb: float
    inference_seconds_per_slide: float | None  # all tiles; None where it was not measured
    source: str


def read_probe(path: Path) -> dict[str, ArmProbe]:
    """Measurements by arm.

    Args:
        path: The folder of a run with at least one trained unit (it need not be finished), or a JSON file
            `{"format": "tapfm-eval/probe/1", "device": ..., "arms": {ARM: {"seconds_per_slide": ..., "memory_gb": ...,
            "inference_seconds_per_slide": ...}}}`, the last key optional.

    Raises:
        InputError: There is nothing measured in it, or it is a rehearsal's.
    """
    return _of_run(path) if path.is_dir() else _of_file(path)


def _of_file(path: Path) -> dict[str, ArmProbe]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        device, arms = str(content["device"]), dict(content["arms"])
        unknown = [f"{arm}.{key}" for arm, said in arms.items() for key in said if key not in _KEYS]
        if unknown or not arms:
            raise ValueError(f"unknown {', '.join(unknown)}" if unknown else "no arms")
        found = {}
        for arm, said in arms.items():
            inference = said.get(_KEYS[2])
            values = [float(said[_KEYS[0]]), float(said[_KEYS[1]]), *([] if inference is None else [float(inference)])]
            if not all(0 < value < 1e9 for value in values):
                raise ValueError(f"{arm} has a number that is not above 0")
            found[str(arm)] = ArmProbe(str(arm), values[0], values[1], values[2] if len(values) > 2 else None,
                                       f"measured on {device}")  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        expected = f"JSON of the format {FORMAT}, or the folder of a run"
        got = error.strerror or "" if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        remedy = "docs/formats.md shows one; a run of your own with --arm gives its figures by itself."
        raise InputError(Problem(f"--probe {path}", expected, got, remedy)) from None
    return found


def _of_run(root: Path) -> dict[str, ArmProbe]:
    folder = RunFolder(root)
    try:
        provenance = json.loads(folder.provenance.read_text(encoding="utf-8"))
        if provenance["planted"] is not None:
            remedy = "Its networks are small stand-ins: give a real run, of one arm if need be (run --arm)."
            raise InputError(Problem(f"--probe {root}", "a real run", "a rehearsal", remedy))
        device = str(provenance["sections"].get("run", {}).get("device", "the machine of that run"))
        counts = _slide_counts(root)
        units: dict[str, list[tuple[float, float]]] = {}
        for path in sorted((root / "arms").glob("*/seed-*/fold-*/selection.json")):
            chosen = json.loads(path.read_text(encoding="utf-8"))
            slides = counts[int(chosen["fold"])] * int(chosen["epochs"])
            measured = (float(chosen["seconds"]) / slides, float(chosen["peak_memory_mb"]) / 1024)
            units.setdefault(str(chosen["arm"]), []).append(measured)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise InputError(Problem(f"--probe {root}", "the folder of a run", got, "Name the run's own folder.")) from None
    if not units:
        remedy = "Wait until the run has trained one; its selection.json holds the figures."
        raise InputError(Problem(f"--probe {root}", "at least one trained unit", "none", remedy))
    return {
        arm: ArmProbe(arm, sum(s for s, _ in seen) / len(seen), max(memory for _, memory in seen), None,
                      f"measured in {root} on {device}")
        for arm, seen in units.items()
    }  # fmt: skip


def _slide_counts(root: Path) -> dict[int, int]:
    """Training and validation patients of each fold, from the run's copy of its split."""
    import csv

    counts: dict[int, int] = {}
    for path in sorted((root / "inputs").glob("*/split.csv")):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        for row in csv.DictReader(lines):
            if row["split"] in ("train", "validation"):
                counts[int(row["fold"])] = counts.get(int(row["fold"]), 0) + 1
    return counts
