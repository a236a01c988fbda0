from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from vidar.actions import Action, ActionSpec
from vidar.data.episode import Episode

sys.path.insert(0, str(Path(__file__).parent.parent / "browser"))  # chromium.py is shared by all suites

SPEC = ActionSpec(actions=(Action(name="LEFT", keys=("ArrowLeft",)), Action(name="RIGHT")))


@pytest.fixture
def turning():
    """`turning(count, frames)`: episodes of a ring of noise that turns 3 columns left or right with the keys."""

    def make(count: int, frames: int) -> list[Episode]:
        return [_episode(np.random.default_rng(number), frames, number) for number in range(count)]

    return make


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """browser(url, prepare=None, ready=...) opens a page in Chromium."""
    from chromium import chromium

    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


def _episode(rng: np.random.Generator, frames: int, number: int) -> Episode:
    actions = np.eye(2, dtype=np.float32)[rng.integers(0, 2, frames)]
    actions[0] = 0
    seen = [rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)]
    for action in actions[1:]:
        seen.append(np.roll(seen[-1], 3 * int(action[1] - action[0]), axis=1))
    return Episode(np.stack(seen), actions, 10.0, SPEC, f"turning-{number}", "test")
