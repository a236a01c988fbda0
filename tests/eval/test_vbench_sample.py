"""Sampling for VBench with tiny untrained models in real processes: names, seeds, resumption, refusals, check."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import vidar
from vidar.configs.catalog import find, find_world
from vidar.configs.infinity import infinity
from vidar.configs.infinitystar import infinitystar_shapes
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import read_video, write_video
from vidar.eval.vbench_sample import SampleRequest, check, sample
from vidar.model.load import save
from vidar.synth.jobs import seed_of
from vidar.types import UsageError, VidarError

INFO = [
    {"prompt_en": "a red ring, still", "dimension": ["temporal_flickering"]},
    {"prompt_en": "a blue square", "dimension": ["color"], "image_name": "square.png"},
    {"prompt_en": "a green disk", "dimension": ["color", "scene"], "image_name": "disk.png"},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of tiny untrained models: clips from words, images from features, and a world with a start clip."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    pictures = {"clip": infinitystar_shapes, "features": infinity}
    made = {name: recipe(preset="tiny").method.pictures for name, recipe in pictures.items()}
    made["world"] = find_world(find("world_shapes")(preset="tiny"))
    for name, config in made.items():
        model = config.build()
        with torch.no_grad():
            for weight in model.net.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        save(model, folder / name, torch.float32)
    write_video(folder / "world" / "start.mp4", ShapesConfig().build().episode(3).frames[:5], 10)
    return folder


@pytest.fixture
def ask(models, tmp_path):
    """ask(**fields): a request for the tiny model of clips, with the official prompts of this file."""
    info = tmp_path / "info.json"
    info.write_text(json.dumps(INFO))

    def request(**fields):
        given = {"model": str(models / "clip"), "out": str(tmp_path / "out"), "info": str(info), "frames": 9}
        return SampleRequest(**{**given, **fields})

    return request


def test_videos_under_the_official_names_and_again_after_an_interruption(ask, models, tmp_path):
    def stop(done, total):
        assert total == 10
        if done == 3:
            raise KeyboardInterrupt

    color = ask(dimensions=("color",))
    with pytest.raises(KeyboardInterrupt):
        sample(color, stop)
    out = tmp_path / "out"
    kept = {file.name: file.stat().st_mtime_ns for file in (out / "videos").iterdir()}
    noted = [one for one in json.loads((out / "manifest.json").read_text())["clips"] if "sha256" in one]
    assert len(noted) == 3 and {one["file"].removeprefix("videos/") for one in noted} <= {*kept}
    asked = []
    made = sample(ask(dimensions=("color",), workers=2), lambda *done: asked.append(done))
    assert made["made"] == 7 and made["kept"] == 3 and made["missing"] == [] and asked[-1] == (7, 7)
    names = sorted(f"{prompt}-{i}.mp4" for prompt in ("a blue square", "a green disk") for i in range(5))
    assert sorted(file.name for file in (out / "videos").iterdir()) == names
    for one in noted:
        name = one["file"].removeprefix("videos/")
        assert (out / one["file"]).stat().st_mtime_ns == kept[name], name
    told = json.loads((out / "manifest.json").read_text())
    assert told["frames"] == 9 and told["fps"] == 10 and len(told["weights"]) == 16 and told["matrix"] == "bt601"
    assert told["command"] == color.command and "--dimension color" in told["command"]
    for one in told["clips"]:
        assert one["seed"] == seed_of(f"0/{one['file'].removeprefix('videos/')}") and one["dimensions"] == ["color"]
    one = told["clips"][7]
    assert (one["prompt"], one["index"], one["frames"], one["height"]) == ("a green disk", 2, 9, 32)
    seen, world = read_video(out / one["file"])[0].astype(int), vidar.load(models / "clip")
    distances = []
    for seed in (one["seed"], 0):
        frames = world.generate(prompt="a green disk", num_frames=9, seed=seed).frames[0]
        write_video(tmp_path / "same.mp4", frames, 10, matrix=6)
        distances.append(np.abs(seen - read_video(tmp_path / "same.mp4")[0]).mean())
    assert distances[0] < 2 < 10 < distances[1]  # the encoder may differ in details, see docs/notes/evaluation.md
    assert check(out)["good"] == 10
    with pytest.raises(UsageError, match="made with frames 9, not 17"):
        sample(ask(dimensions=("color",), frames=17))
    other = shutil.copytree(models / "clip", tmp_path / "other")
    save(infinitystar_shapes(preset="tiny").method.pictures.build(), other, torch.float32)
    with pytest.raises(UsageError, match="made with weights"):
        sample(ask(model=str(other)))
    assert sample(ask(dimensions=("color",)))["kept"] == 10


def test_the_check_names_what_is_wrong(ask, tmp_path):
    out, said = tmp_path / "out", []
    sample(ask(dimensions=("scene",)))
    (out / "videos" / "a green disk-1.mp4").unlink()
    write_video(out / "videos" / "a green disk-2.mp4", np.zeros((8, 32, 32, 3), np.uint8), 10)
    shutil.copy(out / "videos" / "a green disk-3.mp4", out / "videos" / "a green disk-7.mp4")
    made = check(out, {"frames": 9}, said.append)
    assert (made["videos"], made["good"]) == (5, 3)
    assert made["by_kind"] == {"missing": 1, "frames": 1, "matrix": 1, "changed": 1, "unexpected": 1}
    assert said[0] == "videos/a green disk-1.mp4: does not exist"
    assert said[-1].startswith("videos/a green disk-7.mp4: is not in the manifest")
    assert "videos/a green disk-2.mp4: frames is 8, expected 9" in said
    assert check(out, {"frames": 10})["good"] == 0
    (out / "videos" / "a green disk-7.mp4").unlink()
    assert sample(ask(dimensions=("scene",)))["made"] == 2 and check(out)["good"] == 5


def test_a_file_of_another_origin_is_kept(ask, tmp_path):
    (tmp_path / "out" / "videos").mkdir(parents=True)
    theirs = tmp_path / "out" / "videos" / "a green disk-0.mp4"
    theirs.write_bytes(b"not ours")
    with pytest.raises(UsageError, match=r"a green disk-0.mp4: exists, and vidar did not write it"):
        sample(ask())
    assert theirs.read_bytes() == b"not ours"


def test_pictures_to_begin_with(ask, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    with pytest.raises(UsageError, match=r"1 pictures are missing: disk.png; give their folder with --images"):
        sample(ask(mode="i2v", dimensions=("scene",), images=str(pictures)))
    red = np.zeros((40, 64, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(pictures / "disk.png")
    made = sample(ask(mode="i2v", dimensions=("scene",), images=str(pictures)))
    assert made["videos"] == made["made"] == 5
    frames = read_video(tmp_path / "out" / "videos" / "a green disk-0.mp4")[0]
    assert frames.shape == (9, 32, 32, 3)
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())["clips"]
    assert {one["image"] for one in told} == {"disk.png"} and len({one["sha256"] for one in told}) == 5


def test_own_prompts_and_a_world_without_text(models, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a ring / a disk\n")
    given = {"mode": "custom", "out": str(tmp_path / "a"), "videos": 2, "frames": 9}
    sample(SampleRequest(model=str(models / "clip"), prompts=str(prompts), **given))
    names = ["a ring a disk-0.mp4", "a ring a disk-1.mp4"]
    assert json.loads((tmp_path / "a" / "prompts.json").read_text()) == dict.fromkeys(names, "a ring / a disk")
    assert sorted(file.name for file in (tmp_path / "a" / "videos").iterdir()) == names
    world = SampleRequest(model=str(models / "world"), **{**given, "out": str(tmp_path / "b")})
    assert sample(world)["made"] == 2
    clips = [read_video(tmp_path / "b" / "videos" / f"shapes-{i}.mp4")[0] for i in range(2)]
    assert clips[0].shape == clips[1].shape == (9, 32, 32, 3) and not np.array_equal(*clips)  # two walks


def test_videos_of_another_program(ask, tmp_path):
    theirs, said = tmp_path / "theirs", []
    theirs.mkdir()
    clip = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    for name in ("a green disk-0", "a green disk-3", "else"):
        write_video(theirs / f"{name}.mp4", clip, 8)
    made = sample(ask(model=None, folder=str(theirs), dimensions=("scene",)), say=said.append)
    assert made["made"] == 2 and made["missing"] == [f"a green disk-{i}.mp4" for i in (1, 2, 4)]
    assert said == ["3 of 5 videos are missing: a green disk-1.mp4, a green disk-2.mp4, a green disk-4.mp4"]
    assert check(tmp_path / "out")["by_kind"] == {"missing": 3}
    (theirs / "prompts.json").write_text(json.dumps({"else.mp4": "something else"}))
    custom = {"folder": str(theirs), "mode": "custom", "out": str(tmp_path / "custom")}
    with pytest.raises(UsageError, match=r"has no prompt of a green disk-0.mp4"):
        sample(SampleRequest(**custom))
    (theirs / "prompts.json").unlink()
    assert sample(SampleRequest(**custom))["made"] == 3
    told = json.loads((tmp_path / "custom" / "manifest.json").read_text())["clips"]
    assert [(one["prompt"], one["index"]) for one in told] == [("a green disk", 0), ("a green disk", 3), ("else", 0)]
    (theirs / "else.mp4").write_bytes(b"damaged")
    with pytest.raises(VidarError, match=r"else.mp4"):
        sample(SampleRequest(**{**custom, "out": str(tmp_path / "again")}))


CASES = [
    ({"model": None}, "give MODEL, or --folder"),
    ({"folder": "x"}, "give MODEL, or --folder"),
    ({"model": "doom"}, "doom: takes no text, so it has no videos for prompts"),
    ({"model": "FEATURES"}, "reads features of an external text encoder, not words"),
    ({"info": None}, "give the official prompts with --info"),
    ({"prompts": "x"}, "--prompts belongs to --mode custom"),
    ({"mode": "custom"}, "--info does not belong to --mode custom"),
    ({"mode": "custom", "info": None}, "give it prompts, one per line, with --prompts FILE"),
    ({"mode": "custom", "info": None, "model": "doom", "prompts": "P"}, "doom: takes no text"),
    ({"mode": "custom", "info": None, "model": "doom", "frames": None}, "makes endless streams; give --frames"),
    ({"mode": "long"}, "9 frames are 0.9 s at 10 frames per second; VBench-Long is for 5 s and more"),
    ({"frames": 5}, "less than one clip"),
    ({"seconds": 1.0}, "give --frames or --seconds, not both"),
    ({"mode": "i2v"}, "has no image_name"),
    ({"mode": "i2v", "dimensions": ("color",)}, "2 pictures are missing: square.png, disk.png"),
    ({"dimensions": ("colour",)}, "no prompt is for dimension 'colour'"),
]


@pytest.mark.parametrize(("fields", "problem"), CASES, ids=[problem[:30] for _, problem in CASES])
def test_wrong_usage_writes_nothing(ask, models, tmp_path, fields, problem):
    (tmp_path / "P").write_text("a cat\n")
    places = {"FEATURES": str(models / "features"), "P": str(tmp_path / "P")}
    fields = {name: places.get(value, value) if isinstance(value, str) else value for name, value in fields.items()}
    with pytest.raises(UsageError, match=problem) as raised:
        sample(ask(**fields))
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()
