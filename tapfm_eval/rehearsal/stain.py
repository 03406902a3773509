"""From amounts of stain to colours: the Beer-Lambert law in optical-density space."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

STAINS: tuple[str, ...] = ("haematoxylin", "eosin", "pigment", "mucin", "haemoglobin")
"""Order of the stain planes in every concentration array."""

_ABSORPTION = np.array(
    [  # red, green, blue; rows are normalised below
        (0.620, 0.720, 0.310),  # haematoxylin: near Ruifrok & Johnston 2001 (Anal Quant Cytol Histol 23:291)
        (0.100, 0.920, 0.370),  # eosin: theirs (0.072, 0.990, 0.105) is magenta; scanners show it pinker
        (0.140, 0.400, 0.900),  # haemosiderin: golden brown
        (0.800, 0.520, 0.300),  # mucin: blue-grey
        (0.060, 0.680, 0.730),  # haemoglobin: orange-red
    ],
    dtype=np.float32,
)
_ABSORPTION /= np.linalg.norm(_ABSORPTION, axis=1, keepdims=True)
_GLASS = np.array((244.0, 244.0, 243.0), dtype=np.float32)


def colour(concentrations: FloatArray, gains: FloatArray, grain: FloatArray) -> NDArray[np.uint8]:
    """An RGB image of stained tissue on glass.

    Args:
        concentrations: amount of each of `STAINS`, in optical density along its vector; (5, h, w).
        gains: a slide's staining, one factor a stain about 1; (5,).
        grain: sensor noise in grey levels; (h, w).

    Returns:
        (h, w, 3), 0-255.
    """
    stains, height, width = concentrations.shape
    mixing = (_ABSORPTION * gains[:, None]).T  # (3, 5)
    density = mixing @ concentrations.reshape(stains, -1)  # (3, h * w)
    np.multiply(density, -np.log(np.float32(10.0)), out=density)
    light = np.exp(density, out=density)
    light *= _GLASS[:, None]
    light += grain.reshape(1, -1)
    np.clip(light, 0.0, 255.0, out=light)
    return np.ascontiguousarray(light.astype(np.uint8).T).reshape(height, width, 3)
