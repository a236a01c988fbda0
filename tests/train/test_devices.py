"""Every recipe on a device that is not the CPU: trained, gone on with, exported, and what it made is used there.

Nothing is mixed, and no bit differs from the CPU. Under `-m gpu` the same runs on a real card.
"""

import math

import pytest
import torch
from fake_device import CUDA, OnCuda, fake_cuda
from made_up import made_up

from vidar.configs.catalog import recipes
from vidar.model.geometry import Geometry
from vidar.model.load import CONFIG, load
from vidar.model.model import VideoModel
from vidar.nn.attention import SDPAConfig
from vidar.nn.auto import AutoAttentionConfig
from vidar.nn.depth import DepthNet
from vidar.nn.pretrained import load_component
from vidar.objectives.flow import Flow
from vidar.play.env import WorldVectorEnv
from vidar.rng import Rng
from vidar.tokenizers.pixels import to_float
from vidar.train.config import TrainConfig
from vidar.train.fit import fit
from vidar.train.log import read_log

RECIPES = {name: recipe for name, recipe in recipes().items() if isinstance(recipe(preset="tiny"), TrainConfig)}
CPU = torch.device("cpu")
CLOCK = ("elapsed", "samples_per_s", "data_wait", "checkpoint")


@pytest.fixture(autouse=True)
def torch_attention(monkeypatch):
    """On both sides torch's attention: the forms chosen for two devices differ by rounding, or have no CPU kernel."""
    plain = SDPAConfig()
    monkeypatch.setattr(AutoAttentionConfig, "build", lambda self, view, device, grad: plain.build(view, device, grad))


def small(name, tmp_path):
    config = made_up(RECIPES[name], tmp_path / "part")
    data = config.data.replace(like=config.data.like.replace(batch=2))
    return config.replace(data=data, check_memory=False, optim=config.optim.replace(steps=2))


def trained(config, folder, device):
    """A step, then another one of a run that goes on: its values, and what is exported."""
    first = config.replace(optim=config.optim.replace(steps=1))
    fit(first, folder, device=str(device))
    done = fit(config, folder, resume="auto", device=str(device))
    values = [{key: line[key] for key in line if key not in CLOCK} for line in read_log(folder / "log.jsonl")]
    return values, done.model


def used(config, folder, device):
    """What it makes of a start: frames of a clip, frames of a game, a picture and back, or what it reads of a clip."""
    video = to_video(config)
    if (folder / CONFIG).is_file():
        model = load(folder, device, torch.float32)
        return pictures(model) if model.config.clips else dreams(model)
    model = load_component(folder).to(device)
    if isinstance(model, Geometry):  # of the CPU, wherever its world is
        return remembered(load_component(folder))
    with torch.inference_mode():
        if hasattr(model, "decode"):
            return model.decode(model.encode(to_float(video).to(device))[0])[0]
        if isinstance(model, DepthNet):
            return model(video[0].to(device))
        answers = model(video.to(device))
        found = answers if isinstance(answers, tuple) else tuple(answers.values())
        return torch.cat([answer.flatten(1) for answer in found], 1)


def to_video(config):
    height, width = config.data.size
    return (255 * Rng(3).uniform("init", shape=(1, 9, height, width, 3))).to(torch.uint8)


def remembered(memory):
    """The pose, and what is drawn, after a start and a step."""
    c = memory.config
    seen = (255 * Rng(3).uniform("init", shape=(3, c.points.height, c.points.width, 3))).to(torch.uint8)
    place = memory.ahead(memory.start(seen, None), torch.ones(c.walk.actions))
    return torch.cat([place.pose, place.drawn.colour.flatten().float()])


def pictures(model):
    reader = model.config.conditioner
    if "label" in model.config.accepts:
        return torch.from_numpy(model.generate(label=0).frames)
    features = Rng(9).normal("token", shape=(1, 3, getattr(reader.encoder, "width", 1))).float()
    prompt = "a ring" if reader.reads_words else (features[0], torch.ones(3, dtype=torch.bool))
    return torch.from_numpy(model.generate(prompt=prompt).frames)


def dreams(world):
    config = world.config
    start = (255 * Rng(3).uniform("init", shape=(config.context, config.height, config.width, 3))).to(torch.uint8)
    frames = [torch.from_numpy(world.generate(start.numpy(), num_frames=2).frames[0])]
    if config.system().in_turn:
        env = WorldVectorEnv(1, world)
        env.reset(seed=0, options={"context": start.numpy()})
        frames += [torch.from_numpy(env.step(env.action_space.sample() * 0)[0]) for _ in range(2)]
    return torch.cat(frames)


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_and_what_it_made_are_those_of_the_cpu(name, tmp_path, one_thread):
    config = small(name, tmp_path)
    values, folder = trained(config, tmp_path / "cpu", CPU)
    with fake_cuda():
        found, other = trained(config, tmp_path / "cuda", CUDA)
        seen = used(config, other, CUDA)
    assert values == found
    assert torch.equal(used(config, folder, CPU), seen.on_cpu if isinstance(seen, OnCuda) else seen)


@pytest.mark.parametrize("name", ["world_doom", "videoar_doom", "infinity_shapes", "tokenizer_doom", "decoder_doom"])
def test_samples_of_a_run_are_those_of_the_cpu(name, tmp_path, one_thread):
    """Of a world of frames, one of scales, pictures, a tokenizer and a decoder."""
    config = small(name, tmp_path).replace(sample_every=1)
    fit(config, tmp_path / "cpu", device="cpu")
    with fake_cuda():
        fit(config, tmp_path / "cuda", device=str(CUDA))
    made = [{p.name: p.read_bytes() for p in (tmp_path / d / "samples").iterdir()} for d in ("cpu", "cuda")]
    assert len({name.split(".")[0] for name in made[0]}) == 2 and made[0] == made[1]


@pytest.mark.gpu
@pytest.mark.parametrize("name", RECIPES)
def test_a_run_and_what_it_made_on_cuda(name, tmp_path):
    config, device = small(name, tmp_path), torch.device("cuda")
    values, folder = trained(config.replace(precision="fp32"), tmp_path / "cuda", device)
    assert all(math.isfinite(line["loss"]) for line in values if "loss" in line)
    seen = used(config, folder, device)
    assert len(seen) and torch.isfinite(seen.float()).all()


def test_twin_one_tensor_of_prepare_on_the_cpu_fails(tmp_path, monkeypatch):
    prepare = Flow.prepare

    def moved(self, *args, **named):
        seen, target, keep = prepare(self, *args, **named)
        return seen.cpu(), target, keep

    monkeypatch.setattr(Flow, "prepare", moved)
    with fake_cuda(), pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        trained(small("world_doom", tmp_path), tmp_path / "cuda", CUDA)


def test_twin_a_frame_of_play_that_is_not_moved_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(VideoModel, "model", lambda self, *told: self.net(*told).float().cpu())
    with fake_cuda():
        _, folder = trained(small("world_doom", tmp_path), tmp_path / "cuda", CUDA)
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            used(small("world_doom", tmp_path), folder, CUDA)
