"""`vidar eval videos` from end to end on real files: figures, label, warnings, what is refused, the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vidar.eval.clip_features as clip_features
from vidar.data.record import record
from vidar.data.resize import resized_crop
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import write_video
from vidar.eval.clip_features import Sampling
from vidar.eval.frechet import Moments, frechet
from vidar.eval.kernel_distance import kid
from vidar.eval.video_distance import Comparison, compare, distances, halves, label_of
from vidar.types import UsageError, VidarError

FEATURES = ("random3d", "pixels")


def videos(folder: Path, count: int, first: int, change: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Path:
    """Episodes of shapes as files of 32 frames."""
    folder.mkdir()
    for n in range(count):
        episode = ShapesConfig(frames=32).build().episode(first + n)
        write_video(folder / f"{n:03d}.mp4", change(episode.frames), 10)
    return folder


def blurred(video: np.ndarray) -> np.ndarray:
    return resized_crop(resized_crop(video, (4, 4)), (32, 32))


def run(real: Path, generated: Path, out: Path, **more: Any) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    asked = replace(Comparison(str(real), str(generated), str(out), features=FEATURES), **more)
    made = compare(asked, lambda what: nullcontext(lambda done, total: None), said.append)
    return made, said


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 real videos, 40 other real ones, and those without detail."""
    place = tmp_path_factory.mktemp("sets")
    videos(place / "real", 40, 0)
    videos(place / "other", 40, 100)
    videos(place / "blurred", 40, 100, blurred)
    return place


def test_the_report_says_what_was_compared_and_blur_is_further_away(sets: Path, tmp_path: Path) -> None:
    """Figures are those of the features in the folder; report.json is what was returned; the page opens alone."""
    near, said = run(sets / "real", sets / "other", tmp_path / "near")
    far, _ = run(sets / "real", sets / "blurred", tmp_path / "far")
    assert said == [] and near == json.loads((tmp_path / "near/report.json").read_text()) and near["schema"] == 1
    (random, pixels), (blurred_random, _) = near["distances"], far["distances"]
    assert random["label"] == "random3d-0, N 80, 16 frames, stride 1, 32x32" and random["dim"] == 64
    assert blurred_random["frechet"]["distance"] > 2 * random["frechet"]["distance"]
    assert blurred_random["frechet"]["low"] > random["frechet"]["high"]
    assert abs(random["kid"]["value"]) < 4 * random["kid"]["standard_error"] + 1e-3
    assert "80 real and 80 generated clips for 1536 features" in pixels["frechet"]["refused"] and "kid" in pixels
    scale = random["real_halves"]
    assert scale["clips"] == [40, 40] and scale["frechet"] is None and pixels["real_halves"]["kid"]["value"] != 0
    assert near["real"]["videos"] == 40 and near["real"]["clips"] == 80 and near["real"]["fps"] == pytest.approx(10)
    html = (tmp_path / "near/report.html").read_text()
    assert random["label"] in html and "Frechet distance in random3d" in html and near["command"] in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    again, _ = run(sets / "real", sets / "other", tmp_path / "again")
    assert again["distances"] == near["distances"]


def test_an_interrupted_run_goes_on(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of the first run are not computed again, and the figures are those of one run."""
    calls: list[int] = []
    inner = clip_features._take
    monkeypatch.setattr(clip_features, "_take", lambda stream, count: calls.append(count) or inner(stream, count))
    run(sets / "real", sets / "other", tmp_path / "d", features=FEATURES[:1])
    assert sum(calls) == 160
    made, _ = run(sets / "real", sets / "other", tmp_path / "d")
    assert sum(calls) == 320 and len(made["distances"]) == 2


def test_a_protocol_names_itself_and_refuses_too_few_clips(sets: Path, tmp_path: Path) -> None:
    """2,048 clips are not made of 80; nothing is repeated to reach a number."""
    with pytest.raises(UsageError, match="80 clips of 16 frames are there, 2048 are asked for"):
        run(sets / "real", sets / "other", tmp_path / "d", protocol="fvd2048_16f")
    with pytest.raises(VidarError, match="no video has the 128 frames of a clip, the longest has 32"):
        run(sets / "real", sets / "other", tmp_path / "d", protocol="fvd2048_128f_subsample8f")
    with pytest.raises(UsageError, match="none of fvd2048_16f"):
        run(sets / "real", sets / "other", tmp_path / "d", protocol="fvd")
    label = label_of("i3d-x", (2048, 2048), Sampling(16), (64, 80), "fvd2048_16f")
    assert label == "i3d-x, N 2,048, 16 frames, stride 1, 80x64, fvd2048_16f" and not (tmp_path / "d").exists()


def test_sides_that_differ_are_refused_or_made_equal(sets: Path, tmp_path: Path) -> None:
    """Sizes are named with the remedy, which works; frame rates are named."""
    (tmp_path / "large").mkdir()
    (tmp_path / "quick").mkdir()
    for n in range(4):
        frames = ShapesConfig(height=48, width=40, frames=16).build().episode(n).frames
        write_video(tmp_path / f"large/{n}.mp4", frames, 10)
        write_video(tmp_path / f"quick/{n}.mp4", ShapesConfig().build().episode(n).frames, 20)
    with pytest.raises(
        UsageError, match="real has 32x32, .*large has 40x48; to make both sides one size: --size 32x32"
    ):
        run(sets / "real", tmp_path / "large", tmp_path / "d")
    made, _ = run(sets / "real", tmp_path / "large", tmp_path / "d", size=(32, 32))
    assert made["distances"][0]["label"].endswith("N 80 and 4, 16 frames, stride 1, 32x32")
    assert made["generated"]["size"] == "40x48" and "--size 32x32" in made["command"]
    with pytest.raises(UsageError, match="10 frames/s, .* 20; their motion cannot be compared"):
        run(sets / "real", tmp_path / "quick", tmp_path / "e")


def test_what_makes_a_figure_doubtful_is_said(sets: Path, tmp_path: Path) -> None:
    """The same folder, shared files, a training split, files that were left out."""
    _, said = run(sets / "real", sets / "real", tmp_path / "a")
    assert len(said) == 1 and "is given on both sides" in said[0]
    (tmp_path / "mixed").mkdir()
    for n, file in enumerate([*sorted((sets / "real").iterdir())[:2], *sorted((sets / "other").iterdir())[:6]]):
        (tmp_path / f"mixed/{n}.mp4").write_bytes(file.read_bytes())
    (tmp_path / "mixed/bad.mp4").write_text("x")
    record(ShapesConfig(), None, tmp_path / "shards", episodes=8, frames=16)
    made, said = run(sets / "real", tmp_path / "mixed", tmp_path / "b")
    assert said[0] == "2 videos are on both sides with the same content" and "left out bad.mp4 (unreadable" in said[1]
    assert (
        made["generated"]["left_out"][0]["name"] == "bad.mp4" and "bad.mp4" in (tmp_path / "b/report.html").read_text()
    )
    _, said = run(tmp_path / "shards", tmp_path / "mixed", tmp_path / "c")
    assert "split 'train' may be what the model learned" in said[0]
    with pytest.raises(UsageError, match="lies in .*which is read"):
        run(sets / "real", sets / "other", sets / "real" / "out")


def test_a_side_of_too_few_clips_is_refused_before_features(sets: Path, tmp_path: Path) -> None:
    """One long video is one observation, however many clips it has."""
    (tmp_path / "one").mkdir()
    write_video(tmp_path / "one/a.mp4", ShapesConfig(frames=64).build().episode(7).frames, 10)
    with pytest.raises(UsageError, match="one: 4 clips of 1 video are too few; a distance needs 3 clips of 2 videos$"):
        run(sets / "real", tmp_path / "one", tmp_path / "d")
    (tmp_path / "one/z.mp4").write_text("x")
    with pytest.raises(UsageError, match=r"3 clips of 2 videos; left out z.mp4 \(unreadable"):
        run(sets / "real", tmp_path / "one", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_halves_are_every_second_video() -> None:
    """With all clips of a video on one side; too few videos have no halves."""
    x, owner = np.random.Generator(np.random.Philox(2)).normal(size=(60, 4)), np.array([3, 5, 6, 9]).repeat(15)
    found = halves(x, owner)
    assert found is not None and found["clips"] == [30, 30]
    first, second = np.concatenate([x[:15], x[30:45]]), np.concatenate([x[15:30], x[45:]])
    assert found["frechet"] == pytest.approx(frechet(Moments.of(first), Moments.of(second)), rel=1e-12)
    assert halves(x[:45], owner[:45]) is None


def test_distances_are_those_of_the_features() -> None:
    """The record holds what the functions return; JEDi only where it is asked for; a video's clips belong together."""
    random = np.random.Generator(np.random.Philox(1))
    x, y = random.normal(size=(60, 4)).astype(np.float32), random.normal(size=(50, 4)).astype(np.float32) + 0.4
    owners = (np.arange(60) // 3, np.arange(50) // 2)
    found = distances(x, y, False, owners)
    assert found["frechet"]["distance"] == pytest.approx(frechet(Moments.of(x), Moments.of(y)), rel=1e-12)
    assert (found["kid"]["value"], found["kid"]["standard_error"]) == kid(x, y, owners) and "jedi" not in found
    with pytest.raises(UsageError, match="generated features: row 3 is not finite"):
        distances(x, np.where(np.arange(50)[:, None] == 3, np.nan, y))
