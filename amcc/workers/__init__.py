"""One function, called for many things at once: in other processes here, or on a Ray cluster.

`pool` is what a caller sees: a queue, and what happens when a worker dies. `local` and `cluster` are the places where
workers may be, `packed` makes the function and its arrays one block of memory that all workers of a machine share,
and `serving` runs in a worker. Results come in the order of the items, whichever was ready first.
"""

from __future__ import annotations
