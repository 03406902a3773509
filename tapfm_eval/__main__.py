"""`python -m tapfm_eval` is the same as `tapfm-eval`."""

from tapfm_eval.cli import main

if __name__ == "__main__":
    main()
