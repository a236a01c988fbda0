"""The held-out policy: polygons and their mirror images."""

import numpy as np
import pytest

from vidar.actions import Action, ActionSpec
from vidar.data.circuits import CircuitsPolicyConfig
from vidar.data.explore import View
from vidar.data.mixture import MixturePolicyConfig
from vidar.data.policies import named_policy
from vidar.rng import Rng
from vidar.types import UsageError

KEYS = ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT")
DOOM = ActionSpec(actions=tuple(Action(name=name) for name in KEYS))
VIEW = View(np.zeros((8, 8, 3), np.uint8))


def play(policy, spec=DOOM, seed=0, frames=2000):
    policy.start(spec, Rng(seed))
    return np.stack([policy(VIEW) for _ in range(frames)])


def test_it_is_a_function_of_its_seed_and_legal():
    policy = named_policy("circuits")
    first = play(policy, seed=3)
    assert np.array_equal(first, play(policy, seed=3)) and not np.array_equal(first, play(policy, seed=4))
    DOOM.validate_actions(first, "circuits")


def test_a_polygon_is_followed_by_its_mirror_image():
    """Runs of one key, of the lengths that are asked for; left and right change places, ahead stays."""
    config = CircuitsPolicyConfig(corners=(4, 4), pause=(1, 3), steps=0.5)
    table = play(config.build())
    held = np.where(table.any(1), table.argmax(1), -1)
    edges = np.flatnonzero(np.diff(held)) + 1
    runs = [(int(part[0]), len(part)) for part in np.split(held, edges)]
    mirror = {-1: -1, 0: 1, 1: 0, 2: 2, 3: 4, 4: 3}
    assert [(mirror[key], length) for key, length in runs[:12]] == runs[12:24]
    assert {key for key, _ in runs} == {-1, 0, 1, 2, 3, 4}
    assert all(6 <= length <= 30 for key, length in runs[:12] if key > 1)
    assert all(4 <= length <= 20 for key, length in runs[:12] if key in (0, 1))


def test_the_mixture_never_plays_it():
    """No 60 frames of it are in 40,000 frames of the mixture."""
    table = play(named_policy("circuits"), frames=400)
    mixed = np.concatenate([play(MixturePolicyConfig().build(), seed=seed, frames=4000) for seed in range(10)])
    words = {mixed[start : start + 60].tobytes() for start in range(len(mixed) - 60)}
    assert not any(table[start : start + 60].tobytes() in words for start in range(len(table) - 60))


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="no pair of opposite keys beside JUMP"):
        CircuitsPolicyConfig().build().start(ActionSpec(actions=(Action(name="JUMP"),)), Rng(0))
    with pytest.raises(UsageError, match=r"side is \(9, 3\), expected 0 <= fewest <= most"):
        CircuitsPolicyConfig(side=(9, 3)).build()
