"""Labels, poses, matching and scores against cases worked out by hand; the network sees the window it says."""

import math

import numpy as np
import pytest
import torch

from vidar.actions import Action, ActionSpec
from vidar.configs.idm import GROUPS
from vidar.eval import inverse_dynamics
from vidar.eval.inverse_dynamics import action_scores, balanced_accuracy, confusion, motion, obeyed, shipped
from vidar.nn.inverse_dynamics import InverseDynamicsNet, InverseDynamicsNetConfig, KeyGroup, labels, matching
from vidar.types import UsageError

NAMES = ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT")
SPEC = ActionSpec(actions=tuple(Action(name=name) for name in NAMES))
TINY = InverseDynamicsNetConfig(
    spec=SPEC, groups=GROUPS, height=12, width=16, before=2, after=1, stem=(4, 4), widths=(8,)
)


def test_labels_by_hand():
    table = torch.tensor(
        [
            [0.0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0],
            [0, 1, 1, 0, 0],
            [1, 1, 1, 0, 0],  # both turning keys: none
            [0, 0, 0, 1, 0],
            [0, 1, 0, 0, 1],
            [0, 0, 1, 1, 1],  # both sideways keys: none
        ]
    )
    wanted = [[0, 0, 0], [1, 0, 0], [2, 1, 0], [0, 1, 0], [0, 0, 1], [2, 0, 2], [0, 1, 0]]
    assert labels(table, SPEC, GROUPS).tolist() == wanted
    assert labels(table[None], SPEC, GROUPS).tolist() == [wanted]


def test_labels_of_a_class_of_several_actions():
    spec = ActionSpec(actions=(Action(name="a"), Action(name="b"), Action(name="dial", low=0, high=1, noop=1)))
    groups = {"keys": KeyGroup(classes=(("a", "b"), ("dial",)))}
    table = torch.tensor([[0.0, 0, 1], [1, 1, 1], [0, 1, 1], [0, 0, 0], [1, 0, 0]])
    assert labels(table, spec, groups)[:, 0].tolist() == [0, 1, 1, 2, 0]  # at rest a dial shows its noop
    assert groups["keys"].labels == ("none", "a/b", "dial")


def test_motion_follows_the_heading_and_wraps():
    root = math.sqrt(0.5)
    pose = np.array([[0, 0, 0, 350], [0, 0, 0, 10], [0, 3, 0, 90], [-2, 3, 0, 90], [-2 + root, 3 + root, 0, 45]])
    moved = motion(pose.astype(np.float32))
    assert np.allclose(moved["turn"], [0, 20, 80, 0, -45], atol=1e-3)
    assert np.allclose(moved["ahead"], [0, 0, 3, 0, 1], atol=1e-3)
    assert np.allclose(moved["left"], [0, 0, 0, 2, 0], atol=1e-3)


def test_obeyed_by_hand():
    # facing along x, so ahead is x and left is y; what each step changes, its labels, and what is to be judged
    cases = [
        ((0, 0, 0), (0, 0, 0), (1, 1, 1)),
        ((0, 0, 3), (1, 0, 0), (1, 1, 1)),
        ((0, 0, -3), (1, 0, 0), (0, 1, 1)),  # turns the other way
        ((0, 0, -3), (2, 0, 0), (1, 1, 1)),
        ((0, 0, 3), (0, 0, 0), (0, 1, 1)),  # turns without a key
        ((5, 0, 0), (0, 1, 0), (1, 1, 1)),
        ((0.2, 0, 0), (0, 1, 0), (1, 0, 1)),  # a wall
        ((-5, 0, 0), (0, 1, 0), (1, 0, 1)),
        ((5, 0, 0), (0, 0, 0), (1, 0, 1)),  # slides on
        ((0.4, -0.4, 0), (0, 0, 0), (1, 1, 1)),
        ((0, 4, 0), (0, 0, 1), (1, 1, 1)),
        ((0, 4, 0), (0, 0, 2), (1, 1, 0)),
        ((0, -4, 0), (0, 0, 2), (1, 1, 1)),
    ]
    for (x, y, angle), label, wanted in cases:
        # the turn of the second row is undone before the step, so that the heading at the step is 0
        pose = np.array([[7, 7, 0, -angle], [7 + x, 7 + y, 0, 0]], dtype=np.float32)
        mask = obeyed(pose, GROUPS, np.array([label, label]))
        assert mask[1].tolist() == [bool(w) for w in wanted], (x, y, angle, label)
        assert not mask[0].any()


def test_groups_without_an_axis_are_always_judged():
    groups = {"fire": KeyGroup(classes=(("TURN_LEFT",),))}
    assert obeyed(np.zeros((3, 4)), groups, np.ones((3, 1), int))[:, 0].tolist() == [False, True, True]


def test_balanced_accuracy_by_hand():
    truth, found = np.array([0] * 8 + [1] * 2), np.array([0] * 6 + [2] * 2 + [1, 0])
    table = confusion(truth, found, 3)
    assert table.tolist() == [[6, 0, 2], [1, 1, 0], [0, 0, 0]]
    assert balanced_accuracy(table) == (0.75 + 0.5) / 2  # the third class never occurs
    assert balanced_accuracy(confusion(truth, np.zeros(10, int), 3)) == 0.5  # always none is chance
    assert math.isnan(balanced_accuracy(np.zeros((3, 3), int)))


def test_a_step_depends_on_its_window_and_no_more():
    torch.manual_seed(0)
    net = TINY.build().eval()
    clip = torch.randint(0, 256, (2, 9, 12, 16, 3), dtype=torch.uint8)
    assert TINY.steps(9) == slice(2, 8)
    before = net(clip)
    assert {name: tuple(value.shape) for name, value in before.items()} == {
        "turning": (2, 6, 3),
        "forward": (2, 6, 2),
        "sideways": (2, 6, 3),
    }
    for frame in range(9):
        other = clip.clone()
        other[0, frame] = 255 - other[0, frame]
        changed = (net(other)["turning"] != before["turning"]).any(-1)
        wanted = [frame - 1 <= t <= frame + 2 for t in range(2, 8)]  # t-2 <= frame <= t+1
        assert changed[0].tolist() == wanted and not changed[1].any()


def test_predict_in_chunks_is_one_pass():
    torch.manual_seed(0)
    net = TINY.build().eval()
    clip = torch.randint(0, 256, (3, 11, 12, 16, 3), dtype=torch.uint8)
    whole = torch.stack([value.argmax(-1) for value in net(clip).values()], -1)
    assert len(whole.unique()) > 1
    for chunk in (1, 7, 1000):
        assert torch.equal(net.predict(clip, chunk), whole)
    assert torch.equal(net.predict(clip.float()), whole)


def test_matching_against_loops():
    draw = torch.Generator().manual_seed(0)
    luma = torch.rand(2, 3, 8, 12, generator=draw, dtype=torch.float64) * 2 - 1
    shifts = ((0, -2), (0, 0), (1, 0), (0, 1))
    raw = torch.zeros(2, 2, 4, 2, 3, dtype=torch.float64)
    for at, (row, column) in enumerate(shifts):
        for i in range(8):
            for j in range(12):
                there = luma[:, :-1, min(max(i + row, 0), 7), min(max(j + column, 0), 11)]
                raw[:, :, at, i // 4, j // 4] += (luma[:, 1:, i, j] - there).abs() / 16
    assert torch.allclose(matching(luma, shifts), raw / (raw.mean(2, keepdim=True) + 0.02) - 1)


def test_matching_finds_the_shift():
    shifts = TINY.shifts
    assert len(shifts) == len(set(shifts)) == 19 + 4 and all(0 in shift for shift in shifts)
    ground = torch.rand(40, 80, generator=torch.Generator().manual_seed(1))
    for row, column in shifts:
        # x_t[i, j] = x_{t-1}[i + row, j + column]
        clip = torch.stack([ground[5:25, 15:55], ground[5 + row : 25 + row, 15 + column : 55 + column]])
        inner = matching(clip[None], shifts)[0, 0, :, 1:-1, 3:-3]  # away from repeated edges
        assert inner.shape == (23, 3, 4)
        assert (inner.argmin(0) == shifts.index((row, column))).all() and (inner.amin(0) == -1).all()


class Told(InverseDynamicsNet):
    """Answers with a table, long [E, T', groups], one episode after the other."""

    def __init__(self, answers):
        super().__init__(TINY)
        self.answers = iter(answers)

    def predict(self, frames, chunk=64):
        steps = self.config.steps(frames.shape[1])
        return next(self.answers)[None, : steps.stop - steps.start]


def actions_of(*pressed):
    table = np.zeros((len(pressed), len(NAMES)), np.float32)
    for row, names in zip(table, pressed):
        row[[NAMES.index(name) for name in names]] = 1
    return table


def test_action_scores_by_hand():
    """Two episodes of 6 frames: steps 2, 3, 4 have a window."""
    first = actions_of((), ("MOVE_LEFT",), ("TURN_LEFT",), ("TURN_LEFT",), (), ("TURN_RIGHT",))
    second = actions_of((), (), ("TURN_RIGHT",), (), (), ())
    answers = torch.tensor([[[1, 0, 0], [2, 0, 0], [0, 1, 0]], [[2, 0, 1], [0, 0, 0], [1, 0, 0]]])
    clips, actions = np.zeros((2, 6, 12, 16, 3), np.uint8), np.stack([first, second])
    # turning: left 1 of 2, right 1 of 1, none 2 of 3; forward: none 5 of 6; sideways: none 5 of 6
    scores = action_scores(Told(answers), clips, actions)
    wanted = {"turning": (1 / 2 + 1 + 2 / 3) / 3, "forward": 5 / 6, "sideways": 5 / 6}
    assert scores == pytest.approx({**wanted, "mean": sum(wanted.values()) / 3})
    poses = np.zeros((2, 6, 4), np.float32)
    poses[0, :, 3] = [0, 0, 4, 4, 4, 4]  # the second left does not turn, so it is not judged
    poses[1, :, 3] = [0, 0, -4, -4, -4, 0]
    poses[:, 1:, 0] = 9  # before the window
    scores = action_scores(Told(answers), clips, actions, poses)
    assert scores["turning"] == pytest.approx((1 + 1 + 2 / 3) / 3) and scores["forward"] == pytest.approx(5 / 6)


def test_action_scores_leave_out_what_cannot_be_judged():
    actions = np.stack([actions_of((), (), ("MOVE_FORWARD",), ("MOVE_FORWARD",), ())])
    clips, poses = np.zeros((1, 5, 12, 16, 3), np.uint8), np.zeros((1, 5, 4), np.float32)
    answers = torch.zeros(1, 2, 3, dtype=torch.long)
    scores = action_scores(Told(answers), clips, actions, poses)  # stands before a wall
    assert scores == {"turning": 1.0, "sideways": 1.0, "mean": 1.0}
    poses[..., 3] = [0, 20, 40, 60, 80]
    poses[..., 1] = [0, -9, -18, -27, -36]  # back and to the right
    assert action_scores(Told(answers), clips, actions, poses) == {}


def test_action_scores_name_wrong_shapes():
    clips, actions = np.zeros((1, 5, 12, 16, 3), np.uint8), np.zeros((1, 5, 5), np.float32)
    with pytest.raises(UsageError, match=r"actions \[1, 5, 5\] and poses \[1, 5, 4\], not \[1, 4, 5\] and None"):
        action_scores(TINY.build(), clips, actions[:, 1:])
    with pytest.raises(UsageError, match=r"not \[1, 5, 5\] and \[1, 5, 3\]"):
        action_scores(TINY.build(), clips, actions, np.zeros((1, 5, 3)))
    with pytest.raises(UsageError, match="shorter than the window"):
        action_scores(TINY.build(), clips[:, :3], actions[:, :3])


def test_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(inverse_dynamics, "files", lambda package: tmp_path)
    TINY.build().save_pretrained(tmp_path / "maze_idm")
    (tmp_path / "half_idm").mkdir()
    assert shipped("maze") == tmp_path / "maze_idm" and shipped("half") is None and shipped("other") is None


def test_saved_and_read(tmp_path):
    net = TINY.build().eval()
    clip = torch.randint(0, 256, (1, 5, 12, 16, 3), dtype=torch.uint8)
    net.save_pretrained(tmp_path / "model")
    again = InverseDynamicsNet.from_pretrained(tmp_path / "model")
    assert again.config == TINY
    assert all(torch.equal(again(clip)[name], value) for name, value in net(clip).items())


def test_wrong_input_is_named():
    net = TINY.build()
    with pytest.raises(UsageError, match="3 frames is shorter than the window of 4"):
        net(torch.zeros(1, 3, 12, 16, 3))
    with pytest.raises(UsageError, match="12 x 20 x 3, the model needs 12 x 16 x 3"):
        net(torch.zeros(1, 4, 12, 20, 3))
    with pytest.raises(UsageError, match="group 'jump': no action 'JUMP'"):
        TINY.replace(groups={"jump": KeyGroup(classes=(("JUMP",),))})
    with pytest.raises(UsageError, match="1 classes need as many signs"):
        KeyGroup(classes=(("TURN_LEFT",),), axis="turn")
