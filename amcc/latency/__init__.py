"""How long a device takes for any plan of a network: measured once, then computed.

`device` runs whole networks, `profile` times operators inside one, `designs` says which plans are run and what they
say of widths, `measure` and `fit` turn times into a `table`, `cache` keeps it, and `clock` is what a compilation asks.
"""
