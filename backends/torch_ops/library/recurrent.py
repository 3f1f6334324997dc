"""Recurrent layers."""

import torch


def recur(cell, x, states, lengths, reverse):
    """`states = cell(x[t], *states)` over all steps of `x [T, B, ...]`.

    Behind the length of a sample its states stand still and its outputs are 0.

    Returns:
        The first of the states after every step `[T, B, H]`, and the last states.
    """
    outputs = [None] * x.shape[0]
    for t in range(x.shape[0] - 1, -1, -1) if reverse else range(x.shape[0]):
        new = cell(x[t], *states)
        outputs[t] = new[0]
        if lengths is not None:
            alive = (t < lengths).unsqueeze(-1)
            new = tuple(torch.where(alive, after, before) for after, before in zip(new, states))
            outputs[t] = torch.where(alive, new[0], 0)
        states = new
    return torch.stack(outputs), states


def lstm(x, w, r, b, lengths, h, c, p, activations, reverse, clip=None, coupled=False, batch_first=False):
    """ONNX LSTM; gates in the order input, output, forget, cell.

    Args:
        x: `[T, B, I]`; `w [D, 4 H, I]`, `r [D, 4 H, H]`, `b [D, 8 H]`, `h` and `c [D, B, H]`, peepholes `p [D, 3 H]`.
        activations: three of each direction.
        reverse: for each direction whether it runs backwards.

    Returns:
        Outputs `[T, D, B, H]`, the last `h` and the last `c` `[D, B, H]`.
    """
    if batch_first:
        x, h, c = (None if t is None else t.transpose(0, 1) for t in (x, h, c))

    def direction(d):
        gate, inner, outer = activations[3 * d : 3 * d + 3]
        bias = 0 if b is None else b[d].unflatten(0, (2, -1)).sum(0)
        peep_i, peep_o, peep_f = (0, 0, 0) if p is None else p[d].chunk(3)

        def limited(t):
            return t if clip is None else t.clamp(-clip, clip)

        def cell(part, hidden, memory):
            i, o, f, new = (part + hidden @ r[d].T).chunk(4, -1)
            i = gate(limited(i + peep_i * memory))
            f = 1 - i if coupled else gate(limited(f + peep_f * memory))
            memory = f * memory + i * inner(limited(new))
            return gate(limited(o + peep_o * memory)) * outer(memory), memory

        zero = x.new_zeros(x.shape[1], r.shape[-1])
        start = tuple(zero if t is None else t[d] for t in (h, c))
        return recur(cell, x @ w[d].T + bias, start, lengths, reverse[d])

    results = [direction(d) for d in range(w.shape[0])]
    y = torch.stack([outputs for outputs, _ in results], 1)
    last = [torch.stack([states[k] for _, states in results]) for k in range(2)]
    if batch_first:
        return y.permute(2, 0, 1, 3), last[0].transpose(0, 1), last[1].transpose(0, 1)
    return y, last[0], last[1]


def gru(x, w, r, b, lengths, h, activations, reverse, clip=None, reset_after=False, batch_first=False):
    """ONNX GRU; gates in the order update, reset, hidden. Shapes as in `lstm`, with 3 H and 6 H.

    Args:
        reset_after: the reset gate acts behind the product with the recurrent weights.

    Returns:
        Outputs `[T, D, B, H]` and the last state `[D, B, H]`.
    """
    if batch_first:
        x, h = (None if t is None else t.transpose(0, 1) for t in (x, h))

    def direction(d):
        gate, inner = activations[2 * d : 2 * d + 2]
        size = r.shape[-1]
        bias, bias_r = (x.new_zeros(3 * size),) * 2 if b is None else b[d].chunk(2)
        weight_gates, weight_hidden = r[d][: 2 * size], r[d][2 * size :]

        def limited(t):
            return t if clip is None else t.clamp(-clip, clip)

        def cell(part, hidden):
            gates, new = part.split((2 * size, size), -1)
            z, s = gate(limited(gates + hidden @ weight_gates.T + bias_r[: 2 * size])).chunk(2, -1)
            if reset_after:
                new = new + s * (hidden @ weight_hidden.T + bias_r[2 * size :])
            else:
                new = new + (s * hidden) @ weight_hidden.T + bias_r[2 * size :]
            return ((1 - z) * inner(limited(new)) + z * hidden,)

        start = x.new_zeros(x.shape[1], size) if h is None else h[d]
        return recur(cell, x @ w[d].T + bias, (start,), lengths, reverse[d])

    results = [direction(d) for d in range(w.shape[0])]
    y = torch.stack([outputs for outputs, _ in results], 1)
    last = torch.stack([states[0] for _, states in results])
    return (y.permute(2, 0, 1, 3), last.transpose(0, 1)) if batch_first else (y, last)


def rnn(x, w, r, b, lengths, h, activations, reverse, clip=None, batch_first=False):
    """ONNX RNN. Shapes as in `lstm`, with H and 2 H.

    Returns:
        Outputs `[T, D, B, H]` and the last state `[D, B, H]`.
    """
    if batch_first:
        x, h = (None if t is None else t.transpose(0, 1) for t in (x, h))

    def direction(d):
        bias = 0 if b is None else b[d].unflatten(0, (2, -1)).sum(0)

        def cell(part, hidden):
            new = part + hidden @ r[d].T
            return (activations[d](new if clip is None else new.clamp(-clip, clip)),)

        start = x.new_zeros(x.shape[1], r.shape[-1]) if h is None else h[d]
        return recur(cell, x @ w[d].T + bias, (start,), lengths, reverse[d])

    results = [direction(d) for d in range(w.shape[0])]
    y = torch.stack([outputs for outputs, _ in results], 1)
    last = torch.stack([states[0] for _, states in results])
    return (y.permute(2, 0, 1, 3), last.transpose(0, 1)) if batch_first else (y, last)
