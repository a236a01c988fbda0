"""The pose network that ships for `doom`, on games that it has never seen: it sees motion, as well as its card says."""

import numpy as np
import pytest
import torch

from vidar.configs.idm import GROUPS
from vidar.data.players import players
from vidar.eval.following import following, key_signals, pose_reader, read_motion, true_motion
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
            one = game.play(starts, players(WORLD.spec, WORLD.fps, 52)[name], FRAMES)
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
    one, first, _, keys = played["mash"]
    still = np.repeat(first[:, None], FRAMES, 1)
    views = {str(late): np.concatenate([still[:, :late], one.frames[:, : FRAMES - late]], 1) for late in (1, 3, 6)}
    found = following(net, {"real": one.frames, **views}, first, one.poses, keys, WORLD.fps, one.lasted)
    assert found["real"]["latency"] == {"turn": 1, "ahead": 1, "left": 1}
    for late in (1, 3, 6):
        latency = found[str(late)]["latency"]
        assert latency["turn"] == latency["left"] == 1 + late
        assert latency["ahead"] in (None, 1 + late)  # walls stop most of the walks of so few starts


def test_the_figures_of_the_real_game(net, played):
    """Errors per second, of the real motion: about twice those of the card are allowed."""
    for name, kind, most in (
        ("TURN_LEFT and back", "turn", 0.02),
        ("mash", "turn", 0.2),
        ("mash", "step", 0.4),
    ):
        found = own_figures(net, played, name)[kind]
        assert found["relative"] < most and found["judged"] > 0, (name, found)
    still = own_figures(net, played, "idle")
    assert still["turn"]["second"] < 1.5 and still["step"]["second"] < 4.0


def own_figures(net, played, name):
    """`following` of the game's own frames."""
    one, first, _, keys = played[name]
    free = Walking().free(one.poses, keys)
    return following(net, {"real": one.frames}, first, one.poses, keys, WORLD.fps, one.lasted, free)["real"]


def test_it_expects_the_errors_that_it_makes(net, played):
    """Over the steps of all players, in four groups of as many steps: expected and true errors agree within a third."""
    off, expected = list[np.ndarray](), list[np.ndarray]()
    for one, first, true, _ in played.values():
        read, own = read_motion(net, one.frames, first)
        off.append(np.abs(read - true).reshape(-1, 3))
        expected.append(own.reshape(-1, 3))
    for error, doubt in zip(np.concatenate(off).T, np.concatenate(expected).T):
        groups = np.array_split(np.argsort(doubt), 4)
        made, told = ([float(values[group].mean()) for group in groups] for values in (error, doubt))
        assert made == sorted(made) and np.allclose(made, told, rtol=0.35, atol=0.08), (made, told)


def test_a_frozen_dream_and_foreign_keys_are_seen(net, played):
    for name in ("TURN_LEFT and back", "mash"):
        one, first, _, keys = played[name]
        views = {"real": one.frames, "frozen": np.repeat(first[:, None], FRAMES, 1)}
        if name == "mash":  # the others press the same keys from every start
            views["foreign"] = np.roll(one.frames, 1, axis=0)
        found = following(net, views, first, one.poses, keys, WORLD.fps, one.lasted)
        own = found.pop("real")["turn"]["relative"]
        for view in found.values():
            assert view["turn"]["relative"] > 2 * own and view["latency"]["turn"] is None
        if name != "mash":
            assert found["frozen"]["turn"]["relative"] > 0.7  # but for the seconds in which it turns round
