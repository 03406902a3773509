"""Where a thumbnail shows stained tissue: Otsu's threshold on stain, with pen, shadow and glass kept out."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# All densities are decadic optical densities, -log10(intensity / 255).
_BAND = (0.03, 0.05)  # Otsu's threshold is kept in here: glass noise lies below, the palest whole-tissue image above
_CLIP = 0.30  # stain beyond this says nothing more about being tissue and would only pull the threshold up
_BINS = 256
_BLUR_PX = 1.0  # standard deviation; joins what JPEG blocks and pale edges break up
_COLD = 0.04  # red denser than green by this: green or blue ink
_BLACK_CORE = 0.65  # least of the three densities of thick black pen, folds and missing scan (57 of 255)
_BLACK_RIM = 0.42  # thin black pen over tissue; keratin and packed nuclei reach it, but touch no core
_RED_CORE = (0.50, 0.65)  # least density and redness of thick red ink; no eosin or blood seen is both
_RED_RIM = (0.16, 0.50, 0.70)  # density of thin red ink; redness of it, between these, depends on the slide's stain ...
_RED_CONTRAST = 0.30  # ... by this much above its median: thin ink has the colour of strong eosin
_PEN_GROW_PX = 2  # a stroke's pale rim belongs to the stroke
_PEN_SPECK_PX = 24  # smaller ink-coloured spots are nuclei, pigment or red cells, not pen
_SPECK_PX = 48
_HOLE_PX = 64


def tissue_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True where the thumbnail shows stained tissue; the rest is glass, pen, shadow or dirt.

    Haematoxylin and eosin both absorb green most, so the stain of a pixel is how much denser green is than the less
    dense of red and blue: nought for glass, shadows and grey dirt whatever their brightness. Otsu's threshold (Otsu
    1979, doi:10.1109/TSMC.1979.4310076) on the blurred stain separates tissue from glass. Since it always cuts
    something in two, it is held inside a band of densities: an empty slide stays empty and a thumbnail that is all
    tissue stays whole. Green and blue ink absorb red most, red ink absorbs blue as green, black absorbs all alike:
    such strokes and their rims are taken out, tissue beneath them included. Thin red ink has the colour of eosin and
    thin black ink that of keratin: they are known only by touching thick ink. Specks go, small holes close.

    Works best at 4-16 µm per pixel; sizes of blur, specks and rims are in pixels of the thumbnail.

    Args:
        rgb: (H, W, 3) uint8, stained with haematoxylin and eosin.

    Returns:
        (H, W) booleans.
    """
    intensity = np.maximum(rgb.astype(np.float32), 1.0) / 255.0
    smooth = ndimage.gaussian_filter(intensity, (_BLUR_PX, _BLUR_PX, 0), mode="nearest")
    red, green, blue = np.moveaxis(-np.log10(smooth), -1, 0)
    stain = green - np.minimum(red, blue)
    pen = _pen_mask(red, green, blue)
    mask = (stain > _threshold(stain[~pen])) & ~pen
    mask = _without_small(mask, _SPECK_PX)
    holes = ~mask & ~pen
    return mask | (holes & ~_without_small(holes, _HOLE_PX))


def _pen_mask(red: NDArray[np.float32], green: NDArray[np.float32], blue: NDArray[np.float32]) -> NDArray[np.bool_]:
    cold = red - green > _COLD  # no mixture of the two stains absorbs red most
    least = np.minimum(np.minimum(red, green), blue)
    black = _touching(least > _BLACK_RIM, _without_small(least > _BLACK_CORE, _PEN_SPECK_PX))
    pen = _without_small(cold | black | _red_ink(red, green, blue), _PEN_SPECK_PX)
    return np.asarray(ndimage.binary_dilation(pen, iterations=_PEN_GROW_PX) if pen.any() else pen, bool)


def _red_ink(red: NDArray[np.float32], green: NDArray[np.float32], blue: NDArray[np.float32]) -> NDArray[np.bool_]:
    density = green - red
    redness = (blue - red) / np.maximum(density, _RED_RIM[0])
    core = _without_small((density > _RED_CORE[0]) & (redness > _RED_CORE[1]), _PEN_SPECK_PX)
    if not core.any():
        return core
    usual = float(np.median(redness[green - np.minimum(red, blue) > _BAND[1]]))
    rim = (density > _RED_RIM[0]) & (redness > np.clip(usual + _RED_CONTRAST, *_RED_RIM[1:]))
    return _touching(rim, core)


def _touching(rim: NDArray[np.bool_], core: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The core, and what of the rim is connected to it."""
    labels, _ = ndimage.label(rim | core)
    return np.asarray(np.isin(labels, np.unique(labels[core])), bool)


def _threshold(stain: NDArray[np.float32]) -> float:
    counts, edges = np.histogram(np.clip(stain, 0.0, _CLIP), bins=_BINS, range=(0.0, _CLIP))
    return float(np.clip(otsu_threshold(counts, edges), *_BAND))


def otsu_threshold(counts: NDArray[np.int64], edges: NDArray[np.float64]) -> float:
    """The edge between bins that separates a histogram into the two classes of greatest variance between them.

    Otsu 1979, doi:10.1109/TSMC.1979.4310076. Of equal edges the lowest; the first edge where all lies in one bin.

    Args:
        counts: (B,) pixels in each bin.
        edges: (B + 1,) ascending edges of the bins.
    """
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(float)  # (B - 1,) pixels left of each inner edge
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    means_below = sums[:-1] / np.maximum(below, 1)
    means_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (means_below - means_above) ** 2
    return float(edges[1 + int(np.argmax(between))] if between.max(initial=0.0) > 0 else edges[0])


def _without_small(mask: NDArray[np.bool_], least_px: int) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    keep = sizes >= least_px
    keep[0] = False
    return np.asarray(keep[labels], bool)
