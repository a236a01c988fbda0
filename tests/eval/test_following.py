"""Errors, seconds and latencies in closed form, with a network that reads planted numbers from its frames."""

import numpy as np
import pytest
import torch

from vidar.configs.idm import GROUPS
from vidar.configs.pose import pose
from vidar.data.vizdoom import action_spec
from vidar.eval import following as module
from vidar.eval.following import errors, following, key_signals, latency, pose_reader, read_motion, seconds, true_motion
from vidar.types import UsageError

SPEC = action_spec(["TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT"])
FPS = 4.0


class Planted:
    """Reads the motion of a step as the change of the pixels (0, 0): red is turn, green ahead, blue left.

    It expects the error that the pixel (1, 1) of the second frame says.
    """

    def read(self, frames):
        return frames[:, :, 0, 0].float().diff(dim=1), frames[:, 1:, 1, 1].float()


def shown(motion, begin=100):
    """Frames whose planted motion is `motion`, integers [E, T, 3], and the frames before them."""
    pixels = begin + np.cumsum(motion, axis=1)
    assert pixels.min() >= 0 and pixels.max() <= 255
    frames = np.zeros((*pixels.shape[:2], 2, 2, 3), np.uint8)
    frames[:, :, 0, 0] = pixels
    return frames, np.full((len(motion), 2, 2, 3), begin, np.uint8)


def walked(motion):
    """Poses [E, 1+T, 4] of a player who starts at heading 0 and moves so: the inverse of `true_motion`."""
    poses = np.zeros((len(motion), 1 + motion.shape[1], 4))
    poses[:, 1:, 3] = np.cumsum(motion[..., 0], axis=1)
    heading = np.deg2rad(poses[:, 1:, 3])
    ahead, left = motion[..., 1], motion[..., 2]
    poses[:, 1:, 0] = np.cumsum(ahead * np.cos(heading) - left * np.sin(heading), axis=1)
    poses[:, 1:, 1] = np.cumsum(ahead * np.sin(heading) + left * np.cos(heading), axis=1)
    return poses


def drawn(seed, starts=3, frames=16, most=4):
    random = np.random.default_rng(seed)
    steps = random.integers(-most, most + 1, (starts, frames // 2, 3))
    return np.concatenate([steps, -steps], 1)  # the planted pixels come back


def test_reading_and_truth_are_of_the_same_steps():
    motion = drawn(0)
    frames, first = shown(motion)
    frames[:, :, 1, 1] = 7
    read, expected = read_motion(Planted(), frames, first)
    assert np.array_equal(read, motion) and (expected == 7).all() and expected.shape == motion.shape
    assert np.allclose(true_motion(walked(motion)), motion)


def test_signals_by_hand():
    table = np.zeros((1, 5, 5), np.float32)
    table[0, 1, 0] = table[0, 2, 1] = table[0, 2, 2] = table[0, 3, 4] = 1
    table[0, 4] = 1  # all keys: opposite ones are none
    signals = {axis: value[0].tolist() for axis, value in key_signals(table, SPEC, GROUPS).items()}
    assert signals == {"turn": [0, 1, -1, 0, 0], "ahead": [0, 0, 1, 0, 1], "left": [0, 0, 0, -1, 0]}


def test_seconds_are_every_sum():
    values = np.arange(12.0).reshape(1, 6, 2) ** 2
    wanted = np.stack([values[0, n : n + 4].sum(0) for n in range(3)])
    assert np.allclose(seconds(values, FPS)[0], wanted)
    assert seconds(values, 100.0).shape == (1, 1, 2)  # shorter than a second: all of it


def test_errors_by_hand():
    true = np.zeros((2, 8, 3))
    true[..., 0], true[..., 1] = 5.0, 10.0
    read = true + [0.5, -3.0, 4.0]  # every step is off by half a degree and by 5 units
    everywhere = np.ones((2, 8), dtype=bool)
    found = errors(read, true, everywhere, everywhere, FPS)
    assert found["turn"] == {
        "frame": 0.5, "second": 2.0, "game": 20.0, "relative": 0.1, "interval": [0.1, 0.1], "judged": 1.0
    }  # fmt: skip
    assert found["step"] == {
        "frame": 5.0, "second": 20.0, "game": 40.0, "relative": 0.5, "interval": [0.5, 0.5],
        "judged": 1.0,
    }  # fmt: skip
    back = true * np.resize([[1.0], [-1.0]], true.shape[1:])  # back and forth is motion too
    assert errors(back, back, everywhere, everywhere, FPS)["turn"]["game"] == 20.0
    noisy = true + np.resize([[1.0, 2, 0], [-1.0, -2, 0]], true.shape)  # cancels within a second
    found = errors(noisy, true, everywhere, everywhere, FPS)
    assert (found["turn"]["frame"], found["turn"]["second"], found["step"]["second"]) == (1.0, 0.0, 0.0)


def test_what_cannot_be_judged_is_not():
    true = np.zeros((2, 8, 3))
    true[0, :, 1], true[1, :, 1] = 10.0, 0.0  # the second game stands at a wall
    read = np.zeros((2, 8, 3))
    read[..., 1] = 10.0
    free = np.repeat([[True], [False]], 8, 1)
    found = errors(read, true, np.ones((2, 8), dtype=bool), free, FPS)
    assert found["step"]["relative"] == 0.0 and found["step"]["judged"] == 0.5 and found["step"]["frame"] == 0.0
    free[0, 3:] = False  # less than a second is left
    found = errors(read, true, np.ones((2, 8), dtype=bool), free, FPS)
    assert found["step"]["second"] is found["step"]["relative"] is found["step"]["interval"] is None
    ended = np.arange(8) < np.array([8, 4])[:, None]
    read[1, 4:, 0] = 99.0
    found = errors(read, true, ended, ended, FPS)
    assert found["turn"]["frame"] == 0.0 and found["turn"]["judged"] == 0.6 and found["turn"]["relative"] is None


def test_one_dream_of_three_at_a_wall_does_not_move_the_step():
    true = np.zeros((3, 8, 3))
    true[..., 1] = 10.0
    read = true.copy()
    read[2, :, 1] = 0.0
    everywhere = np.ones((3, 8), dtype=bool)
    found = errors(read, true, everywhere, everywhere, FPS)["step"]
    assert (
        found["relative"] == 0.0 and found["interval"][1] == 1.0 and found["frame"] == pytest.approx(10 / 3, abs=1e-4)
    )


@pytest.mark.parametrize("late", [0, 1, 3, 7])
def test_latency_of_planted_lags(late):
    random = np.random.default_rng(late)
    keys = np.repeat(random.integers(-1, 2, (4, 60)), 2, axis=1)
    keys = np.where(random.random(keys.shape) < 0.3, 0, keys)
    moved = np.zeros(keys.shape)
    moved[:, late:] = 5.0 * keys[:, : keys.shape[1] - late]
    noise = random.normal(0, 2.0, keys.shape)
    assert latency(keys, moved + noise) == 1 + late
    assert latency(keys, -moved) is None  # the wrong way
    assert latency(keys, noise) is None
    momentum = np.zeros(keys.shape)  # a walk: a fifth of the speed is lost in each step
    for t in range(keys.shape[1]):
        momentum[:, t] = 0.82 * momentum[:, t - 1] * (t > 0) + moved[:, t]
    assert latency(keys, momentum) == 1 + late


def test_no_signal_is_no_latency():
    keys = np.ones((2, 30))
    assert latency(keys, np.random.default_rng(0).normal(size=(2, 30))) is None  # held
    assert latency(np.resize([0, 1], (2, 30)), np.zeros((2, 30))) is None  # nothing moves
    assert latency(keys[:, :1], keys[:, :1]) is None


def test_frames_after_the_end_are_not_asked():
    keys = np.random.default_rng(1).integers(0, 2, (1, 60)).astype(float)
    moved = np.concatenate([keys[:, :30], np.roll(keys, 1, 1)[:, 30:] * 50], 1)
    assert latency(keys, moved, np.arange(60)[None] < 30) == 1
    assert latency(keys, moved) == 2


def test_following_of_planted_dreams():
    """The game's own frames are exact, a slow turn is so much too slow, and late frames are late."""
    random = np.random.default_rng(3)
    keys = {"turn": np.repeat(random.integers(-1, 2, (3, 24)), 2, 1), "ahead": np.zeros((3, 48), int)}
    motion = np.stack([4 * keys["turn"], np.zeros_like(keys["turn"]), np.zeros_like(keys["turn"])], -1)
    frames, first = shown(motion)
    slow = shown(motion // 2)[0]
    late = np.concatenate([np.repeat(first[:, None], 2, 1), frames[:, :-2]], 1)
    still = np.repeat(first[:, None], 48, 1)
    found = following(
        Planted(), {"real": frames, "slow": slow, "late": late, "still": still}, first, walked(motion), keys, FPS
    )
    sums, paths = seconds(motion[..., 0], FPS), seconds(np.abs(motion[..., 0]), FPS)
    left = np.abs(sums).mean() / paths.mean()  # what is not undone within a second
    wanted = {"real": 0.0, "slow": 0.5 * left, "still": left}
    assert {name: found[name]["turn"]["relative"] for name in wanted} == pytest.approx(wanted, abs=1e-3)
    assert found["late"]["turn"]["relative"] > 0.3 and 0.5 < left < 1
    assert [found[name]["latency"]["turn"] for name in found] == [1, 1, 3, None]
    assert found["real"]["latency"] == {"turn": 1, "ahead": None, "left": None}
    assert found["real"]["step"]["relative"] is None and found["real"]["step"]["second"] == 0


def test_only_what_the_game_shows_is_judged():
    """Where the game's own frames are unreadable, and not where the dream's are."""
    motion = np.zeros((2, 16, 3), int)
    motion[:, :, 0] = 4
    frames, first = shown(motion)
    dream = frames.copy()
    dream[:, 8:] = dream[:, 7:8]  # stops in the second half
    blind = frames.copy()
    blind[:, 8:, 1, 1] = 9  # a wall
    poses, keys = walked(motion), {}
    found = following(Planted(), {"real": blind, "model": dream}, first, poses, keys, FPS)
    assert found["model"]["turn"]["relative"] == 0 and found["model"]["turn"]["judged"] == round(5 / 13, 4)
    assert found["real"]["readable"] == {"turn": 0.5, "step": 0.5}
    assert found["model"]["readable"] == {"turn": 1.0, "step": 1.0}
    dream[:, 8:, 1, 1] = 9
    found = following(Planted(), {"real": frames, "model": dream}, first, poses, keys, FPS)
    assert found["model"]["turn"]["relative"] > 0.4 and found["model"]["turn"]["judged"] == 1
    assert found["model"]["readable"]["turn"] == 0.5
    with pytest.raises(UsageError, match="needed as view 'real', not only model"):
        following(Planted(), {"model": dream}, first, poses, keys, FPS)


def test_wrong_shapes_are_named():
    motion = drawn(1)
    frames, first = shown(motion)
    with pytest.raises(UsageError, match=r"model: frames are \[3, 15, 2, 2, 3\], needed are \[3, 16, 2, 2, 3\]"):
        following(Planted(), {"real": frames, "model": frames[:, 1:]}, first, walked(motion), {}, FPS)


def test_which_network_reads(tmp_path, monkeypatch):
    from vidar.configs.catalog import find, find_world

    world = find_world(find("world_shapes")(preset="tiny"))
    assert pose_reader(world).net is None and "no pose network ships for world 'shapes'" in pose_reader(world).reason
    torch.manual_seed(0)
    pose(preset="tiny").method.build().build_model().save_pretrained(tmp_path)
    monkeypatch.setattr(module, "shipped", lambda name, kind: tmp_path)
    assert "reads 64 x 80, not 32 x 32" in pose_reader(world).reason
    assert pose_reader(world.replace(height=64, width=80)).net is not None


def test_a_picture_that_stands_still_is_read_once():
    """The steps after its last change are those of the first such step; up to there, all are read."""

    class Counting:
        """Reads the change of the first pixel, and counts steps."""

        steps = 0

        def read(self, frames):
            moved = frames[..., 0, 0, :1].float().diff(dim=1).expand(-1, -1, 3)
            self.steps += moved.shape[1]
            return moved, moved.abs() + 1

    pixels = np.array([[3, 5, 5, 9, 9, 9, 9], [4, 4, 4, 4, 4, 4, 4]], np.uint8)
    frames = pixels[..., None, None, None] * np.ones((2, 2, 3), np.uint8)
    net = Counting()
    moved, expected = read_motion(net, frames[:, 1:], frames[:, 0])
    assert moved[..., 0].tolist() == [[2, 0, 4, 0, 0, 0], [0] * 6] and np.array_equal(expected, np.abs(moved) + 1)
    assert net.steps == 4 + 1
