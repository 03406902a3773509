"""Makes the committed example anew: the rehearsal's report, its results, and the two pages that README shows.

    make example

runs the rehearsal in a fresh folder below `reports/`, which git ignores, so that nothing of an older run is kept, and
refuses to copy a file that names this machine or its user.
"""

import getpass
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pypdfium2
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "reports" / "example"
IMAGES = ROOT / "docs" / "images"
FRESH = "reports/.fresh"  # relative: the report prints the command that made it
FILES = ("report.html", "report.pdf", "results.json")
PICTURES = {"report-summary.png": "What this does not show", "report-roc.png": "ROC curves, cptac-luad"}
_WIDTH_PX, _COLOURS = 1000, 256
_HOMES = re.compile(r"/(?:home|root|tmp|var|work|Users|mnt|private)/[\w.-]+|[A-Z]:\\\\Users")


def leaks(text: str) -> list[str]:
    """What in the text names a machine: absolute paths, its host's name, its user's name."""
    plain = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    names = {socket.gethostname(), getpass.getuser()} - {"", "root", "localhost"}
    found = _HOMES.findall(plain)
    return found + [name for name in sorted(names) if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", plain)]


def text_of(path: Path) -> str:
    """The text of a page, a PDF or a JSON file, file information included."""
    if path.suffix != ".pdf":
        return path.read_text(encoding="utf-8")
    document = pypdfium2.PdfDocument(path)
    pages = [document[number].get_textpage().get_text_bounded() for number in range(len(document))]
    return "\n".join([str(document.get_metadata_dict()), *pages])


def write_pictures(pdf: Path, folder: Path) -> None:
    """One picture for each wanted page: the first that holds its words."""
    document = pypdfium2.PdfDocument(pdf)
    texts = [" ".join(page.get_textpage().get_text_bounded().split()) for page in document]
    for name, words in PICTURES.items():
        page = document[next(number for number, text in enumerate(texts) if words in text)]
        drawn = page.render(scale=2 * _WIDTH_PX / page.get_width()).to_pil()
        small = drawn.resize((_WIDTH_PX, round(_WIDTH_PX * drawn.height / drawn.width)), Image.Resampling.LANCZOS)
        few = small.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(folder / name, optimize=True)


def main() -> None:
    """Runs the rehearsal and copies what the repository keeps of it."""
    shutil.rmtree(ROOT / FRESH, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "tapfm-eval"), "run", "protocols/luad.yaml", "--rehearse"]
    subprocess.run([*command, "--out", FRESH], cwd=ROOT, check=True)
    (run,) = (ROOT / FRESH).glob("*/*/")
    for name in FILES:
        if leaked := leaks(text_of(run / name)):
            raise SystemExit(f"{name} names this machine: {leaked}")
    EXAMPLE.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(run / name, EXAMPLE / name)
    write_pictures(EXAMPLE / "report.pdf", IMAGES)
    shutil.rmtree(ROOT / FRESH)


if __name__ == "__main__":
    main()
