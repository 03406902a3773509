"""Where a run came from: versions, hashes, machine and command, as sections of names and values."""

import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from tapfm_eval import __version__

PACKAGES = (
    "torch", "timm", "openslide-python", "openslide-bin", "numpy", "scipy", "pandas", "scikit-learn", "statsmodels",
    "scikit-image", "h5py", "pydantic", "pandera", "matplotlib", "typst",
)  # fmt: skip


def software() -> dict[str, str]:
    """Versions of this suite, of Python and of the packages that decide numbers."""
    found = {"tapfm-eval": __version__, "python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in PACKAGES:
        found[name] = metadata.version(name)
    return found


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


def provenance(
    hashes: Mapping[str, str], device: str, command: str, seeds: tuple[int, ...]
) -> dict[str, dict[str, str]]:
    """All sections of `provenance.json`."""
    return {
        "run": {"command": command, "device": device, "seeds": ", ".join(map(str, seeds)), "source": source_commit()},
        "hashes (sha256)": dict(hashes),
        "software": software(),
    }
