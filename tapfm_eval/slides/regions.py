"""Where a pathologist drew: annotations of a slide from a QuPath GeoJSON file, and which points lie inside them."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import numpy as np
from numpy.typing import NDArray

from tapfm_eval.errors import Problem, SlideError
from tapfm_eval.slides.crossings import compared, first_crossing

MAX_BYTES = 32 * 2**20
MAX_POSITIONS = 400_000  # of all annotations of a slide; a hand that draws for an hour makes a tenth of it
MAX_POLYGONS = 20_000
_MAX_PAIRS = 40_000_000  # of lines that are held against each other for crossings; bounds time to seconds
_MAX_NAME = 200
_FURTHEST = 1e7  # level-0 pixels; no slide is as wide
_EXPORT = "Export the annotations from QuPath again: File > Export objects as GeoJSON."
_CLASSIFIED = "Correct the class in QuPath, or tiles.regions.classes in the protocol."

Ring = NDArray[np.float64]
"""(V, 2) x and y of a closed outline, level-0 pixels; the last position is the first."""


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """The areas of one slide to which tiles are restricted."""

    sha256: str  # of the file's bytes
    polygons: tuple[tuple[Ring, ...], ...]  # each an outline and its holes; areas may overlap


def read_regions(path: Path, classes: tuple[str, ...]) -> Regions:
    """The annotated areas of a slide.

    A GeoJSON feature collection, a list of features, or one feature, as QuPath exports them: positions are level-0
    pixels. Detections, cells and other objects that are no annotations are passed over, and so are annotations of
    other classes; lines and points are refused, since they have no inside.

    Args:
        path: The file.
        classes: Names of the annotation classes that count, spelt as in QuPath; empty: every annotation.

    Raises:
        SlideError: With every fault of the file; also where no annotation of these classes is in it.
    """
    data = _read_bytes(path)
    content = _read_json(data, path)
    problems: list[Problem] = []
    polygons: list[tuple[Ring, ...]] = []
    seen: set[str] = set()
    left = MAX_POSITIONS
    for number, feature in enumerate(_features(content, path)):
        where = f"{path}, feature {number}"
        name = _class_of(feature, where, problems)
        if name is None:
            continue
        seen.add(name or "no class")
        if classes and name not in classes:
            continue
        for rings in _polygons(feature.get("geometry"), where, problems):
            left -= sum(map(len, rings))
            polygons.append(rings)
        if left < 0 or len(polygons) > MAX_POLYGONS:
            expected = f"at most {MAX_POSITIONS:,} positions in {MAX_POLYGONS:,} areas"
            raise SlideError([*problems, Problem(where, expected, "more", "Simplify the shapes in QuPath.")])
    if not problems:
        problems += _crossings(polygons, str(path))
    if not problems and not polygons:
        wanted = f"an annotation of class {', '.join(map(repr, classes))}" if classes else "at least one annotation"
        got = f"classes {', '.join(sorted(seen))[:200]}" if seen else "none"
        problems.append(Problem(str(path), wanted, got, _CLASSIFIED))
    if problems:
        raise SlideError(problems)
    return Regions(hashlib.sha256(data).hexdigest(), tuple(polygons))


def check_on_slide(regions: Regions, width: int, height: int, where: str) -> None:
    """Refuses annotations that were drawn on another slide or at another scale.

    Raises:
        SlideError: A position lies further outside the slide of `width` x `height` level-0 pixels than a hand slips.
    """
    slip = 0.01 * max(width, height)
    for rings in regions.polygons:
        low, high = rings[0].min(axis=0), rings[0].max(axis=0)
        if low.min() < -slip or high[0] > width + slip or high[1] > height + slip:
            got = f"x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f}"
            remedy = "Is it the file of this slide, in pixels of its full resolution? " + _EXPORT
            raise SlideError(Problem(where, f"annotations inside the slide, {width} x {height}", got, remedy))


def inside(regions: Regions, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether each point lies in an annotation and in none of its holes.

    An outline belongs to what is right of it and below, so that areas side by side share no point.

    Args:
        regions: The areas.
        points: (N, 2) x and y, level-0 pixels.
    """
    found = np.zeros(len(points), dtype=bool)
    a = np.concatenate([_without(rings, -1) for rings in regions.polygons])  # (E, 2) lines of all outlines and holes
    b = np.concatenate([_without(rings, 0) for rings in regions.polygons])
    polygon = np.repeat(np.arange(len(regions.polygons)), [sum(map(len, p)) - len(p) for p in regions.polygons])
    rows, row_of = np.unique(points[:, 1], return_inverse=True)
    for row, y in enumerate(rows):
        cut = np.flatnonzero((a[:, 1] <= y) != (b[:, 1] <= y))
        one, two = a[cut], b[cut]
        x = one[:, 0] + (y - one[:, 1]) / (two[:, 1] - one[:, 1]) * (two[:, 0] - one[:, 0])
        x = x[np.lexsort((x, polygon[cut]))]  # a closed outline is cut an even number of times: in, out, in, out
        at = np.flatnonzero(row_of == row)
        entered = np.searchsorted(np.sort(x[0::2]), points[at, 0], side="right")
        left = np.searchsorted(np.sort(x[1::2]), points[at, 0], side="right")
        found[at] = entered > left
    return found


def _read_bytes(path: Path) -> bytes:
    expected = "a QuPath GeoJSON file"
    try:
        if not path.is_file():
            remedy = "Put it there, or empty the manifest's `regions` cell to use the whole tissue."
            raise SlideError(Problem(str(path), expected, "no such file", remedy))
        size = path.stat().st_size
        if size > MAX_BYTES:
            got, limit = f"{size / 2**20:.0f} MiB", f"{expected} of at most {MAX_BYTES // 2**20} MiB"
            raise SlideError(Problem(str(path), limit, got, "Export annotations only, without detections."))
        return path.read_bytes()
    except OSError as error:
        raise SlideError(Problem(str(path), expected, error.strerror or str(error), "Make it readable.")) from None


def _read_json(data: bytes, path: Path) -> Any:
    def refuse(name: str) -> Never:
        raise ValueError(f"the number {name}")

    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=refuse)
    except RecursionError:
        got = "lists within lists without end"
    except ValueError as error:  # also text that is no UTF-8, and whole numbers of thousands of digits
        got = " ".join(str(error).split())[:120]
    raise SlideError(Problem(str(path), "GeoJSON", got, _EXPORT))


def _features(content: Any, path: Path) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content.get("features")
    elif isinstance(content, dict) and content.get("type") == "Feature":
        content = [content]
    if not isinstance(content, list) or not all(
        isinstance(feature, dict) and feature.get("type") == "Feature" for feature in content
    ):
        raise SlideError(Problem(str(path), "GeoJSON features, as QuPath exports them", "other JSON", _EXPORT))
    yield from content


def _class_of(feature: dict[str, Any], where: str, problems: list[Problem]) -> str | None:
    """The annotation's class, "" where it has none; None for an object that is no annotation, or faulty."""
    properties = feature.get("properties") or {}
    if isinstance(properties, dict):
        kind = properties.get("objectType", properties.get("object_type", "annotation"))
        given = properties.get("classification") or {}
        name = (given.get("name") or given.get("names") or "") if isinstance(given, dict) else given
        if isinstance(name, list) and all(isinstance(part, str) for part in name):
            name = ": ".join(name)  # as QuPath shows a derived class
        if isinstance(name, str) and len(name) <= _MAX_NAME and isinstance(kind, str):
            return name if kind == "annotation" else None
    expected = f"a class name of at most {_MAX_NAME} characters, and the kind of object"
    problems.append(Problem(f"{where}, properties", expected, "something else", _EXPORT))
    return None


def _polygons(geometry: Any, where: str, problems: list[Problem]) -> Iterator[tuple[Ring, ...]]:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    parts = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if kind == "Polygon":
        parts = [parts]
    elif kind != "MultiPolygon":
        got = kind if isinstance(kind, str) and len(kind) <= 40 and kind.isprintable() else "something else"
        remedy = "Lines and points have no inside: delete the object in QuPath, or name the classes that count."
        problems.append(Problem(f"{where}, geometry", "a Polygon or a MultiPolygon", got, remedy))
        return
    if not isinstance(parts, list) or not parts or not all(isinstance(part, list) and part for part in parts):
        problems.append(Problem(f"{where}, coordinates", "rings of positions", "something else", _EXPORT))
        return
    for number, part in enumerate(parts):
        rings = [_ring(ring, f"{where}, polygon {number}, ring {i}", problems) for i, ring in enumerate(part)]
        whole = tuple(ring for ring in rings if ring is not None)
        if len(whole) == len(rings):
            yield whole


def _ring(positions: Any, where: str, problems: list[Problem]) -> Ring | None:
    expected = "at least 4 positions of two finite numbers in level-0 pixels"
    if not isinstance(positions, list) or len(positions) < 4:
        got = f"{len(positions)} positions" if isinstance(positions, list) else "something else"
        problems.append(Problem(where, expected, got, "Draw the area again, or delete it."))
        return None
    if len(positions) > MAX_POSITIONS:
        limit = f"at most {MAX_POSITIONS:,} positions in all annotations"
        problems.append(Problem(where, limit, f"{len(positions):,}", "Simplify the shape in QuPath."))
        return None
    ring = np.empty((len(positions), 2))
    for i, position in enumerate(positions):
        pair = _pair(position)
        if pair is None:
            got = repr(position)[:60] if not isinstance(position, list) or len(position) <= 3 else "a longer list"
            problems.append(Problem(f"{where}, position {i}", expected, got, _EXPORT))
            return None
        ring[i] = pair
    if not np.array_equal(ring[0], ring[-1]):
        got = f"({ring[0, 0]:g}, {ring[0, 1]:g}) and ({ring[-1, 0]:g}, {ring[-1, 1]:g})"
        problems.append(Problem(where, "a closed ring: the last position is the first", got, "Close the outline."))
        return None
    x, y = (ring - ring[0]).T
    furthest = int(np.argmax(x * x + y * y))
    if not np.any(x * y[furthest] != y * x[furthest]):
        problems.append(Problem(where, "an outline that encloses an area", "a line", "Delete it, or draw it again."))
        return None
    return ring


def _pair(position: Any) -> tuple[float, float] | None:
    if not isinstance(position, list) or not 2 <= len(position) <= 3:
        return None
    x, y = position[0], position[1]
    for number in (x, y):
        if isinstance(number, bool) or not isinstance(number, int | float):
            return None
        if not (math.isfinite(number) if isinstance(number, float) else True) or abs(number) > _FURTHEST:
            return None
    return float(x), float(y)


def _crossings(polygons: Sequence[tuple[Ring, ...]], where: str) -> list[Problem]:
    lines = [(_without(rings, -1), _without(rings, 0)) for rings in polygons]
    remedy = "Simplify the shape in QuPath: Objects > Annotations > Simplify shape."
    if sum(compared(a, b) for a, b in lines) > _MAX_PAIRS:
        return [Problem(where, "outlines that a hand could have drawn", "lines too intricate to check", remedy)]
    found = [at for a, b in lines if (at := first_crossing(a, b)) is not None]
    expected = "outlines that cross neither themselves nor their holes"
    return [Problem(where, expected, f"lines that cross near x {x:.0f}, y {y:.0f}", remedy) for x, y in found]


def _without(rings: tuple[Ring, ...], position: int) -> Ring:
    """(E, 2) the positions of all rings but the first (0) or the last (-1) of each: ends of their lines."""
    return np.concatenate([ring[1:] if position == 0 else ring[:-1] for ring in rings])
