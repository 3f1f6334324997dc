"""The zoo: networks of every architecture with random weights, to try the compiler on.

`catalogue()` lists them, `load(name)` builds one, `python -m zoo.export` writes them as ONNX.
Needs torchvision, timm and transformers beside what amcc needs, though not for the listing.
"""

from __future__ import annotations

from zoo.catalogue import catalogue, load
from zoo.entry import Entry

__all__ = ["Entry", "catalogue", "load"]
