"""Annotations drawn in QuPath restrict the tiles of their slide; a file that is not what it should be is refused."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tapfm_eval.errors import SlideError
from tapfm_eval.slides import regions as regions_module
from tapfm_eval.slides.crossings import first_crossing
from tapfm_eval.slides.reader import open_slide
from tapfm_eval.slides.regions import Regions, check_on_slide, inside, read_regions
from tapfm_eval.slides.tiles import TileSpec, read_tiles, tile_grid, write_tiles

Json = dict[str, Any]
WriteRegions = Callable[..., Path]
WriteSlide = Callable[..., Path]


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def feature(*rings: list[list[float]], name: str | None = "Tumor", kind: str = "annotation") -> Json:
    """As QuPath 0.5 writes an annotation."""
    properties: Json = {"objectType": kind}
    if name is not None:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    return {"type": "Feature", "id": "a", "geometry": {"type": "Polygon", "coordinates": list(rings)},
            "properties": properties}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> WriteRegions:
    """Writes features as a collection, or any other content as it is."""

    def to(*features: Json, content: object = None, name: str = "S1.geojson") -> Path:
        path = tmp_path / name
        content = {"type": "FeatureCollection", "features": list(features)} if content is None else content
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return to


def at(regions: Regions, *points: tuple[float, float]) -> list[bool]:
    return list(inside(regions, np.array(points, dtype=np.float64)))


def test_points_lie_inside_outlines_and_outside_holes(write: WriteRegions) -> None:
    regions = read_regions(write(feature(box(0, 0, 100, 100), box(40, 40, 60, 60))), ())
    assert at(regions, (10, 10), (50, 50), (50, 20), (101, 50), (99.5, 99.5), (-1, 5)) == [
        True, False, True, False, True, False,
    ]  # fmt: skip


def test_overlapping_annotations_unite_and_a_hole_of_one_is_filled_by_another(write: WriteRegions) -> None:
    path = write(feature(box(0, 0, 100, 100), box(40, 40, 60, 60)), feature(box(50, 50, 150, 150)))
    assert at(read_regions(path, ()), (55, 55), (45, 45), (120, 120), (80, 80)) == [True, False, True, True]


def test_areas_side_by_side_share_no_point(write: WriteRegions) -> None:
    left = read_regions(write(feature(box(0, 0, 50, 100))), ())
    right = read_regions(write(feature(box(50, 0, 100, 100))), ())
    points = np.array([(50.0, 50.0), (0.0, 0.0), (50.0, 0.0), (100.0, 20.0)])
    assert not (inside(left, points) & inside(right, points)).any()
    assert list(inside(left, points) | inside(right, points)) == [True, True, True, False]


def test_a_multipolygon_is_all_its_polygons(write: WriteRegions) -> None:
    area = feature(box(0, 0, 1, 1))
    area["geometry"] = {
        "type": "MultiPolygon",
        "coordinates": [[box(0, 0, 10, 10), box(2, 2, 8, 8)], [box(20, 20, 30, 30)]],
    }
    assert at(read_regions(write(area), ()), (1, 1), (5, 5), (25, 25), (15, 15)) == [True, False, True, False]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    radii=st.lists(st.floats(5, 100), min_size=3, max_size=40),
    points=st.lists(st.tuples(st.floats(-120, 120), st.floats(-120, 120)), min_size=1, max_size=50),
)
def test_inside_agrees_with_winding_around_a_star_shaped_area(
    radii: list[float], points: list[tuple[float, float]]
) -> None:
    """The judge: a point is inside a star-shaped outline if the outline's angles about it sum to a full turn."""
    angle = np.arange(len(radii)) / len(radii) * 2 * np.pi
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.array(radii)[:, None]
    ring = np.concatenate([ring, ring[:1]])
    for point in points:
        z = (ring - np.array(point)) @ np.array([1, 1j])
        if np.abs(z).min() < 1e-6 or np.abs(np.abs(np.angle(z[1:] / z[:-1])) - np.pi).min() < 1e-6:
            continue  # on the outline
        turns = round(float(np.angle(z[1:] / z[:-1]).sum()) / (2 * math.pi))
        assert at(Regions("", ((ring,),)), point) == [turns != 0]


def test_classes_choose_annotations_and_other_objects_are_passed_over(write: WriteRegions) -> None:
    path = write(
        feature(box(0, 0, 10, 10)),
        feature(box(20, 0, 30, 10), name="Stroma"),
        feature(box(40, 0, 50, 10), name=None),
        feature(box(60, 0, 70, 10), kind="detection"),
    )
    points = ((5.0, 5.0), (25.0, 5.0), (45.0, 5.0), (65.0, 5.0))
    assert at(read_regions(path, ("Tumor",)), *points) == [True, False, False, False]
    assert at(read_regions(path, ("Tumor", "Stroma")), *points) == [True, True, False, False]
    assert at(read_regions(path, ()), *points) == [True, True, True, False]
    with pytest.raises(SlideError, match="an annotation of class 'tumour', got classes Stroma, Tumor, no class"):
        read_regions(path, ("tumour",))


def test_exports_of_older_versions_are_read(write: WriteRegions) -> None:
    old = feature(box(0, 0, 10, 10))
    old["properties"] = {"object_type": "annotation", "classification": {"name": "Tumor", "colorRGB": -3670016}}
    derived = feature(box(20, 0, 30, 10))
    derived["properties"]["classification"] = {"names": ["Tumor", "core"]}
    for content in ([old], old, {"type": "FeatureCollection", "features": [old]}):
        assert at(read_regions(write(content=content), ("Tumor",)), (5, 5)) == [True]
    assert at(read_regions(write(derived), ("Tumor: core",)), (25, 5)) == [True]


POINT = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "GeoJSON"),
        ("{", "GeoJSON"),
        ("[" * 100_000, "lists within lists"),
        ('{"type": "FeatureCollection", "features": 3}', "GeoJSON features"),
        ('{"type": "Topology"}', "GeoJSON features"),
        ("[1, 2]", "GeoJSON features"),
        ({"type": "FeatureCollection", "features": []}, "at least one annotation, got none"),
        ([POINT], "a Polygon or a MultiPolygon, got Point"),
        ([feature([[0, 0], [10, 0], [10, 10], [0, 10]])], "a closed ring"),
        ([feature([[0, 0], [10, 0], [0, 0]])], "at least 4 positions"),
        ([feature([[0, 0], [10, 0], [5, 0], [0, 0]])], "encloses an area"),
        ([feature([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]])], "lines that cross near x 5, y 5"),
        ([feature(box(0, 0, 10, 10), box(5, 5, 15, 15))], "lines that cross"),
        ([feature([[0, 0], [10, "0"], [10, 10], [0, 0]])], "position 1: expected .* two finite numbers"),
        ([feature([[0, 0], [10, True], [10, 10], [0, 0]])], "position 1"),
        ([feature([[0, 0], [10], [10, 10], [0, 0]])], "position 1"),
        ([feature([[0, 0], [10, 1e300], [10, 10], [0, 0]])], "position 1"),
        ('[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0, NaN]]]}}]', "the number NaN"),
        ('[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0, -Infinity]]]}}]', "-Infinity"),
        ('[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [' + "9" * 5000 + "]}}]", "GeoJSON"),
        ([{**feature(box(0, 0, 1, 1)), "geometry": None}], "a Polygon"),
        ([{**feature(box(0, 0, 1, 1)), "properties": {"classification": {"name": "x" * 201}}}], "class name"),
        ([{**feature(box(0, 0, 1, 1)), "properties": [1]}], "class name"),
    ],
)
def test_a_file_that_is_no_set_of_areas_is_refused(write: WriteRegions, content: object, expected: str) -> None:
    path = write(content=content)
    with pytest.raises(SlideError, match=expected) as caught:
        read_regions(path, ())
    assert all(problem.where.startswith(str(path)) and len(str(problem)) < 800 for problem in caught.value.problems)


def test_all_faults_of_a_file_are_listed_at_once(write: WriteRegions) -> None:
    with pytest.raises(SlideError) as caught:
        read_regions(write(POINT, feature([[0, 0], [1, 1]]), feature(box(0, 0, 9, 9))), ())
    assert [problem.where.split(", ")[1] for problem in caught.value.problems] == ["feature 0", "feature 1"]


def test_files_that_are_missing_or_too_large_are_refused(
    write: WriteRegions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SlideError, match=r"no such file.*whole tissue"):
        read_regions(tmp_path / "none.geojson", ())
    path = write(feature(box(0, 0, 9, 9)))
    monkeypatch.setattr(regions_module, "MAX_POSITIONS", 4)
    with pytest.raises(SlideError, match="at most 4 positions"):
        read_regions(path, ())
    monkeypatch.setattr(regions_module, "MAX_BYTES", 10)
    with pytest.raises(SlideError, match="of at most 0 MiB"):
        read_regions(path, ())


def test_a_drawn_outline_of_many_positions_is_checked_in_time_and_a_scribble_is_refused(write: WriteRegions) -> None:
    turn = np.linspace(0, 2 * np.pi, 50_000)
    radius = 8000 + 2000 * np.sin(7 * turn) + 50 * np.sin(400 * turn)
    drawn = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1).round(2).tolist()
    scribble = np.random.default_rng(1).uniform(0, 1e4, (50_000, 2)).round(2).tolist()
    started = time.process_time()
    points = np.array([(0.0, 0.0), (11_000.0, 0.0)])
    regions = read_regions(write(feature([*drawn[:-1], drawn[0]])), ())
    assert list(inside(regions, points)) == [True, False]
    with pytest.raises(SlideError, match="too intricate"):
        read_regions(write(feature([*scribble, scribble[0]])), ())
    assert time.process_time() - started < 20


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 12)] * 4), min_size=2, max_size=12))
def test_crossings_are_found_as_by_trying_every_pair(lines: list[tuple[int, int, int, int]]) -> None:
    ends = np.array(lines, dtype=np.float64)
    a, b = ends[:, :2], ends[:, 2:]

    def side(p: NDArray[np.float64], q: NDArray[np.float64], r: NDArray[np.float64]) -> float:
        return float(np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])))

    crossing = any(
        side(a[i], b[i], a[j]) * side(a[i], b[i], b[j]) < 0 and side(a[j], b[j], a[i]) * side(a[j], b[j], b[i]) < 0
        for i in range(len(a))
        for j in range(i)
    )
    assert (first_crossing(a, b) is not None) == crossing


def test_annotations_outside_their_slide_are_refused(write: WriteRegions) -> None:
    regions = read_regions(write(feature(box(0, 0, 1010, 500))), ())
    check_on_slide(regions, 1000, 2000, "S1")  # a hand slips over the edge
    with pytest.raises(SlideError, match="inside the slide, 900 x 600"):
        check_on_slide(regions, 900, 600, "S1")


SPEC = TileSpec(mpp=0.5, tile_px=224, min_tissue=0.5, classes=())


def test_tiles_of_a_written_slide_are_those_whose_centre_is_annotated(
    tmp_path: Path, stained: NDArray[np.uint8], write_slide: WriteSlide, write: WriteRegions
) -> None:
    spec = TileSpec(mpp=0.5, tile_px=64, min_tissue=0.5, classes=("Tumor",))
    drawn = read_regions(write(feature(box(300, 300, 900, 900), box(500, 500, 700, 700))), ("Tumor",))
    with open_slide(write_slide(tmp_path / "S1.svs", stained, mpp=0.25), slide_id="S1", manifest_mpp=None) as slide:
        whole, grid = tile_grid(slide, spec), tile_grid(slide, spec, drawn)
    centres = whole.xy0 + 64
    within = ((centres >= 300) & (centres < 900)).all(axis=1) & ~((centres >= 500) & (centres < 700)).all(axis=1)
    assert 0 < within.sum() < len(whole)
    assert np.array_equal(grid.xy0, whole.xy0[within])
    assert np.array_equal(grid.tissue, whole.tissue[within])
    assert (whole.regions_sha256, grid.regions_sha256) == (None, drawn.sha256)
    write_tiles(grid, tmp_path / "S1.h5")
    back = read_tiles(tmp_path / "S1.h5")
    assert (back.spec, back.regions_sha256) == (spec, drawn.sha256)


def test_tiles_of_the_real_slide_are_those_whose_centre_is_annotated(cmu: Path, write: WriteRegions) -> None:
    drawn = read_regions(write(feature([[200, 200], [2000, 600], [1500, 2800], [100, 2000], [200, 200]])), ())
    with open_slide(cmu, slide_id="CMU-1", manifest_mpp=None) as slide:
        whole, grid = tile_grid(slide, SPEC), tile_grid(slide, SPEC, drawn)
    kept = {tuple(place) for place in grid.xy0.tolist()}
    assert 0 < len(kept) < len(whole)
    assert kept == {tuple(place) for place in whole.xy0.tolist() if at(drawn, (place[0] + 112, place[1] + 112))[0]}
