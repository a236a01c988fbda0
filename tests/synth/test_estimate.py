"""The estimate of a batch, and that a dry run leaves no trace."""

import pytest
from tiny import lively, stored

from vidar.configs.mmpl import mmpl_doom
from vidar.synth.driver import SynthRequest, check, synthesise
from vidar.synth.estimate import LONG, Making, estimate
from vidar.types import UsageError

HERE = {"rows": 2, "segment": 12}


def asked(model, file, out, **changes):
    return SynthRequest(model=str(model), jobs=str(file), out=str(out), **{**HERE, **changes})


def test_an_estimate_grows_with_the_batch_and_writes_nothing(model, write_jobs, tmp_path):
    out = tmp_path / "out"
    jobs = [{"id": f"v{n}", "seed": n, "frames": 24} for n in range(4)]
    file = write_jobs(*jobs, {"id": "wrong", "frames": 0})
    request = asked(model, file, out)
    batch = check(request)
    made = estimate(request, batch)
    assert not out.exists() and (len(batch.todo), len(batch.wrong)) == (4, 1)
    assert (made["videos"], made["frames"]) == (4, 96) and made["video_seconds"] == pytest.approx(96 / 17.5)
    assert made["seconds"] > 0 and made["free_bytes"] > 0 and f"+ {LONG} frames" in made["measured"]
    whole = synthesise(request)
    assert whole["done"] == 4
    real = sum(file.stat().st_size for file in out.iterdir() if file.stem != "manifest")
    assert 0.5 * real < made["bytes"] < 2 * real
    longer = asked(model, write_jobs(*({**job, "frames": 24 * 40} for job in jobs)), tmp_path / "other")
    assert estimate(longer, check(longer))["bytes"] > 5 * made["bytes"]
    again = estimate(request, check(request))
    assert (again["videos"], again["seconds"], again["bytes"]) == (0, 0, 0)


def test_a_world_that_plans_is_estimated_by_its_segments(write_jobs, tmp_path):
    folder = stored(lively(mmpl_doom(preset="tiny").method.world), tmp_path / "model")
    file = write_jobs({"id": "a", "frames": 21, "planner": "plan"})
    request = asked(folder, file, tmp_path / "out", segment=None)
    made = estimate(request, check(request))
    assert made["frames"] == 21 and made["seconds"] > 0 and made["bytes"] > 0 and not (tmp_path / "out").exists()


def test_the_longest_video_bounds_the_time():
    making = Making(chain=2.0, rest=3.0, frame=0.0, rows=1)
    assert making.work(4, 100) == 20 and making.longest(4, 100) == 11  # plans one after another, the rest beside them
    making = Making(chain=1.0, rest=0.0, frame=0.5, rows=4)
    assert making.work(2, 10) == making.longest(2, 10) == 7


def test_a_dry_run_refuses_what_a_run_refuses(model, write_jobs, tmp_path):
    file = write_jobs({"id": "a", "frames": 2})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds other files and no manifest.json"):
        check(asked(model, file, tmp_path / "full"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="file: is not a folder"):
        check(asked(model, file, tmp_path / "file"))
    with pytest.raises(UsageError, match="looks 11 frames back"):
        check(asked(model, file, tmp_path / "out", segment=8))
    assert not (tmp_path / "out").exists()
