"""Equations between cut sets: whatever units go, both sides of every equation agree."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amcc.passes.channels.cutsets import CutSets, Solution


def gone(solution: Solution, cut: int, removed: set[int]) -> bool:
    """Whether an index with this cut set goes when these units are removed."""
    return bool(solution.normal(cut) & removed)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_solutions_satisfy_every_equation_and_lock(data: st.DataObject) -> None:
    system = CutSets()
    rows, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    n = rows * columns
    axes = [system.fresh(n), system.fresh(n)]
    for shape in ((rows, columns), (columns, rows)):
        a, b = system.fresh(shape[0]), system.fresh(shape[1])
        axes.append(system.union(a[:, None], b[None, :]).reshape(-1))
    axes.append(np.concatenate([system.fresh(n - 1), system.never(1)]))
    equations = []
    for _ in range(data.draw(st.integers(0, 4))):
        left, right = (axes[data.draw(st.integers(0, len(axes) - 1))] for _ in range(2))
        order = np.array(data.draw(st.permutations(range(n))))
        right = right[order] if data.draw(st.booleans()) else right
        system.equal(left, right, len(equations))
        equations.append((left, right))
    held = axes[data.draw(st.integers(0, len(axes) - 1))][: data.draw(st.integers(0, 1))]
    system.lock(held, 100)
    solution = system.solve()
    units = sorted(set().union(*(solution.normal(c) for axis in axes for c in axis.tolist())))
    removed = {u for u in units if data.draw(st.booleans())}
    for left, right in equations:
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            assert gone(solution, a, removed) == gone(solution, b, removed)
    for cut in held.tolist():
        assert not gone(solution, cut, set(units))


def test_equal_atoms_merge() -> None:
    system = CutSets()
    a, b, c = system.fresh(3), system.fresh(3), system.fresh(3)
    system.equal(a, b, 0)
    system.equal(b, c[::-1], 1)
    solution = system.solve()
    assert [solution.normal(x) for x in a] == [solution.normal(x) for x in c[::-1]]
    assert len({solution.normal(x) for x in a}) == 3


def test_an_atom_that_equals_a_compound_is_replaced_by_it() -> None:
    """Channels in front of a grouped convolution go with their group or with their position."""
    system = CutSets()
    channels, groups, positions = system.fresh(6), system.fresh(2), system.fresh(3)
    grid = system.union(groups[:, None], positions[None, :]).reshape(-1)
    system.equal(channels, grid, 0)
    solution = system.solve()
    assert solution.normal(channels[4]) == {groups[1], positions[1]}


def test_compounds_match_through_equal_supports() -> None:
    system = CutSets()
    grids = []
    for _ in range(2):
        a, b = system.fresh(2), system.fresh(3)
        grids.append((a, b, system.union(a[:, None], b[None, :]).reshape(-1)))
    system.equal(grids[0][2], grids[1][2], 0)
    solution = system.solve()
    assert [solution.normal(x) for x in grids[0][0]] == [solution.normal(x) for x in grids[1][0]]
    assert [solution.normal(x) for x in grids[0][1]] == [solution.normal(x) for x in grids[1][1]]
    assert all(solution.normal(x) for x in grids[0][0])


def test_compounds_that_do_not_match_give_up_as_little_as_they_can() -> None:
    """Two halves of 2 groups of 3, joined and read in 2 groups of 6: the halves' groups go, the rest survives."""
    system = CutSets()
    halves = []
    for _ in range(2):
        groups, positions = system.fresh(2), system.fresh(3)
        halves.append(system.union(groups[:, None], positions[None, :]).reshape(-1))
    groups, positions = system.fresh(2), system.fresh(6)
    system.equal(np.concatenate(halves), system.union(groups[:, None], positions[None, :]).reshape(-1), 7)
    solution = system.solve()
    units = set().union(*(solution.normal(c) for half in halves for c in half.tolist()))
    assert units == {*groups.tolist(), *(next(iter(solution.normal(p))) for p in positions.tolist())}
    assert len(units) == 5
    assert solution.normal(positions[0]) == solution.normal(positions[3])


def test_a_lock_on_a_compound_holds_all_its_atoms() -> None:
    system = CutSets()
    a, b = system.fresh(2), system.fresh(2)
    grid = system.union(a[:, None], b[None, :]).reshape(-1)
    system.lock(grid[:1], 5)
    solution = system.solve()
    assert [bool(solution.normal(x)) for x in (*a, *b)] == [False, True, False, True]
    assert solution.frozen(grid) == {5: 1}
