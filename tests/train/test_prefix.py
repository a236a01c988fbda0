"""Training over a clean prefix of random length (Ca2-VDM, 2.2)."""

from collections import Counter

import pytest
import torch

from vidar.configs.ca2vdm import ca2vdm, ca2vdm_doom
from vidar.model.schedules import OneByOneConfig
from vidar.objectives.prefix_hint import PrefixHintConfig
from vidar.orders.frame import FrameOrderConfig
from vidar.rng import Rng
from vidar.train.latents import LatentBatch
from vidar.types import MEMORY, QUERY, UsageError

ORDER = {"window": 5}


def method_of(recipe, **changes):
    config = recipe(preset="tiny").method
    order = config.order.replace(**ORDER)
    return config.replace(world=config.world.replace(order=order), **changes).build()


def batch_of(method, count=3):
    height, width = method.config.world.sites
    frames, channels = method.config.clip_frames, method.config.world.channels
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(count, frames, height * width, channels, generator=generator)
    actions = torch.zeros(count, frames, method.config.world.actions.width)
    return LatentBatch(codes, actions, torch.zeros(count, frames).bool(), torch.arange(count), [""] * count)


def test_lengths_of_the_prefix_and_offsets():
    """P uniform over 1, 3, 5: 600 draws, 4 standard errors (46); an offset where all positions are used alone."""
    method = method_of(ca2vdm)
    assert list(method.lengths) == [1, 3, 5] and method.config.clip_frames == 7 == method.config.order.positions
    drawn = [method.drawn(Rng(0, n)) for n in range(600)]
    counts = Counter(length for length, _ in drawn)
    assert all(abs(counts[length] - 200) < 46 for length in (1, 3, 5))
    assert {offset for length, offset in drawn if length < 5} == {0}
    assert {offset for length, offset in drawn if length == 5} == set(range(7))


@pytest.mark.parametrize("length", [1, 3, 5])
def test_every_frame_stands_once_and_the_chunk_at_one_level(length):
    method = method_of(ca2vdm)
    layout = method.placed(length, 0)
    assert layout.row_role.tolist() == [MEMORY] * length + [QUERY] * 2
    assert layout.row_unit[0].tolist() == list(range(length + 2))
    batch = batch_of(method)
    seen, target = method.prepared(batch.codes, length, [Rng(0, n) for n in range(3)])
    sites = batch.codes.shape[2]
    levels = seen[..., -1].unflatten(1, (length + 2, sites))
    assert not levels[:, :length].any()  # clean
    assert all(len(set(row.flatten().tolist())) == 1 for row in levels[:, length:])
    assert len(set(levels[:, -1, -1].tolist())) == 3  # each clip its own
    assert torch.equal(target.weight.unflatten(1, (-1, sites))[..., 0] > 0, (layout.row_role == QUERY).expand(3, -1))
    assert torch.equal(seen[:, : length * sites, :-1], batch.codes[:, :length].flatten(1, 2))


def test_an_offset_moves_positions_alone():
    method = method_of(ca2vdm)
    plain, moved = method.placed(5, 0), method.placed(5, 4)
    sites = plain.num_slots // 7
    frames = torch.arange(7).repeat_interleave(sites)
    assert torch.equal(plain.slots.coord[0, :, 0], frames.double())
    assert torch.equal(moved.slots.coord[0, :, 0], (frames + 4) % 7 * 1.0)
    assert torch.equal(moved.slots.coord[..., 1:], plain.slots.coord[..., 1:]) and moved.slots.site is plain.slots.site
    for name, view in plain.views.items():
        assert moved.views[name] is view


def test_the_loss_asks_nothing_of_the_prefix_and_reaches_every_mixer():
    """Gradients reach the weights of all three relations once gates are open."""
    for recipe in (ca2vdm, ca2vdm_doom):
        method = method_of(recipe)
        torch.manual_seed(0)
        net = method.build_model()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        loss = method.step(net, batch_of(method), [Rng(0, n) for n in range(3)])
        loss.total.backward()
        for mixer in net.backbone.blocks[0].mixers:
            assert mixer.enter.project.weight.grad.abs().sum() > 0, mixer.relation
        assert net.conditioner.clean.grad.abs().sum() > 0


def test_a_fresh_network_adds_nothing():
    """Every gate is shut: the output is that of embedding and head alone, whatever the prefix holds."""
    method = method_of(ca2vdm)
    net, batch = method.build_model(), batch_of(method)
    with torch.no_grad():  # a head that says something
        net.backbone.head.map.weight.normal_()
    layout, rngs = method.placed(3, 0), [Rng(0, n) for n in range(3)]
    seen, _ = method.prepared(batch.codes, 3, rngs)
    other = seen.clone()
    other[:, : 3 * batch.codes.shape[2], :-1] += 1
    chunk = 2 * batch.codes.shape[2]
    a, b = (net(x, layout)[:, -chunk:] for x in (seen, other))
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.replace(schedule=OneByOneConfig()), "its schedule to ChunksConfig with length 2"),
        (
            lambda w: w.replace(order=w.order.replace(chunk=4, window=5)),
            "set its schedule to ChunksConfig with length 4",
        ),
        (lambda w: w.replace(order=FrameOrderConfig(in_flight=2, window=5)), "this trains those of PrefixOrderConfig"),
        (
            lambda w: w.replace(objective=w.objective.replace(hint=PrefixHintConfig(chunk=2, first=3))),
            "hint has chunk 2, first 3; the order has 2 and 1",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, named):
    method = ca2vdm_doom(preset="tiny").method
    with pytest.raises(UsageError, match=named):
        method.replace(world=change(method.world))
