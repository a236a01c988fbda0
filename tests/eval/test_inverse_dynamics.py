"""Labels, poses and balanced accuracy against cases worked out by hand; the network sees the window it says."""

import math

import numpy as np
import pytest
import torch

from vidar.actions import Action, ActionSpec
from vidar.configs.idm import GROUPS
from vidar.eval.inverse_dynamics import balanced_accuracy, confusion, motion, obeyed
from vidar.nn.inverse_dynamics import InverseDynamicsNet, InverseDynamicsNetConfig, KeyGroup, labels
from vidar.types import UsageError

NAMES = ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT")
SPEC = ActionSpec(actions=tuple(Action(name=name) for name in NAMES))
TINY = InverseDynamicsNetConfig(spec=SPEC, groups=GROUPS, height=12, width=14, before=2, after=1, widths=(4, 8))


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
    clip = torch.randint(0, 256, (2, 9, 12, 14, 3), dtype=torch.uint8)
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
    clip = torch.randint(0, 256, (3, 11, 12, 14, 3), dtype=torch.uint8)
    whole = torch.stack([value.argmax(-1) for value in net(clip).values()], -1)
    assert len(whole.unique()) > 1
    for chunk in (1, 7, 1000):
        assert torch.equal(net.predict(clip, chunk), whole)
    assert torch.equal(net.predict(clip.float()), whole)


def test_saved_and_read(tmp_path):
    net = TINY.build().eval()
    clip = torch.randint(0, 256, (1, 5, 12, 14, 3), dtype=torch.uint8)
    net.save_pretrained(tmp_path / "model")
    again = InverseDynamicsNet.from_pretrained(tmp_path / "model")
    assert again.config == TINY
    assert all(torch.equal(again(clip)[name], value) for name, value in net(clip).items())


def test_wrong_input_is_named():
    net = TINY.build()
    with pytest.raises(UsageError, match="3 frames is shorter than the window of 4"):
        net(torch.zeros(1, 3, 12, 14, 3))
    with pytest.raises(UsageError, match="12 x 15 x 3, the model reads 12 x 14 x 3"):
        net(torch.zeros(1, 4, 12, 15, 3))
    with pytest.raises(UsageError, match="group 'jump': no action 'JUMP'"):
        TINY.replace(groups={"jump": KeyGroup(classes=(("JUMP",),))})
    with pytest.raises(UsageError, match="1 classes need as many signs"):
        KeyGroup(classes=(("TURN_LEFT",),), axis="turn")
