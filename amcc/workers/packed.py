"""A Python object and its arrays as one block of bytes, from which they are used without a copy.

Pickle's protocol 5 gives arrays out of band (PEP 574), so a block that several processes map is one copy of the
weights for all of them. cloudpickle also takes functions that were defined in a script or notebook. Blocks go
to processes that amcc started, and are read from nowhere else.

Layout: int64 count of sections, int64 length of each; then the sections, each at a multiple of 64 bytes: the pickle,
then its arrays.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from amcc.errors import UsageError

_ALIGNED = 64


class Packed:
    """An object made ready to be laid out as a block.

    Args:
        what: what the object is, for the message.

    Attributes:
        size: of the block, in bytes.

    Raises:
        UsageError: the object cannot be sent to another process.
    """

    def __init__(self, thing: Any, what: str) -> None:
        import cloudpickle

        buffers: list[pickle.PickleBuffer] = []
        try:
            pickled = cloudpickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
        except Exception as error:  # whatever an object's own way to be pickled raises
            reason = str(error).strip().splitlines()
            raise UsageError(
                f"{what} cannot be sent to workers: {type(error).__name__}: {reason[0] if reason else ''}",
                hint="give the metric as module:function, or leave --workers out",
            ) from error
        sections = [memoryview(pickled), *(buffer.raw() for buffer in buffers)]
        lengths = [len(section) for section in sections]
        header = memoryview(np.array([len(lengths), *lengths], np.int64).tobytes())
        self._parts = list(zip((0, *_starts(lengths)), (header, *sections), strict=True))
        last, section = self._parts[-1]
        self.size = last + len(section)

    def __iter__(self) -> Iterator[tuple[int, memoryview]]:
        """The parts of the block: where each begins, and its bytes."""
        return iter(self._parts)


def unpacked(block: memoryview) -> Any:
    """The object in a block; its arrays are views of the block, which must stay."""
    count = int(np.frombuffer(block, np.int64, 1)[0])
    lengths = np.frombuffer(block, np.int64, count, offset=8).tolist()
    sections = [block[start : start + length] for start, length in zip(_starts(lengths), lengths, strict=True)]
    return pickle.loads(sections[0], buffers=sections[1:])


def _starts(lengths: Sequence[int]) -> list[int]:
    """Where each section begins."""
    room = [-(-length // _ALIGNED) * _ALIGNED for length in (8 + 8 * len(lengths), *lengths[:-1])]
    return list(itertools.accumulate(room))
