"""Captured directly and exported to ONNX: are the groups and MACs the same? Does one plan do for both?

python benchmarks/twins.py [NAME...] [--zoo FOLDER] [--log FILE] [--table]

Thirty networks of torchvision and timm, as the zoo builds them (random weights, seed 0). Each is captured from its
module, and loaded from what `torch.onnx.export` writes of it, optimised by that as it does by default. A uniform plan
of half the units is made on the file and put on the module, and made on the module and put on the file: the shrunk
graphs must agree within 1e-4. The last column says whether the user's own class takes the plan. Needs torchvision
and timm. `--zoo` takes the files that `zoo.export` wrote before. The log has a line for each finished network; those
that it names are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import ROOT, machine, table

if TYPE_CHECKING:
    from amcc.passes.channels import Channels

LOG = ROOT / "benchmarks" / "logs" / "twins.jsonl"
NETWORKS = (
    "tv_resnet18 tv_mobilenet_v2 tv_mobilenet_v3_small tv_shufflenet_v2_x0_5 tv_squeezenet1_1 tv_mnasnet0_5 "
    "tv_efficientnet_b0 tv_regnet_x_400mf tv_regnet_y_400mf tv_densenet121 tv_googlenet tv_resnet50 tv_vit tv_swin "
    "tv_lraspp_mobilenet_v3_large tv_convnext_tiny "
    "timm_test_byobnet timm_test_resnet timm_test_convnext timm_test_efficientnet timm_test_vit timm_test_mambaout "
    "timm_resnet10t timm_seresnet18 timm_repvgg_a0 timm_mobilenetv1_100 timm_mobilenetv4_conv_small_035 timm_lcnet_035 "
    "timm_ghostnet_050 timm_convnextv2_atto timm_mixer_s16_224 timm_deit_tiny_patch16_224"
).split()
TOLERANCE = 1e-4
PACKAGES = sysconfig.get_path("purelib")


def main() -> int:
    """Run what the log does not have; 1 if two captures of a network differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--zoo", type=Path, metavar="FOLDER")
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--table", action="store_true", help="print the log's table and stop")
    options = parser.parse_args()
    known = read(options.log)
    for name in () if options.table else options.names or NETWORKS:
        if name in known and not options.names:
            continue
        start = time.perf_counter()
        try:
            line = compared(name, options.zoo)
        except Exception as error:  # the next network has nothing to do with it
            line = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        known[name] = {"name": name, **line, "seconds": round(time.perf_counter() - start, 1)}
        with options.log.open("a") as log:
            log.write(json.dumps(known[name]) + "\n")
        print(json.dumps(known[name]), flush=True)
    print(shown(known))
    print(f"\n{machine()}")
    return int(any(not line.get("same") for line in known.values()))


def read(log: Path) -> dict[str, dict[str, Any]]:
    """The log's last line of each network."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return {line["name"]: line for line in map(json.loads, lines)}


def compared(name: str, zoo: Path | None) -> dict[str, Any]:
    """What the two captures of a network have in common."""
    from zoo.catalogue import load as build

    from amcc.errors import AmccError
    from amcc.frontends.load import captured, load
    from amcc.own_class import shrunk_module
    from amcc.passes.channels import analyze
    from amcc.passes.rewrite import shrink

    module, inputs = build(name)
    found = captured(module, example_inputs=inputs)
    direct = analyze(found.graph)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx" if zoo is None else zoo / f"{name}.onnx"
        if not path.is_file():
            export(module, inputs, path)
        exported = analyze(load(path))
    line: dict[str, Any] = {
        "groups": [len(direct.groups), len(exported.groups)],
        "units": [sum(g.size for g in c.groups) for c in (direct, exported)],
        "macs": [macs(direct), macs(exported)],
        "same": kinds(direct) == kinds(exported) and macs(direct) == macs(exported),
    }
    line["file_to_module"] = agreement(exported, direct)
    line["module_to_file"] = agreement(direct, exported)
    removal = half(direct)
    assert found.origin is not None
    try:
        own = shrunk_module(found.origin, direct, removal, shrink(direct, removal), blame=False)
        line["own_class"], line["notes"] = own.own_class, [note.replace(f"{PACKAGES}/", "") for note in own.notes]
    except AmccError as error:
        line["own_class"], line["notes"] = False, [str(error)]
    return line


def export(module: Any, inputs: tuple[Any, ...], path: Path) -> None:
    """Write the module as torch's exporter does by default, with a free batch if it can be."""
    import torch

    batch = torch.export.Dim("batch", min=1, max=1024)
    for shapes in (tuple({0: batch} for _ in inputs), None):
        try:
            program = torch.onnx.export(module, inputs, dynamo=True, verbose=False, dynamic_shapes=shapes)
            break
        except Exception:
            if shapes is None:
                raise
    assert program is not None
    program.save(path, external_data=False)


def kinds(channels: Channels) -> list[tuple[int, int, bool]]:
    """Of every group its size, its MACs, and whether it is inexact."""
    return sorted((group.size, group.macs, group.inexact) for group in channels.groups)


def macs(channels: Channels) -> int:
    """Multiply-accumulates of one sample."""
    from amcc.passes.cost import CostModel

    return int(CostModel(channels).original.flops)


def half(channels: Channels) -> dict[int, Any]:
    """Every second unit of every group."""
    return {group.index: np.arange(1, group.size, 2) for group in channels.groups if group.size > 1}


def agreement(source: Channels, target: Channels) -> float | str:
    """The largest relative difference of the two networks after a plan made on one is put on the other."""
    from amcc.backends.runtime import Session
    from amcc.certificate import difference
    from amcc.errors import AmccError
    from amcc.passes.batching import batching
    from amcc.passes.rewrite import shrink
    from amcc.planning import describe, removal_of
    from amcc.synthetic import synthetic

    removal = half(source)
    cut = shrink(source, removal)
    plan = describe(source, removal, cut, model="", budget="flops=1", policy="uniform", seed=0)
    try:
        other = shrink(target, removal_of(plan, target))
    except AmccError as error:
        return str(error)[:200]
    feeds = next(iter(synthetic(cut, batching(cut).size or 2).runs()))
    renamed = dict(zip(target.graph.inputs, (feeds[name] for name in cut.inputs), strict=True))
    pairs = zip(Session(cut).run(feeds).values(), Session(other).run(renamed).values(), strict=True)
    return float(f"{max(difference(a, b) for a, b in pairs):.1e}")


def shown(lines: dict[str, dict[str, Any]]) -> str:
    """The table, and the counts under it."""
    rows = []
    for name, line in lines.items():
        if "error" in line:
            rows.append([name, line["error"], *[""] * 5])
            continue
        pair = [" / ".join(map(str, dict.fromkeys(line[key]))) for key in ("groups", "units")]
        count = " / ".join(f"{m / 1e6:.1f}" for m in dict.fromkeys(line["macs"]))
        plans = [line[key] if isinstance(line[key], str) else f"{line[key]:.0e}" for key in BOTH]
        rows.append([name, *pair, count, *plans, "yes" if line["own_class"] else "no"])
    good = [line for line in lines.values() if line.get("same")]
    plans_good = sum(all(isinstance(line[key], float) and line[key] <= TOLERANCE for key in BOTH) for line in good)
    head = ["network", "groups", "units", "MMACs", "file to module", "module to file", "own class"]
    own = sum(line["own_class"] for line in good)
    return (
        f"{table(head, rows)}\n\n{len(good)} of {len(lines)} the same; one plan for both, outputs within {TOLERANCE}: "
        f"{plans_good}; half of every group cut in the module's own class: {own}"
    )


BOTH = ("file_to_module", "module_to_file")

if __name__ == "__main__":
    sys.exit(main())
