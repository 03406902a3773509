"""What this machine has and lacks for a run, each with its remedy; nothing here waits for a network or a driver.

Libraries are tried in processes of their own: one that crashes or hangs is a finding, not the end of the examination.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.planning import StudyPlan, plan_study
from tapfm_eval.preparation import local_paths
from tapfm_eval.protocol.load import read_protocol

State = Literal["ok", "warning", "missing"]
SECONDS = 60.0  # for a library to answer
NETWORK_SECONDS = 6.0
GB = 1e9
FREE_GB, SHARED_GB, FILES = 20.0, 1.0, 1024  # below these a run is at risk

# Each runs in a process of its own, so that a library that crashes or hangs is an answer as well.
_TORCH = """
import json, torch, timm
found = {"torch": torch.__version__, "timm": timm.__version__, "gpus": []}
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        found["gpus"].append([torch.cuda.get_device_name(i), free, total, torch.cuda.is_bf16_supported()])
print(json.dumps(found))
"""
_OPENSLIDE = "import json, openslide; print(json.dumps({'openslide': openslide.__library_version__}))"
_TYPST = """
import json, typst
from tapfm_eval.report.figures import font_folder
pdf = typst.compile(b"= Report", font_paths=typst.Fonts(include_system_fonts=False, font_paths=[font_folder()]))
assert pdf.startswith(b"%PDF")
print(json.dumps({"fonts": len(list(font_folder().glob("*.ttf")))}))
"""
_FORK_SERVER = """
import json, multiprocessing
methods = multiprocessing.get_all_start_methods()
method = "forkserver" if "forkserver" in methods else "spawn"
process = multiprocessing.get_context(method).Process(target=int)
process.start()
process.join()
print(json.dumps({"method": method, "code": process.exitcode}))
"""
_HUB = """
import json, socket
socket.create_connection(("huggingface.co", 443), timeout=4).close()
print(json.dumps({}))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a run needs."""

    name: str
    state: State  # `warning`: some runs do without
    found: str
    remedy: str  # empty where there is nothing to do
    of_study: bool = False  # the protocol's own weights and slides, which a rehearsal does without


def examine(out: Path = Path("reports"), protocol: Path | None = None, *, offline: bool = False) -> tuple[Check, ...]:
    """Every check, in the order in which a user would mend them.

    Args:
        out: The folder under which runs will be kept.
        protocol: A protocol whose weights, slides and GPU memory are looked for as well.
        offline: Do not try to reach the hub.

    Raises:
        InputError: The protocol, or `paths.toml`, is wrong.
    """
    plan = None if protocol is None else plan_study(protocol)
    with ThreadPoolExecutor(5) as pool:
        asked = {name: pool.submit(_ask, code, seconds) for name, code, seconds in (
            ("torch", _TORCH, SECONDS), ("openslide", _OPENSLIDE, SECONDS), ("typst", _TYPST, SECONDS),
            ("workers", _FORK_SERVER, SECONDS), ("hub", "" if offline else _HUB, NETWORK_SECONDS),
        )}  # fmt: skip
        answers = {name: future.result() for name, future in asked.items()}
    checks = [_python(), _packages()]
    checks += _torch(answers["torch"], plan)
    checks += [_openslide(answers["openslide"]), _typst(answers["typst"]), _workers(answers["workers"])]
    checks += [_disk(out), *_shared_memory(), _cores(), *_open_files()]
    checks += [_hub(answers["hub"], offline=offline), _token(), _git()]
    if protocol is not None:
        checks += _study(protocol)
    return tuple(checks)


@dataclass(frozen=True, slots=True)
class _Answer:
    said: dict[str, Any] | None  # None: no answer, for this reason
    reason: str = ""


def _ask(code: str, seconds: float) -> _Answer:
    """What a piece of Python prints as JSON in a process of its own."""
    if not code:
        return _Answer(None, "not asked")
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _Answer(None, f"no answer within {seconds:.0f} s")
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        return _Answer(None, last.strip()[:200] or f"ended with code {done.returncode}")
    return _Answer(json.loads(done.stdout.splitlines()[-1]))


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info >= (3, 11)
    return Check("Python", "ok" if fine else "missing", version, "" if fine else "Install Python 3.11 or newer.")


def _packages() -> Check:
    """The packages that this one needs, by their installed versions."""
    wrong, count = [], 0
    for text in importlib.metadata.requires("tapfm-eval") or ():
        if "extra ==" in text:
            continue
        named = re.match(r"([A-Za-z0-9._-]+)(?:>=([0-9.]+))?", text)
        assert named is not None
        name, least = named.groups()
        count += 1
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is not installed")
            continue
        if least and _numbers(version) < _numbers(least):
            wrong.append(f"{name} {version} is older than {least}")
    remedy = "Install the package anew: pip install --upgrade tapfm-eval (in its repository: make rehearse does it)."
    return Check("packages", "missing" if wrong else "ok", "; ".join(wrong) or f"all {count}", remedy if wrong else "")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version.partition("+")[0])[:3])


def _torch(answer: _Answer, plan: StudyPlan | None) -> Iterator[Check]:
    if answer.said is None:
        yield Check("torch, timm", "missing", answer.reason,
                    "Training and prediction need them; audit, score, report and verify do not. Install them: "
                    "pip install torch timm.")  # fmt: skip
        return
    yield Check("torch, timm", "ok", f"torch {answer.said['torch']}, timm {answer.said['timm']}", "")
    gpus = answer.said["gpus"]
    if not gpus:
        yield Check("GPU", "warning", "none that torch can use",
                    "Rehearsals run on the CPU; a real run needs an NVIDIA GPU, its driver, and torch built for it "
                    "(nvidia-smi, then https://pytorch.org/get-started).")  # fmt: skip
        return
    said = "; ".join(f"{name}, {free / GB:.0f} of {total / GB:.0f} GB free, {'bf16' if bf16 else 'fp16 alone'}"
                     for name, free, total, bf16 in gpus)  # fmt: skip
    needed = 0.0 if plan is None else plan.memory_gb
    fits = max(total for _, _, total, _ in gpus) / GB >= needed
    beside = f"; the largest arm needs about {needed:.0f} GB" if needed else ""
    remedy = "" if fits else "Give the arm a smaller training.micro_batch, LoRA or fewer last blocks; or a larger GPU."
    yield Check("GPU", "ok" if fits else "warning", said + beside, remedy)


def _openslide(answer: _Answer) -> Check:
    if answer.said is None:
        return Check("OpenSlide", "missing", answer.reason, "pip install openslide-bin openslide-python")
    return Check("OpenSlide", "ok", str(answer.said["openslide"]), "")


def _typst(answer: _Answer) -> Check:
    if answer.said is None:
        remedy = "pip install typst matplotlib; until then ask for reports with --format html."
        return Check("PDF and fonts", "missing", answer.reason, remedy)
    return Check("PDF and fonts", "ok", f"typst lays out a page; {answer.said['fonts']} fonts", "")


def _workers(answer: _Answer) -> Check:
    if answer.said is None or answer.said["code"] != 0:
        found = answer.reason or f"a worker ended with code {(answer.said or {})['code']}"
        return Check("worker processes", "missing", found, "Run with --workers 0; slides are then read one by one.")
    return Check("worker processes", "ok", f"start from the {answer.said['method']}", "")


def _disk(out: Path) -> Check:
    """Free space under the folder of runs, and whether files can be written and renamed there."""
    there = out
    while not there.exists() and there != there.parent:
        there = there.parent
    name = f"disk at {out}"
    remedy = "Free space, or give another folder: --out DIR."
    try:
        with tempfile.NamedTemporaryFile(dir=there) as file:
            file.write(b"x")
            os.fsync(file.fileno())
        free = shutil.disk_usage(there).free / GB
    except OSError as error:
        return Check(name, "missing", error.strerror or type(error).__name__, remedy)
    fine = free >= FREE_GB
    return Check(name, "ok" if fine else "warning", f"{free:,.0f} GB free, writable", "" if fine else remedy)


def _shared_memory() -> Iterator[Check]:
    place = Path("/dev/shm")  # noqa: S108 (looked at, not written)
    if place.is_dir():
        total = shutil.disk_usage(place).total / GB
        fine = total >= SHARED_GB
        remedy = "Workers hand tiles over in it: docker run --shm-size=8g, or fewer --workers."
        yield Check("shared memory", "ok" if fine else "warning", f"{total:.1f} GB", "" if fine else remedy)


def _cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{usable} core{'' if usable == 1 else 's'}"
    memory = Path("/proc/meminfo")
    if memory.is_file():
        kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB", memory.read_text(encoding="utf-8"), re.MULTILINE))
        total, free = (int(kilobytes.get(key, 0)) * 1024 / GB for key in ("MemTotal", "MemAvailable"))
        found += f", {free:.0f} of {total:.0f} GB of memory free"
    return Check("processors", "ok", found, "")


def _open_files() -> Iterator[Check]:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= limit < FILES:
        yield Check("open files", "warning", f"at most {limit}", f"ulimit -n {4 * FILES}, before the run.")


def _hub(answer: _Answer, *, offline: bool) -> Check:
    fetch = ("Fetch weights on a machine that reaches it (tapfm-eval backbones fetch NAME --to DIR) and name them in "
             "paths.toml; nothing waits for a network then.")  # fmt: skip
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return Check("Hugging Face hub", "warning", "HF_HUB_OFFLINE is set", fetch)
    if offline:
        return Check("Hugging Face hub", "ok", "not asked (--offline)", "")
    if answer.said is None:
        return Check("Hugging Face hub", "warning", f"cannot be reached ({answer.reason})", fetch)
    return Check("Hugging Face hub", "ok", "can be reached", "")


def _token() -> Check:
    """Whether somebody has logged in to the hub; the token itself is never read."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    place = Path(os.environ.get("HF_TOKEN_PATH", home / "token"))
    if os.environ.get("HF_TOKEN"):
        return Check("Hugging Face token", "ok", "HF_TOKEN is set", "")
    if place.is_file():
        return Check("Hugging Face token", "ok", f"logged in ({place})", "")
    remedy = "Gated backbones need one: `hf auth login`, after access was granted on the model's page."
    return Check("Hugging Face token", "warning", "none", remedy)


def _git() -> Check:
    found = shutil.which("git")
    remedy = "Without it provenance cannot say which commit made a run."
    return Check("git", "ok" if found else "warning", found or "none", "" if found else remedy)


def _study(path: Path) -> Iterator[Check]:
    """Weights and slides that a protocol needs, as far as this machine and `paths.toml` know them.

    Without them the study cannot run, so they are missing and no warning; its rehearsal needs none.
    """
    from huggingface_hub import try_to_load_from_cache

    protocol = read_protocol(path, backbones=CARDS)
    slides, weights = local_paths()
    for name in dict.fromkeys(arm.backbone for arm in protocol.arms):
        given = weights.get(name)
        cached: Callable[[str], object] = lambda file, card=CARDS[name]: try_to_load_from_cache(card.hub_id, file)  # type: ignore[misc]  # noqa: E731
        if given is not None and given.is_file():
            yield Check(f"weights of {name}", "ok", str(given), "", of_study=True)
        elif any(isinstance(cached(file), str) for file in ("model.safetensors", "pytorch_model.bin")):
            yield Check(f"weights of {name}", "ok", "in the hub's cache", "", of_study=True)
        else:
            found = "none on this machine" if given is None else f"no file {given} (paths.toml)"
            remedy = f"tapfm-eval backbones fetch {name} --to DIR, then [weights] in paths.toml."
            yield Check(f"weights of {name}", "missing", found, remedy, of_study=True)
    for name, cohort in protocol.cohorts.items():
        folder = slides.get(name)
        if cohort.expected is not None:
            remedy = "Supply manifest and split (docs/guide.md)."
            yield Check(f"cohort {name}", "missing", "only expected", remedy, of_study=True)
        elif folder is None or not folder.is_dir():
            found = "no folder known" if folder is None else f"no folder {folder} (paths.toml)"
            remedy = f"[slides] in paths.toml, or --slides {name}=DIR with the run; or --features {name}=DIR."
            yield Check(f"slides of {name}", "missing", found, remedy, of_study=True)
        else:
            yield Check(f"slides of {name}", "ok", str(folder), "", of_study=True)
