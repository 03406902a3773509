"""Every draw depends on its keys alone: never on order, batch, process or the global generators."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.methods.augment import augment_tiles, gaussian_blur
from tapfm_eval.methods.randomness import depth_keep, draw_tiles, keyed_uniform, seeded
from tapfm_eval.randomness import generator, key

PACKAGE = Path(__file__).resolve().parents[2] / "tapfm_eval"


@settings(max_examples=60, derandomize=True, deadline=None)
@given(available=st.integers(0, 400), wanted=st.one_of(st.none(), st.integers(1, 500)), seed=st.integers(0, 99))
def test_tiles_are_drawn_without_replacement(available: int, wanted: int | None, seed: int) -> None:
    drawn = draw_tiles(available, wanted, seed, 1, "slide")
    assert len(drawn) == (available if wanted is None else min(available, wanted))
    assert len(set(drawn.tolist())) == len(drawn)
    assert sorted(drawn.tolist()) == drawn.tolist()
    assert all(0 <= i < available for i in drawn)


def test_a_draw_depends_on_seed_epoch_and_slide_alone() -> None:
    first = draw_tiles(500, 40, 1, 2, "S")
    np.random.default_rng(0).random(10)
    torch.manual_seed(99)
    draw_tiles(500, 40, 1, 3, "T")
    assert np.array_equal(first, draw_tiles(500, 40, 1, 2, "S"))
    for other in ((2, 2, "S"), (1, 3, "S"), (1, 2, "T")):
        assert not np.array_equal(first, draw_tiles(500, 40, *other))


def test_every_tile_is_drawn_equally_often() -> None:
    counts = np.zeros(20)
    for epoch in range(2000):
        counts[draw_tiles(20, 5, 1, epoch, "S")] += 1
    assert np.abs(counts / 2000 - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 2000)


def test_draws_are_the_same_in_another_process() -> None:
    """The numbers themselves are part of a run: a change of them changes every result."""
    code = (
        "from tapfm_eval.methods.randomness import *; import numpy as np;"
        "print(draw_tiles(100, 5, 1, 2, 'S').tolist(), key(1, 'a'), keyed_uniform(np.arange(2), 2, 'x').tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    here = (draw_tiles(100, 5, 1, 2, "S").tolist(), key(1, "a"), keyed_uniform(np.arange(2), 2, "x").tolist())
    assert done.stdout.strip() == " ".join(map(str, here))


def test_no_other_module_of_a_training_seeds_or_draws_on_its_own() -> None:
    """Where `torch.manual_seed` stands, it is given a key, inside a fork of the global generator."""
    seeding = re.compile(r"default_rng\(|PCG64|manual_seed|np\.random\.(seed|rand|choice|permutation)|import random\b")
    folders = ("slides", "backbones", "methods", "stages", "rehearsal")
    found = {
        path.relative_to(PACKAGE).as_posix()
        for folder in folders
        for path in (PACKAGE / folder).rglob("*.py")
        if seeding.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"methods/randomness.py", "methods/model.py", "backbones/load.py"}


def test_keys_that_read_alike_are_kept_apart() -> None:
    parts = [("1", "2"), (1, 2), ("12",), (12,), ("1", 2), (1, "2"), ("2", "1")]
    assert len({key(*p) for p in parts}) == len(parts)
    assert generator("a", 1).random() == generator("a", 1).random() != generator("a", 2).random()
    assert torch.equal(torch.rand(3, generator=seeded("a")), torch.rand(3, generator=seeded("a")))
    assert not torch.equal(torch.rand(3, generator=seeded("a")), torch.rand(3, generator=seeded("b")))


@settings(max_examples=30, derandomize=True, deadline=None)
@given(tiles=st.lists(st.integers(0, 100_000), min_size=1, max_size=30, unique=True), data=st.data())
def test_a_row_depends_on_its_tile_alone(tiles: list[int], data: st.DataObject) -> None:
    indices = np.array(tiles)
    whole = keyed_uniform(indices, 6, 1, 2, "S")
    order = np.array(data.draw(st.permutations(range(len(tiles)))))
    assert np.array_equal(keyed_uniform(indices[order], 6, 1, 2, "S"), whole[order])
    cut = data.draw(st.integers(0, len(tiles)))
    parts = [keyed_uniform(part, 6, 1, 2, "S") for part in (indices[:cut], indices[cut:])]
    assert np.array_equal(np.concatenate(parts), whole)
    assert ((whole >= 0) & (whole < 1)).all()


def test_keyed_numbers_are_uniform_and_uncorrelated() -> None:
    u = keyed_uniform(np.arange(20_000), 4, "test")
    assert np.abs(u.mean(axis=0) - 0.5).max() < 5 * np.sqrt(1 / 12 / 20_000)
    for column in u.T:
        counts, _ = np.histogram(column, bins=50, range=(0, 1))
        assert ((counts - 400) ** 2 / 400).sum() < 49 + 5 * np.sqrt(2 * 49)
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 5 / np.sqrt(20_000)
    assert abs(np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]) < 5 / np.sqrt(20_000)


def test_no_stochastic_depth_at_rate_zero() -> None:
    assert depth_keep(np.arange(5), 3, 0.0, 1) is None


def test_drop_rates_grow_linearly_and_kept_branches_are_scaled_up() -> None:
    keep = depth_keep(np.arange(20_000), 5, 0.4, 1, 0, 1, "S")
    assert keep is not None
    assert keep.shape == (20_000, 5, 2)
    for block, rate in enumerate((0.0, 0.1, 0.2, 0.3, 0.4)):
        values = keep[:, block].numpy()
        assert sorted(np.unique(values)) == pytest.approx([1.0] if rate == 0 else [0.0, 1 / (1 - rate)])
        assert (values == 0).mean() == pytest.approx(rate, abs=0.012)
        assert values.mean() == pytest.approx(1, abs=0.02)


def test_masks_depend_on_seed_epoch_slide_and_tile_alone() -> None:
    def mask(tiles: list[int], *parts: int | str) -> torch.Tensor:
        keep = depth_keep(np.array(tiles), 4, 0.5, *parts)
        assert keep is not None
        return keep

    whole = mask([3, 8, 50, 7], 1, 0, 2, "S")
    assert torch.equal(mask([50, 3], 1, 0, 2, "S"), whole[[2, 0]])
    many = list(range(40))
    for other in ((2, 0, 2, "S"), (1, 1, 2, "S"), (1, 0, 3, "S"), (1, 0, 2, "T")):
        assert not torch.equal(mask(many, 1, 0, 2, "S"), mask(many, *other))


def random_tiles(count: int = 40, edge: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, edge, edge), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_an_augmented_tile_is_one_of_eight_orientations_blurred_or_not() -> None:
    tiles = random_tiles(100)
    out = augment_tiles(tiles, np.arange(100), 1, 1, "S")
    assert (out.dtype, out.shape) == (torch.uint8, tiles.shape)
    sharp = np.zeros(8, int)
    for before, after in zip(tiles, out, strict=True):
        turned = [torch.rot90(side, n, (1, 2)) for side in (before, before.flip(2)) for n in range(4)]
        same = [torch.equal(after, candidate) for candidate in turned]
        if any(same):
            sharp[same.index(True)] += 1
            continue
        error = [float((after.float() - candidate.float()).abs().mean()) for candidate in turned]
        candidate = turned[int(np.argmin(error))]
        sigmas = np.linspace(0.05, 0.8, 61)
        nearest = min(float((after.float() - gaussian_blur(candidate, s).float()).abs().max()) for s in sigmas)
        assert nearest <= 5, "no blur of an orientation"
        assert after.float().std() < before.float().std()
    assert (sharp > 0).all(), "an orientation is missing"
    assert 40 < sharp.sum() < 75  # half are blurred, a few of them too little to see


def test_augmentation_depends_on_seed_epoch_slide_and_tile_alone() -> None:
    tiles, indices = random_tiles(), np.arange(100, 140)
    before = tiles.clone()
    whole = augment_tiles(tiles, indices, 1, 1, "S")
    assert torch.equal(tiles, before), "the tiles handed in were changed"
    some = np.array([30, 2, 17])
    assert torch.equal(augment_tiles(tiles[some], indices[some], 1, 1, "S"), whole[some])
    for other in ((2, 1, "S"), (1, 2, "S"), (1, 1, "T")):
        assert not torch.equal(augment_tiles(tiles, indices, *other), whole)


def test_blur_keeps_flat_colour_and_spreads_a_point_as_a_gaussian() -> None:
    flat = torch.full((3, 20, 20), 77, dtype=torch.uint8)
    assert torch.equal(gaussian_blur(flat, 0.8), flat)
    assert gaussian_blur(flat, 0.01) is flat
    point = torch.zeros(3, 21, 21, dtype=torch.uint8)
    point[:, 10, 10] = 255
    spread = gaussian_blur(point, 0.8)[0].double()
    expected = torch.exp(-0.5 * (torch.arange(-10, 11) / 0.8) ** 2)
    expected = 255 * torch.outer(expected, expected) / expected.sum() ** 2
    assert float((spread - expected).abs().max()) <= 0.51
