import json
import sys
from pathlib import Path

import pytest
import torch

from vidar.configs.doom import world_doom

sys.path.insert(0, str(Path(__file__).parent))  # tiny.py is shared by the suite
from tiny import Here, lively, stored


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """As workers have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def world():
    """A tiny untrained world whose network does something: it looks 11 frames back, and takes one step a frame."""
    return lively(world_doom(preset="tiny").method.world)


@pytest.fixture(scope="session")
def model(world, tmp_path_factory):
    """Its folder, with a start of 5 frames."""
    return stored(world, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def here():
    """here(**options) -> (place, made placements)."""

    def build(**options):
        made = []

        def place(*words):
            made.append(Here(*words, **options))
            return made[-1]

        return place, made

    return build


@pytest.fixture
def write_jobs(tmp_path):
    """Jobs as a file of lines."""

    def write(*jobs, name="jobs.jsonl"):
        file = tmp_path / name
        file.write_text("".join(job if isinstance(job, str) else json.dumps(job) + "\n" for job in jobs))
        return file

    return write
