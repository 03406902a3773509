"""A pyramidal, tiled TIFF in Aperio's layout, which OpenSlide opens as a slide with a known scale."""

import os
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

NOTE = "Synthetic rehearsal slide, not a patient"
"""Words that every slide carries in its description."""

_TILE_PX = 256
_DOWNSAMPLE = 4  # between levels, as Aperio's scanners do
_QUALITY = 85


def write_svs(path: Path, rgb: NDArray[np.uint8], *, mpp: float, objective: int, name: str) -> None:
    """Write an image as a slide of two levels (1:1 and 1:4): whole or not at all, and the same bytes every time.

    There is no label, macro image or date.

    Args:
        path: where the slide lands; its folder exists.
        rgb: (h, w, 3), level 0.
        mpp: micrometres a pixel at level 0.
        objective: the objective's power that the slide claims, 20 or 40.
        name: the slide's id, written into its description.
    """
    height, width = rgb.shape[:2]
    small = (max(width // _DOWNSAMPLE, 1), max(height // _DOWNSAMPLE, 1))
    overview = np.asarray(Image.fromarray(rgb).resize(small, Image.Resampling.BOX))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w+b") as stream:
            with tifffile.TiffWriter(stream, bigtiff=False) as tiff:
                for level in (rgb, overview):
                    tiff.write(
                        level,
                        description=_description(level, rgb, mpp, objective, name),
                        tile=(_TILE_PX, _TILE_PX),
                        photometric="rgb",
                        subsampling=(2, 2),
                        compression="jpeg",
                        compressionargs={"level": _QUALITY},
                        metadata=None,
                        software=False,
                        maxworkers=1,
                    )
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _description(level: NDArray[np.uint8], base: NDArray[np.uint8], mpp: float, objective: int, name: str) -> str:
    """Aperio's `first line; size -> size|key = value|...`; OpenSlide wants the first word and reads AppMag and MPP."""
    height, width = level.shape[:2]
    base_height, base_width = base.shape[:2]
    shrunk = "" if level is base else f" -> {width}x{height}"
    fields = {
        "AppMag": str(objective),
        "MPP": f"{mpp:.4f}",
        "Filename": name.encode("ascii", "backslashreplace").decode("ascii").replace("|", "_").replace("\n", " "),
        "Note": NOTE,
    }
    head = (
        "Aperio Image Library layout, written by tapfm-eval\r\n"
        f"{base_width}x{base_height} [0,0 {base_width}x{base_height}] ({_TILE_PX}x{_TILE_PX}){shrunk} "
        f"JPEG/YCbCr Q={_QUALITY}"
    )
    return "|".join([head, *(f"{key} = {value}" for key, value in fields.items())])
