"""The command line: parse, call one function, print."""

import sys

from tapfm_eval.cli.app import app
from tapfm_eval.cli.messages import show_error
from tapfm_eval.errors import TapfmEvalError


def main() -> None:
    """Entry point: a fault of the user's is a message and an exit code, never a traceback."""
    try:
        app()
    except TapfmEvalError as error:
        show_error(error)
        sys.exit(error.exit_code)
