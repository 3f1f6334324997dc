"""The example of a remote device does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from amcc.errors import DataError
from amcc.frontends.load import load
from amcc.latency import measure
from amcc.latency.clock import latency_of
from amcc.latency.device import Remote, device_of
from amcc.passes.channels import analyze
from amcc.settings import Measuring

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_table_by_way_of_another_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(EXAMPLES / "remote")
    monkeypatch.setattr(measure, "NETWORKS", 2)
    monkeypatch.setattr(measure, "TWICE", 1)
    monkeypatch.setattr(measure, "DROPS", (2,))
    device = device_of(Measuring(hook="phone:milliseconds"))
    assert isinstance(device, Remote)
    channels = analyze(load(EXAMPLES / "digits" / "model.onnx"))
    found, kept = latency_of(channels, device, {"input": ("batch", 1, 8, 8)}, fresh=True)
    assert kept and device.calls == 5 and found.whole > 0 and found.table.device == {"hook": "phone:milliseconds"}
    (tmp_path / "no.onnx").write_bytes(b"no network")
    with pytest.raises(DataError, match="phone:milliseconds raised RuntimeError: "):
        device.compare({"no": tmp_path / "no.onnx"}, {})
