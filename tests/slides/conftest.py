"""Small slides that OpenSlide opens, written by tifffile, and the public slide beside the repository."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
WriteSlide = Callable[..., Path]


@pytest.fixture(scope="session")
def cmu() -> Path:
    """The public Aperio slide: 2220 x 2967 px, one level, 0.499 µm/px, 20x."""
    path = (SHARED / "slides" / "CMU-1-Small-Region.svs").resolve()
    if not path.exists():
        pytest.skip(f"no {path.name} in the shared data beside the repository")
    return path


@pytest.fixture(scope="session")
def stained() -> NDArray[np.uint8]:
    """(1400, 1100, 3): a pink disc with darker nuclei on glass."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:1400, :1100]
    image = np.full((1400, 1100, 3), 243, np.float64)
    disc = (x - 600) ** 2 + (y - 650) ** 2 < 430**2
    image[disc] = (222, 150, 190)
    dot = np.hypot(*np.mgrid[-6:7, -6:7]) < 6
    for cx, cy in rng.integers(350, 900, (400, 2)):
        image[cy - 6 : cy + 7, cx - 6 : cx + 7][dot] = (110, 70, 140)
    return np.clip(image + rng.normal(0, 1.5, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def write_slide() -> WriteSlide:
    """Writes a pyramid: `aperio` as a scanner would, otherwise a generic tiled TIFF; with or without a scale."""

    def write(
        path: Path,
        image: NDArray[np.uint8],
        *,
        mpp: float | None,
        levels: int = 1,
        aperio: bool = True,
        lossless: bool = False,
        mpp_y: float | None = None,
    ) -> Path:
        height, width = image.shape[:2]
        scale = "" if mpp is None else f"|MPP = {mpp}"
        description = f"Aperio Image Library v11.2.1\n{width}x{height} (240x240) JPEG/RGB Q=90{scale}"
        resolution = None if aperio or mpp is None else (1e4 / mpp, 1e4 / (mpp_y or mpp))
        with tifffile.TiffWriter(path) as tiff:
            for level in range(levels):
                tiff.write(
                    image,
                    tile=(240, 240),
                    photometric="rgb",
                    compression="lzw" if lossless else "jpeg",
                    compressionargs=None if lossless else {"level": 90},
                    description=description if aperio else None,
                    resolution=resolution,
                    resolutionunit="CENTIMETER" if resolution else None,
                    metadata=None,
                    subfiletype=1 if level and not aperio else 0,
                    software=False,
                )
                height, width = image.shape[0] // 2, image.shape[1] // 2
                blocks = image[: height * 2, : width * 2].reshape(height, 2, width, 2, 3)
                image = np.round(blocks.mean(axis=(1, 3))).astype(np.uint8)
        return path

    return write
