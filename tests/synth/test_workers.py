"""Worker processes: the same frames as in this process, also where workers or the driver are killed (SIGKILL)."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny import SEGMENT, Here, pictures

from vidar.data.video import read_video
from vidar.model.load import load
from vidar.synth import video_output
from vidar.synth.driver import SynthRequest, synthesise
from vidar.synth.placement import Lost, Ready
from vidar.synth.segments import SegmentResult, SegmentWorker, Task
from vidar.synth.watchdog import Watchdog
from vidar.synth.workers import LocalWorkers
from vidar.types import VidarError

LENGTH = 4 * SEGMENT
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def until(found, seconds=120):
    """Wait until `found()` is true; its value."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.005)
    return value


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def task(number=0, frames=6):
    return Task(0, number, 0, 7, pictures(4, 1), np.zeros((frames, 5), np.float32))


def test_a_worker_that_hangs_is_killed_and_replaced(model):
    """A stopped process says nothing and does not end: `stop` ends it."""
    want = next(SegmentWorker(load(model), 2).make([task()])).frames
    workers = LocalWorkers(1, str(model), "cpu", 2)
    try:
        (event,) = until(workers.wait)
        assert isinstance(event, Ready) and event.dtype in ("bfloat16", "float32") and workers.free == [0]
        workers.submit(0, [task(), Task(1, 0, 1, 8, pictures(2, 2), np.zeros((4000, 5), np.float32))])
        assert workers.free == []
        (made,) = until(workers.wait)
        assert isinstance(made, SegmentResult) and made.job == 0 and np.array_equal(made.frames, want)
        first = workers.pids[0]
        os.kill(first, signal.SIGSTOP)
        assert workers.wait() == [] and alive(first)
        workers.stop(0, "it hangs")
        (lost,) = until(workers.wait)
        assert isinstance(lost, Lost) and lost.reason == "it hangs"
        assert [one.job for one in lost.tasks] == [1]  # what had come is not lost
        assert workers.pids[0] != first and workers.free == []
    finally:
        workers.close()
    assert not any(alive(pid) for pid in [first, *workers.pids])


def test_a_world_that_cannot_be_loaded_ends_it(tmp_path):
    workers = LocalWorkers(1, str(tmp_path / "none"), "cpu", 2)
    try:
        with pytest.raises(VidarError, match="workers cannot load the world: .*none: no such world"):
            until(lambda: workers.wait() and False)
    finally:
        workers.close()


def start(request):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "vidar.cli", "synth", request.model, "--jobs", request.jobs, "--out", request.out]
    command += ["--rows", "2", "--segment", str(SEGMENT)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture
def whole(model, write_jobs, tmp_path, monkeypatch):
    """(request, hashes): of two jobs, and what they come to without disturbance, in this process."""
    monkeypatch.setattr(video_output, "write_drift", lambda file, *rest: file.write_bytes(b""))
    jobs = write_jobs(*({"id": name, "seed": n, "frames": LENGTH} for n, name in enumerate("ab")))
    request = SynthRequest(model=str(model), jobs=str(jobs), out=str(tmp_path / "whole"), rows=2, segment=SEGMENT)
    made = synthesise(request, place=Here)
    return request.replace(out=str(tmp_path / "out")), {job["id"]: job["segments"] for job in made["jobs"]}


def test_a_killed_worker_changes_no_frame(whole):
    """Two workers, one of which is killed as soon as something is written."""
    request, hashes = whole
    placements, killed, said = [], [], []

    def place(*words):
        placements.append(LocalWorkers(*words))
        return placements[-1]

    def progress(name, frames, total, left):
        if not killed:
            killed.append(placements[0].pids[0])
            os.kill(killed[0], signal.SIGKILL)

    made = synthesise(request.replace(workers=2), progress, said.append, place)
    assert {job["id"]: job["segments"] for job in made["jobs"]} == hashes
    assert killed and len(said) == 1 and "a worker was lost (killed by signal 9)" in said[0]


@pytest.mark.slow
def test_a_stopped_worker_changes_no_frame(whole):
    """SIGSTOP, as soon as something is written: it is noticed, killed, and what it had is made again."""
    request, hashes = whole
    placements, stopped, said, spans = [], [], [], []

    def place(*words):
        placements.append(LocalWorkers(*words))
        return placements[-1]

    def progress(name, frames, total, left):
        if not stopped:
            stopped.append(placements[0].pids[0])
            os.kill(stopped[0], signal.SIGSTOP)

    watchdog = Watchdog(factor=4.0, floor=8.0, first=60.0)
    made = synthesise(request.replace(workers=2), progress, said.append, place, watchdog, spans)
    assert {job["id"]: job["segments"] for job in made["jobs"]} == hashes
    assert len(said) == 1 and "a worker was lost (no answer for " in said[0] and not alive(stopped[0])
    assert len(spans) == len({span.item for span in spans}) == 2 * LENGTH // SEGMENT


def test_a_killed_driver_goes_on_and_leaves_no_worker(whole, tmp_path):
    """The command is killed in the middle; the same command again makes only what was missing."""
    request, hashes = whole
    process = start(request)
    out = tmp_path / "out"
    until(lambda: len(list(out.glob("*.parts/*.json"))) >= 3 or process.poll() is not None)
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        children = [int(pid) for pid in file.read().split()]
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and children
    until(lambda: not any(alive(pid) for pid in children), 10)
    stored = {file: file.stat().st_mtime_ns for file in out.glob("*.parts/*.json")}
    assert 3 <= len(stored) < 2 * LENGTH // SEGMENT
    placements, found = [], []

    def place(*words):
        placements.append(Here(*words))
        return placements[-1]

    def progress(name, frames, total, left):
        found.append({file: file.stat().st_mtime_ns for file in stored if file.exists()})

    made = synthesise(request, progress, place=place)
    assert {job["id"]: job["segments"] for job in made["jobs"]} == hashes
    assert len(found) > 2 and all(one.items() <= stored.items() for one in found)  # not written again
    asked = [one for batch in placements[0].batches for one in batch]
    assert len(asked) == len(set(asked)) == 2 * LENGTH // SEGMENT - len(stored)


@pytest.mark.slow
def test_a_driver_killed_again_and_again_comes_to_the_same(whole, tmp_path):
    """At any instant: between fragment, boundary, record, mp4, side file and manifest. The instants are random."""
    request, hashes = whole
    out, kills = tmp_path / "out", 0
    for _ in range(40):
        process = start(request)
        before = len(list(out.rglob("*")))
        until(lambda: process.poll() is not None or len(list(out.rglob("*"))) > before + 1)  # noqa: B023
        time.sleep(random.uniform(0, 0.4))
        if process.poll() is not None:
            break
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert process.wait() == 0 and kills >= 2, process.communicate()
    jobs = json.loads((out / "manifest.json").read_text())["jobs"]
    assert {job["id"]: job["segments"] for job in jobs} == hashes
    assert sorted(file.name for file in out.iterdir()) == sorted(
        [
            "index.html",
            "manifest.json",
            *(f"{name}{end}" for name in "ab" for end in (".mp4", ".json", ".png", ".drift.png")),
        ]
    )
    assert all(len(read_video(out / f"{name}.mp4")[0]) == LENGTH for name in "ab")
