"""Runs the small study in this folder: `torchrun --nproc-per-node 2 ranked_study.py FOLDER OUT [DEVICE]`."""

import sys
from dataclasses import replace
from pathlib import Path

from small_study import brief_options, know_tiny

from tapfm_eval import study
from tapfm_eval.errors import TapfmEvalError
from tapfm_eval.progress import Reporter

if __name__ == "__main__":
    know_tiny()
    folder, out = Path(sys.argv[1]), sys.argv[2]
    options = replace(brief_options(folder), out=folder / out, device=sys.argv[3] if len(sys.argv) > 3 else "cpu")
    try:
        study.run_protocol(folder / "brief.yaml", options, Reporter(quiet=True))
    except TapfmEvalError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
