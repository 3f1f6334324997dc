"""Cut sets and the equations between them.

An index of a tensor axis carries a *cut set*: the units whose removal drops it. A cut set is written
as one number: an atom (`>= 0`), or a compound of several atoms (`< 0`). Atom 0 stands for "never":
an index that carries it alone stays for good. Operators make atoms (`fresh`), compounds (`union`) and
equations (`equal`); `solve` finds the coarsest units that satisfy all of them:

1. equations between atoms are merged by union-find;
2. an atom that equals a compound is replaced by it;
3. two compounds are matched atom by atom through equal supports (the indices that hold the atom);
4. what is left is solved by giving up whole families of atoms, the fewest units lost; what even that
   cannot solve is locked.

Every step only adds equations, so a solution is always legal; locking is always safe.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from amcc.ir import Array

NEVER = 0
_MOST_FAMILIES = 6
_FREE = -2


@dataclass(frozen=True)
class Equation:
    """`left[i]` and `right[i]` are the same cut set, for every i; `tag` numbers who said so."""

    left: Array
    right: Array
    tag: int


@dataclass
class CutSets:
    """A growing system of cut sets and equations."""

    _families: list[int] = field(default_factory=lambda: [1])  # size of each family of atoms
    _compounds: list[frozenset[int]] = field(default_factory=list)
    _numbers: dict[frozenset[int], int] = field(default_factory=dict)
    _equations: list[Equation] = field(default_factory=list)
    _locks: list[tuple[Array, int]] = field(default_factory=list)
    _count: int = 1

    def fresh(self, n: int) -> Array:
        """`n` new atoms: one family."""
        self._families.append(n)
        self._count += n
        return np.arange(self._count - n, self._count)

    def never(self, n: int) -> Array:
        """`n` indices that stay for good."""
        return np.zeros(n, np.int64)

    def atoms(self, cut: int) -> frozenset[int]:
        """The atoms of one cut set."""
        if cut >= 0:
            return frozenset() if cut == NEVER else frozenset((cut,))
        return self._compounds[-1 - cut]

    def union(self, *parts: Array) -> Array:
        """Index by index the union of cut sets; parts are broadcast against each other."""
        columns = [p.ravel() for p in np.broadcast_arrays(*parts)]
        rows, inverse = np.unique(np.stack(columns, 1), axis=0, return_inverse=True)
        cuts = np.array([self.number(frozenset().union(*map(self.atoms, row))) for row in rows.tolist()], np.int64)
        return cuts[inverse.ravel()].reshape(np.broadcast_shapes(*(p.shape for p in parts)))

    def number(self, atoms: frozenset[int]) -> int:
        """The cut set of exactly these atoms."""
        if len(atoms) < 2:
            return next(iter(atoms), NEVER)
        if atoms not in self._numbers:
            self._compounds.append(atoms)
            self._numbers[atoms] = -len(self._compounds)
        return self._numbers[atoms]

    def equal(self, left: Array, right: Array, tag: int) -> None:
        """The two axes lose the same indices."""
        if left is not right:
            self._equations.append(Equation(left, right, tag))

    def lock(self, cuts: Array, tag: int) -> None:
        """None of these indices may go."""
        self._locks.append((cuts, tag))

    def solve(self) -> Solution:
        """The units that satisfy every equation and lock."""
        family = np.repeat(np.arange(len(self._families)), self._families)
        solution = Solution(self, family)
        solution.run(self._equations, self._locks)
        return solution


class Solution:
    """Atoms merged, replaced or locked: what is left is free, and one unit each."""

    def __init__(self, cuts: CutSets, family: Array) -> None:
        self._cuts = cuts
        self._family = family
        self._parent: list[int] = []
        self._replaced: dict[int, frozenset[int]] = {}
        self._locked: dict[int, int] = {}
        self._holders: dict[int, list[_Batch]] = {}  # by free atom, the equations that hold it

    def run(self, equations: Sequence[Equation], locks: Iterable[tuple[Array, int]]) -> None:
        """Solve; called once."""
        self._parent = _merged(len(self._family), equations).tolist()
        self._locked[NEVER] = -1
        for cuts, tag in sorted([*locks, *_held(equations)], key=lambda event: event[1]):
            self._lock(itertools.chain.from_iterable(map(self._cuts.atoms, np.unique(cuts).tolist())), tag)
        batches = [_Batch.of(e) for e in equations if (e.left < 0).any() or (e.right < 0).any()]
        for batch in batches:
            for atom in {atom for pair in batch.pairs for cut in pair for atom in self.normal(cut)}:
                self._holders.setdefault(atom, []).append(batch)
        while self._substitute(batches):
            if not self._match(batches):
                self._give_up(batches)

    # -- reading ---------------------------------------------------------------------------------

    def normal(self, cut: int) -> frozenset[int]:
        """The free atoms of a cut set; empty if the index never goes."""
        return self._expand(self._cuts.atoms(cut))

    def table(self, cuts: Array) -> Array:
        """`[n, k]` the free atoms of each cut set of an axis, sorted, -1 filling."""
        roots, tags, plain = self._flat
        if cuts.min(initial=0) >= 0 and plain[roots[cuts]].all():
            found = roots[cuts]
            result: Array = np.where(tags[found] == _FREE, found, -1)[:, None]
            return result
        distinct, inverse = np.unique(cuts, return_inverse=True)
        sets = [sorted(self.normal(c)) for c in distinct.tolist()]
        width = max(map(len, sets))
        rows = np.array([atoms + [-1] * (width - len(atoms)) for atoms in sets], np.int64).reshape(len(sets), width)
        return rows[inverse.ravel()]

    def frozen(self, cuts: Array) -> dict[int, int]:
        """How many indices of an axis stay for good because of each lock, by tag."""
        roots, tags, plain = self._flat
        if cuts.min(initial=0) >= 0 and plain[roots[cuts]].all():
            by_tag = np.unique(tags[roots[cuts]], return_counts=True)
            return {tag: n for tag, n in zip(*(x.tolist() for x in by_tag), strict=True) if tag >= 0}
        counts: dict[int, int] = {}
        for cut, n in zip(*(x.tolist() for x in np.unique(cuts, return_counts=True)), strict=True):
            for tag in self.locked_by(cut) if not self.normal(cut) else ():
                counts[tag] = counts.get(tag, 0) + n
        return counts

    @cached_property
    def _flat(self) -> tuple[Array, Array, Array]:
        """By atom: its root; the tag of the lock on a root; whether a root stands for itself."""
        roots = np.array(self._parent)
        while (roots != roots[roots]).any():
            roots = roots[roots]
        tags, plain = np.full(len(roots), _FREE), np.ones(len(roots), bool)
        tags[list(self._locked)] = list(self._locked.values())
        plain[list(self._replaced)] = False
        return roots, tags, plain

    def locked_by(self, cut: int) -> frozenset[int]:
        """Tags of what froze the atoms of a cut set."""
        tags: set[int] = set()
        stack = list(self._cuts.atoms(cut))
        while stack:
            root = self._find(stack.pop())
            if root in self._locked:
                tags.add(self._locked[root])
            stack.extend(self._replaced.get(root, ()))
        return frozenset(tags)

    # -- solving ---------------------------------------------------------------------------------

    def _find(self, atom: int) -> int:
        parent, root = self._parent, atom
        while parent[root] != root:
            root = parent[root]
        while parent[atom] != root:
            parent[atom], atom = root, parent[atom]
        return root

    def _expand(self, atoms: Iterable[int]) -> frozenset[int]:
        found: set[int] = set()
        for atom in atoms:
            root = self._find(atom)
            if root in self._locked:
                continue
            if root in self._replaced:
                found |= self._expand(self._replaced[root])
            else:
                found.add(root)
        return frozenset(found)

    def _lock(self, atoms: Iterable[int], tag: int) -> None:
        for atom in atoms:
            root = self._find(atom)
            if root in self._replaced:
                self._lock(self._replaced[root], tag)
            elif root not in self._locked:
                self._locked[root] = tag
                self._stir(root, ())

    def _union(self, a: int, b: int) -> None:
        low, high = sorted((a, b))
        self._parent[high] = low
        self._stir(low, ())
        self._stir(high, (low,))

    def _replace(self, atom: int, by: frozenset[int]) -> None:
        self._replaced[atom] = by
        self._stir(atom, by)

    def _stir(self, atom: int, heirs: Iterable[int]) -> None:
        """An atom has changed: so have the equations that hold it, and its heirs stand in them too."""
        holders = self._holders.get(atom, [])
        for batch in holders:
            batch.stirred = True
        for heir in heirs:
            self._holders[heir] = list(dict.fromkeys([*self._holders.get(heir, []), *holders]))

    def _substitute(self, batches: list[_Batch]) -> bool:
        """Steps 1 and 2 until nothing moves; True if pairs of two compounds are left."""
        moved = True
        while moved:
            moved = False
            for batch in (batch for batch in batches if batch.stirred):
                batch.open = batch.stirred = False
                for pair in batch.pairs:
                    a, b = map(self.normal, pair)
                    a, b = a - b, b - a
                    if len(a) > 1 and len(b) > 1:
                        batch.open = True
                    elif a or b:
                        self._solve_pair(a, b, self._cause(pair, batch.tag) if not (a and b) else batch.tag)
                        moved = True
        return any(batch.open for batch in batches)

    def _cause(self, pair: tuple[int, int], tag: int) -> int:
        """The lock that reaches an index through its equation, rather than the equation."""
        return min((t for cut in pair for t in self.locked_by(cut) if t >= 0), default=tag)

    def _solve_pair(self, a: frozenset[int], b: frozenset[int], tag: int) -> None:
        if not a or not b:
            self._lock(a | b, tag)
        elif len(a) == 1 and len(b) == 1:
            self._union(*a, *b)
        elif len(a) == 1:
            self._replace(next(iter(a)), b)
        elif len(b) == 1:
            self._replace(next(iter(b)), a)

    def _match(self, batches: list[_Batch]) -> bool:
        """Step 3, for the first equation that it helps."""
        for batch in batches:
            if not batch.open:
                continue
            supports: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
            for i, pair in enumerate(batch.pairs):
                for side, cut in enumerate(pair):
                    for atom in self.normal(cut):
                        supports[side].setdefault(atom, []).append(i)
            by_support: dict[tuple[int, ...], list[int]] = {}
            for atom, support in sorted(supports[1].items()):
                if atom not in supports[0]:
                    by_support.setdefault(tuple(support), []).append(atom)
            matched = False
            for atom, support in sorted(supports[0].items()):
                twins = by_support.get(tuple(support))
                if atom not in supports[1] and twins:
                    self._union(atom, twins.pop(0))
                    matched = True
            if matched:
                return True
        return False

    def _give_up(self, batches: list[_Batch]) -> None:
        """Step 4, for the first equation that is not solved."""
        batch = next(batch for batch in batches if batch.open)
        pairs = [(self.normal(left), self.normal(right)) for left, right in batch.pairs]
        families = sorted({int(self._family[atom]) for a, b in pairs for atom in a | b})
        choices: Iterable[tuple[int, ...]] = [(), *((f,) for f in families)]
        if len(families) <= _MOST_FAMILIES:
            choices = itertools.chain.from_iterable(itertools.combinations(families, r) for r in range(len(families)))
        if len(families) == 1:
            choices = [()]
        scored = list(choices)
        dropped = (
            scored[0]
            if len(scored) == 1
            else max(scored, key=lambda d: (_units_left(pairs, self._dropped(pairs, d)), -len(d)))
        )
        self._lock(self._dropped(pairs, dropped), batch.tag)
        for left, right in batch.pairs if not dropped else ():
            a, b = self.normal(left), self.normal(right)
            if len(a - b) > 1 and len(b - a) > 1:
                self._lock(a ^ b, batch.tag)

    def _dropped(self, pairs: list[tuple[frozenset[int], frozenset[int]]], families: tuple[int, ...]) -> set[int]:
        return {atom for a, b in pairs for atom in a | b if int(self._family[atom]) in families}


def _merged(count: int, equations: Sequence[Equation]) -> Array:
    """Union-find over all equations between two atoms at once: `[count]` the smallest equal atom."""
    pairs = [np.stack([e.left, e.right], 1)[(e.left > NEVER) & (e.right > NEVER)] for e in equations]
    parent = np.arange(count)
    if not pairs:
        return parent
    a, b = np.concatenate(pairs).T
    while True:
        low, high = np.minimum(parent[a], parent[b]), np.maximum(parent[a], parent[b])
        differ = low != high
        if not differ.any():
            return parent
        np.minimum.at(parent, high[differ], low[differ])
        while (parent != parent[parent]).any():
            parent = parent[parent]


def _held(equations: Sequence[Equation]) -> Iterable[tuple[Array, int]]:
    """The equations with "never" are locks of their other side."""
    for equation in equations:
        for one, other in ((equation.left, equation.right), (equation.right, equation.left)):
            if (held := one[other == NEVER]).any():
                yield held, equation.tag


@dataclass(eq=False)
class _Batch:
    """An equation with compounds, as distinct pairs.

    Attributes:
        open: some pair holds two unlike compounds.
        stirred: one of its atoms has changed since it was looked at.
    """

    pairs: list[tuple[int, int]]
    tag: int
    open: bool = True
    stirred: bool = True

    @classmethod
    def of(cls, equation: Equation) -> _Batch:
        pairs = np.unique(np.stack([equation.left, equation.right], 1), axis=0)
        return cls([(a, b) for a, b in pairs.tolist() if a != b], equation.tag)


def _units_left(pairs: list[tuple[frozenset[int], frozenset[int]]], dropped: set[int]) -> int:
    """How many units one equation would leave free, were the dropped atoms locked."""
    system = CutSets()
    atoms = sorted({atom for a, b in pairs for atom in (a | b) if atom not in dropped})
    local = dict(zip(atoms, system.fresh(len(atoms)).tolist(), strict=True))
    sides = [
        np.array([system.number(frozenset(local[x] for x in pair[s] if x in local)) for pair in pairs], np.int64)
        for s in (0, 1)
    ]
    system.equal(sides[0], sides[1], 0)
    solution = system.solve()
    return len(set().union(*map(solution.normal, local.values())))
