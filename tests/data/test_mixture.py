"""The mixture policy: its shares, its turns, and what it does with rates."""

from collections import Counter

import numpy as np
import pytest

from vidar.actions import Action, ActionSpec
from vidar.data.explore import View
from vidar.data.mixture import KINDS, MixturePolicy, MixturePolicyConfig
from vidar.rng import Rng
from vidar.types import UsageError

KEYS = tuple(Action(name=n) for n in ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT"))
RATES = tuple(Action(name=n, kind="continuous", low=-15, high=15) for n in ("TURN_LEFT_RIGHT_DELTA", "MOVE_DELTA"))
DOOM, MOUSE = ActionSpec(actions=KEYS), ActionSpec(actions=KEYS + RATES)
VIEW = View(np.zeros((8, 8, 3), np.uint8))


def play(policy: MixturePolicy, spec: ActionSpec, seed: int, frames: int = 600) -> np.ndarray:
    policy.start(spec, Rng(seed))
    return np.stack([policy(VIEW) for _ in range(frames)])


def only(kind: str, **other: object) -> MixturePolicy:
    weights = dict.fromkeys(KINDS, 0.0) | {kind: 1.0}
    return MixturePolicyConfig(**weights, explored=(1, 1), played=(200, 200), **other).build()


def test_it_is_a_function_of_its_seed_and_legal() -> None:
    """Whatever was played before."""
    policy = MixturePolicyConfig().build()
    first = play(policy, MOUSE, 3)
    play(policy, DOOM, 4)
    assert np.array_equal(first, play(policy, MOUSE, 3)) and not np.array_equal(first, play(policy, MOUSE, 4))
    MOUSE.validate_actions(first, "mixture")


def test_players_have_their_shares_and_the_explorer_goes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 3,000 turns, each share within four standard errors; turns are as long as they say."""
    policy, seen, lengths = MixturePolicyConfig().build(), Counter[str](), {True: set[int](), False: set[int]()}
    policy.start(DOOM, Rng(0))
    pick = policy.draws.pick
    monkeypatch.setattr(policy.draws, "pick", lambda weights: seen.update([kind := pick(weights)]) or kind)
    for turn in range(6000):
        policy._next()
        lengths[turn % 2 == 0].add(policy.left)
    assert (min(lengths[True]), max(lengths[True])) == (12, 60) and (min(lengths[False]), max(lengths[False])) == (
        20,
        100,
    )
    weights = {kind: getattr(policy.config, kind) for kind in KINDS if kind != "glide"}  # there are no rates
    assert seen.total() == 3000 and set(seen) == set(weights)
    for kind, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(seen[kind] / 3000 - share) < 4 * np.sqrt(share * (1 - share) / 3000), kind


def test_each_kind_does_what_its_name_says() -> None:
    """The first row is the explorer's; then 200 rows of one player."""
    rows = {kind: [play(only(kind), DOOM, seed, 201)[1:] for seed in range(12)] for kind in KINDS if kind != "glide"}
    assert not np.any(rows["rest"])
    assert all((one == one[0]).all() and one[0].any() for one in rows["hold"])
    assert {tuple(one[0]) for one in rows["hold"]} >= {(0, 0, 1, 0, 0), (1, 0, 0, 0, 0)}  # into walls, round and round
    for one in rows["back"]:
        assert abs(one[:104].sum(0) @ [1, -1, 0, 1, -1]) == 0 and one[:104].any()  # 52 frames there, 52 back
    for one in rows["walk"]:
        assert (one[:35] == [0, 0, 1, 0, 0]).all() and (one[35:61] == [1, 0, 0, 0, 0]).all()
    assert all(one.sum() == 50 for one in rows["tap"])  # two of eight frames
    changes = {kind: np.mean([np.abs(np.diff(one, axis=0)).sum(1).mean() for one in rows[kind]]) for kind in rows}
    assert changes["mash"] > 1.5 > 0.5 > changes["random"] > changes["back"]


def test_rates_are_held_and_keys_rest_meanwhile() -> None:
    """Any value of a continuous action; without a glide they are at rest."""
    rows = play(only("glide"), MOUSE, 1, 201)[1:]
    values = rows[:, 5:]
    assert not rows[:, :5].any() and len(np.unique(values)) > 10 and np.abs(values).max() > 8
    edges = np.flatnonzero(np.diff(values, axis=0).any(1))
    assert np.diff(edges).min() >= 4
    assert not play(only("mash"), MOUSE, 1, 201)[:, 5:].any()


def test_wrong_settings_are_one_line() -> None:
    """Before anything is played."""
    with pytest.raises(UsageError, match=r"played is \(9, 3\), expected 1 <= shortest <= longest"):
        MixturePolicyConfig(played=(9, 3)).build()
    with pytest.raises(UsageError, match="give one of rest, hold"):
        MixturePolicyConfig(**dict.fromkeys(KINDS, 0.0)).build()
    with pytest.raises(UsageError, match="no action with keys"):
        play(MixturePolicyConfig().build(), ActionSpec(actions=RATES), 0)
