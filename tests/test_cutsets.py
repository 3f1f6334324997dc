"""Equations between cut sets: whatever units go, both sides of every equation agree."""

from __future__ import annotations

import functools
import itertools
import operator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.ir import Array
from amcc.passes.channels import solver
from amcc.passes.channels.cutsets import CutSets, Solution


@dataclass
class System:
    """Cut sets with all that was said of them."""

    cuts: CutSets = field(default_factory=CutSets)
    families: list[Array] = field(default_factory=list)
    equations: list[tuple[Array, Array]] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    def fresh(self, n: int) -> Array:
        """New atoms."""
        self.families.append(self.cuts.fresh(n))
        return self.families[-1]

    def grid(self, *sizes: int) -> Array:
        """A product of new families, row-major."""
        parts = [self.fresh(n).reshape([-1 if i == j else 1 for j in range(len(sizes))]) for i, n in enumerate(sizes)]
        return self.cuts.union(*parts).reshape(-1)

    def equal(self, left: Array, right: Array) -> None:
        """An equation, tagged by its number."""
        self.cuts.equal(left, right, len(self.equations))
        self.equations.append((left, right))

    def lock(self, cuts: Array) -> None:
        """Cut sets that may not go."""
        self.cuts.lock(cuts, 100)
        self.held += cuts.tolist()


def atoms(system: System, cut: int) -> set[int]:
    """The atoms of a cut set."""
    return set(system.cuts.atoms(np.array([cut])).items.tolist())


def units_of(solution: Solution, axis: Array) -> set[int]:
    """All units of an axis."""
    return set().union(*(solution.normal(cut) for cut in axis.tolist()))


@st.composite
def systems(draw: st.DrawFn, largest: int = 12) -> System:
    """Axes of equal length, products or not, in any order, some joined of parts of others."""
    system = System()
    n = draw(st.sampled_from([4, 6, 6, 8, 12][: 3 if largest <= 12 else 5]))
    axes: list[Array] = []
    for _ in range(draw(st.integers(2, 4))):
        rows = draw(st.sampled_from([d for d in range(1, n) if n % d == 0]))
        if system.cuts.count - 1 + (n if rows == 1 else rows + n // rows) <= largest:
            axes.append(system.fresh(n) if rows == 1 else system.grid(rows, n // rows))
    if draw(st.booleans()):
        cut = draw(st.integers(0, n))
        axes.append(np.concatenate([axes[0][:cut], axes[-1][cut:]]))
    if draw(st.booleans()):
        axes.append(np.concatenate([axes[0][1:], system.cuts.never(1)]))
    for _ in range(draw(st.integers(1, 3))):
        left, right = (axes[draw(st.integers(0, len(axes) - 1))] for _ in range(2))
        order = np.array(draw(st.permutations(range(n)))) if draw(st.booleans()) else np.arange(n)
        system.equal(left, right[order])
    system.lock(axes[0][: draw(st.sampled_from([0, 0, 1]))])
    return system


def check(system: System, solution: Solution, removed: set[int]) -> None:
    """Both sides of every equation lose the same indices, and locks hold."""
    for left, right in system.equations:
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            assert bool(solution.normal(a) & removed) == bool(solution.normal(b) & removed)
    for cut in system.held:
        assert not solution.normal(cut)


@settings(max_examples=150, deadline=None)
@given(system=systems(largest=40), data=st.data())
def test_solutions_satisfy_every_equation_and_lock(system: System, data: st.DataObject) -> None:
    solution = system.cuts.solve()
    units = sorted(units_of(solution, np.arange(1, system.cuts.count)))
    for _ in range(3):
        check(system, solution, {u for u in units if data.draw(st.booleans())})


@pytest.mark.parametrize("largest", [0, 10_000])
@settings(max_examples=60, deadline=None)
@given(system=systems(largest=40), data=st.data())
def test_every_step_is_legal_by_itself(largest: int, system: System, data: st.DataObject) -> None:
    """Large systems are matched, factored, searched or tied; here small ones are treated as if they were large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "SMALL", 0)
        patch.setattr(solver, "LARGEST", largest)
        solution = system.cuts.solve()
    units = sorted(units_of(solution, np.arange(1, system.cuts.count)))
    check(system, solution, {u for u in units if data.draw(st.booleans())})


@settings(max_examples=100, deadline=None)
@given(system=systems())
def test_an_atom_is_locked_only_if_it_cannot_go(system: System) -> None:
    """Against all sets of atoms: those in one that may go, and empties no family and no equation, are in a unit.

    Units are as small as they can be: no part of one may go that still has all that no other unit has.
    """
    count = system.cuts.count - 1
    sets = np.arange(1 << count)

    def dies(cut: int) -> Array:
        return (sets & sum(1 << (atom - 1) for atom in atoms(system, cut))) != 0

    legal = np.ones(len(sets), bool)
    for left, right in system.equations:
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            legal &= dies(a) == dies(b)
    for cut in system.held:
        legal &= ~dies(cut)
    for axis in (*itertools.chain(*system.equations), *system.families):
        legal &= ~np.all([dies(cut) for cut in axis.tolist()], axis=0)
    solution = system.cuts.solve()
    members: dict[int, int] = {}
    for atom in range(1, count + 1):
        for unit in solution.normal(atom):
            members[unit] = members.get(unit, 0) | 1 << (atom - 1)
    units = list(members.values())
    covered = functools.reduce(operator.or_, units, 0)
    assert np.bitwise_or.reduce(sets[legal]) & ~covered == 0
    for unit in units:
        own = unit & ~functools.reduce(operator.or_, (other for other in units if other != unit), 0)
        smaller = sets[legal & (sets & ~unit == 0) & (sets != unit)]
        assert not own or not (smaller & own == own).any()


def test_equal_atoms_merge() -> None:
    system = CutSets()
    a, b, c = system.fresh(3), system.fresh(3), system.fresh(3)
    system.equal(a, b, 0)
    system.equal(b, c[::-1], 1)
    solution = system.solve()
    assert [solution.normal(x) for x in a] == [solution.normal(x) for x in c[::-1]]
    assert len({solution.normal(x) for x in a}) == 3


def test_rotated_halves_merge_in_pairs() -> None:
    """Rotary embeddings add a width to its two halves in turn."""
    system = CutSets()
    width = system.fresh(8)
    system.equal(width, np.roll(width, 4), 0)
    solution = system.solve()
    assert [solution.normal(x) for x in width[:4]] == [solution.normal(x) for x in width[4:]]
    assert len({solution.normal(x) for x in width}) == 4


def test_an_atom_that_equals_a_compound_is_replaced_by_it() -> None:
    """Channels in front of a grouped convolution go with their group or with their position."""
    system = CutSets()
    channels, groups, positions = system.fresh(6), system.fresh(2), system.fresh(3)
    grid = system.union(groups[:, None], positions[None, :]).reshape(-1)
    system.equal(channels, grid, 0)
    solution = system.solve()
    assert solution.normal(channels[4]) == {groups[1], positions[1]}


def test_atoms_are_replaced_through_any_number_of_steps() -> None:
    """Query channels are {head, width}, and a head {key head, repetition}."""
    system = System()
    channels, heads, width = system.fresh(24), system.fresh(6), system.fresh(4)
    system.equal(channels, system.cuts.union(heads[:, None], width[None, :]).reshape(-1))
    keys, repeats = system.fresh(2), system.fresh(3)
    system.equal(heads, system.cuts.union(keys[:, None], repeats[None, :]).reshape(-1))
    solution = system.cuts.solve()
    assert solution.normal(channels[17]) == {keys[1], repeats[1], width[1]}


def test_a_circle_of_replacements_ends() -> None:
    system = System()
    a, b, c = system.fresh(4), system.fresh(4), system.fresh(4)
    system.equal(a, system.cuts.union(b, c))
    system.equal(b, system.cuts.union(a, c))
    solution = system.cuts.solve()
    units = sorted(units_of(solution, np.concatenate([a, b, c])))
    for size in range(len(units)):
        check(system, solution, set(units[:size]))
    assert all(solution.normal(x) for x in c)


def test_compounds_match_through_equal_supports() -> None:
    system = System()
    first, second = system.grid(2, 3), system.grid(2, 3)
    system.equal(first, second)
    solution = system.cuts.solve()
    for a, b in zip(system.families[:2], system.families[2:], strict=True):
        assert [solution.normal(x) for x in a] == [solution.normal(x) for x in b]
        assert all(len(solution.normal(x)) == 1 for x in a)


def test_large_products_match_in_any_order_of_their_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "SMALL", 0)
    system = System()
    order = np.random.default_rng(0).permutation(60)
    chain = [system.grid(5, 12) for _ in range(4)]
    for a, b in itertools.pairwise(chain):
        system.equal(a[order], b[order])
    solution = system.cuts.solve()
    assert len(units_of(solution, chain[0])) == 17
    assert len(units_of(solution, np.concatenate(chain))) == 17


def test_products_of_unlike_factors_go_by_common_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 * 3 = 2 * 6: halves, rows of a half and columns may go."""
    monkeypatch.setattr(solver, "SMALL", 0)
    system = System()
    left, right = system.grid(4, 3), system.grid(2, 6)
    system.equal(left, right)
    solution = system.cuts.solve()
    assert len(units_of(solution, left)) == 2 + 2 + 3
    quarters, _, halves, sixths = system.families
    assert solution.normal(halves[0]) == solution.normal(quarters[0]) & solution.normal(quarters[1])
    assert all(len(solution.normal(x)) == 2 for x in (*quarters, *sixths))


def test_a_shuffle_of_many_channels_is_solved_by_factors() -> None:
    """Grouped convolutions before and behind a channel shuffle, 40,000 channels in 4 groups."""
    system = System()
    before = system.grid(4, 10_000).reshape(4, 10_000).T.reshape(-1)
    system.equal(before, system.grid(4, 10_000))
    solution = system.cuts.solve()
    assert len(np.unique(solution.table(before))) == 4 + 4 + 2500


def test_compounds_that_do_not_match_give_up_as_little_as_they_can() -> None:
    """Two halves of 2 groups of 3, joined and read in 2 groups of 6: positions go, and a group of both."""
    system = System()
    halves = np.concatenate([system.grid(2, 3), system.grid(2, 3)])
    system.equal(halves, system.grid(2, 6))
    solution = system.cuts.solve()
    positions = system.families[-1]
    assert len(units_of(solution, halves)) == 3 + 2
    assert solution.normal(positions[0]) & solution.normal(positions[3])
    assert not solution.normal(system.families[-2][0]), "a group of the second half would empty the first"


def test_what_implies_another_is_not_locked() -> None:
    """b goes whenever c does: not the other way round."""
    system = System()
    a, b = system.fresh(3), system.fresh(3)
    c = system.fresh(3)
    system.equal(np.concatenate([b, a]), np.concatenate([system.cuts.union(b, c), system.fresh(3)]))
    solution = system.cuts.solve()
    for x, y in zip(b, c, strict=True):
        assert solution.normal(y) < solution.normal(x)


def test_a_lock_on_a_compound_holds_all_its_atoms() -> None:
    system = System()
    grid = system.grid(2, 2)
    system.cuts.lock(grid[:1], 5)
    solution = system.cuts.solve()
    assert [bool(solution.normal(x)) for x in np.concatenate(system.families)] == [False, True, False, True]
    assert solution.frozen([grid]) == [{5: 1}]


def test_a_lock_that_reaches_an_index_through_equations_is_the_one_named() -> None:
    system = System()
    channels, grid = system.fresh(4), system.grid(2, 2)
    system.equal(channels, grid)
    system.cuts.lock(channels[:1], 7)
    solution = system.cuts.solve()
    assert solution.frozen([channels, system.families[1]]) == [{7: 1}, {7: 1}]


def test_the_same_cut_sets_have_one_number() -> None:
    system = System()
    a, b = system.fresh(2), system.fresh(3)
    grid = system.cuts.union(a[:, None], b[None, :])
    assert np.array_equal(grid, system.cuts.union(a[:, None], b[None, :]))
    assert np.array_equal(system.cuts.union(a, a), a)
    assert np.array_equal(system.cuts.union(a, system.cuts.never(2)), a)
    twice = system.cuts.union(grid, a[:, None])
    assert [atoms(system, cut) for cut in twice.ravel()] == [atoms(system, cut) for cut in grid.ravel()]


def test_a_product_falls_apart_into_its_factors() -> None:
    """Whatever made it: here rows of a larger product, in another order."""
    system = System()
    a, b, c = system.fresh(4), system.fresh(3), system.fresh(2)
    whole = system.cuts.union(a[:, None, None], b[None, :, None], c[None, None, :])
    axis = np.concatenate([whole[2], whole[1]]).reshape(-1)
    lines = system.cuts.lines(axis, (2, 3, 2))
    assert lines is not None
    assert [line.tolist() for line in lines] == [a[[2, 1]].tolist(), b.tolist(), c.tolist()]
    lines = system.cuts.lines(axis, (2, 1, 6))
    assert lines is not None
    assert [atoms(system, cut) for cut in lines[2].tolist()] == [{int(x), int(y)} for x in b for y in c]
    assert system.cuts.lines(axis, (3, 4)) is None
    assert system.cuts.lines(np.roll(axis, 1), (2, 6)) is None
