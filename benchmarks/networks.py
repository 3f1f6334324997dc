"""Trained networks from ../shared, made ready for a search inside this process."""

from __future__ import annotations

import tempfile
from pathlib import Path

from accuracy import CASES, data_of
from common import SHARED

from amcc.budget import Budget
from amcc.progress import Clock, Silent
from amcc.search import Problem
from amcc.settings import Settings
from amcc.stages import DataSpec, Notes
from amcc.study import open_subject, prepare


def prepared(name: str, budget: str = "flops=0.5", *, folder: Path | None = None) -> Problem:
    """The search for a plan of a network: 1,000 samples scored, one thread; `folder` keeps the data."""
    case, settings = CASES[name], Settings(threads=1)
    clock, notes = Clock(Silent()), Notes()
    with tempfile.TemporaryDirectory() as own:
        data = data_of(case, folder or Path(own))
        subject = open_subject(str(SHARED / "models" / f"{name}.onnx"), None, None, settings, clock)
        calib = data["fit"] if data["fit"] != data["search"] else None
        study = prepare(subject, DataSpec(data["search"], calib, data["report"]), settings, clock, notes)
    return study.problem(Budget.parse(budget))
