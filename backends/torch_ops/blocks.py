"""Repeated parts of a network as classes of their own.

A part is what lies below one numbered name (`layer1.0`, `encoder.layer.3`): the run of statements that speak of its
parameters, and what follows them alike in all parts of one kind. Parts whose statements are the same become one
class; numbers in which their layers differ, its arguments. Numbered parts that follow each other become an
`nn.Sequential`, others an `nn.ModuleList`. Keys of the state dict stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from amcc.backends.torch_ops.names import path
from amcc.backends.torch_ops.state import State
from amcc.backends.torch_ops.writer import MARK, Layer, Statement
from amcc.ir import Node

_LEAST = 2  # statements, and parts of one kind
_NUMBER = re.compile(r"(?<![\w.\"'§])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.\"'§])")
_PLACES = {"Conv": ("in_channels", "out_channels", "kernel_size"), "Linear": ("in_features", "out_features")}
_PLACES |= {"BatchNorm": ("channels",), "InstanceNorm": ("channels",), "GroupNorm": ("groups", "channels")}
_PLACES |= {"LayerNorm": ("width",), "PReLU": ("channels",), "F.pad": ("pad",)}
_COMMON = {
    frozenset(("in_channels", "out_channels")): "channels",
    frozenset(("in_features", "out_features")): "features",
}
_Numbers = tuple[str, ...]


@dataclass
class Block:
    """A class of the written file.

    Attributes:
        inputs: marks that its `forward` takes.
        live: its statements; the last one returns.
        init: lines of its `__init__`.
        arguments: names of what `__init__` takes.
    """

    name: str
    inputs: list[str]
    live: list[Statement]
    init: list[str]
    arguments: list[str]


@dataclass
class Folded:
    """The forward pass with its repeated parts as calls."""

    live: list[Statement]
    layers: dict[str, Layer]
    blocks: list[Block] = field(default_factory=list)


@dataclass
class _Part:
    """Statements `first` to `last` (exclusive), below one prefix."""

    prefix: str
    first: int
    last: int


def folded(live: Sequence[Statement], state: State) -> Folded:
    """The shorter of two: parts of parts as parts, or whole ones."""
    found = [_folded(list(live), state, outer) for outer in (True, False)]
    return min(found, key=_length)


def _length(found: Folded) -> int:
    return len(found.live) + sum(len(block.live) + len(block.init) + 4 for block in found.blocks)


def _folded(live: list[Statement], state: State, outer: bool) -> Folded:
    result = Folded([replace(statement) for statement in live], dict(state.layers))
    _join(result, state, plain=True)
    live, layers = result.live, dict(result.layers)
    kinds = _kinds(live, state, layers, outer)
    calls: dict[int, tuple[_Part, Statement]] = {}
    for parts in kinds:
        block, arguments = _block(f"Block{len(result.blocks) + 1}", parts, live, state, layers)
        result.blocks.append(block)
        for part, given in zip(parts, arguments, strict=True):
            inputs, output = _ends(live, part)
            made = Layer(f"{block.name}({', '.join(given)})", ())
            result.layers[part.prefix] = made
            call = Statement(Node(part.prefix, "", (), ()), f"{path(part.prefix)}({', '.join(inputs)})", (output,))
            call.layers[part.prefix] = None
            calls[part.first] = (part, call)
    if len(result.blocks) == 1:
        _rename(result, "Block1", "Block")
    index, shortened = 0, []
    while index < len(live):
        called = calls.get(index)
        shortened.append(called[1] if called else live[index])
        index = called[0].last if called else index + 1
    result.live = shortened
    _join(result, state)
    return result


def _rename(result: Folded, old: str, new: str) -> None:
    result.blocks[0].name = new
    for prefix, layer in result.layers.items():
        if layer.code.startswith(f"{old}("):
            result.layers[prefix] = Layer(layer.code.replace(old, new, 1), layer.params)


def _kinds(live: Sequence[Statement], state: State, layers: Mapping[str, Layer], outer: bool) -> list[list[_Part]]:
    """Parts that are alike, none within another, in the order of their first."""
    held = [state.held(statement) for statement in live]
    prefixes = {
        ".".join(steps[:depth])
        for keys in held
        for steps in (key.split(".") for key in keys)
        for depth in range(1, len(steps))
        if steps[depth - 1].isdecimal()
    }
    tied = [*state.ties, *state.ties.values()]
    found: dict[str, list[_Part]] = {}
    for prefix in sorted(prefixes):
        part = _part(prefix, held)
        if part is not None and not any(key.startswith(f"{prefix}.") for key in tied):
            found.setdefault(_spelling(live, state, layers, part), []).append(part)
    kinds = [parts for parts in found.values() if len(parts) >= _LEAST]
    kinds.sort(key=lambda parts: parts[0].prefix.count("."), reverse=not outer)
    taken: set[int] = set()
    chosen: list[list[_Part]] = []
    for parts in kinds:
        parts = [part for part in parts if taken.isdisjoint(range(part.first, part.last))]
        parts = _extended(live, held, parts)
        if len(parts) >= _LEAST:
            chosen.append(parts)
            taken.update(index for part in parts for index in range(part.first, part.last))
    return sorted(chosen, key=lambda parts: min(part.first for part in parts))


def _part(prefix: str, held: Sequence[Sequence[str]]) -> _Part | None:
    """The run of statements that speak of what is below a prefix; None if others come between, or it is too short."""
    within = [i for i, keys in enumerate(held) if any(key.startswith(f"{prefix}.") for key in keys)]
    part = _Part(prefix, within[0], within[-1] + 1)
    every = (key for keys in held[part.first : part.last] for key in keys)
    alone = all(key.startswith(f"{prefix}.") for key in every)
    return part if alone and part.last - part.first >= _LEAST else None


def _extended(live: Sequence[Statement], held: Sequence[Sequence[str]], parts: list[_Part]) -> list[_Part]:
    """The parts with as many of the statements behind them as are the same and leave each with one result.

    Parts that have not one result are left out.
    """
    best: list[_Part] = []
    for more in range(len(live)):
        longer = [_Part(part.prefix, part.first, part.last + more) for part in parts]
        if any(part.last >= len(live) or (more and held[part.last - 1]) for part in longer):
            break
        starts = {part.first for part in longer}
        if any(starts.intersection(range(part.first + 1, part.last)) for part in longer):
            break
        if len({_NUMBER.sub("#", _canonical(live, part)) for part in longer}) != 1:
            break
        if all(_ends(live, part)[1] for part in longer):
            best = longer
    return best


def _spelling(live: Sequence[Statement], state: State, layers: Mapping[str, Layer], part: _Part) -> str:
    """What parts of one kind have in common: their statements, and their layers but for numbers."""
    init = state.lines(live[part.first : part.last], layers, part.prefix)
    return _NUMBER.sub("#", "\n".join([_canonical(live, part), *init]))


def _canonical(live: Sequence[Statement], part: _Part) -> str:
    """The statements, values numbered anew."""
    names: dict[str, str] = {}
    return MARK.sub(
        lambda mark: names.setdefault(mark[0], f"v{len(names)}"),
        "\n".join(f"{', '.join(s.targets)} = {_own(s.code, part.prefix)}" for s in live[part.first : part.last]),
    )


def _own(code: str, prefix: str) -> str:
    """Code as it reads within the part."""
    return re.sub(re.escape(path(prefix)) + r"(?=[.\[])", "self", code)


def _ends(live: Sequence[Statement], part: _Part) -> tuple[list[str], str]:
    """What a part reads from outside, and its one result; "" if it has none or several."""
    inside = live[part.first : part.last]
    made = {target for statement in inside for target in statement.targets}
    inputs = dict.fromkeys(m for s in inside for m in MARK.findall(s.code) if m not in made)
    rest = (mark for s in live[part.last :] for mark in MARK.findall(s.code))
    outputs = [mark for mark in dict.fromkeys(rest) if mark in made]
    return list(inputs), outputs[0] if len(outputs) == 1 else ""


def _block(
    name: str, parts: Sequence[_Part], live: Sequence[Statement], state: State, layers: Mapping[str, Layer]
) -> tuple[Block, list[list[str]]]:
    """The class of some parts, and the arguments that make each of them."""
    first = parts[0]
    inputs, output = _ends(live, first)
    inits = ["\n".join(state.lines(live[p.first : p.last], layers, p.prefix)).split("\n") for p in parts]
    codes = [[_own(s.code, p.prefix) for s in live[p.first : p.last]] for p in parts]
    found = [[_NUMBER.findall(line) for line in (*init, *code)] for init, code in zip(inits, codes, strict=True)]
    columns = [list(zip(*lines, strict=True)) for lines in zip(*found, strict=True)]
    names = _arguments((*inits[0], *codes[0]), columns)
    count = len(inits[0])
    init = [_filled(line, column, names) for line, column in zip(inits[0], columns[:count], strict=True)]
    code = [_filled(line, column, names, "self.") for line, column in zip(codes[0], columns[count:], strict=True)]
    kept = dict.fromkeys(names[numbers] for column in columns[count:] for numbers in column if numbers in names)
    inside = live[first.first : first.last]
    body = [replace(statement, code=text) for statement, text in zip(inside, code, strict=True)]
    body.append(Statement(Node("return", "return", (), ()), output))
    given = [[numbers[i] for numbers in names] for i in range(len(parts))]
    return Block(name, inputs, body, [*(f"self.{n} = {n}" for n in kept), *init], list(names.values())), given


def _arguments(lines: Sequence[str], columns: Sequence[Sequence[_Numbers]]) -> dict[_Numbers, str]:
    """What the numbers that differ from part to part are called."""
    names: dict[_Numbers, str] = {}
    for line, column in zip(lines, columns, strict=True):
        for numbers, called in zip(column, _places(line), strict=True):
            known = names.get(numbers, "")
            if len(set(numbers)) > 1 and known != called:
                own = _COMMON.get(frozenset((known, called)), known or called)
                names[numbers] = _free(own, {name for other, name in names.items() if other != numbers})
    return names


def _free(name: str, taken: set[str]) -> str:
    count = 2
    own = name
    while own in taken:
        own, count = f"{name}_{count}", count + 1
    return own


def _filled(line: str, column: Sequence[_Numbers], names: Mapping[_Numbers, str], owner: str = "") -> str:
    """A line with arguments, or what holds them, for the numbers that differ."""
    numbers = iter(column)

    def one(_: re.Match[str]) -> str:
        each = next(numbers)
        return f"{owner}{names[each]}" if each in names else each[0]

    return _NUMBER.sub(one, line)


def _places(line: str) -> list[str]:
    """What the numbers of a line say, one after the other."""
    code = line.partition(" = ")[2] or line.strip()
    layer = next((places for stem, places in _PLACES.items() if code.startswith((f"nn.{stem}", stem))), ())
    found: list[str] = []
    position = 0
    for number in _NUMBER.finditer(line):
        if number.end() <= len(line) - len(code):  # where it stands, not what it is made of
            found.append("size")
            continue
        before = re.search(r"(\w+)=\(?[\d, ]*$", line[: number.start()])
        if before is None:
            found.append(layer[min(position, len(layer) - 1)] if layer else "size")
            position += 1
        else:
            found.append(before[1])
    return found


def _join(result: Folded, state: State, *, plain: bool = False) -> None:
    """Numbered parts under one name as a list, or as a sequence where each takes what the one before gives.

    Args:
        plain: sequences alone, and none that is itself one of numbered parts.
    """
    above = dict.fromkeys(
        key.rpartition(".")[0] for key in result.layers if key.rpartition(".")[2].isdecimal() and "." in key
    )
    for prefix in above:
        below = [key for s in result.live for key in state.held(s) if key.startswith(f"{prefix}.")]
        parts = [f"{prefix}.{number}" for number in range(len(set(below)))]
        if len(parts) < _LEAST or set(below) != set(parts) or not all(part in result.layers for part in parts):
            continue
        if any(key.startswith(f"{prefix}.") for key in (*state.ties, *state.ties.values())):
            continue
        chain = _chain(result.live, parts)
        if plain and (chain is None or prefix.rpartition(".")[2].isdecimal()):
            continue
        made = [result.layers[part].code for part in parts]
        if chain is None and list(dict.fromkeys(below)) != parts:
            continue
        kind = "nn.Sequential" if chain is not None else "nn.ModuleList"
        result.layers[prefix] = Layer(_listed(kind, made), ())
        if chain is None:
            _owned_by(result.live, prefix)
            continue
        call = Statement(Node(prefix, "", (), ()), f"{path(prefix)}({chain[0]})", (chain[1],))
        call.layers[prefix] = None
        place = next(i for i, s in enumerate(result.live) if parts[0] in s.layers)
        result.live[place : place + len(parts)] = [call]


def _listed(kind: str, made: Sequence[str]) -> str:
    if len(set(made)) == 1 and len(made) > _LEAST:
        each = f"{made[0]} for _ in range({len(made)})"
        return f"{kind}(*({each}))" if kind == "nn.Sequential" else f"{kind}({each})"
    inner = "".join(f"    {code},\n" for code in made)
    return f"{kind}(\n{inner})" if kind == "nn.Sequential" else f"{kind}([\n{inner}])"


def _chain(live: Sequence[Statement], parts: Sequence[str]) -> tuple[str, str] | None:
    """What goes into the first part and comes out of the last, if nothing else takes part."""
    place = next(i for i, s in enumerate(live) if parts[0] in s.layers)
    run = live[place : place + len(parts)]
    if [list(s.layers) for s in run] != [[part] for part in parts]:
        return None
    reads = [MARK.findall(s.code) for s in live]
    given, value = reads[place], reads[place][0] if reads[place] else ""
    for offset, (statement, part) in enumerate(zip(run, parts, strict=True)):
        if statement.code != f"{path(part)}({value})" or len(statement.targets) != 1:
            return None
        value = statement.targets[0]
        if offset + 1 < len(run) and sum(value in marks for marks in reads) != 1:
            return None
    return given[0], value


def _owned_by(live: Sequence[Statement], prefix: str) -> None:
    """The list is made where its first part is met."""
    for statement in live:
        if any(key.startswith(f"{prefix}.") for key in statement.layers):
            others = {key: None for key in statement.layers if not key.startswith(f"{prefix}.")}
            statement.layers = {prefix: None, **others}


__all__ = ["Block", "Folded", "folded"]
