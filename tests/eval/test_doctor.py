"""What `vidar doctor` says of a machine."""

import torch

from vidar.eval import doctor
from vidar.types import VidarError


def test_report_says_what_training_and_play_depend_on():
    report = doctor.examine()
    assert report["ok"] and report["problem"] is None
    assert report["versions"]["torch"] == torch.__version__
    assert all(report["versions"][name] != "missing" for name in ("av", "numpy", "gymnasium"))
    assert report["threads"]["torch"] == torch.get_num_threads()
    assert report["extras"].keys() >= {"vizdoom", "tb"} and report["free_disk_gb"] > 0


def test_bf16_is_fast_or_emulated(monkeypatch):
    for dtype, said in ((torch.bfloat16, "fast"), (torch.float32, "emulated")):
        monkeypatch.setattr(doctor, "fast_dtype", lambda _, dtype=dtype: dtype)
        assert doctor.bf16()["cpu"].startswith(said)


def test_memory_is_what_a_training_would_find(monkeypatch):
    monkeypatch.setattr(doctor, "available", lambda device: 3_210_000_000 if device.type == "cpu" else 0)
    assert doctor.memory_gb()["cpu_free"] == 3.2
    monkeypatch.setattr(doctor, "available", lambda _: None)
    assert doctor.memory_gb()["cpu_free"] is None


def test_a_video_that_changes_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "read_video", lambda file: (doctor.np.zeros((10, 16, 24, 3), "uint8"), 10.0))
    assert "levels of 255 off" in doctor.examine()["problem"] and not doctor.examine()["ok"]

    def broken(*_, **__):
        raise VidarError("no encoder")

    monkeypatch.setattr(doctor, "write_video", broken)
    assert doctor.video_problem() == "no encoder"
