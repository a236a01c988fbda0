from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from vidar.actions import Action, ActionSpec
from vidar.data.episode import Episode
from vidar.data.shards import ShardWriter

sys.path.insert(0, str(Path(__file__).parent))  # numbered.py and gym_toy.py are shared by the tests of this folder

SPEC = ActionSpec(
    actions=(
        Action(name="time", kind="choice", size=64),
        Action(name="episode", kind="choice", size=16),
        Action(name="turn", kind="continuous", low=-1, high=1),
    )
)
HEIGHT, WIDTH = 23, 32  # an odd height: yuv420p has to pad it


def make_episode(k: int, count: int = 24, name: str = "", **changes) -> Episode:
    """Pixels and actions both say who and when: left half 4 * t, right half 16 * k; actions t, k and a sine of t."""
    t = np.arange(count)
    frames = np.zeros((count, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, :, : WIDTH // 2] = (4 * t)[:, None, None, None]
    frames[:, :, WIDTH // 2 :] = 16 * k
    actions = np.stack([t, np.full(count, k), np.sin(t)], axis=1).astype(np.float32)
    actions[0] = 0
    values = {
        "frames": frames,
        "actions": actions,
        "fps": 17.5,
        "spec": SPEC,
        "name": name or f"ep{k:02d}",
        "source": "test:numbered",
        "extras": {"number": (100 * k + t).astype(np.int64), "depth": frames[..., 0].repeat(8, axis=2)},
        "caption": f"episode {k}",
        "meta": {"seed": k},
    }
    return Episode(**(values | changes))


@pytest.fixture
def spec() -> ActionSpec:
    return SPEC


@pytest.fixture
def episode():
    return make_episode


@pytest.fixture
def shards(tmp_path):
    """Write episodes 0 .. count-1 into a folder: shards(count=5, max_samples=2) -> path."""

    def write(count: int = 5, max_samples: int = 2, split: str = "train", name: str = "set", **changes):
        with ShardWriter(tmp_path / name, split, SPEC, max_samples=max_samples) as writer:
            for k in range(count):
                writer.write(make_episode(k, **changes))
        return tmp_path / name

    return write


@pytest.fixture
def registered():
    """registered(entry point, ...) -> an id."""
    known = set(gymnasium.registry)

    def register(entry, **options):
        gymnasium.register("VidarTest-v0", entry_point=entry, **options)
        return "VidarTest-v0"

    yield register
    for name in set(gymnasium.registry) - known:
        del gymnasium.registry[name]
