"""Runs the small study in this folder under Ray: `python ray_study.py FOLDER OUT [ADDRESS]`; a process of its own."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_study import brief_options, know_tiny

from tapfm_eval import study
from tapfm_eval.errors import TapfmEvalError
from tapfm_eval.progress import Reporter

if __name__ == "__main__":
    know_tiny()
    folder, out = Path(sys.argv[1]), sys.argv[2]
    executor = "local" if sys.argv[3:] == ["local"] else "ray"
    address = sys.argv[3] if executor == "ray" and len(sys.argv) > 3 else None
    options = replace(brief_options(folder), out=folder / out, executor=executor, address=address)
    try:
        print(study.run_protocol(folder / "brief.yaml", options, Reporter()).folder)
    except TapfmEvalError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
