import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from vidar.cli import app
from vidar.configs.catalog import find, find_world
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import write_video
from vidar.model.load import save


@pytest.fixture
def run():
    """Run a command line: (exit code, stdout, stderr). Nothing but our own errors may end a command."""

    def call(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return call


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Three episodes of shapes, 8 frames each."""
    folder = tmp_path_factory.mktemp("shards")
    record(ShapesConfig(), None, folder, episodes=3, frames=8)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a tiny untrained world whose network does something; no start clip."""
    torch.manual_seed(0)
    world = find_world(find("world_shapes")(preset="tiny")).build()
    with torch.no_grad():
        for weight in world.net.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save(world, folder, dtype=torch.float32)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """An mp4 of 5 frames of shapes."""
    file = tmp_path_factory.mktemp("clips") / "start.mp4"
    write_video(file, ShapesConfig().build().episode(3).frames[:5], 10)
    return file


@pytest.fixture
def keys(tmp_path):
    """.npy of four legal actions."""
    file = tmp_path / "keys.npy"
    np.save(file, np.array([[1], [2], [0], [4]], np.float32))
    return file
