"""Loops, step by step."""

import torch


def loop(body, trips, going, states, captured, stacked, ranks=(0, 0)):
    """ONNX Loop: `body(step, going, *states, *captured)` gives whether to go on, the states, and what is stacked.

    Args:
        trips: steps at most; None for as many as `going` allows.
        stacked: how many of the results of each step are stacked.
        ranks: of the step and of the condition within the body.
    """
    device = next((t.device for t in (*states, *captured) if isinstance(t, torch.Tensor)), None)
    parts, step = [], 0
    while going and (trips is None or step < trips):
        number = torch.full((1,) * ranks[0], step, dtype=torch.int64, device=device)
        found = body(number, torch.ones((1,) * ranks[1], dtype=torch.bool, device=device), *states, *captured)
        going, *found = found if isinstance(found, tuple) else (found,)
        going, states, step = bool(going), found[: len(states)], step + 1
        parts.append(found[len(states) :])
    if stacked and not parts:
        raise ValueError("a loop without steps has nothing to stack")
    return (*states, *(torch.stack(column) for column in zip(*parts)))


def scan(body, states, scanned, captured, axes, backwards, out_axes, out_backwards):
    """ONNX Scan: `body(*states, *elements, *captured)` gives the states and what is stacked."""
    columns = [list(t.unbind(axis)) for t, axis in zip(scanned, axes)]
    columns = [column[::-1] if back else column for column, back in zip(columns, backwards)]
    parts = []
    for elements in zip(*columns):
        found = body(*states, *elements, *captured)
        found = found if isinstance(found, tuple) else (found,)
        states = found[: len(states)]
        parts.append(found[len(states) :])
    results = [list(column)[::-1] if back else list(column) for column, back in zip(zip(*parts), out_backwards)]
    return (*states, *(torch.stack(column, axis) for column, axis in zip(results, out_axes)))
