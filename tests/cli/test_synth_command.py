"""`vidar synth`: many jobs, some of them bad; wrong usage; help without torch is in test_structure."""

import json
import re
import shutil
import sys

import numpy as np
import pytest

import vidar.synth.ray_workers as ray_workers
from vidar.data.video import video_timing
from vidar.synth import video_output
from vidar.synth.workers import LocalWorkers

BAD = {
    10: ({"id": "lost", "seed": 1, "frames": 2, "context": "no.mp4"}, "no.mp4: no such video file"),
    20: ({"id": "short", "seed": 1, "frames": -2}, "frames: Input should be greater than or equal to 1"),
    30: ({"id": "wide", "seed": 1, "frames": 2, "context": "start.mp4", "actions": "wide.npy"}, "expected T x 1"),
    40: ({"id": "../x", "seed": 1, "frames": 2}, "cannot name a file"),
    50: ({"id": "nan", "seed": 1, "frames": 2, "context": "start.mp4", "actions": "nan.npy"}, "is nan, legal is"),
}


def test_a_hundred_jobs_and_five_bad_ones(run, model, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(video_output, "write_drift", lambda file, *rest: file.write_bytes(b""))  # takes longest
    shutil.copy(clip, "start.mp4")
    np.save("wide.npy", np.zeros((4, 3), np.float32))
    np.save("nan.npy", np.full((4, 1), np.nan, np.float32))
    good = {n: {"id": f"v{n}", "seed": n, "frames": 1 + n % 3, "context": "start.mp4"} for n in range(1, 101)}
    good[2] = {**good[2], "frames": None, "seconds": 1.2}
    lines = [json.dumps(BAD[n][0] if n in BAD else good[n]) for n in range(1, 101)]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    code, printed, complaints = run("synth", model, "--jobs", "jobs.jsonl", "--out", "out", "--json")
    assert code == 1
    made = json.loads(printed)
    assert (made["done"], made["failed"]) == (95, 5)
    jobs = {job["line"]: job for job in made["jobs"]}
    assert made["jobs"] == json.loads((tmp_path / "out" / "manifest.json").read_text())["jobs"] and len(jobs) == 100
    told = complaints.splitlines()
    for (number, (job, problem)), line in zip(sorted(BAD.items()), told, strict=True):
        assert jobs[number]["status"] == "failed" and problem in jobs[number]["error"]
        assert line.startswith(f"vidar: jobs.jsonl:{number}: job {job['id']!r}: ") and problem in line
    for number in set(good) - set(BAD):
        frames = 12 if number == 2 else 1 + number % 3
        timing = video_timing(str(tmp_path / "out" / f"v{number}.mp4"), "x")
        assert timing.frames == timing.declared == frames and timing.fps == 10, number
        assert jobs[number]["status"] == "done" and len(jobs[number]["segments"]) == 1
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 95 and not (tmp_path / "x.mp4").exists()
    assert run("synth", model, "--jobs", "jobs.jsonl", "--out", "out")[0] == 1  # nothing is left to do


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("nowhere", "--jobs", "jobs.jsonl", "--out", "out"), "nowhere: no such world"),
        (("MODEL", "--jobs", "no.jsonl", "--out", "out"), "no.jsonl: not readable as a file of jobs"),
        (("MODEL", "--jobs", "jobs.jsonl", "--out", "jobs.jsonl"), "cannot be a folder to write to"),
        (("MODEL", "--jobs", "jobs.jsonl", "--out", "out", "--segment", "2"), "looks"),
        (("MODEL", "--jobs", "jobs.jsonl", "--out", "out", "--workers", "0"), "workers"),
        (("MODEL", "--jobs", "jobs.jsonl", "--out", "out", "--device", "moon"), "device 'moon'"),
    ],
)
def test_wrong_usage(run, model, tmp_path, monkeypatch, words, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.jsonl").write_text('{"id": "a", "seed": 0, "frames": 2}\n')
    code, printed, complaints = run("synth", *(str(model) if word == "MODEL" else word for word in words))
    assert code == 2 and problem in complaints and not printed


def test_ray_is_a_package_of_its_own(run, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "jobs.jsonl").write_text('{"id": "a", "seed": 0, "frames": 2}\n')
    code, printed, complaints = run("synth", model, "--jobs", "jobs.jsonl", "--out", "out", "--ray", "auto")
    assert (code, printed) == (2, "") and not (tmp_path / "out").exists()
    assert re.fullmatch(r"vidar: --ray needs the package ray: pip install '.*\[ray\]'\n", complaints)


def test_what_a_cluster_prints_is_not_in_the_answer(run, model, clip, tmp_path, monkeypatch):
    class Prints(LocalWorkers):
        def wait(self):
            print("(raylet) a worker died")
            return super().wait()

    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_workers, "on_ray", lambda address: asked.append(address) or Prints)
    job = {"id": "a", "seed": 0, "frames": 2, "context": str(clip)}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(job) + "\n")
    words = ("--jobs", "jobs.jsonl", "--out", "out", "--ray", "1.2.3.4:6379", "--json")
    code, printed, complaints = run("synth", model, *words)
    assert code == 0 and json.loads(printed)["done"] == 1
    assert asked == ["1.2.3.4:6379"] and "(raylet) a worker died" in complaints
