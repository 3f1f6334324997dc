"""How long things take: `amcc --help`, `amcc inspect` of a ResNet-50, a search episode against its evaluation.

    python benchmarks/speed.py [help] [inspect] [episode] [batch] [amc] [long]

`batch` is what the size of an evaluation's runs is chosen by, `long` a whole search of 400 episodes,
`amc` an episode against that of AMC's public code.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from common import SHARED, amcc, cifar, machine, summary, table
from light_graphs import LIGHT, with_random_weights

SAMPLES, EPISODES = 1000, 40
AMC = 17.0
SIZES = (8, 16, 32, 64, 128, 256)
NETWORKS = ["resnet56", "plain10", "mobilenet_w050", "mobilenet_v1_w050_160_imagenet"]


def timed(run: Callable[[], object], times: int) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def help_time() -> list[object]:
    """`amcc --help`, the console script where it is installed, else the module."""
    script = Path(sys.executable).with_name("amcc")
    command = [str(script)] if script.is_file() else [sys.executable, "-m", "amcc.cli"]
    taken = timed(lambda: subprocess.run([*command, "--help"], check=True, capture_output=True), 15)
    return ["amcc --help", f"{taken:.3f} s", "0.3 s", taken < 0.3]


def inspect_time() -> list[object]:
    """`amcc inspect` of a ResNet-50 with random weights, the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "resnet50.onnx"
        onnx.save(with_random_weights(onnx.load(LIGHT / "light_resnet50.onnx")), model)
        taken = timed(lambda: amcc("inspect", model), 5)
    return ["amcc inspect resnet50.onnx", f"{taken:.2f} s", "3 s", taken < 3]


def episode_time() -> list[object]:
    """A ResNet-56 search, all told, over running the same candidates, whole, on the same 1,000 images."""
    from amcc.backends.runtime import Session
    from amcc.budget import Budget
    from amcc.problems import problem_of
    from amcc.progress import Clock, Silent
    from amcc.search import search
    from amcc.settings import Settings
    from amcc.stages import DataSpec, Notes, quickly_repaired
    from amcc.study import open_subject, prepare

    with tempfile.TemporaryDirectory() as name:
        data = cifar("search", Path(name) / "search.npz")
        calib = cifar("fit", Path(name) / "fit.npz", "--count", "1500")
        settings = Settings(eval_samples=SAMPLES, episodes=EPISODES)
        clock = Clock(Silent())
        subject = open_subject(SHARED / "models" / "resnet56.onnx", None, None, settings, clock)
        study = prepare(subject, DataSpec(data, calib, data), settings, clock, Notes())
        scorer, inputs = study.scorer, study.splits.search.inputs
        budget = Budget.parse("flops=0.5")
        problem = problem_of(subject, study.learned, budget, settings, scorer, study.evaluator.original)
        begin, worked = time.perf_counter(), time.process_time()
        result = search(problem, settings.search, episodes=EPISODES, seed=0, stop_early=True)
        wall, cpu = time.perf_counter() - begin, time.process_time() - worked
        running = working = 0.0
        batch = study.evaluator.batch
        for record in result.records:
            if record.source == "evaluated":
                removal = subject.channels.removal(np.asarray(record.keep), study.learned.orders)
                session = Session(quickly_repaired(subject, study.learned, removal))
                batches = [{n: a[i : i + batch] for n, a in inputs.items()} for i in range(0, SAMPLES, batch)]
                session.run(batches[0])
                begin, worked = time.perf_counter(), time.process_time()
                for feeds in batches:
                    session.run(feeds)
                running, working = running + time.perf_counter() - begin, working + time.process_time() - worked
    ratio = cpu / working
    seconds = f"{cpu:.0f} over {working:.0f} CPU s, {wall:.0f} over {running:.0f} s ({wall / running:.2f}x)"
    shown = f"{EPISODES} episodes: {seconds} = {ratio:.2f}x"
    return ["a search over its candidates' evaluation, CPU time (ResNet-56)", shown, "1.15x", ratio < 1.15]


def batch_time() -> list[object]:
    """Samples a second in runs of the size that amcc takes, over those of the best of many sizes; the worst network."""
    from amcc.backends.runtime import Session
    from amcc.frontends.load import load
    from amcc.metric import batch_size

    worst, shown = 1.0, []
    for name in NETWORKS:
        graph = load(str(SHARED / "models" / f"{name}.onnx"))
        session, chosen = Session(graph), batch_size(graph)
        (key,) = graph.inputs
        shape = graph.shape(key)
        samples = np.random.default_rng(0).standard_normal((512, *shape[1:]), np.float32)
        seconds: dict[int, list[float]] = {size: [] for size in sorted({*SIZES, chosen})}
        for _ in range(3):
            for size, found in seconds.items():
                count = 64 if shape[-1] > 64 else 512
                begin = time.perf_counter()
                for start in range(0, count, size):
                    session.run({key: samples[start : min(start + size, count)]})
                found.append(time.perf_counter() - begin)
        rates = {size: 1 / min(found) for size, found in seconds.items()}
        share = rates[chosen] / max(rates.values())
        worst = min(worst, share)
        shown.append(f"{name}: {chosen} ({share:.2f}; best {max(rates, key=rates.__getitem__)})")
    return ["samples a second in runs of amcc's size over the best size's", "; ".join(shown), "above 0.9", worst > 0.9]


def long_time() -> list[object]:
    """A search of 400 episodes of ResNet-56 on 1,000 images: `amcc plan`, calibration and the last round included."""
    with tempfile.TemporaryDirectory() as name:
        data = cifar("search", Path(name) / "search.npz")
        calib = cifar("fit", Path(name) / "fit.npz", "--count", "1500")
        options = ["--budget", "flops=0.5", "--episodes", "400", "--data", data, "--calib", calib]
        done = amcc("plan", SHARED / "models" / "resnet56.onnx", *options, "-o", Path(name) / "plan.json")
        if done.code:
            raise SystemExit(done.err)
    shown = f"{done.seconds / 60:.1f} min"
    return ["a search of 400 episodes on 1,000 images (ResNet-56)", shown, "15 min", done.seconds < 900]


def amc_time() -> list[object]:
    """Seconds an episode on the 5,000 images of AMC's public code, which was timed at its defaults on this network.

    17.0 s: 8.8 s evaluate the network at full size, 8.1 s go into least squares; 2.9 GB.
    """
    episodes = 40
    with tempfile.TemporaryDirectory() as name:
        data = cifar("holdout", Path(name) / "search.npz")
        calib = cifar("fit", Path(name) / "fit.npz", "--count", "5000")
        options: list[str | Path] = ["--episodes", str(episodes), "--eval-samples", "5000", "--data", data]
        options += ["--calib", calib, "--report-data", calib, "--search", "ddpg", "-o", Path(name) / "out.amcc"]
        done = amcc("compile", SHARED / "models" / "mobilenet_w050.onnx", "--budget", "flops=0.5", *options)
        if done.code:
            raise SystemExit(done.err)
        seconds = summary(Path(name) / "out.amcc")["timings"]["seconds"]["search"] / episodes
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    shown = f"{seconds:.2f} s, {AMC / seconds:.1f} times as fast; peak of the whole compilation {peak:.1f} GB"
    return [
        f"an episode on 5,000 images (MobileNet 0.5); AMC's code {AMC} s",
        shown,
        f"{AMC / 3:.1f} s",
        seconds < AMC / 3,
    ]


def main(names: list[str]) -> int:
    """Measure; 1 if one falls short."""
    all_of_them = {"help": help_time, "inspect": inspect_time, "episode": episode_time}
    all_of_them |= {"batch": batch_time, "amc": amc_time, "long": long_time}
    rows = [all_of_them[name]() for name in names or all_of_them]
    print(machine())
    print(table(["what", "measured", "wanted below", "met"], [[*r[:3], "yes" if r[3] else "NO"] for r in rows]))
    return int(not all(row[3] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
