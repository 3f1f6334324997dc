"""Recovery without training: what calibration inputs teach about the network that is left."""

from __future__ import annotations

from amcc.passes.recovery.blocks import reconstruct_blocks
from amcc.passes.recovery.gram import Statistics, calibrate
from amcc.passes.recovery.order import Ranking
from amcc.passes.recovery.rank import rank
from amcc.passes.recovery.repair import Repairer, repair
from amcc.passes.recovery.solve import reconstruct

__all__ = ["Ranking", "Repairer", "Statistics", "calibrate", "rank", "reconstruct", "reconstruct_blocks", "repair"]
