"""`NAME=PATH` options, as in `--slides COHORT=DIR`."""

from pathlib import Path

from tapfm_eval.errors import InputError, Problem


def pairs(flag: str, given: list[str] | None) -> dict[str, Path]:
    """`NAME=PATH` options as a mapping."""
    found = {}
    problems = []
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            problems.append(Problem(flag, "NAME=PATH", repr(text), f"Write for example {flag} name=folder."))
        try:
            found[name] = Path(value).expanduser()
        except RuntimeError:
            problems.append(Problem(f"{flag} {name}", "a path", repr(value), "There is no such user: write it out."))
    if problems:
        raise InputError(problems)
    return found
