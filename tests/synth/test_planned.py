"""Planned videos: the frames of one process with any workers, losses and stops; plans are made once and kept."""

import json
import os
import pickle
import random
import signal
import time
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from tiny import Here, lively, pictures, stored

from vidar.conditioning.config import NOTHING
from vidar.configs.mmpl import mmpl_doom
from vidar.data.video import read_video, write_video
from vidar.orders.plan import chain_of
from vidar.rollout.segments import segment_actions
from vidar.synth import video_output
from vidar.synth.driver import SynthRequest, synthesise
from vidar.synth.graph import Kind, Link
from vidar.synth.placement import Lost
from vidar.synth.planned import pattern_of
from vidar.synth.planning import (
    Anchors,
    Planned,
    PlanTask,
    PlanWorker,
    PopTask,
    SegmentActions,
    read_anchors,
    save_anchors,
)
from vidar.synth.ray_workers import RayWorkers
from vidar.synth.watchdog import Watchdog
from vidar.synth.workers import LocalWorkers
from vidar.types import UsageError, VidarError

PLAN, POP = Kind.PLAN, Kind.POP
LENGTHS = {"a": 21, "b": 3}  # segments of 8 new frames: 3 and 1
JOBS = [{"id": name, "seed": n, "frames": count, "planner": "plan"} for n, (name, count) in enumerate(LENGTHS.items())]
SEGMENTS = 4


@pytest.fixture(scope="module")
def planner():
    """A tiny untrained world of plans whose network does something."""
    return lively(mmpl_doom(preset="tiny").method.world)


@pytest.fixture(scope="module")
def model(planner, tmp_path_factory):
    return stored(planner, tmp_path_factory.mktemp("planners") / "tiny")


@pytest.fixture
def synth(model, write_jobs, tmp_path, monkeypatch):
    """synth(jobs, place, out, watch, timeline, **request) -> (manifest by id, lines that were said)."""
    monkeypatch.setattr(video_output, "write_drift", lambda file, *rest: file.write_bytes(b""))

    def run(jobs, place=Here, out="out", watchdog=None, timeline=None, **changes):
        said = []
        request = SynthRequest(
            model=str(model), jobs=str(write_jobs(*jobs)), out=str(tmp_path / out), **{"rows": 3, **changes}
        )
        made = synthesise(request, None, said.append, place, watchdog, timeline)
        return {job["id"]: job for job in made["jobs"]} | {"counts": (made["done"], made["failed"])}, said

    return run


@pytest.fixture(scope="module")
def hashes(model, tmp_path_factory):
    """Of the segments of JOBS, made without disturbance."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in JOBS))
    request = SynthRequest(model=str(model), jobs=str(folder / "jobs.jsonl"), out=str(folder / "out"))
    return {job["id"]: job["segments"] for job in synthesise(request, place=Here)["jobs"]}


@pytest.fixture
def written(monkeypatch):
    """(id, number) of every segment, as it is written."""
    found, add = [], video_output.VideoOutput.add

    def note(self, made):
        add(self, made)
        found.append((self.plan.job.id, made.number))

    monkeypatch.setattr(video_output.VideoOutput, "add", note)
    return found


class Many(Here):
    """Several workers in this process. What they have ends in a random order; lose: (task, draw) -> whether it is lost.

    A task of equal inputs is computed once in the suite.
    """

    known = {}

    def __init__(self, *words, seed=0, lose=lambda task, draw: False):
        super().__init__(*words)
        self.draw, self.loses, self.work, self.most = random.Random(seed), lose, {}, 0
        self.where, self.count = [], words[0]

    @property
    def free(self):
        return [] if self.ready is not None else [n for n in range(self.count) if n not in self.work]

    def submit(self, worker, tasks):
        assert worker in self.free and len(tasks) == 1
        self.work[worker] = tasks[0]
        self.items.append(tasks[0].item)
        self.where.append((tasks[0].item, worker))
        self.most = max(self.most, len(self.work))

    def wait(self):
        if self.ready is not None:
            return super().wait()
        task = self.work.pop(self.draw.choice(sorted(self.work)))
        if self.loses(task, self.draw):
            return [Lost((task,), "lost on purpose")]
        key = pickle.dumps(task)
        if key not in self.known:
            self.known[key] = list(self.segment_worker.make([task]))
        return self.known[key]


def many(**options):
    made = []

    def place(*words):
        made.append(Many(*words, **options))
        return made[-1]

    return place, made


def segments(made):
    return {name: made[name]["segments"] for name in LENGTHS}


def test_the_tasks_of_a_world_wait_for_the_plan_before_them(planner):
    assert pattern_of(planner.config) == {Link(PLAN, PLAN, 1), Link(POP, PLAN, 0)}


def test_frames_are_those_of_one_process(planner, synth, tmp_path, hashes):
    """As `VideoModel.generate` makes them from the same actions; twin: another seed."""
    walk = np.random.default_rng(0).integers(0, 2, (21, planner.config.actions.width)).astype(np.float32)
    np.save(tmp_path / "a.npy", walk)
    context = pictures(5, 0)
    write_video(tmp_path / "c.mp4", context, 17.5)
    context = read_video(tmp_path / "c.mp4")[0]
    chain = chain_of(planner.config.order, planner.config.name)
    want = planner.generate(context, walk, seed=7).frames[0]
    frames, before, segment_worker = [], context[-planner.config.context :], PlanWorker(planner)
    for number in range(chain.segments(21, chain.first)):
        rest = torch.from_numpy(planner.config.actions.noop())
        actions = segment_actions(chain, rest, torch.from_numpy(walk)[None], number, chain.first)
        told = SegmentActions(actions.values[0].numpy(), actions.unknown[0].numpy())
        (planned,) = segment_worker.make([PlanTask(0, number, 7, before, told, NOTHING)])
        (made,) = segment_worker.make([PopTask(0, number, 7, planned.plan, told, NOTHING, (chain.first, chain.made))])
        frames.append(made.frames)
        before = planned.plan
    apart = np.abs(np.concatenate(frames)[:21].astype(int) - want.astype(int))
    assert apart.max() <= 1, apart.max()  # decoded eight at a time there, one by one here
    other = planner.generate(context, walk, seed=8).frames[0]
    assert np.abs(other.astype(int) - want.astype(int)).max() > 1


def test_all_jobs_are_done(synth, here, tmp_path, hashes, written):
    place, placements = here()
    spans = []
    made, said = synth(JOBS, place, timeline=spans)
    assert made["counts"] == (2, 0) and not said and segments(made) == hashes
    assert len({h for hs in hashes.values() for h in hs}) == SEGMENTS
    for name, count in LENGTHS.items():
        assert len(read_video(tmp_path / "out" / f"{name}.mp4")[0]) == count
    assert len(placements[0].items) == len(set(placements[0].items)) == 2 * SEGMENTS
    assert sorted(span.item for span in spans) == sorted(placements[0].items)
    assert len(written) == SEGMENTS and not list((tmp_path / "out").glob("*.parts"))


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_makes_the_same(synth, hashes, written, workers):
    """Results come in any order and every second task loses a worker."""
    place, placements = many(seed=workers, lose=lost_once())
    made, said = synth(JOBS, place, workers=workers)
    assert segments(made) == hashes and len(said) == 2 * SEGMENTS // 2
    assert placements[0].most == workers
    assert len(written) == len(set(written)) == SEGMENTS
    for name in LENGTHS:
        own = [number for other, number in written if other == name]
        assert own == sorted(own)


def lost_once():
    """Every second task, the first time."""
    tried = set()

    def lose(task, draw):
        first = task.item not in tried
        tried.add(task.item)
        return first and len(tried) % 2 == 0

    return lose


def test_plans_come_before_what_is_populated(synth):
    """One video, two workers: the chain of plans never waits; at most `in_flight` segments are ahead."""
    place, placements = many(seed=1)
    synth(JOBS[:1], place, workers=2)
    items = placements[0].items
    assert [item for item in items if item.kind is PLAN] == [(PLAN, 0, n) for n in range(3)]
    place, placements = many(seed=1)
    synth(JOBS[:1], place, workers=2, out="narrow", in_flight=1)
    assert [item[::2] for item in placements[0].items] == [(kind, n) for n in range(3) for kind in (PLAN, POP)]


def test_a_segment_that_costs_three_workers_fails_its_job_alone(synth, hashes):
    place, placements = many(lose=lambda task, draw: task.item == (PLAN, 0, 2))
    made, said = synth(JOBS, place, workers=2)
    assert made["counts"] == (1, 1) and "3 workers were lost while making segment 2" in made["a"]["error"]
    assert all(made[name]["segments"] == hashes[name] for name in "b")
    place, placements = many()
    made, _ = synth(JOBS, place)
    assert made["counts"] == (2, 0) and segments(made) == hashes
    assert placements[0].items[0] == (PLAN, 0, 2)  # what was planned before was kept


class Stopped(Exception):
    pass


def test_it_goes_on_after_any_stop_and_plans_nothing_twice(synth, hashes, written):
    """The driver ends after every few results, again and again."""
    asked, planned = [], set()

    class Ends(Many):
        def wait(self):
            events = super().wait()
            new = [event.item for event in events if hasattr(event, "item")]
            asked.extend(new)
            if new and len(asked) % 3 == 0:
                raise Stopped
            return events

    placements = []

    def place(*words):
        placements.append(Ends(*words, seed=len(placements)))
        return placements[-1]

    for _ in range(30):
        try:
            made, _ = synth(JOBS, place, workers=2)
            break
        except Stopped:
            assert placements[-1].closed
    assert made["counts"] == (2, 0) and segments(made) == hashes and len(placements) > 3
    assert len(written) == len(set(written)) == SEGMENTS
    dropped = set(asked[2::3])  # the result that a stop threw away
    planned = [item for item in asked if item.kind is PLAN and item not in dropped]
    assert planned and len(planned) == len(set(planned))


def test_a_plan_that_is_damaged_is_made_again(synth, hashes, tmp_path, monkeypatch, written):
    """Two of three segments are written when the driver ends; of their plans the last is left, and all are bad."""
    place, _ = many()
    wait = Many.wait

    def stops(self):
        if len(self.items) > 5:
            while len(written) < 2:
                time.sleep(0.01)
            raise Stopped
        return wait(self)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Many, "wait", stops)
        synth(JOBS[:1], place, in_flight=2)
    parts = tmp_path / "out" / "a.parts"
    plans = {int(file.name[:6]) for file in parts.glob("*.plan.safetensors")}
    for file in parts.glob("*.plan.safetensors"):
        file.write_bytes(b"no")
    place, placements = many()
    made, _ = synth(JOBS[:1], place)
    assert made["a"]["segments"] == hashes["a"]
    assert placements[0].items[0] == (PLAN, 0, 0)  # nothing to go on from: anew
    assert plans == {1, 2}


def test_anchors_go_through_a_file(tmp_path):
    draw = np.random.default_rng(0)
    plan = Anchors(*(draw.normal(size=(n, 4, 3)).astype(np.float32) for n in (2, 5, 2)))
    save_anchors(plan, tmp_path / "x.safetensors")
    again = read_anchors(tmp_path / "x.safetensors")
    assert all(np.array_equal(getattr(again, name), getattr(plan, name)) for name in ("first", "anchors", "after"))
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(VidarError, match="x.safetensors: not readable as a plan"):
        read_anchors(tmp_path / "x.safetensors")


def test_planners_and_segments_that_do_not_fit(synth, tmp_path):
    made, said = synth([{**JOBS[0], "planner": "autoregressive"}, JOBS[1]])
    assert made["counts"] == (1, 1) and 'plans its segments; give "planner": "plan"' in said[0]
    write_video(tmp_path / "short.mp4", pictures(1, 0), 17.5)
    made, said = synth([{**JOBS[1], "id": "s", "context": str(tmp_path / "short.mp4")}], out="short")
    assert made["counts"] == (0, 1) and "1 frames; this world's segments start from 2 or more" in said[0]
    with pytest.raises(UsageError, match="this world plans segments of 8 new frames; leave it out"):
        synth(JOBS, segment=9, out="other")


def test_a_worker_that_hangs_is_stopped(synth, hashes):
    """One task never answers until its worker is stopped; the others go on, and it is made again."""

    class Hangs(Many):
        hung = None

        def submit(self, worker, tasks):
            super().submit(worker, tasks)
            if tasks[0].item == (POP, 0, 1) and self.items.count(tasks[0].item) == 1:
                self.hung, self.reasons = self.work.pop(worker), []
                self.work[-1 - worker] = None  # busy
                self.worker = worker

        @property
        def free(self):
            busy = {self.worker} if self.hung is not None else set()
            return [n for n in super().free if n not in busy]

        def wait(self):
            self.work.pop(-1 - getattr(self, "worker", 0), None)
            if self.hung is None or self.work:
                return super().wait()
            if self.reasons:
                task, self.hung = self.hung, None
                return [Lost((task,), self.reasons.pop())]
            return []

        def stop(self, worker, reason):
            assert worker == self.worker
            self.reasons = [reason]

    made, said = synth(JOBS, lambda *words: Hangs(*words), workers=3, watchdog=Watchdog(floor=1.0, first=1.0))
    assert segments(made) == hashes
    (line,) = said
    assert line.startswith("a worker was lost (no answer for ") and line.endswith("segments to repeat: 1")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_processes_make_the_same(synth, workers, hashes):
    made, said = synth(JOBS, LocalWorkers, workers=workers)
    assert made["counts"] == (2, 0) and segments(made) == hashes and not said


@pytest.mark.slow
def test_a_killed_process_changes_no_frame(synth, hashes, written):
    """SIGKILL when the first results are there; what it had is made again."""
    killed, spans = [], []

    class Killed(LocalWorkers):
        def wait(self):
            events = super().wait()
            if not killed and any(isinstance(event, Planned) for event in events):
                killed.append(self.pids[0])
                os.kill(killed[0], signal.SIGKILL)
            return events

    made, said = synth(JOBS, Killed, workers=2, timeline=spans)
    assert made["counts"] == (2, 0) and segments(made) == hashes
    assert len(said) == 1 and "killed by signal 9" in said[0]
    assert len(written) == len(set(written)) == SEGMENTS and len({span.item for span in spans}) == len(spans)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs the ray extra")
def test_actors_make_the_same(synth, hashes):
    made, said = synth(JOBS, partial(RayWorkers, address="local"), workers=2)
    assert made["counts"] == (2, 0) and segments(made) == hashes and not said
