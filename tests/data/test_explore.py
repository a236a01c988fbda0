"""Policies: held, not white noise; functions of the seed; turned away from walls."""

import numpy as np
import pytest

from vidar.actions import Action, ActionSpec
from vidar.data.explore import ExplorePolicyConfig, HoldPolicyConfig, View
from vidar.data.policies import named_policy
from vidar.data.synthetic import SPEC
from vidar.rng import Rng
from vidar.types import UsageError

DOOM = ActionSpec(
    actions=tuple(Action(name=n) for n in ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT"))
)
FRAME = np.zeros((64, 80, 3), np.uint8)


def holds(column):
    """Lengths of the runs of equal values."""
    edges = np.flatnonzero(np.diff(column)) + 1
    return np.diff(np.concatenate([[0], edges, [len(column)]]))


class Room:
    """A square room [-300, 300]^2 seen from inside: depth is the ray's distance to its walls."""

    def __init__(self):
        self.place, self.angle = np.zeros(2), 20.0

    def view(self):
        off = np.degrees(np.arctan(np.linspace(1, -1, 80) * np.tan(np.radians(43))))
        way = np.radians(self.angle + off)
        heading = np.stack([np.cos(way), np.sin(way)]) + 1e-9
        reach = ((np.sign(heading) * 300 - self.place[:, None]) / heading).min(0) * np.cos(np.radians(off))
        depth = np.broadcast_to(np.clip(reach / 7.6, 0, 255).astype(np.uint8), (64, 80))
        return View(FRAME, depth, np.array([*self.place, 0.0, self.angle % 360], np.float32))

    def step(self, row):
        self.angle += 7.0 * (row[0] - row[1])
        way = np.radians(self.angle)
        ahead, left = np.array([np.cos(way), np.sin(way)]), np.array([-np.sin(way), np.cos(way)])
        self.place = np.clip(self.place + 12 * row[2] * ahead + 9 * (row[3] - row[4]) * left, -284, 284)


def walk(seed, steps=1500, name="explore"):
    room, policy = Room(), named_policy(name)
    policy.start(DOOM, Rng(seed))
    rows, places = [], [room.place]
    for _ in range(steps):
        rows.append(policy(room.view()))
        room.step(rows[-1])
        places.append(room.place)
    return np.stack(rows), np.stack(places)


def test_exploration_holds_its_actions_travels_and_uses_every_button():
    rows, places = walk(0)
    lengths = np.concatenate([holds(rows[:, i]) for i in range(3)])
    assert lengths.mean() > 12  # white noise with the same marginals: about 2.5
    share = rows.mean(0)
    assert 0.35 < share[2] < 0.85 and (share[:2] > 0.1).all() and (share[3:] > 0.005).all()
    lean = [np.subtract(*walk(seed)[0].mean(0)[:2]) for seed in range(8)]  # each run circles one way; none is favoured
    assert abs(np.mean(lean)) < 0.1
    assert not (rows[:, 0] * rows[:, 1]).any() and not (rows[:, 3] * rows[:, 4]).any()
    assert 0.005 < (rows.sum(1) == 0).mean() < 0.12
    assert (rows[:, 2] * rows[:, :2].sum(1)).mean() > 0.03  # arcs
    moved = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert (moved[rows[:, 2] > 0] < 2).mean() < 0.15  # stuck
    cells = {tuple(c) for c in np.floor(places / 100).astype(int)}
    assert len(cells) >= 24  # of 36


def test_exploration_is_a_function_of_the_seed():
    a, b, c = walk(3, 200)[0], walk(3, 200)[0], walk(4, 200)[0]
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_blind_player_walks_into_walls_with_keys_of_the_same_manner():
    near = {name: (np.abs(walk(0, name=name)[1]) > 283).any(1).mean() for name in ("explore", "blind")}
    assert near["blind"] > 0.5 > 0.3 > near["explore"]  # the share of steps at a wall
    rows = walk(0, name="blind")[0]
    assert np.concatenate([holds(rows[:, i]) for i in range(3)]).mean() > 12 and (rows.mean(0) > 0.005).all()


def test_an_unknown_policy_is_refused_with_the_valid_names():
    with pytest.raises(UsageError, match="no policy 'bold'; valid: explore, mixture, blind, hold"):
        named_policy("bold")


def test_exploration_leaves_a_spot_where_it_is_stuck():
    policy = ExplorePolicyConfig().build()
    policy.start(DOOM, Rng(1))
    depth = np.full((64, 80), 60, np.uint8)  # looks open, but nothing moves
    rows = [policy(View(FRAME, depth, np.array([0, 0, 0, 0], np.float32))) for _ in range(300)]
    running = np.stack(rows)[:, 2] * (1 - np.stack(rows)[:, :2].max(1))
    assert holds(running)[:: 2 if running[0] else 1].max() <= 40 and running.mean() < 0.6


def test_exploration_works_without_depth_and_with_few_buttons():
    policy = ExplorePolicyConfig().build()
    few = ActionSpec(actions=(Action(name="MOVE_LEFT"), Action(name="MOVE_RIGHT"), Action(name="ATTACK")))
    policy.start(few, Rng(0))
    rows = np.stack([policy(View(FRAME)) for _ in range(400)])
    share = rows.mean(0)
    assert (share[:2] > 0.2).all() and share[:2].sum() < 0.95 and 0.05 < share[2] < 0.5


def test_held_actions_are_held_legal_and_spread():
    spec = ActionSpec(actions=(*SPEC.actions, Action(name="b"), Action(name="c", kind="continuous", low=-2, high=3)))
    policy = HoldPolicyConfig(shortest=3, longest=9, p_rest=0.2).build()
    policy.start(spec, Rng(0))
    rows = np.stack([policy(View(FRAME)) for _ in range(4000)])
    spec.validate_actions(rows, "held")
    for column in range(3):
        assert holds(rows[:, column])[:-1].min() >= 3 and holds(rows[:, column]).mean() > 3
    counts = np.bincount(rows[:, 0].astype(int), minlength=5) / len(rows)
    np.testing.assert_allclose(counts, [0.36, 0.16, 0.16, 0.16, 0.16], atol=0.06)  # 650 holds: 3 sigma is 0.06
    assert rows[:, 2].min() < -1 and rows[:, 2].max() > 2
