"""Rehearsal slides: procedural H&E that OpenSlide opens, with effects of known strength planted into it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tapfm_eval.errors import Problem, ProtocolError
from tapfm_eval.randomness import wide_generator
from tapfm_eval.rehearsal import texture
from tapfm_eval.rehearsal.planting import EFFECTS, effect_of_target, plant
from tapfm_eval.rehearsal.stain import STAINS, colour
from tapfm_eval.rehearsal.svs import write_svs
from tapfm_eval.rehearsal.tissue import grow_tissue

__all__ = ["EFFECTS", "RENDER_MPP", "effect_of_target", "plant", "render_slide", "write_slide"]

RENDER_MPP = 0.5
"""Scale at which tissue is drawn, micrometres a pixel; other scales are resized from it."""

_MPP_LIMITS = (0.2, 0.6)  # 40x and 20x scanners, with room
_40X_BELOW_MPP = 0.375


def render_slide(
    *, seed: int, slide_id: str, effects: Mapping[str, float], tissue_tiles: int = 14
) -> NDArray[np.uint8]:
    """The slide as an RGB image at 0.5 um a pixel, (h, w, 3): one piece of tissue on glass.

    The layout, a slight variation of the stains and the noise depend on (seed, slide); the planted effects on
    `effects` alone.

    Args:
        seed: the protocol's seed.
        slide_id: the slide, as in the manifest.
        effects: effect to strength in standard deviations, as from `plant`; an effect not named rests at a
            common, moderate amount.
        tissue_tiles: about the area of the tissue in tiles of 224 px at 0.5 um a pixel.

    Raises:
        ProtocolError: an unknown effect, or a piece of tissue without area.
    """
    _check_request(effects, RENDER_MPP, tissue_tiles)

    def stream(name: str) -> np.random.Generator:
        return wide_generator(seed, "rehearsal slide", slide_id, name)

    tissue = grow_tissue(stream, effects, tissue_tiles)
    rng = stream("scanner")
    gains = (1.0 + 0.03 * rng.standard_normal(len(STAINS))).clip(0.9, 1.1).astype(np.float32)
    grain = 1.8 * texture.window(texture.noise(2.0), tissue.inside.shape, rng)
    sharp = Image.fromarray(colour(tissue.concentrations, gains, grain))
    image = sharp.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.6)))
    if rng.random() < 0.5:  # tissue is drawn with its strands along x
        image = image.transpose(Image.Transpose.TRANSPOSE)
    return np.asarray(image)


def write_slide(
    path: Path, *, seed: int, slide_id: str, mpp: float, effects: Mapping[str, float], tissue_tiles: int = 14
) -> None:
    """Write the slide as a pyramidal Aperio-style SVS; the same arguments give the same bytes.

    Args:
        path: where the slide lands; its folder exists. Nothing is left there if writing fails.
        seed: the protocol's seed.
        slide_id: the slide, as in the manifest.
        mpp: micrometres a pixel at level 0, e.g. 0.5 (a 20x slide) or 0.25 (40x).
        effects: effect to strength in standard deviations, as from `plant`; an effect not named rests at a
            common, moderate amount.
        tissue_tiles: about the area of the tissue in tiles of 224 px at 0.5 um a pixel.

    Raises:
        ProtocolError: an unknown effect, a scale that no scanner has, or a piece of tissue without area.
    """
    _check_request(effects, mpp, tissue_tiles)
    rgb = render_slide(seed=seed, slide_id=slide_id, effects=effects, tissue_tiles=tissue_tiles)
    if mpp != RENDER_MPP:
        rgb = _resized(rgb, mpp, wide_generator(seed, "rehearsal detail", slide_id))
    write_svs(path, rgb, mpp=mpp, objective=40 if mpp < _40X_BELOW_MPP else 20, name=slide_id)


def _resized(rgb: NDArray[np.uint8], mpp: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image at another scale, with the fine grain that a scanner at that scale would add."""
    height, width = (round(side * RENDER_MPP / mpp) for side in rgb.shape[:2])
    larger = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))
    grain = np.rint(1.5 * texture.window(texture.noise(2.0), (height, width), rng)).astype(np.int16)
    grainy: NDArray[np.uint8] = np.clip(larger + grain[:, :, None], 0, 255).astype(np.uint8)
    return grainy


def _check_request(effects: Mapping[str, float], mpp: float, tissue_tiles: int) -> None:
    problems = [
        Problem(
            where=f"rehearsal slide, effect {name}",
            expected=f"one of {', '.join(EFFECTS)}",
            got=repr(name),
            remedy="Name an effect that exists.",
        )
        for name in effects
        if name not in EFFECTS
    ]
    problems += [
        Problem(
            where=f"rehearsal slide, effect {name}",
            expected="a finite strength",
            got=repr(strength),
            remedy="Give it in standard deviations, about -3 to 6.",
        )
        for name, strength in effects.items()
        if not np.isfinite(strength)
    ]
    lowest, highest = _MPP_LIMITS
    if not lowest <= mpp <= highest:
        problems.append(
            Problem(
                where="rehearsal slide, mpp",
                expected=f"{lowest} to {highest} um a pixel",
                got=repr(mpp),
                remedy="Use 0.5 for a 20x slide, 0.25 for a 40x slide.",
            )
        )
    if tissue_tiles < 1:
        problems.append(
            Problem(
                where="rehearsal slide, tissue_tiles",
                expected="at least 1",
                got=repr(tissue_tiles),
                remedy="Use 14 or so.",
            )
        )
    if problems:
        raise ProtocolError(problems)
