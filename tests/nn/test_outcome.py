"""The head of reward and end: what it reads, in which units it answers, where it starts."""

import pytest
import torch

from vidar.actions import Action, ActionSpec
from vidar.nn.outcome import START_LOGIT, OutcomeNetConfig, features

SPEC = ActionSpec(
    actions=(
        Action(name="fire"),
        Action(name="move", kind="choice", size=3),
        Action(name="look", kind="continuous", low=-2.0, high=6.0),
        Action(name="turn", kind="camera", size=3, noop=1),
    )
)
CONFIG = OutcomeNetConfig(spec=SPEC, rows=2, columns=3, channels=4, width=8, kept=3, hidden=16)
ACTIONS = torch.tensor([[1.0, 2, -2, 1], [0, 0, 4, 0]])


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = CONFIG.build().double()
    torch.nn.init.normal_(made.out.weight)
    return made.eval()


def test_actions_as_numbers():
    wanted = [[1.0, 0, 0, 1, -1, 0, 1, 0], [0, 1, 0, 0, 0.5, 1, 0, 0]]
    assert features(ACTIONS, SPEC).tolist() == wanted
    assert features(torch.zeros(2, 0), ActionSpec()).shape == (2, 0)


def test_it_starts_from_nothing():
    reward, logit = CONFIG.build()(torch.randn(5, 2, 6, 4), ACTIONS[:1].expand(5, -1))
    assert not reward.any() and (logit == START_LOGIT).all()


def test_it_reads_both_frames_every_site_and_every_action(net):
    codes = torch.randn(2, 2, 6, 4, dtype=torch.double, requires_grad=True)
    for answer in net(codes, ACTIONS.double()):
        (slope,) = torch.autograd.grad(answer.sum(), codes, retain_graph=True)
        assert slope.ne(0).all()
    for column, value in enumerate((0.0, 1.0, 0.0, 0.0)):
        other = ACTIONS.clone().double()
        other[0, column] = value
        with torch.no_grad():
            (plain, end), (moved, moved_end) = net(codes, ACTIONS.double()), net(codes, other)
        assert plain[0] != moved[0] and end[0] != moved_end[0] and plain[1] == moved[1]


def test_a_site_is_a_place_of_the_picture(net):
    """Sites are row-major, as tokenizers have them: site 4 of 2 x 3 lies in row 1, column 1. Beside it its change."""
    shown = []
    net.sites[0].register_forward_hook(lambda module, inputs, output: shown.append((inputs[0], output)))
    codes = torch.randn(2, 2, 6, 4, dtype=torch.double)
    with torch.no_grad():
        net(codes, ACTIONS.double())
    seen, made = shown[0]
    for site in range(6):
        assert torch.equal(
            seen[:, :, site // 3, site % 3], torch.cat([codes[:, 1], codes[:, 1] - codes[:, 0]], -1)[:, site]
        )
    weight, bias = net.sites[0].weight, net.sites[0].bias
    corner = torch.einsum("bchw,kchw->bk", seen[:, :, :2, :2], weight[..., 1:, 1:]) + bias  # its neighbours and itself
    torch.testing.assert_close(made[..., 0, 0], corner)


def test_the_reward_is_in_the_unit_of_the_game(net):
    codes = torch.randn(2, 2, 6, 4, dtype=torch.double)
    with torch.no_grad():
        reward, logit = net(codes, ACTIONS.double())
        net.scale.fill_(250.0)
        scaled, same = net(codes, ACTIONS.double())
    torch.testing.assert_close(scaled, 250 * reward)
    assert torch.equal(logit, same)
