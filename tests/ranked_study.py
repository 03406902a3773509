"""Runs the small study in this folder: `torchrun --nproc-per-node 2 ranked_study.py FOLDER OUT [DEVICE [FAULT]]`.

FAULT is what is wrong in the second process.
"""

import os
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import torch
from small_study import brief_options, know_tiny

from tapfm_eval import provenance, study
from tapfm_eval.errors import BackboneError, Problem, TapfmEvalError
from tapfm_eval.progress import Reporter


def broken(fault: str) -> None:
    """Makes something of this process other than in the rest."""
    from tapfm_eval.stages import units

    def no_backbone(*_: object) -> NoReturn:
        raise BackboneError(Problem("tiny.safetensors", "weights that fit", "a torn file", "Copy it again."))

    if fault == "backbone":
        units.build_model = no_backbone
    elif fault == "weights":
        units.weights_hashes = lambda cards, weights: {"tiny": "0" * 64}
    elif fault == "version":
        provenance.__version__ = "0.0.9"
    elif fault == "torch":
        version = metadata.version
        metadata.version = lambda name: "1.0.0" if name == "torch" else version(name)
    elif fault == "folder":  # a path of the same name on a disk of its own
        real = Path.is_file
        Path.is_file = lambda self: "seen-by-all" not in self.name and real(self)
    elif fault == "lost slide":  # a record that this machine sees and the leader does not
        units.StudyData.without = lambda self, lost: self.without_named([("here", "slide0")])


if __name__ == "__main__":
    know_tiny()
    folder, out = Path(sys.argv[1]), sys.argv[2]
    device = sys.argv[3] if len(sys.argv) > 3 else "cpu"
    fault = sys.argv[4] if len(sys.argv) > 4 else ""
    if fault == "gpus":  # the second machine has too few
        torch.cuda.device_count = lambda: 2 - int(os.environ["RANK"])
    if os.environ.get("RANK") == "1":
        broken(fault)
    options = replace(brief_options(folder), out=folder / out, device=device)
    try:
        study.run_protocol(folder / "brief.yaml", options, Reporter(quiet=True))
    except TapfmEvalError as error:
        print(f"rank {os.environ.get('RANK', 0)}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
