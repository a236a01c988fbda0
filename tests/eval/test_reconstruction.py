"""Reconstruction: the figures of one pass over whole episodes, streaming, resuming, recording, refusals."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vidar.eval.reconstruction as reconstruction
from vidar.configs import figures
from vidar.configs.catalog import find
from vidar.data.reader import episodes
from vidar.data.record import record as record_shards
from vidar.data.synthetic import ShapesConfig
from vidar.eval.codewords import perplexity
from vidar.eval.frame_metrics import paired_interval, psnr, ssim
from vidar.eval.frozen_encoder import load_tokenizer
from vidar.eval.lpips import Lpips
from vidar.eval.reconstruction import Reconstruction, of_reconstruction, reconstruct, run
from vidar.nn.pretrained import save_component
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.types import UsageError

BAR = lambda what: nullcontext(lambda done, total: None)  # noqa: E731


def tokenizer(recipe: str, place: Path) -> Path:
    torch.manual_seed(0)
    config = find(recipe)(preset="tiny").method.tokenizer
    save_component(config.build(), config, place)
    return place


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five held-out episodes of 70 frames."""
    place = tmp_path_factory.mktemp("data") / "shards"
    record_shards(ShapesConfig(), None, place, episodes=5, frames=70, split="heldout")
    return place


@torch.inference_mode()
@pytest.mark.parametrize(("recipe", "every"), [("tokenizer_videoar_shapes", 8), ("tokenizer_video_shapes", 1)])
def test_the_figures_are_those_of_whole_episodes(recipe: str, every: int, shards: Path, tmp_path: Path) -> None:
    """PSNR, SSIM, perplexity, interval, per frame: against one pass without streaming, with and without features."""
    place = tokenizer(recipe, tmp_path / "t")
    made = run(Reconstruction(str(place), str(shards), str(tmp_path / "d")), BAR)
    model, found, words = load_tokenizer(place), list[Any](), list[Any]()
    for episode in episodes(shards, "heldout", extras=()):
        frames = np.ascontiguousarray(episode.frames[::every])
        frames = frames[: (len(frames) - 1) // model.config.time_stride * model.config.time_stride + 1]
        video = torch.from_numpy(frames)[None]
        back = to_uint8(model.decode(model.encode(to_float(video))[0])[0])
        found.append((psnr(back, video, 255)[0].numpy(), ssim(back, video, 255)[0].numpy()))
        if hasattr(model, "labels"):
            words.append([part.flatten(0, 3) for part in model.labels(to_float(video))])
    for k, name in enumerate(("psnr", "ssim")):
        values = np.array([one[k].mean() for one in found])
        want = paired_interval(values, np.zeros(5))
        assert [made["means"][name][end] for end in ("mean", "low", "high")] == pytest.approx(want, abs=1e-3)
        assert made["per_frame"][name] == pytest.approx(np.mean([one[k] for one in found], 0), abs=1e-3)
    assert made["every"] == made["per_frame"]["step"] == every and made["lpips_by"] is None
    assert [scale["perplexity"] for scale in made["scales"]] == pytest.approx(
        [perplexity(torch.cat(parts)) for parts in zip(*words)], rel=1e-6
    )
    assert json.loads((tmp_path / "d/report.json").read_text()) == made
    with_features = run(
        Reconstruction(str(place), str(shards), str(tmp_path / "e"), features=("pixels", "random3d")), BAR
    )
    for name in ("psnr", "ssim"):
        assert with_features["means"][name]["mean"] == pytest.approx(made["means"][name]["mean"], abs=2e-3)
    pixels, net = with_features["distances"]
    assert net["label"] == "random3d-0, N 20, 16 frames, stride 1, 32x32" and "refused" in pixels["frechet"]
    assert pixels["kid"]["value"] > 0  # an untrained tokenizer gives back something else
    html = (tmp_path / "e/report.html").read_text()
    assert "worst: shapes-" in html and net["label"] in html and "PSNR" in html


@torch.inference_mode()
def test_streaming_is_one_pass(tmp_path: Path) -> None:
    """Longer than a chunk, for a tokenizer that looks back and joins frames."""
    model = load_tokenizer(tokenizer("tokenizer_video_shapes", tmp_path / "t"))
    frames = ShapesConfig(frames=90).build().episode(0).frames
    whole = torch.from_numpy(frames[:89])[None]
    want = to_uint8(model.decode(model.encode(to_float(whole))[0])[0])[0].numpy()
    back = reconstruct(model, frames)
    assert back.shape == want.shape and np.abs(back.astype(int) - want).max() <= 1


def test_an_interrupted_run_goes_on(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the episodes that are missing are judged, and the report is that of one run."""
    place, calls = tokenizer("tokenizer_videoar_shapes", tmp_path / "t"), list[int]()
    inner = reconstruction.Judges.__call__

    def counted(self: Any, frames: np.ndarray) -> Any:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(len(frames))
        return inner(self, frames)

    asked = Reconstruction(str(place), str(shards), str(tmp_path / "d"))
    monkeypatch.setattr(reconstruction.Judges, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        run(asked, BAR)
    monkeypatch.setattr(reconstruction.Judges, "__call__", lambda s, f: calls.append(len(f)) or inner(s, f))
    made = run(asked, BAR)
    assert len(calls) == 5 and (tmp_path / "d/report.html").is_file()
    whole = run(Reconstruction(str(place), str(shards), str(tmp_path / "e")), BAR)
    assert {k: made[k] for k in ("means", "episodes", "scales")} == {
        k: whole[k] for k in ("means", "episodes", "scales")
    }


def test_lpips_is_that_of_the_judged_frames(shards: Path, tmp_path: Path) -> None:
    """Weights from two files: the mean over frames and then episodes, and by whom."""
    torch.manual_seed(1)
    layers, narrow, trunk, linear = ((0, 64, 11), (3, 192, 5), (6, 384, 3), (8, 256, 3), (10, 256, 3)), 3, {}, {}
    for stage, (number, wide, side) in enumerate(layers):
        trunk[f"features.{number}.weight"] = torch.randn(wide, narrow, side, side) / (narrow * side**2) ** 0.5
        trunk[f"features.{number}.bias"] = torch.zeros(wide)
        linear[f"lin{stage}.model.1.weight"] = torch.rand(1, wide, 1, 1)
        narrow = wide
    files = (str(tmp_path / "trunk.pth"), str(tmp_path / "lin.pth"))
    for file, content in zip(files, (trunk, linear), strict=True):
        torch.save(content, file)
    place = tokenizer("tokenizer_videoar_shapes", tmp_path / "t")
    made = run(Reconstruction(str(place), str(shards), str(tmp_path / "d"), lpips=files), BAR)
    model, judge, found = load_tokenizer(place), Lpips(files), list[float]()
    for episode in episodes(shards, "heldout", extras=()):
        frames = np.ascontiguousarray(episode.frames[::8])
        with torch.inference_mode():
            found.append(float(judge(reconstruct(model, frames), frames).mean()))
    assert made["means"]["lpips"]["mean"] == pytest.approx(np.mean(found), abs=1e-4) and np.mean(found) > 0
    assert made["lpips_by"] == judge.name and made["lpips_by"].startswith("lpips-alex-")
    assert [figure.name for figure in of_reconstruction(made)[1][:3]] == ["PSNR", "SSIM", "LPIPS"]
    assert judge.name in (tmp_path / "d/report.html").read_text()


def test_figures_are_recorded_beside_their_recipe(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PSNR as the main figure, then SSIM and one perplexity per scale; the command repeats it."""
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(figures, "FOLDER", tmp_path / "results")
    place = tokenizer("tokenizer_videoar_shapes", tmp_path / "t")
    made = run(Reconstruction(str(place), str(shards), str(tmp_path / "d"), recipe="tokenizer_videoar_shapes"), BAR)
    stored = figures.read("tokenizer_videoar_shapes")
    assert stored is not None
    (found,) = stored.measurements
    assert found.command == f"vidar eval reconstruction {place} {shards}" and found.data == "5 held-out episodes"
    assert [f.role for f in found.figures[:2]] == ["main", "detail"] and found.figures[0].unit == "dB"
    assert found.figures[0].value == pytest.approx(made["means"]["psnr"]["mean"], abs=1e-4)
    assert len(found.figures) == 2 + len(made["scales"]) and found.figures[2].name.endswith("of 45 words")
    assert of_reconstruction(made)[1] == list(found.figures)


def test_refusals_come_before_any_work(shards: Path, tmp_path: Path) -> None:
    """Sizes that the tokenizer does not take, clips that features do not take, an unknown recipe, one video."""
    place = tokenizer("tokenizer_videoar_shapes", tmp_path / "t")
    record_shards(ShapesConfig(height=36, width=40), None, tmp_path / "odd", episodes=2, frames=16)
    record_shards(ShapesConfig(), None, tmp_path / "one", episodes=1, frames=16)
    for words, message in (
        ({"data": str(tmp_path / "odd")}, "frames are 40x36, the tokenizer takes multiples of 8"),
        ({"data": str(tmp_path / "one")}, "one video has no interval"),
        ({"recipe": "nothing_like_it"}, "no recipe 'nothing_like_it'"),
        ({"features": ("none",)}, "is none of frozen"),
        ({"out": str(shards / "d")}, "which is read"),
    ):
        given = {"tokenizer": str(place), "data": str(shards), "out": str(tmp_path / "d"), **words}
        with pytest.raises(UsageError, match=message):
            run(Reconstruction(**given), BAR)
    assert not (tmp_path / "d").exists()
