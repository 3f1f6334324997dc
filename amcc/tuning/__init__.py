"""Training that brings back what compression cost: distillation from the original, batch normalisation restored.

`amcc.tuning.tuned` is the whole of it: a smaller network, the original and samples in, the network with better
weights out. How is in `amcc.settings.Tuning`. The parts: `norms` (batch normalisation in and out), `targets` and
`teacher` (what the original says), `student` (the graph as a module), `stream` (which samples each step sees),
`augment`, `loss`, `world` (several processes), `checkpoint`, `trainer` (the loop).
"""

from __future__ import annotations
