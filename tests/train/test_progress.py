"""What a run shows while it trains: pictures after some minutes, and a clock that waits for the compiler."""

import time

import numpy as np
import pytest
import torch
from PIL import Image
from test_loop import ToyMethod, ToyMethodConfig, config
from test_loop import clock as clock
from torch import nn

from vidar.data.video import write_video
from vidar.train import loop
from vidar.train.clock import Clock, without_compilation
from vidar.train.fit import fit
from vidar.train.log import read_log
from vidar.train.progress import GAP, MOMENTS


class FilmsConfig(ToyMethodConfig):
    def build(self):
        return Films(self)


class Films(ToyMethod):
    def sample(self, model, batch, path):
        """Frame t is grey 10 t."""
        write_video(path.with_suffix(".mp4"), [np.full((16, 32, 3), 10 * t, np.uint8) for t in range(9)], 10)


class Slow(nn.Sequential):
    """Its compiler takes long."""

    def forward(self, x):
        return super().forward(x) * 1.0  # torch does not compile its own Sequential

    def compile(self):
        def compiler(graph, inputs):
            time.sleep(1.5)
            return graph.forward

        super().compile(backend=compiler)


class CompiledConfig(ToyMethodConfig):
    def build(self):
        return Compiled(self)


class Compiled(ToyMethod):
    def build_model(self):
        return Slow(*super().build_model())


def said(capfd):
    return [line for line in capfd.readouterr().err.splitlines() if ".png" in line]


def test_pictures_after_minutes_and_at_the_end(tmp_path, clock, monkeypatch, capfd):
    monkeypatch.setattr(loop, "MINUTES", (0.5 / 60, 1.0 / 60, 100.0))
    fit(config(steps=60, method=FilmsConfig(), sample_every=10**6), tmp_path, device="cpu")
    lines, samples = said(capfd), sorted((tmp_path / "samples").glob("*.png"))
    assert len(samples) == 3 and [line.partition(":")[0] for line in lines] == [
        "after 0.00833333 minute",
        "after 0.0166667 minute",
        "at the end",
    ]
    assert [line.partition(": ")[2] for line in lines] == [f"{file} and {tmp_path / 'loss.png'}" for file in samples]
    strip = np.asarray(Image.open(samples[0])).astype(int)
    assert strip.shape == (MOMENTS * 16 + (MOMENTS - 1) * GAP, 32, 3)
    shown = [strip[n * (16 + GAP) : n * (16 + GAP) + 16].mean() for n in range(MOMENTS)]
    assert np.allclose(shown, [0, 30, 50, 80], atol=3)  # the first frame, the last one, and two between
    assert Image.open(tmp_path / "loss.png").width > 300
    fit(config(steps=90, method=FilmsConfig(), sample_every=10**6), tmp_path, resume="auto", device="cpu")
    assert [line.partition(":")[0] for line in said(capfd)] == ["at the end"]


def test_a_picture_that_cannot_be_written_does_not_end_the_run(tmp_path, capfd):
    (tmp_path / "loss.png").mkdir()
    result = fit(config(steps=3), tmp_path, device="cpu")
    assert result.step == 3 and result.model is not None and not said(capfd)[1:]
    (event,) = [record for record in read_log(tmp_path / "log.jsonl") if record.get("event") == "no picture"]
    assert "loss.png: is not a regular file" in event["reason"]


def test_no_samples_are_made_for_a_run_without_any(tmp_path, capfd):
    fit(config(steps=3, method=FilmsConfig()), tmp_path, device="cpu")
    assert said(capfd) == [f"at the end: {tmp_path / 'loss.png'}"] and not (tmp_path / "samples").exists()


def test_the_clock_waits_for_the_compiler(tmp_path, capfd):
    result = fit(config(steps=3, method=CompiledConfig(), compile=True), tmp_path, device="cpu")
    assert 0.0 < result.elapsed < 1.5
    lines = capfd.readouterr().err.splitlines()
    assert [n for n, line in enumerate(lines) if line == loop.COMPILING] == [0] and lines[1].startswith("step 1 ")


def test_every_compilation_stops_the_clock_and_the_first_is_announced():
    def compiler(graph, inputs):
        time.sleep(0.2)
        return graph.forward

    said, clock, began = [], Clock(100.0), time.monotonic()
    with without_compilation(clock, lambda: said.append(True)):
        for size in (2, 3):
            double = torch.compile(lambda x: x * 2, backend=compiler)
            assert double(torch.ones(size)).sum() == 2 * size
        with clock.stopped():
            time.sleep(0.2)
    skipped = time.monotonic() - began - (clock.seconds - 100.0)
    assert len(said) == 1 and skipped > 0.6
    torch.compile(lambda x: x * 3, backend=compiler)(torch.ones(2))  # after the block all time counts
    assert time.monotonic() - began - (clock.seconds - 100.0) == pytest.approx(skipped, abs=0.05)
