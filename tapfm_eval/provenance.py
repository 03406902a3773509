"""Where a run came from: versions, hashes, machine and command, as sections of names and values."""

import hashlib
import platform
import socket
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from tapfm_eval import __version__
from tapfm_eval.rundir import RunFolder

PACKAGES = (
    "torch", "timm", "openslide-python", "openslide-bin", "numpy", "scipy", "pandas", "scikit-learn", "statsmodels",
    "scikit-image", "h5py", "pydantic", "pandera", "matplotlib", "typst",
)  # fmt: skip
ABSENT = "not installed"


def software() -> dict[str, str]:
    """Versions of this suite, of Python and of the packages that decide numbers; `not installed` where one is absent.

    `score`, `verify` and `report` do without torch and OpenSlide, which some systems have from elsewhere than a wheel.
    """
    found = {"tapfm-eval": __version__, "python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ABSENT
    return found


def shared_software() -> dict[str, str]:
    """What machines that take part in one run must have alike: packages that decide numbers, and this suite's source.

    The source counts by its content: a node may have it without git, or at the same commit with other changes.
    """
    versions = {name: version for name, version in software().items() if name != "system"}
    here, whole = Path(__file__).resolve().parent, hashlib.sha256()
    for path in sorted(here.rglob("*.py")):
        whole.update(f"{path.relative_to(here).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return {**versions, "source of tapfm-eval": f"sha256 {whole.hexdigest()[:12]}"}


def source_commit() -> str:
    """The commit of this suite's source and whether it was changed; `installed package` where it is none."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "--", str(here)],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "installed package"
    return f"{commit}{' with uncommitted changes' if changed else ''}"


def environment(device: str) -> dict[str, str]:
    """Where and with what this process computes; two units of equal environments may be held against each other."""
    return {"host": socket.gethostname(), "device": device, "source": source_commit(), **software()}


def provenance(
    hashes: Mapping[str, str], device: str, command: str, seeds: tuple[int, ...]
) -> dict[str, dict[str, str]]:
    """All sections of `provenance.json`."""
    return {
        "run": {"command": command, "device": device, "seeds": ", ".join(map(str, seeds)), "source": source_commit()},
        "hashes (sha256)": dict(hashes),
        "software": software(),
    }


def environments(folder: RunFolder) -> dict[str, dict[str, str]]:
    """A section on each environment that sessions of a run had, in order; none where all had the same."""
    found: dict[tuple[tuple[str, str], ...], str] = {}
    for event in folder.events():
        said = event.get("environment")
        if event["event"] == "started" and isinstance(said, dict):
            found.setdefault(tuple(sorted((str(k), str(v)) for k, v in said.items())), str(event.get("time")))
    if len(found) < 2:
        return {}
    every = [dict(environment) for environment in found]
    differing = [name for name in every[-1] if len({environment.get(name) for environment in every}) > 1]
    return {
        f"environment {i}, from {time}": {name: dict(environment).get(name, "none") for name in differing}
        for i, (environment, time) in enumerate(found.items(), 1)
    }
