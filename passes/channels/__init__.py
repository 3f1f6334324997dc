"""Channel analysis: which indices of which tensors live and die together."""

from __future__ import annotations

from amcc.passes.channels.analysis import analyze
from amcc.passes.channels.model import Approximation, Channels, Contraction, Group, Lock, Obstacle, Removal, Slice

__all__ = ["Approximation", "Channels", "Contraction", "Group", "Lock", "Obstacle", "Removal", "Slice", "analyze"]
