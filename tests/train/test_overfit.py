"""Every recipe that trains learns two clips by heart: a method whose gradients miss their target does not."""

import pytest
import torch
from made_up import made_up

from vidar.configs.catalog import recipes
from vidar.objectives.prediction import VelocityConfig
from vidar.rng import Rng
from vidar.train.config import TrainConfig
from vidar.train.fit import build
from vidar.train.loop import train_step
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.decode import DecodeConfig
from vidar.train.methods.distillation import DistillationConfig
from vidar.train.methods.endpoint import EndpointConfig
from vidar.train.methods.next_scale import TrainScalesConfig
from vidar.train.methods.pictures import TrainPicturesConfig
from vidar.train.methods.prefix import TrainPrefixConfig
from vidar.train.methods.self_forcing import SelfForcingConfig

RECIPES = {name: recipe for name, recipe in recipes().items() if isinstance(recipe(preset="tiny"), TrainConfig)}
LONG = {  # the method of each is also that of a shorter one, or it has tests of its own against closed forms
    "acdit", "ca2vdm", "infinitystar", "infinitystar_shapes", "mmpl_doom", "tokenizer_infinitystar_shapes",
    "tokenizer_video_shapes", "tokenizer_videoar_doom", "videoar_doom", "world_doom_scm", "world_doom_self_forcing",
    "world_doom_student", "xar", "xar_cells_doom", "xar_scales_doom", "xar_subsamples_doom",
}  # fmt: skip
RECIPES.pop("pose")  # clips of noise show no turn; test_pose.py has it learn turns of a picture
MARKED = [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in RECIPES]


def goal(method):
    """(part of the loss that is watched, the share of its first value that may be left, steps). Measured: 0.1 for
    autoencoders, 0.15 to 0.4 for worlds. A velocity holds the noise too, which takes longer to give
    back. A student is watched by what it has to learn: its one answer against its teacher's whole path, or the frames
    that a teacher of its own rollouts knows by heart."""
    if isinstance(method, AutoencodeConfig | DecodeConfig):
        return "l2", 0.25, 150 if hasattr(getattr(method, "tokenizer", None), "pyramid") else 60
    if isinstance(method, SelfForcingConfig):
        return "frames", 0.5, 160
    if isinstance(method, EndpointConfig):
        return "total", 0.5, 200
    if isinstance(method, DistillationConfig):
        return "gap", 0.5, 200
    if isinstance(
        method, TrainScalesConfig | TrainPicturesConfig
    ):  # flips leave later scales to guess what they will have to repair
        return "total", 0.5, 200
    if isinstance(method, TrainPrefixConfig):  # one chunk of each clip is asked, and no frame without one before it
        return "total", 0.65, 100
    objective = getattr(getattr(method, "world", None), "objective", None)
    return "total", 0.5, 240 if isinstance(getattr(objective, "prediction", None), VelocityConfig) else 60


def error(job, part):
    """On sixteen batches whose draws training has not seen."""
    values = []
    for index in range(10**6, 10**6 + 16):
        batch = job.data.batch(index)
        rngs = [Rng(1, number) for number in batch.number.tolist()]
        if part == "gap":
            values.append(job.method.gap(job.model, batch, rngs))
            continue
        loss = job.method.step(job.model, batch, rngs)
        values.append(float((loss.total if part == "total" else loss.parts[part]).detach()))
    return sum(values) / len(values)


def teach(job, steps=200):
    """Distribution matching never reads the recorded frames: let its teacher learn them first."""
    net = job.method.teacher.net.requires_grad_(True)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for step in range(steps):
        batch = job.data.batch(step)
        loss = job.method.pair.clips.step(net, batch, [Rng(2, number) for number in batch.number.tolist()])
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    net.requires_grad_(False)


@pytest.mark.parametrize("name", MARKED)
def test_a_recipe_learns_one_batch_by_heart(name, tmp_path, one_thread):
    config = made_up(RECIPES[name], tmp_path / "tokenizer", repeat=True)
    config = config.replace(data=config.data.replace(like=config.data.like.replace(batch=2)))
    part, share, steps = goal(config.method)
    job = build(config, tmp_path, torch.device("cpu"))
    if isinstance(config.method, SelfForcingConfig):
        teach(job)
    first = error(job, part)
    for step in range(steps):
        values = train_step(job, job.data.batch(step), 3 * config.optim.lr * min(1.0, (step + 1) / 10))
        assert values is not None, f"not finite at step {step}"
        job.counters.cursor += 1
        job.counters.step += 1
    last = error(job, part)
    assert last < share * first, f"{name}: {part} went from {first:.4g} to {last:.4g}, more than {share:g} of it"
