"""What goes at once: channels, or single weights, N:M patterns and blocks of them, set to zero."""

from __future__ import annotations

import re
from dataclasses import dataclass

from amcc.errors import UsageError

_FORMS = "channel, weight, N:M such as 2:4, or block=RxC such as block=1x4"
_PATTERN = re.compile(r"([0-9]{1,4}):([0-9]{1,4})")
_BLOCK = re.compile(r"block(?:=([0-9]{1,4})x([0-9]{1,4}))?")


@dataclass(frozen=True, slots=True)
class Granularity:
    """How the zeros of a layer may lie.

    Attributes:
        text: as the user wrote it.
        rows, columns: of a block that stays or goes as a whole: output channels, and input channels at one
            offset of the kernel.
        stay, of: of so many consecutive input channels so many weights of each output stay; 0 of 0 for any.
    """

    text: str
    rows: int = 1
    columns: int = 1
    stay: int = 0
    of: int = 0

    def __str__(self) -> str:
        return self.text

    @property
    def regular(self) -> bool:
        """Whether a layer takes an N:M pattern or stays whole."""
        return self.of > 0

    @classmethod
    def parse(cls, text: str) -> Granularity | None:
        """Read `weight`, `2:4`, `block` (4x1) or `block=1x4`; None for `channel`.

        Raises:
            UsageError: it is none of these.
        """
        if text == "channel":
            return None
        if text == "weight":
            return cls(text)
        if found := _PATTERN.fullmatch(text):
            stay, of = map(int, found.groups())
            if 0 < stay < of:
                return cls(text, stay=stay, of=of)
            raise UsageError(f"{text}: N of M weights stay, so N is above 0 and below M", where="--granularity")
        if found := _BLOCK.fullmatch(text):
            rows, columns = (int(side or default) for side, default in zip(found.groups(), (4, 1), strict=True))
            if rows * columns > 1:
                return cls(text, rows=rows, columns=columns)
            raise UsageError(f"{text}: a block has more than one weight", where="--granularity", hint="use weight")
        raise UsageError(f"'{text}' is no granularity", where="--granularity", hint=f"use {_FORMS}")
