"""Keyed randomness: a generator of its own for each item, from the names of what it is for. No torch here.

A draw depends on its key alone: never on order, process, worker count or clock. Parts of a key are kept apart by their
kind and by a separator, so that ("1", 2) and (1, "2") are different keys.
"""

import hashlib

import numpy as np


def digest(*parts: int | str) -> bytes:
    """Thirty-two bytes that depend on all parts, their order and their kinds."""
    return hashlib.sha256("\x1f".join(f"{type(part).__name__}:{part}" for part in parts).encode()).digest()


def key(*parts: int | str) -> int:
    """A 64-bit number that depends on all parts."""
    return int.from_bytes(digest(*parts)[:8], "big")


def generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator of its own for the item that `parts` name.

    >>> float(generator(1, "TCGA-05-4244", "EGFR").random()) == float(generator(1, "TCGA-05-4244", "EGFR").random())
    True
    """
    return np.random.Generator(np.random.PCG64(key(*parts)))


def wide_generator(*parts: int | str) -> np.random.Generator:
    """As `generator`, seeded with all 256 bits; what rehearsals have been drawn with from the start."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest(*parts), "big")))
