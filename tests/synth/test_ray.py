"""Actors on nodes that the tests start: the frames of local workers, also where an actor or a node is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
from tiny import SEGMENT, pictures

import vidar.synth.ray_workers as ray_workers
from vidar.model.load import load
from vidar.synth import video_output
from vidar.synth.driver import SynthRequest, synthesise
from vidar.synth.placement import Lost, Ready
from vidar.synth.ray_workers import RayWorkers, on_ray
from vidar.synth.segments import SegmentResult, SegmentWorker, Task
from vidar.synth.workers import LocalWorkers
from vidar.types import UsageError, VidarError

LENGTH = 4 * SEGMENT
JOBS = [{"id": name, "seed": n, "frames": LENGTH} for n, name in enumerate("ab")]
on_nodes = pytest.mark.skipif(find_spec("ray") is None, reason="needs the ray extra")


@pytest.fixture
def cluster():
    """(cluster, its second node): two nodes of one CPU."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield made, made.add_node(num_cpus=1)
    finally:
        made.shutdown()


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """(request, hashes): of two jobs, and what they come to with local workers."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in JOBS))
    jobs, out = str(folder / "jobs.jsonl"), str(folder / "out")
    request = SynthRequest(model=str(model), jobs=jobs, out=out, workers=2, rows=2, segment=SEGMENT)
    return request, hashes(synthesise(request, place=LocalWorkers))


@pytest.fixture
def written(monkeypatch):
    """(id, number) of every segment, as it is written. No figures: they take longest."""
    found, add = [], video_output.VideoOutput.add

    def note(self, made):
        found.append((self.plan.job.id, made.number))
        add(self, made)

    monkeypatch.setattr(video_output.VideoOutput, "add", note)
    monkeypatch.setattr(video_output, "write_drift", lambda file, *rest: file.write_bytes(b""))
    return found


def hashes(made):
    return {job["id"]: job["segments"] for job in made["jobs"]}


def ask(workers, question):
    """question(actor), from every actor when it has loaded its world."""
    import ray

    return ray.get([actor.__ray_call__.remote(question) for actor in workers.actors])


def kill(workers, process):
    os.kill(process, signal.SIGKILL)


def hang(workers, process):
    """It stops, says nothing, and is ended from outside."""
    os.kill(process, signal.SIGSTOP)
    assert workers.wait() == []
    workers.stop(0, "it hangs")


def until(found, seconds=120):
    """Wait until `found()` is true; its value."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it does not happen"
    return value


def task(job=0, frames=6):
    return Task(job, 0, job, 7 + job, pictures(4, 1), np.zeros((frames, 5), np.float32))


def test_a_missing_ray_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for build in (on_ray, partial(RayWorkers, 1, "nowhere", "cpu", 1)):
        with pytest.raises(UsageError, match=r"^--ray needs the package ray: pip install 'vidar-world\[ray\]'$"):
            build("auto")


@pytest.mark.slow
@on_nodes
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_address_of_no_cluster(model, address):
    with pytest.raises(VidarError, match=rf"^--ray {address}: cannot connect to a cluster \([^\n]+\)$"):
        RayWorkers(1, str(model), "cpu", 1, address)


@pytest.mark.slow
@on_nodes
def test_nodes_make_the_same(cluster, whole, written, tmp_path):
    import ray

    request, wanted = whole
    nodes, said = set(), []

    def place(*words):
        workers = RayWorkers(*words, address=cluster[0].address)
        nodes.update(ask(workers, lambda actor: ray.get_runtime_context().get_node_id()))
        return workers

    made = synthesise(request.replace(out=str(tmp_path / "out")), None, said.append, place)
    assert hashes(made) == wanted and not said and len(nodes) == 2
    assert len(written) == len(set(written)) == 2 * LENGTH // SEGMENT
    assert not ray.is_initialized()


@pytest.mark.slow
@on_nodes
def test_a_killed_node_changes_no_frame(cluster, whole, written, tmp_path):
    """One of two nodes is killed as soon as something is written; the other one makes the rest.

    Its worker is stopped before it is given its first segment, so that the kill falls inside one.
    """
    import ray

    request, wanted = whole
    nodes, stopped, said = [cluster[1]], [], []

    def place(*words):
        workers = RayWorkers(*words, address=cluster[0].address)
        found = ask(workers, lambda actor: (ray.get_runtime_context().get_node_id(), os.getpid()))
        stopped.extend(process for node, process in found if node == cluster[1].node_id)
        os.kill(stopped[0], signal.SIGSTOP)
        return workers

    def progress(name, frames, total, left):
        if nodes:
            cluster[0].remove_node(nodes.pop(), allow_graceful=False)
            with suppress(ProcessLookupError):
                os.kill(stopped[0], signal.SIGKILL)

    made = synthesise(request.replace(out=str(tmp_path / "out")), progress, said.append, place)
    assert hashes(made) == wanted and not nodes
    assert len(said) == 1 and "a worker was lost (" in said[0] and "segments to repeat: 1" in said[0], said
    assert len(written) == len(set(written)) == 2 * LENGTH // SEGMENT


@pytest.mark.slow
@on_nodes
@pytest.mark.parametrize(("end", "told"), [(kill, "died"), (hang, "it hangs")])
def test_a_killed_actor_is_noticed_and_replaced(cluster, model, end, told):
    want = next(SegmentWorker(load(model), 2).make([task()]))
    workers = RayWorkers(1, str(model), "cpu", 2, cluster[0].address)
    try:
        (ready,) = until(workers.wait)
        assert isinstance(ready, Ready) and workers.free == [0]
        (first,) = ask(workers, lambda actor: os.getpid())
        workers.submit(0, [task(), task(1, 4000)])
        assert workers.free == []
        (made,) = until(workers.wait)
        assert isinstance(made, SegmentResult) and made.job == 0 and made.frames.flags.writeable
        assert np.array_equal(made.frames, want.frames) and np.array_equal(made.after.codes, want.after.codes)
        end(workers, first)
        (lost,) = until(workers.wait)
        assert isinstance(lost, Lost) and told in lost.reason and lost.reason.isprintable()
        assert [one.job for one in lost.tasks] == [1] and workers.free == []  # what had come is not lost
        assert until(workers.wait) == [ready] and workers.free == [0]
        workers.submit(0, [task()])
        (made,) = until(workers.wait)
        assert np.array_equal(made.frames, want.frames) and workers.free == [0]
        workers.submit(0, [task(), task(9)])  # there is no row 9: it raises
        (lost,) = until(workers.wait)
        assert isinstance(lost, Lost) and len(lost.tasks) == 2 and "Error: " in lost.reason
    finally:
        workers.close()


@pytest.mark.slow
@on_nodes
def test_a_world_that_cannot_be_loaded_ends_it(cluster, tmp_path, monkeypatch):
    class Dies:
        def load(self, *told):
            os._exit(1)

    workers = RayWorkers(1, str(tmp_path / "none"), "cpu", 1, cluster[0].address)
    try:
        with pytest.raises(VidarError, match="^workers cannot load the world: .*none: no such world"):
            until(lambda: workers.wait() and False)
    finally:
        workers.close()
    monkeypatch.setattr(ray_workers, "Actor", Dies)
    workers = RayWorkers(1, str(tmp_path), "cpu", 1, cluster[0].address)
    try:
        assert [event.tasks for _ in range(2) for event in until(workers.wait)] == [(), ()]
        with pytest.raises(VidarError, match="out of memory"):
            until(lambda: workers.wait() and False)
    finally:
        workers.close()


@pytest.mark.slow
@on_nodes
def test_the_command_works_on_a_cluster_of_this_machine(whole, tmp_path):
    request, wanted = whole
    command = [sys.executable, "-m", "vidar.cli", "synth", request.model, "--jobs", request.jobs, "--ray", "local"]
    command += ["--out", str(tmp_path / "out"), "--rows", "2", "--segment", str(SEGMENT), "--workers", "2", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert hashes(json.loads(done.stdout)) == wanted
