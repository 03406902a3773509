"""The command line: parse, call one function, print."""

import sys

from tapfm_eval.cli.app import app
from tapfm_eval.cli.messages import show_error
from tapfm_eval.errors import Problem, RunError, TapfmEvalError


def main() -> None:
    """Entry point: a fault of the user's is a message and an exit code, never a traceback."""
    try:
        app()
    except TapfmEvalError as error:
        show_error(error)
        sys.exit(error.exit_code)
    except OSError as error:  # a folder that is a file, a disk that is full, a share that is gone
        where = str(error.filename or "the file system")
        got = error.strerror or type(error).__name__
        show_error(RunError(Problem(where, "a file or folder that can be used", got, "Check the path and its rights.")))
        sys.exit(RunError.exit_code)
