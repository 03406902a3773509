"""How to deal indivisible units (patients, or whole sites) to blocks so that every block looks like the cohort."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

_SHORTFALL_WEIGHT = 100.0  # a class too rare to be measured in a block outweighs every imbalance
_SLACK = (
    2.0,
    0.05,
)  # with `Aim.size`: so many patients, or this share of a block, a block may have too many or too few
_NODES = 30  # branch-and-bound nodes: a limit in nodes, not in seconds, gives the same answer on every machine
_MAX_BINARIES = 3_000  # above this the programme is left out: many small sites balance without it
_PAIRS = 20_000  # pairs tried per round of swaps
_ROUNDS = 400  # of iterated local search over up to 100 sites; a fiftieth of them over more
_THROWN = 8  # units thrown to other blocks in each round


@dataclass(frozen=True, slots=True)
class Aim:
    """What the blocks should look like: the objective is the weighted sum of absolute deviations from `share * total`.

    With `size`, every other category is held against the block's own size instead, which may then differ a little: 23
    patients composed as the cohort is are better than 22 who are not. Shapes: U units, C categories, B blocks.
    """

    counts: NDArray[np.float64]  # (U, C) patients of each category in each unit
    weights: NDArray[np.float64]  # (C,) cost of one patient too many or too few of each category
    minimum: NDArray[np.float64]  # (C,) patients that each block should hold at least; 0 for no minimum
    shares: NDArray[np.float64]  # (B,) sum to 1
    size: int | None = None  # the category that counts all patients, for `deal`; `assign` asks for none

    @property
    def wanted(self) -> NDArray[np.float64]:
        """The ideal counts, (C, B)."""
        return np.outer(self.counts.sum(axis=0), self.shares)

    def cost(self, held: NDArray[np.float64], block: NDArray[np.intp] | int) -> NDArray[np.float64]:
        """The cost of blocks that hold `held` (..., C), where `block` (...) says which block each is."""
        wanted = self.wanted.T[block]
        short = np.maximum(self.minimum - held, 0).sum(axis=-1)
        if self.size is not None:
            patients = wanted[..., self.size]
            total = self.counts.sum(axis=0)
            wanted = held[..., self.size, None] * (total / total[self.size])
            wanted[..., self.size] = patients
            slack = np.maximum(_SLACK[0], _SLACK[1] * patients)
            short = short + np.maximum(np.abs(held[..., self.size] - patients) - slack, 0)
        deviation = np.abs(held - wanted) @ self.weights
        return np.asarray(deviation + _SHORTFALL_WEIGHT * short, dtype=np.float64)


def held_by_blocks(aim: Aim, blocks: NDArray[np.intp]) -> NDArray[np.float64]:
    """Patients of each category in each block, (B, C)."""
    held = np.zeros((len(aim.shares), aim.counts.shape[1]))
    np.add.at(held, blocks, aim.counts)
    return held


def deal(aim: Aim, rng: np.random.Generator, kinds: NDArray[np.intp]) -> NDArray[np.intp]:
    """A block for each of many small units (patients): even within each kind, then the remainders by local search.

    Units of one kind are alike; each kind is shuffled and dealt out in whole shares, so that only the few units left
    over in each kind need a search.

    Args:
        aim: What the blocks should look like.
        rng: Source of randomness.
        kinds: (U,) the kind of each unit.
    """
    blocks = np.full(len(kinds), -1, dtype=np.intp)
    for kind in range(int(kinds.max()) + 1):
        members = rng.permutation(np.flatnonzero(kinds == kind))
        sizes = np.floor(aim.shares * len(members) + 1e-9).astype(int)
        blocks[members[: sizes.sum()]] = np.repeat(np.arange(len(sizes)), sizes)
    left_over = np.flatnonzero(blocks < 0)
    held = np.zeros((len(aim.shares), aim.counts.shape[1]))
    np.add.at(held, blocks[blocks >= 0], aim.counts[blocks >= 0])
    every_block = np.arange(len(aim.shares))
    for unit in rng.permutation(left_over):
        gain = aim.cost(held + aim.counts[unit], every_block) - aim.cost(held, every_block)
        blocks[unit] = int(np.argmin(gain))
        held[blocks[unit]] += aim.counts[unit]
    return improve(aim, blocks, rng, left_over)


def assign(aim: Aim, rng: np.random.Generator) -> NDArray[np.intp]:
    """A block for each of a few large units (sites): a mixed-integer linear programme, then local search.

    The programme is solved by HiGHS (Huangfu and Hall 2018, doi:10.1007/s12532-017-0130-5) through SciPy, up to a
    number of nodes. The better of its answer and a greedy one is then improved by iterated local search (Lourenço,
    Martin and Stützle 2003, doi:10.1007/0-306-48056-5_11): a few units are thrown to other blocks, the search runs
    again, and its end stands unless it costs more.
    """
    order = rng.permutation(len(aim.counts))  # breaks ties between sites that are alike
    movable = np.arange(len(order))
    every_block = np.arange(len(aim.shares))

    def total(blocks: NDArray[np.intp]) -> float:
        return float(aim.cost(held_by_blocks(aim, blocks), every_block).sum())

    starts = [_greedy(aim, order)]
    if len(order) * len(aim.shares) <= _MAX_BINARIES:
        starts += _programme(aim, order)
    best = min((improve(aim, start, rng, movable) for start in starts), key=total)
    lowest = total(best)
    for _ in range(_ROUNDS if len(order) <= 100 else _ROUNDS // 50):
        thrown = best.copy()
        units = rng.choice(len(order), size=min(_THROWN, len(order)), replace=False)
        thrown[units] = rng.integers(len(aim.shares), size=len(units))
        end = improve(aim, thrown, rng, movable)
        cost = total(end)
        if cost <= lowest + 1e-9:
            best, lowest = end, min(cost, lowest)
    return best


def improve(
    aim: Aim, blocks: NDArray[np.intp], rng: np.random.Generator, movable: NDArray[np.intp]
) -> NDArray[np.intp]:
    """The blocks after the best moves, and swaps of two units, for as long as one lowers the cost.

    All moves are tried in each round; swaps are tried on all pairs of few units and on a sample of pairs of many.
    """
    blocks = blocks.copy()
    if not len(movable):
        return blocks
    held = held_by_blocks(aim, blocks)
    every_block = np.arange(len(aim.shares))
    counts = aim.counts[movable]
    while True:
        at = blocks[movable]
        now = aim.cost(held, every_block)
        leave = aim.cost(held[at] - counts, at) - now[at]  # (M,)
        join = aim.cost(held[None] + counts[:, None], np.broadcast_to(every_block, (len(movable), len(now)))) - now
        change = leave[:, None] + join  # (M, B)
        change[np.arange(len(movable)), at] = 0.0
        unit, block = np.unravel_index(int(np.argmin(change)), change.shape)
        if change[unit, block] < -1e-9:
            held[at[unit]] -= counts[unit]
            held[block] += counts[unit]
            blocks[movable[unit]] = block
            continue
        first, second = _pairs(len(movable), rng)
        apart = at[first] != at[second]
        first, second = first[apart], second[apart]
        if not len(first):
            return blocks
        difference = counts[second] - counts[first]
        change = aim.cost(held[at[first]] + difference, at[first]) - now[at[first]]
        change += aim.cost(held[at[second]] - difference, at[second]) - now[at[second]]
        best = int(np.argmin(change))
        if change[best] >= -1e-9:
            return blocks
        one, two = first[best], second[best]
        held[at[one]] += difference[best]
        held[at[two]] -= difference[best]
        blocks[movable[one]], blocks[movable[two]] = at[two], at[one]


def _pairs(units: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if units * (units - 1) // 2 <= _PAIRS:
        first, second = np.triu_indices(units, 1)
        return first, second
    return rng.integers(units, size=_PAIRS), rng.integers(units, size=_PAIRS)


def _greedy(aim: Aim, order: NDArray[np.intp]) -> NDArray[np.intp]:
    """The largest unit first, each to the block that gains most."""
    blocks = np.zeros(len(order), dtype=np.intp)
    held = np.zeros((len(aim.shares), aim.counts.shape[1]))
    every_block = np.arange(len(aim.shares))
    by_size = order[np.argsort(-aim.counts[order].sum(axis=1), kind="stable")]
    for unit in by_size:
        gain = aim.cost(held + aim.counts[unit], every_block) - aim.cost(held, every_block)
        blocks[unit] = int(np.argmin(gain))
        held[blocks[unit]] += aim.counts[unit]
    return blocks


def _programme(aim: Aim, order: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The answer of the programme, or nothing where the nodes ran out before any was found.

    Variables: x[u, b] = 1 where unit u lies in block b; d[c, b] >= |held - wanted|; s[c, b] >= minimum - held.
    """
    U, C = aim.counts.shape
    B = len(aim.shares)
    counts = aim.counts[order]
    x = np.arange(U * B).reshape(U, B)
    d = U * B + np.arange(C * B).reshape(C, B)
    s = d + C * B
    variables = U * B + 2 * C * B
    unit, category = np.nonzero(counts)
    value = counts[unit, category]
    entry: list[NDArray[np.float64]] = []  # rows of (row, column, value)
    low: list[NDArray[np.float64]] = []
    high: list[NDArray[np.float64]] = []

    def add(rows: NDArray[np.intp], columns: NDArray[np.intp], values: NDArray[np.float64]) -> None:
        entry.append(np.stack([rows.ravel() + sum(map(len, low)), columns.ravel(), values.ravel()]).astype(float))

    def close(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> None:
        low.append(lower)
        high.append(upper)

    rows_cb = np.arange(C * B).reshape(C, B)
    held_rows, held_columns = rows_cb[category], x[unit]  # (entries, B)
    held_values = np.repeat(value[:, None], B, axis=1)
    one = np.ones((C, B))
    unbounded = np.full(C * B, np.inf)
    add(np.repeat(np.arange(U)[:, None], B, axis=1), x, np.ones((U, B)))
    close(np.ones(U), np.ones(U))  # every unit lies in one block
    for sign in (1.0, -1.0):
        add(held_rows, held_columns, sign * held_values)
        add(rows_cb, d, -one)
        close(-unbounded, sign * aim.wanted.ravel())  # d >= held - wanted and d >= wanted - held
    add(held_rows, held_columns, held_values)
    add(rows_cb, s, one)
    close(np.repeat(aim.minimum, B), unbounded)  # held + s >= minimum
    rows, columns, values = np.concatenate(entry, axis=1)
    shape = (sum(map(len, low)), variables)
    matrix = coo_array((values, (rows.astype(np.intp), columns.astype(np.intp))), shape=shape).tocsc()
    price = np.zeros(variables)
    price[d] = aim.weights[:, None]
    price[s] = _SHORTFALL_WEIGHT
    upper = np.full(variables, np.inf)
    upper[x] = 1.0
    integrality = np.zeros(variables)
    integrality[x] = 1
    answer = milp(
        price,
        integrality=integrality,
        bounds=Bounds(np.zeros(variables), upper),
        constraints=LinearConstraint(matrix, np.concatenate(low), np.concatenate(high)),
        options={"node_limit": _NODES, "mip_rel_gap": 0.01},
    )
    if answer.x is None:
        return []
    blocks = np.empty(U, dtype=np.intp)
    blocks[order] = np.argmax(answer.x[x], axis=1)
    return [blocks]
