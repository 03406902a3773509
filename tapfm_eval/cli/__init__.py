"""The command line: parse, call one function, print."""

import os
import sys

from tapfm_eval.cli.app import app
from tapfm_eval.cli.messages import show_error
from tapfm_eval.errors import Problem, RunError, TapfmEvalError

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells say it


def _follows() -> bool:
    """Whether another process under torchrun says the same; one message is enough."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"


def main() -> None:
    """Entry point: a fault of the user's is a message and an exit code, never a traceback."""
    try:
        app()
    except TapfmEvalError as error:
        if not _follows():
            show_error(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, KeyboardInterrupt) or stop.code == INTERRUPTED:
            print("Stopped by Ctrl-C.", file=sys.stderr)
            sys.exit(INTERRUPTED)
        raise
    except OSError as error:  # a folder that is a file, a disk that is full, a share that is gone
        where = str(error.filename or "the file system")
        got = error.strerror or type(error).__name__
        show_error(RunError(Problem(where, "a file or folder that can be used", got, "Check the path and its rights.")))
        sys.exit(RunError.exit_code)
