"""`vidar generate` with a model of pictures: what is written, and what is refused before the model is built."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import vidar
import vidar.model.load as models
from vidar.config import from_dict
from vidar.configs.infinity import infinity
from vidar.configs.infinitystar import infinitystar_shapes
from vidar.configs.var import var_shapes
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import read_video, write_video
from vidar.model.load import save

RECIPES = {"class": var_shapes, "clip": infinitystar_shapes, "features": infinity}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Folders of tiny untrained models whose networks do something."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, recipe in RECIPES.items():
        torch.manual_seed(0)
        model = recipe(preset="tiny").method.pictures.build()
        with torch.no_grad():
            for weight in model.net.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        save(model, folder / name, torch.float32)
    return folder


def test_an_image_of_a_label(run, pictures, tmp_path):
    out = tmp_path / "x.png"
    code, printed, _ = run("generate", pictures / "class", "--label", 5, "--seed", 3, "--out", out, "--json")
    assert code == 0
    model = vidar.load(pictures / "class")
    made = model.generate(label=5, seed=3).frames
    assert np.array_equal(np.array(Image.open(out)), made[0, 0])
    assert not np.array_equal(made, model.generate(label=5, seed=4).frames)
    side = json.loads((tmp_path / "x.json").read_text())
    assert side == json.loads(printed) and side["frames"] == 1 and side["latency_ms"]["calls"] == 3
    assert from_dict(side["world"]) == model.config and from_dict(side["arguments"]).label == 5


def test_a_clip_of_a_prompt_and_its_context(run, pictures, tmp_path):
    words = ["generate", pictures / "clip", "--prompt", "a red ring", "--seed", 3]
    assert run(*words, "--out", tmp_path / "a.mp4")[0] == 0
    frames, fps = read_video(tmp_path / "a.mp4")
    assert frames.shape == (17, 32, 32, 3) and fps == 10
    assert run(*words, "--frames", 9, "--out", tmp_path / "b.mp4")[0] == 0
    assert len(read_video(tmp_path / "b.mp4")[0]) == 9
    Image.fromarray(ShapesConfig().build().episode(1).frames[0]).save(tmp_path / "start.png")
    assert run(*words, "--context", tmp_path / "start.png", "--out", tmp_path / "c.mp4")[0] == 0
    assert json.loads((tmp_path / "c.json").read_text())["context_frames"] == 1
    assert len(read_video(tmp_path / "c.mp4")[0]) == 17  # the context is a part of the clip


CASES = [
    ("class --label 28", 2, "label 28 is out of range; model 'var_shapes' has 0 .. 27"),
    ("class --prompt red", 2, "takes a label 0 .. 27, and no prompt"),
    ("class", 2, "takes a label 0 .. 27; give it one"),
    ("class --label 1 --actions x.npy", 2, "takes no --actions"),
    ("class --label 1 --steps 4", 2, "makes one call per scale, 3 per frame; leave --steps out"),
    ("class --label 1 --frames 9 --out x.mp4", 2, "generates one latent frame, not 9"),
    ("class --label 1 --out x.jpg", 2, "x.jpg: an image is written as .png, .mp4, .webm or .gif"),
    ("clip --label 1 --out x.mp4", 2, "takes a prompt, and no label"),
    ("clip --out x.mp4", 2, "takes a prompt"),
    ("clip --prompt red --frames 5 --out x.mp4", 2, "less than one clip"),
    ("clip --prompt red --out x.png", 2, "x.png: a video is written as .mp4, .webm or .gif"),
    ("clip --prompt red --context small.mp4 --out x.mp4", 1, "small.mp4: is 16x16, this model is 32x32"),
    ("clip --prompt red --context long.mp4 --out x.mp4", 2, "17 context frames leave nothing to generate"),
    ("features --prompt red", 2, "reads features of an external text encoder; use it from Python"),
    ("world --label 1 --frames 2 --out x.mp4", 2, "takes actions, and no label"),
    ("world --prompt red --frames 2 --out x.mp4", 2, "takes actions, and no prompt"),
]


@pytest.mark.parametrize("words, code, named", CASES, ids=[case[0] for case in CASES])
def test_refused_before_a_model_is_built(run, pictures, model, tmp_path, monkeypatch, words, code, named):
    monkeypatch.setattr(models, "load", lambda *_: pytest.fail("a model was built"))
    monkeypatch.setattr("vidar.model.files.load", lambda *_: pytest.fail("a model was built"))
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "small.mp4", np.zeros((1, 16, 16, 3), np.uint8), 10)
    write_video(tmp_path / "long.mp4", np.zeros((17, 32, 32, 3), np.uint8), 10)
    before = sorted(tmp_path.iterdir())
    name, *rest = words.split()
    rest = rest if "--out" in rest else [*rest, "--out", "x.png"]
    got, out, err = run("generate", model if name == "world" else pictures / name, *rest)
    assert got == code and named in err and err.count("\n") == 1 and not out
    assert sorted(tmp_path.iterdir()) == before
