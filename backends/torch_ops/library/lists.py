"""Sequences of tensors, as lists."""


def insert(sequence, tensor, position):
    """A list with one more."""
    return [*sequence[:position], tensor, *sequence[position:]]


def erase(sequence, position):
    """A list with one less."""
    position = position % len(sequence)
    return sequence[:position] + sequence[position + 1 :]


def split_up(x, sizes, axis):
    """The parts of a tensor as a list, of one size but for the last, or of the sizes given."""
    return list(x.split(sizes.tolist() if sizes.ndim else sizes.item(), axis))
