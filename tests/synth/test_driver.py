"""The driver: every job comes to an end, whatever happens to workers, and no segment is made twice or lost."""

import json
import multiprocessing

import numpy as np
import pytest
from tiny import SEGMENT, Here, pictures

import vidar.synth.driver as drivers
import vidar.synth.sequential as turns
from vidar.data.video import read_video, write_video
from vidar.synth import video_output
from vidar.synth.driver import SynthRequest, synthesise
from vidar.synth.workers import LocalWorkers
from vidar.types import UsageError, VidarError

LENGTHS = {"a": 25, "b": 12, "c": 5, "d": 14}
JOBS = [{"id": name, "seed": n, "frames": count} for n, (name, count) in enumerate(LENGTHS.items())]


@pytest.fixture
def quick(monkeypatch):
    """No figures: they take longest."""
    monkeypatch.setattr(video_output, "write_drift", lambda file, *rest: file.write_bytes(b""))


@pytest.fixture
def synth(model, write_jobs, tmp_path, quick):
    """synth(jobs, place, out, **request) -> (manifest by id, lines that were said)."""

    def run(jobs, place=Here, out="out", **changes):
        said = []
        given = {"rows": 3, "segment": SEGMENT, **changes}
        request = SynthRequest(model=str(model), jobs=str(write_jobs(*jobs)), out=str(tmp_path / out), **given)
        made = synthesise(request, None, said.append, place)
        stored = json.loads((tmp_path / out / "manifest.json").read_text())
        assert stored["jobs"] == made["jobs"]
        return {job["id"]: job for job in made["jobs"]} | {"counts": (made["done"], made["failed"])}, said

    return run


@pytest.fixture(scope="module")
def hashes(model, tmp_path_factory):
    """Of the segments of JOBS, made without disturbance."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in JOBS))
    request = SynthRequest(
        model=str(model), jobs=str(folder / "jobs.jsonl"), out=str(folder / "out"), rows=3, segment=12
    )
    return {job["id"]: job["segments"] for job in synthesise(request, place=Here)["jobs"]}


def segments(made):
    return {name: made[name]["segments"] for name in LENGTHS}


def test_all_jobs_are_done(synth, here, tmp_path, hashes):
    place, placements = here()
    made, said = synth(JOBS, place)
    assert made["counts"] == (4, 0) and not said and placements[0].closed
    assert segments(made) == hashes and len({h for hs in hashes.values() for h in hs}) == 7
    for name, count in LENGTHS.items():
        assert made[name]["status"] == "done" and len(read_video(tmp_path / "out" / f"{name}.mp4")[0]) == count
    asked = [task for batch in placements[0].batches for task in batch]
    assert len(asked) == len(set(asked)) == 7
    assert not list((tmp_path / "out").glob("*.parts"))
    assert synth(JOBS, place)[0]["counts"] == (4, 0) and len(placements) == 1  # nothing is left: no worker is started


def test_a_finished_video_that_was_changed_is_named_and_left(synth, here, tmp_path):
    """It may be somebody's work, so it is not made again by itself."""
    place, placements = here()
    synth(JOBS, place)
    video = tmp_path / "out" / f"{JOBS[0]['id']}.mp4"
    whole = video.read_bytes()
    for content in (whole[:-100], b"", whole + b"\0"):
        video.write_bytes(content)
        made, (line,) = synth(JOBS, place)
        assert f"{video}: has {len(content)} bytes, but {len(whole)} were written; remove it to have it made" in line
        assert made["counts"] == (3, 1) and video.read_bytes() == content
    video.unlink()
    made, said = synth(JOBS, place)
    assert made["counts"] == (4, 0) and not said and video.read_bytes() == whole and len(placements) == 2
    stored = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for entry in stored["jobs"]:
        del entry["bytes"]  # as earlier versions wrote it
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(stored))
    video.write_bytes(whole[:-100])
    assert synth(JOBS, place)[0]["counts"] == (4, 0)


def test_a_lost_worker_costs_nothing_but_time(synth, here, hashes):
    """Each segment loses its first worker; those that were sent before are not asked for again."""
    tried = set()

    def lose(task):
        first = (task.job, task.number) not in tried
        tried.add((task.job, task.number))
        return first and task.number == 1

    place, placements = here(lose=lose)
    made, said = synth(JOBS, place)
    assert made["counts"] == (4, 0) and segments(made) == hashes
    assert said and all("a worker was lost (lost on purpose)" in line for line in said)


def test_a_segment_that_costs_three_workers_fails_its_job_alone(synth, here, hashes):
    jobs = [JOBS[0], {"id": "z", "seed": 9, "frames": 2 * SEGMENT}]
    place, placements = here(lose=lambda task: (task.job, task.number) == (1, 1))
    made, said = synth(jobs, place)
    assert made["counts"] == (1, 1) and made["z"]["status"] == "failed" and made["a"]["segments"] == hashes["a"]
    assert "3 workers were lost while making segment 1" in made["z"]["error"]
    assert any("job 'z'" in line for line in said)
    assert placements[0].batches == [
        [(0, 0), (1, 0)],
        [(0, 1), (1, 1)],  # both are lost, and each is tried alone from now on
        [(0, 1)],
        [(0, 2)],
        [(1, 1)],
        [(1, 1)],
    ]
    place, placements = here()
    made, _ = synth(jobs, place)
    assert made["counts"] == (2, 0)
    assert placements[0].batches == [[(0, 1)]]  # the same command again: only what was missing


class Stopped(Exception):
    pass


def test_it_goes_on_after_the_last_whole_segment(synth, here, hashes, monkeypatch):
    """The driver ends in the middle of a write, again and again."""
    add, count, asked = video_output.VideoOutput.add, [], []

    def stop(self, made):
        if len(count) % 4 == 3:
            count.append(1)
            raise Stopped
        count.append(1)
        add(self, made)

    monkeypatch.setattr(video_output.VideoOutput, "add", stop)
    place, placements = here()
    for _ in range(9):
        try:
            made, _ = synth(JOBS, place)
            break
        except Stopped:
            assert placements[-1].closed
    assert segments(made) == hashes and len(placements) > 2
    asked = [len(batch) for one in placements for batch in one.batches]
    assert sum(asked) < 7 + 4 * len(placements)


def test_a_finished_video_stays_and_a_lost_one_is_made_again(synth, here, tmp_path, hashes):
    synth(JOBS)
    before = (tmp_path / "out" / "a.mp4").stat().st_mtime_ns
    (tmp_path / "out" / "b.mp4").unlink()
    place, placements = here()
    made, _ = synth([*JOBS, {"id": "f", "seed": 9, "frames": 2}], place)
    assert made["counts"] == (5, 0) and segments(made) == hashes
    assert sorted(sum(placements[0].batches, [])) == [(0, 0), (1, 0)]
    assert (tmp_path / "out" / "a.mp4").stat().st_mtime_ns == before


def test_a_changed_job_needs_another_id(synth, tmp_path):
    synth(JOBS)
    changed = [{**JOBS[0], "seed": 99}, *JOBS[1:]]
    made, said = synth(changed)
    assert made["counts"] == (3, 1)
    assert "jobs.jsonl:1: job 'a': id 'a' is another job in" in said[0] and len(said) == 1
    assert synth(JOBS)[0]["counts"] == (4, 0)


def test_what_decides_bits_stays_as_it_was(synth, here):
    synth(JOBS[:1])
    with pytest.raises(UsageError, match="made with rows 3, not 2"):
        synth(JOBS, rows=2)
    with pytest.raises(UsageError, match="made with segment 12, not 20"):
        synth(JOBS, segment=20)
    with pytest.raises(UsageError, match="made with weights [0-9a-f]{16}, the model here has other"):
        synth(JOBS, here(weights="other")[0])
    made, _ = synth(JOBS, rows=None, segment=None)
    assert made["counts"] == (4, 0)
    with pytest.raises(UsageError, match="looks 11 frames back"):
        synth(JOBS, segment=8, out="other")


def test_starts_stay_as_they_were(synth):
    """Videos begin where the seed says if that is asked for, also in later runs of the folder that do not say so."""
    made, _ = synth(JOBS, spread_starts=True)
    assert made["counts"] == (4, 0) and made["b"]["context"].endswith("start.mp4")  # the only clip of this world
    assert synth(JOBS)[0]["counts"] == (4, 0)
    synth(JOBS, out="other")
    with pytest.raises(UsageError, match="made with spread_starts False, not True"):
        synth(JOBS, spread_starts=True, out="other")


def test_what_made_a_video_is_in_the_manifest(synth, tmp_path):
    made, _ = synth([{"id": "a", "frames": 3}, {"id": "b", "seed": 7, "frames": 3}])
    side = json.loads((tmp_path / "out" / "a.json").read_text())
    assert made["a"]["seed"] == side["seed"] and made["a"]["context"] == side["context"] and made["b"]["seed"] == 7


def test_folders_that_are_not_free(synth, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds other files and no manifest.json"):
        synth(JOBS, out="full")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="cannot be a folder to write to"):
        synth(JOBS, out="file")
    with drivers.lock_videos(tmp_path / "busy"), pytest.raises(UsageError, match="another vidar synth is writing"):
        synth(JOBS, out="busy")
    (tmp_path / "damaged").mkdir()
    entry = {"id": "a", "digest": "0", "status": "done", "row": "1", "segments": []}
    whole = {"schema": 1, "rows": 2, "segment": 12}
    for jobs in ([1], ["a"], 3, [entry], [{**entry, "row": 1, "segments": None}], {"a": 1}):
        (tmp_path / "damaged" / "manifest.json").write_text(json.dumps({**whole, "jobs": jobs}))
        with pytest.raises(VidarError, match="manifest.json: damaged; remove it and what lies beside it"):
            synth(JOBS, out="damaged")
    for text in ("{", "[" * 100_000, "null"):
        (tmp_path / "damaged" / "manifest.json").write_text(text)
        with pytest.raises(VidarError, match="manifest.json: damaged"):
            synth(JOBS, out="damaged")


def test_jobs_are_checked_before_a_world_is_loaded(synth, here, tmp_path):
    """What is wrong has been said, and stands in the manifest, when workers are started."""
    said_before = []

    def place(*words):
        stored = json.loads((tmp_path / "out" / "manifest.json").read_text())["jobs"]
        said_before.extend(job["status"] for job in stored)
        return Here(*words)

    wrong = [{"id": "x", "seed": 0, "frames": -1}, {"id": "y", "seed": 0, "frames": 2, "context": "no.mp4"}]
    made, said = synth([*wrong, JOBS[2]], place)
    assert said_before == ["waiting", "failed", "failed"] and made["counts"] == (1, 2)
    assert [line.split(":")[1] for line in said] == ["1", "2"]
    assert synth(wrong, lambda *words: pytest.fail("a world is loaded"), out="none")[0]["counts"] == (0, 2)


def test_a_file_that_goes_away_fails_its_job_alone(synth, tmp_path):
    write_video(tmp_path / "gone.mp4", pictures(2, 1), 17.5)

    def place(*words):
        (tmp_path / "gone.mp4").unlink()
        return Here(*words)

    made, said = synth([{**JOBS[0], "context": str(tmp_path / "gone.mp4")}, JOBS[2]], place)
    assert made["counts"] == (1, 1) and "gone.mp4: no such video file" in made["a"]["error"]


def test_segments_in_memory_are_bounded(synth, here, monkeypatch):
    """However long the videos: those that wait for the writer, one in work, and a batch."""
    add, taken, written, most = video_output.VideoOutput.add, [], [], []
    made = turns.SequentialQueue.take

    def count(self, event):
        taken.append(1)
        most.append(len(taken) - len(written))
        made(self, event)

    def slow(self, event):
        multiprocessing.connection.wait([], 0.02)
        add(self, event)
        written.append(1)

    monkeypatch.setattr(video_output.VideoOutput, "add", slow)
    monkeypatch.setattr(turns.SequentialQueue, "take", count)
    jobs = [{"id": f"v{n}", "seed": n, "frames": 48} for n in range(3)]
    synth(jobs, rows=3)
    assert len(taken) == 12 and max(most) <= 3 + 1 + 1, max(most)
    assert np.mean(most) > 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_processes_make_the_same(synth, workers, hashes):
    made, said = synth(JOBS, LocalWorkers, workers=workers)
    assert made["counts"] == (4, 0) and segments(made) == hashes and not said


def test_a_file_under_the_name_of_a_new_job_is_not_replaced(synth, tmp_path):
    synth(JOBS, out="own")
    (tmp_path / "own" / "more.mp4").write_text("mine")
    made, said = synth([*JOBS, {**JOBS[0], "id": "more"}], out="own")
    assert made["counts"] == (len(JOBS), 1)
    assert any("more.mp4: exists, and is of no job of manifest.json; move it away" in line for line in said)
    assert (tmp_path / "own" / "more.mp4").read_text() == "mine"
    (tmp_path / "own" / "more.mp4").unlink()
    assert synth([*JOBS, {**JOBS[0], "id": "more"}], out="own")[0]["counts"] == (len(JOBS) + 1, 0)
