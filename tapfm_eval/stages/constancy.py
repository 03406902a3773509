"""A run keeps to the slides and weights it began with: a file changed since would mix two studies in one result."""

import json
from collections.abc import Mapping
from pathlib import Path

from tapfm_eval.errors import Problem, RunError
from tapfm_eval.rundir import RunFolder, write_json
from tapfm_eval.stages.tiling import Tiling

FAILED = "failed"


def same_weights(folder: RunFolder, weights: Mapping[str, str]) -> None:
    """Holds a run to the weights it began with, wherever they came from.

    Args:
        folder: The run.
        weights: Hash of each backbone's weights.

    Raises:
        RunError: The weights of a backbone are others than before.
    """
    before = _recorded(folder.root / "weights.json", "sha256", "tapfm-eval/weights-used/1", weights)
    _refuse(folder, "weights", sorted(name for name in weights if before.get(name) != weights[name]))


def slides_before(folder: RunFolder) -> dict[str, str]:
    """The fingerprint of each slide that a run began with, or `FAILED`; empty before it began."""
    path = folder.root / "slides.json"
    return _read(path, "slides") if path.is_file() else {}


def same_slides(folder: RunFolder, tiling: Tiling) -> None:
    """Holds a run to the slides it began with; one that fails since then is not another one.

    Raises:
        RunError: A slide of the run is another file than before, or one that failed at first can be read now.
    """
    stated = {slide.file.slide_id: slide.grid.fingerprint for slide in tiling.slides}
    every = stated | {failure.slide_id: FAILED for failure in tiling.failed}
    before = _recorded(folder.root / "slides.json", "slides", "tapfm-eval/slides/1", every)
    _refuse(folder, "slides", sorted(name for name, value in stated.items() if before.get(name) != value))


def _recorded(path: Path, key: str, format_name: str, now: Mapping[str, str]) -> dict[str, str]:
    if not path.is_file():
        write_json(path, {"format": format_name, key: dict(now)})
    return _read(path, key)


def _read(path: Path, key: str) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))[key]
        return {str(name): str(value) for name, value in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"[:120]
        remedy = "Restore the file; or start anew with another --out, or after deleting this folder."
        raise RunError(Problem(str(path), "the file as the run wrote it", got, remedy)) from None


def _refuse(folder: RunFolder, what: str, changed: list[str]) -> None:
    if changed:
        shown = ", ".join(changed[:5]) + (" ..." if len(changed) > 5 else "")
        raise RunError(
            Problem(str(folder.root), f"the {what} that this run began with", f"{len(changed)} changed: {shown}",
                    "Put the files back; or start anew with another --out, or after deleting this folder.")
        )  # fmt: skip
