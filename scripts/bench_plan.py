"""A planned video on one worker and on two workers, compared with the prediction of the simulator.

    python scripts/bench_plan.py [MODEL] [SEGMENTS] [TURNS] [OUT]

MODEL: folder of a world that plans; `untrained` (the default) is mmpl_doom with fresh weights, which costs the same.
Workers are processes of one thread that are loaded and have made a video before; sides alternate (1, 2, 1, 2, ..).
Makespan: from the first task that is assigned to the last result that is received. Criteria: two workers need at most
0.65 of the time of one, and the simulator, fitted only on task times of runs with one worker, is at most 15 % off for
two. The cores must be idle for meaningful figures. OUT: a folder for timeline pictures.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vidar.configs.mmpl import mmpl_doom
from vidar.data.atomic import make_folder
from vidar.data.video import write_video
from vidar.eval.provenance import hardware, versions
from vidar.model.load import load_config, save
from vidar.model.start_hashes import START
from vidar.orders.plan import chain_of
from vidar.synth.driver import SynthRequest, synthesise
from vidar.synth.gantt import write_gantt
from vidar.synth.graph import Kind, graph_of
from vidar.synth.placement import Event, Ready, Work
from vidar.synth.planned import pattern_of
from vidar.synth.schedule import flight_for
from vidar.synth.simulate import Span, least, makespan, measured, simulate, utilisation
from vidar.synth.workers import LocalWorkers
from vidar.train.methods.world import TrainWorldConfig
from vidar.types import VidarError

RATIO, ERROR = 0.65, 0.15
UNTRAINED, SEED = "untrained", 0


class Kept:
    """Local workers that persist over many runs and are loaded before the first one."""

    def __init__(self, count: int, model: str) -> None:
        self.workers = LocalWorkers(count, model, "cpu", 1)
        self.ready: list[Event] = []
        while len(self.workers.free) < count:
            self.ready += [event for event in self.workers.wait() if isinstance(event, Ready)]
        self.told = list(self.ready)

    def __call__(self, count: int, model: str, device: str, rows: int) -> Kept:
        """Reuse the workers for another run."""
        self.told = list(self.ready)
        return self

    @property
    def free(self) -> list[int]:
        """See `Placement.free`."""
        return self.workers.free

    def submit(self, worker: int, tasks: Sequence[Work]) -> None:
        """See `Placement.submit`."""
        self.workers.submit(worker, tasks)

    def wait(self) -> list[Event]:
        """See `Placement.wait`."""
        told, self.told = self.told, []
        return told or self.workers.wait()

    def stop(self, worker: int, reason: str) -> None:
        """See `Placement.stop`."""
        raise VidarError(f"worker {worker}: {reason}; nothing can be measured")

    def close(self) -> None:
        """Does nothing, because the workers stay."""


def untrained(folder: Path) -> Path:
    """The folder of mmpl_doom with fresh weights and a start clip."""
    method = mmpl_doom().method
    assert isinstance(method, TrainWorldConfig)
    torch.manual_seed(SEED)
    world = method.world.build()
    save(world, folder / "model")
    shape = (
        max(world.config.context, chain_of(world.config.order, world.config.name).first),
        world.config.height,
        world.config.width,
        3,
    )
    noise = np.random.default_rng(SEED).integers(0, 255, shape, dtype=np.uint8)
    write_video(folder / "model" / START, noise, world.config.fps)
    return folder / "model"


def run(kept: Kept, model: Path, folder: Path, segments: int) -> tuple[list[Span], list[str]]:
    """Generate one video of `segments` segments: spans of its tasks, hashes of its segments."""
    config = load_config(model)
    frames = segments * chain_of(config.order, config.name).stride
    folder.mkdir()
    jobs = folder / "jobs.jsonl"
    jobs.write_text(json.dumps({"id": "a", "seed": SEED, "frames": frames, "planner": "plan"}) + "\n")
    request = SynthRequest(
        model=str(model), jobs=str(jobs), out=str(folder / "out"), workers=len(kept.ready), in_flight=flight_for(2)
    )
    spans: list[Span] = []
    made = synthesise(request, place=kept, timeline=spans)
    if made["failed"]:
        raise VidarError(f"{jobs}: {made['jobs'][0]['error']}")
    return spans, made["jobs"][0]["segments"]


def report(runs: dict[int, list[list[Span]]], model: Path, segments: int, out: Path | None) -> None:
    """Print makespans, their ratio and the error of the simulator."""
    times = {count: [makespan(spans) for spans in found] for count, found in runs.items()}
    median = {count: statistics.median(found) for count, found in times.items()}
    for count, found in times.items():
        used = statistics.median(utilisation(spans, count) for spans in runs[count])
        print(f"{count} workers: {', '.join(f'{t:.2f}' for t in found)} s, median {median[count]:.2f}, {used:.0%} used")
    cost, graphs = measured(runs[1]), [graph_of(pattern_of(load_config(model)), segments)]
    plan, pop = (statistics.median(cost(item) for item in graphs[0].before if item.kind is kind) for kind in Kind)
    print(f"PLAN {plan:.3f} s, POP {pop:.3f} s, chain of {graphs[0].depth} tasks")
    ratio = median[2] / median[1]
    print(f"two workers / one: {ratio:.3f}, limit {RATIO}: {'met' if ratio <= RATIO else 'MISSED'}")
    told = simulate(graphs, cost, 2, flight_for(2))
    off = makespan(told) / median[2] - 1
    verdict = "met" if abs(off) <= ERROR else "MISSED"
    print(f"simulated, two workers: {makespan(told):.2f} s, {off:+.1%}, limit {ERROR:.0%}: {verdict}")
    for count in (4, 8, 1000):
        far = makespan(simulate(graphs, cost, count, flight_for(count)))
        print(
            f"simulated, {count} workers: {far:.2f} s; no schedule takes less than {least(graphs, cost, count):.2f} s"
        )
    if out is not None:
        for count, found in runs.items():
            middle = min(found, key=lambda spans: abs(makespan(spans) - median[count]))
            write_gantt(out / f"workers_{count}.png", middle, f"{segments} segments, {count} workers")
        write_gantt(out / "simulated_2.png", told, f"{segments} segments, two workers, simulated")


def main(model: str = UNTRAINED, segments: str = "4", turns: str = "5", out: str = "") -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    if out:
        make_folder(out)  # before anything is measured
    with tempfile.TemporaryDirectory() as place:
        folder = untrained(Path(place)) if model == UNTRAINED else Path(model)
        told = ", ".join(f"{name} {value}" for name, value in versions().items())
        print(f"{hardware('cpu')}, {told}, one thread per worker, world {model}, {segments} segments, {turns} turns")
        pools = {count: Kept(count, str(folder)) for count in (1, 2)}
        runs: dict[int, list[list[Span]]] = {1: [], 2: []}
        hashes: set[tuple[str, ...]] = set()
        try:
            for turn in range(-1, int(turns)):  # the first turn is a warm-up
                for count, kept in pools.items():
                    spans, found = run(kept, folder, Path(place) / f"{turn}_{count}", int(segments))
                    hashes.add(tuple(found))
                    if turn >= 0:
                        runs[count].append(spans)
        finally:
            for kept in pools.values():
                kept.workers.close()
        print(f"hashes of segments: {'equal in all runs' if len(hashes) == 1 else 'DIFFERENT'}")
        report(runs, folder, int(segments), Path(out) if out else None)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except VidarError as error:
        sys.exit(f"bench_plan: {error}")
