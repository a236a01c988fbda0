"""The pose network that ships for `doom`, on games that it has never seen: it sees motion, as well as its card says."""

import numpy as np
import pytest
import torch

from vidar.configs.idm import GROUPS
from vidar.eval.following import errors, following, key_signals, pose_reader, read_motion, true_motion
from vidar.eval.players import players
from vidar.eval.ruler_play import RealGame, RulerConfig
from vidar.eval.walking import Walking
from vidar.model.load import load_world_config, locate
from vidar.nn.pose import MIRRORED, turned

STARTS, FRAMES = 6, 70
WORLD = load_world_config(locate("doom"))


@pytest.fixture(scope="module")
def net():
    return pose_reader(WORLD).net


@pytest.fixture(scope="module")
def played():
    """Player -> what was played, the frames at the starts, the true motion, the keys by axis."""
    pytest.importorskip("vizdoom")
    game = RealGame(WORLD, RulerConfig(first_game=1_200_000), FRAMES)
    try:
        starts, found = game.starts(STARTS), {}
        for name in ("idle", "mash", "TURN_LEFT and back", "hold MOVE_FORWARD"):
            one = game.play(starts, players(WORLD.spec, WORLD.fps, 20)[name], FRAMES)
            first = np.stack([start.frames[-1] for start in starts])
            found[name] = one, first, true_motion(one.poses), key_signals(one.table, WORLD.spec, GROUPS)
        return found
    finally:
        game.close()


def clip(played, name):
    one, first, true, _ = played[name]
    return torch.from_numpy(np.concatenate([first[:, None], one.frames], 1)), true


def test_a_mirror_changes_the_signs_of_turn_and_left(net, played):
    """Of the network itself; `read` has it by construction."""
    frames, true = clip(played, "mash")
    with torch.inference_mode():
        own, other = net(frames)[0].numpy(), net(frames.flip(3))[0].numpy() * MIRRORED
    apart, usual = np.abs(own - other).mean((0, 1)), np.abs(true).mean((0, 1))
    assert (apart < 0.4 * usual).all(), (apart, usual)


def test_a_clip_that_runs_backward_turns_the_other_way(net, played):
    frames, true = clip(played, "TURN_LEFT and back")
    back = net.read(frames.flip(1))[0].flip(1).numpy()
    assert np.abs(back[..., 0] + true[..., 0]).mean() < 0.15 * np.abs(true[..., 0]).mean()


def test_a_still_picture_does_not_move(net, played):
    for name in ("idle", "mash"):
        frames = clip(played, name)[0][:, -1:].expand(-1, 3, -1, -1, -1)
        still = net.read(frames)[0].abs().mean((0, 1))
        assert still[0] < 0.1 and (still[1:] < 0.3).all(), still


def test_any_angle_is_read_and_not_the_nearest_of_the_keys(net, played):
    frames, _ = clip(played, "mash")
    before = frames[:, ::16].flatten(0, 1).permute(0, 3, 1, 2).float()
    for degrees in (-5.9, -2.5, -0.8, 0.8, 2.5, 4.4, 5.9):
        now = turned(before, torch.full((len(before),), degrees), net.config.view)[0]
        read = net.read(torch.stack([before, now], 1).permute(0, 1, 3, 4, 2))[0][:, 0, 0]
        assert (read.median() - degrees).abs() < 0.3, (degrees, read)


def test_late_frames_are_late_by_so_many(net, played):
    for name, axis in (("mash", "turn"), ("TURN_LEFT and back", "turn")):
        one, first, _, keys = played[name]
        still = np.repeat(first[:, None], FRAMES, 1)
        views = {str(k): np.concatenate([still[:, :k], one.frames[:, : FRAMES - k]], 1) for k in (0, 1, 2, 5)}
        found = following(net, views, first, one.poses, keys, WORLD.fps, one.lasted)
        assert {name: figures["latency"][axis] for name, figures in found.items()} == {"0": 1, "1": 2, "2": 3, "5": 6}


def test_the_figures_of_the_real_game(net, played):
    """Errors per second, of the real motion: about twice those of the card are allowed."""
    for name, kind, most in (
        ("TURN_LEFT and back", "turn", 0.03),
        ("mash", "turn", 0.10),
        ("hold MOVE_FORWARD", "step", 0.15),
    ):
        one, first, true, keys = played[name]
        there = np.arange(FRAMES) < one.lasted[:, None]
        found = errors(
            read_motion(net, one.frames, first), true, there, there & Walking().free(one.poses, keys), WORLD.fps
        )[kind]
        assert found["relative"] < most, (name, found)
    one, first, true, _ = played["idle"]
    there = np.arange(FRAMES) < one.lasted[:, None]
    found = errors(read_motion(net, one.frames, first), true, there, there, WORLD.fps)
    assert found["turn"]["second"] < 1.0 and found["step"]["second"] < 3.0


def test_a_frozen_dream_and_foreign_keys_are_seen(net, played):
    one, first, _, keys = played["mash"]
    views = {
        "real": one.frames,
        "frozen": np.repeat(first[:, None], FRAMES, 1),
        "foreign": np.roll(one.frames, 1, axis=0),
    }
    found = following(net, views, first, one.poses, keys, WORLD.fps, one.lasted)
    assert found["frozen"]["turn"]["relative"] > 0.8 and found["foreign"]["turn"]["relative"] > 0.8
    assert found["frozen"]["latency"]["turn"] is None and found["foreign"]["latency"]["turn"] is None
