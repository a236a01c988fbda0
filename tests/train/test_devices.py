"""One training step of every recipe, on a device that is not the CPU: nothing is mixed, and no bit differs."""

import pytest
import torch
from fake_device import CUDA, fake_cuda
from made_up import made_up

from vidar.configs.catalog import recipes
from vidar.nn.attention import SDPAConfig
from vidar.nn.auto import AutoAttentionConfig
from vidar.objectives.flow import Flow
from vidar.train.fit import TrainConfig, build
from vidar.train.loop import update

RECIPES = {name: recipe for name, recipe in recipes().items() if isinstance(recipe(preset="tiny"), TrainConfig)}


@pytest.fixture(autouse=True)
def torch_attention(monkeypatch):
    """On both sides torch's attention: the forms chosen for two devices differ by rounding, or have no CPU kernel."""
    plain = SDPAConfig()
    monkeypatch.setattr(AutoAttentionConfig, "build", lambda self, view, device, grad: plain.build(view, device, grad))


def stepped(config, folder, device):
    """The values of one step, and the job after it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    job = build(config, folder, device)
    return update(job, job.data.batch(0), config.optim.lr), job


def small(name, tmp_path):
    config = made_up(RECIPES[name], tmp_path / "part")
    return config.replace(data=config.data.replace(like=config.data.like.replace(batch=2)))


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_step_mixes_no_devices_and_is_that_of_the_cpu(name, tmp_path, one_thread):
    config = small(name, tmp_path)
    values, job = stepped(config, tmp_path / "cpu", torch.device("cpu"))
    with fake_cuda():
        found, other = stepped(config, tmp_path / "cuda", CUDA)
    assert values.keys() == found.keys() and all(float(values[key]) == float(found[key]) for key in values)
    for mine, theirs in zip(job.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs.on_cpu)


@pytest.mark.gpu
@pytest.mark.parametrize("name", RECIPES)
def test_a_training_step_on_cuda(name, tmp_path):
    config = small(name, tmp_path)
    values, _ = stepped(config.replace(precision="fp32"), tmp_path / "cuda", torch.device("cuda"))
    assert all(torch.isfinite(value).all() for value in values.values())


def test_twin_one_tensor_of_prepare_on_the_cpu_fails(tmp_path, monkeypatch):
    prepare = Flow.prepare

    def moved(self, *args, **named):
        seen, target, keep = prepare(self, *args, **named)
        return seen.cpu(), target, keep

    monkeypatch.setattr(Flow, "prepare", moved)
    with fake_cuda(), pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        stepped(small("world_doom", tmp_path), tmp_path / "cuda", CUDA)
