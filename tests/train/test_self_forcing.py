"""Self-forcing: its gradient against a loop written out by hand and finite differences; what the graph keeps."""

import math

import pytest
import torch
from made_up import made_up

import vidar.train.methods.self_forcing as self_forcing
from vidar.cache.list import ListState
from vidar.conditioning.action import Actions
from vidar.configs.self_forcing import world_doom_self_forcing
from vidar.core.layout import compile_layout
from vidar.core.step import Row
from vidar.model.load import load
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.train.fit import build
from vidar.train.loop import train_step
from vidar.train.memory import kept_bytes
from vidar.train.methods.adversary import AdversaryConfig
from vidar.types import MEMORY, QUERY, Past, UsageError

BATCH, STEPS, GIVEN = 2, 3, 2


def method_of(steps=STEPS, **changes):
    config = world_doom_self_forcing(preset="tiny", steps=steps).method
    return config.replace(**changes).build()


@pytest.fixture(scope="module")
def clips():
    """Codes [B, N, C] and actions of two clips."""
    config, generator = method_of().config, torch.Generator().manual_seed(1)
    frames, sites = config.clip_frames, math.prod(config.world.sites)
    codes = torch.randn(BATCH, frames * sites, config.world.channels, generator=generator)
    actions = torch.randint(0, 2, (BATCH, frames, config.world.actions.width), generator=generator).float()
    return codes, Actions(actions, torch.zeros(BATCH, frames, dtype=torch.bool))


def network(seed=0):
    """The tiny network in float64; its answers are not nothing."""
    torch.manual_seed(seed)
    net = method_of().config.world.net.build().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return net


def rngs():
    return [Rng(3, b) for b in range(BATCH)]


def by_hand(method, frozen, net, codes, actions, last):
    """The new frames with no Decoder: `frozen` makes keys and all steps but the last, `net` the answers that count."""
    order, grid, flow = method.order, method.grid, method.flow
    state = ListState.create(["main"], BATCH)
    known, made = {u: codes[:, grid.sites(u)] for u in range(GIVEN)}, []

    def call(model, rows, inputs):
        layout = compile_layout(rows, order, [grid], held=state.held())
        state.begin(layout, inputs)
        out = model(inputs, layout, actions, state).float()
        state.end(None)
        return out

    def past(b, unit):
        return Past({unit - 1: known[unit - 1][b]} if unit else {}, {})

    def commit(units):
        rows = [torch.cat([flow.memory(u, known[u][b], past(b, u), rngs()[b]) for u in units]) for b in range(BATCH)]
        call(frozen, [Row(u, MEMORY, None) for u in units], torch.stack(rows))

    with torch.no_grad():
        commit(range(GIVEN))
    for unit in range(GIVEN, order.num_units):
        with torch.no_grad():
            x = [flow.start(unit, past(b, unit), rng) for b, rng in enumerate(rngs())]
            for step in range(last):
                seen = torch.stack([flow.inputs(unit, one, step) for one in x])
                out = call(frozen, [Row(unit, QUERY, step)], seen)
                x = [flow.update(unit, one, o, step, rng) for one, o, rng in zip(x, out, rngs())]
            seen = torch.stack([flow.inputs(unit, one, last) for one in x])
        made.append(flow.estimate(seen, call(net, [Row(unit, QUERY, last)], seen)))
        with torch.no_grad():  # what later frames see is made by the frozen network
            answer = flow.estimate(seen, call(frozen, [Row(unit, QUERY, last)], seen))
            known[unit] = answer
            commit([unit])
    return torch.cat(made, 1)


def gradient(loss, net):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)])


def error(made, codes, method):
    return (made - codes[:, method.sites]).double().square().mean()


def ours(method, net, clips, last):
    made = method.dream(net, clips[0], clips[1], rngs(), last)
    return made, gradient(error(made, clips[0], method), net)


@pytest.mark.parametrize("last", range(STEPS))
def test_gradient_is_that_of_the_loop_by_hand(clips, last):
    method, net = method_of(), network()
    made, slope = ours(method, net, clips, last)
    hand = by_hand(method, net, net, *clips, last)
    assert float((made - hand).detach().abs().max()) < 1e-5
    expected = gradient(error(hand, clips[0], method), net)
    assert float((slope - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_gradient_is_the_difference_of_the_answers_alone(clips):
    """The weights are moved in the calls that count, and in no commit and no earlier step."""
    method, net, moved, last, size = method_of(), network(), network(), 1, 1e-3
    way = [torch.randn_like(p, dtype=torch.float64) for p in net.parameters()]
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, q, d in zip(moved.parameters(), net.parameters(), way):
                p.copy_(q + sign * size * d)
            values.append(error(by_hand(method, net, moved, *clips, last), clips[0], method))
    slope = torch.dot(ours(method, net, clips, last)[1], torch.cat([d.flatten() for d in way]))
    assert float((values[0] - values[1]) / (2 * size)) == pytest.approx(float(slope), rel=2e-3)


def test_nothing_flows_back_through_codes_or_keys(clips):
    """A frame's gradient is its own: that of all frames is the sum of those of each frame after given ones."""
    method, net = method_of(), network()
    codes = clips[0].clone().requires_grad_()
    made = method.dream(net, codes, clips[1], rngs(), 0)
    assert torch.autograd.grad(made.sum(), codes, allow_unused=True, retain_graph=True) == (None,)
    sites = math.prod(method.config.world.sites)
    final = (made[:, -sites:]).double().square().mean()
    known = torch.cat([clips[0][:, : GIVEN * sites], made.detach()], 1)  # the frames before, as if they were given
    given = method_of(context=method.config.clip_frames - 1)
    alone = given.dream(net, known, clips[1], rngs(), 0)
    assert float((alone - made[:, -sites:]).detach().abs().max()) < 1e-5
    a, b = gradient(final, net), gradient(alone.double().square().mean(), net)
    assert float((a - b).abs().max()) < 1e-5 * float(b.abs().max())


def test_twin_a_policy_that_always_records_fails(clips, monkeypatch):
    """Commits with gradients and keys that keep them."""
    method, net = method_of(), network()
    _, right = ours(method, net, clips, 1)
    create = ListState.create
    monkeypatch.setattr(self_forcing.ListState, "create", lambda names, batch, detach: create(names, batch))
    monkeypatch.setattr(self_forcing.torch, "set_grad_enabled", lambda on: torch.enable_grad())
    _, wrong = ours(method, net, clips, 1)
    assert float((wrong - right).abs().max()) > 1e-2 * float(right.abs().max())


def test_the_graph_does_not_grow_with_the_steps(clips):
    kept = []
    for steps, last in ((1, 0), (2, 0), (2, 1), (8, 7)):
        method, net = method_of(steps), network()
        kept.append(kept_bytes(net, lambda: method.dream(net, *clips, rngs(), last)))  # noqa: B023
    assert len(set(kept)) == 1 and kept[0] > 0


def test_leaving_at_the_last_call_is_play(clips):
    """Up to rounding: play commits a frame with the first call of the next."""
    method, net = method_of(), network()
    config, (codes, actions) = method.config.world, clips
    world = VideoModel(config, config.tokenizer.build(), net)
    known = codes.unflatten(1, (method.config.clip_frames, -1))[:, :GIVEN]
    told = [actions.values[:, t] for t in range(GIVEN, method.config.clip_frames)]
    played = torch.cat(list(world.codes(known, iter(told), actions.values[:, :GIVEN], rngs())), 1)
    actions.unknown[:, 0] = True  # as in play
    made = method.dream(net, codes, actions, rngs(), STEPS - 1)
    actions.unknown[:, 0] = False
    assert float((made - played).detach().abs().max()) < 1e-5


def test_every_call_is_an_exit_now_and_then_and_the_same_for_all_clips():
    """Counts of 300 steps within 5 deviations of a binomial share."""
    method = method_of()
    exits = [method.exit(torch.tensor(step), [Rng(7, 5)]) for step in range(300)]
    assert exits == [method.exit(torch.tensor(step), [Rng(7, 99)]) for step in range(300)]
    deviation = math.sqrt(300 * (1 / STEPS) * (1 - 1 / STEPS))
    assert all(abs(exits.count(e) - 100) < 5 * deviation for e in range(STEPS))


def test_it_learns_what_it_dreams_by_the_squared_error(tmp_path, one_thread):
    config = made_up(world_doom_self_forcing, tmp_path / "tokenizer", repeat=True)
    adversary = AdversaryConfig(blocks=(0, 1), width=32, start=0, warmup=1)
    data = config.data.replace(like=config.data.like.replace(batch=2))
    method = config.method.replace(matching=None, adversary=adversary)
    config = config.replace(method=method, data=data, optim=config.optim.replace(betas=(0.9, 0.95), clip=1.0))
    job = build(config, tmp_path / "run", torch.device("cpu"))
    teacher = job.method.teacher.net
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    values = [train_step(job, job.data.batch(index), 3e-3) for index in range(10)]
    errors = [float(value["frames"]) for value in values]
    assert sum(errors[-3:]) < 0.7 * sum(errors[:3])
    assert all(float(value["adversary"]) > 0 and math.isfinite(float(value["gan"])) for value in values)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    job.method.export(job.model, tmp_path / "student")
    assert load(tmp_path / "student").config.name == config.method.world.name


def test_what_does_not_fit_is_refused():
    config = world_doom_self_forcing(preset="tiny").method
    for context in (config.clip_frames, config.clip_frames + 3):
        with pytest.raises(UsageError, match="must be whole units and shorter than"):
            config.replace(context=context)
