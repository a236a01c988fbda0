"""Worlds with frames in flight: against one by one, by the formula of calls, and refusals before anything is built."""

import math

import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.configs.nfd import world_nfd
from vidar.configs.videoar import videoar_shapes
from vidar.model.model import VideoModel
from vidar.model.schedules import (
    AsynchronousConfig,
    ChunksConfig,
    OneByOneConfig,
    PipelineConfig,
    PyramidConfig,
    RollingConfig,
    with_schedule,
)
from vidar.rng import Rng
from vidar.types import UsageError

STEPS, CONTEXT, FRAMES = 4, 3, 7


@pytest.fixture(scope="module")
def world() -> VideoModel:
    """NFD, tiny, four steps and a window of 6; its network in float64, so that the shape of a call leaves no trace."""
    config = world_nfd(preset="tiny").method.world
    torch.manual_seed(0)
    made = config.replace(order=config.order.replace(window=6)).with_steps(STEPS).build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return VideoModel(made.config, made.tokenizer, made.net.double())


def dreamed(world, schedule, frames=FRAMES, batch=2, asked=None):
    """Codes [B, T, n, C] of `frames` frames with actions, and the slots of each call of the network."""
    config = with_schedule(world.config, schedule)
    made, calls = VideoModel(config, world.tokenizer, world.net), []
    model = made.model
    made.model = lambda *inputs: calls.append(inputs[0].shape[1]) or model(*inputs)
    generator = torch.Generator().manual_seed(3)
    context = torch.randn(2, CONTEXT, math.prod(config.sites), config.channels, generator=generator)
    high = torch.tensor([action.highest + 1 for action in config.actions.actions])
    actions = (torch.rand(CONTEXT + FRAMES, 2, len(high), generator=generator) * high).floor()[:, :batch]

    def told():
        for number, action in enumerate(actions[CONTEXT : CONTEXT + frames]):
            if asked is not None:
                asked.append((number, len(calls)))
            yield action

    rngs = [Rng(2, b) for b in range(batch)]
    codes = list(made.codes(context[:batch], told(), actions[:CONTEXT].transpose(0, 1), rngs))
    return torch.stack(codes, 1), calls


SCHEDULES = [
    (PyramidConfig(delay=1.5), 1.5),
    (PipelineConfig(stages=2), 2),
    (AsynchronousConfig(ar_step=3, window=2), 3),
    (RollingConfig(), 1),
]


@pytest.mark.parametrize(("schedule", "delay"), SCHEDULES)
def test_as_many_frames_as_actions_in_the_calls_of_the_formula(world, schedule, delay):
    """The prefill, then floor(delay (frames - 1)) + steps; what is in flight runs out, without a last commit."""
    asked = []
    made, calls = dreamed(world, schedule, asked=asked)
    assert made.shape[1] == FRAMES and len(calls) == 1 + math.floor(delay * (FRAMES - 1)) + STEPS
    assert sum(calls) == made.shape[2] * (CONTEXT + FRAMES * STEPS + FRAMES - 1)  # and no frame without an action
    assert asked == [
        (k, 1 + math.floor(delay * k)) for k in range(FRAMES)
    ]  # an action is asked for as its frame begins
    plain, _ = dreamed(world, OneByOneConfig())
    assert float((made - plain).abs().max()) > 1e-3
    alone, _ = dreamed(world, schedule, batch=1)
    assert float((alone - made[:1]).abs().max()) < 1e-6
    shorter, _ = dreamed(world, schedule, frames=FRAMES - 2)
    same = FRAMES - 2 - (STEPS - 1 if isinstance(schedule, RollingConfig) else 0)  # those read what comes after them
    apart = (shorter - made[:, : FRAMES - 2]).abs().amax(dim=(0, 2, 3))
    assert float(apart[:same].max()) < 1e-6 and (same == FRAMES - 2 or float(apart[same:].min()) > 1e-4)


def test_one_unit_in_flight_is_one_by_one(world):
    plain, calls = dreamed(world, OneByOneConfig())
    for schedule in (PyramidConfig(delay=9), PipelineConfig(stages=1), AsynchronousConfig(ar_step=9)):
        made, more = dreamed(world, schedule)
        assert len(more) == len(calls) and float((made - plain).abs().max()) < 1e-6
    asynchronous = AsynchronousConfig(ar_step=0, window=3)
    assert torch.equal(dreamed(world, asynchronous)[0], dreamed(world, ChunksConfig(length=3))[0])


def test_stages_of_one_step_are_the_pyramid_one_call_apart(world):
    made = [dreamed(world, schedule)[0] for schedule in (PipelineConfig(stages=4), PyramidConfig(), RollingConfig())]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (PipelineConfig(stages=3), "schedule.stages: 4 calls per unit do not divide into 3 stages"),
        (
            AsynchronousConfig(ar_step=1, window=3),
            "schedule.ar_step 1: .* window of 3 would be in flight; use 2 or more",
        ),
        (ChunksConfig(length=7), "7 units in flight do not fit its window of 6"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(world, schedule, message):
    with pytest.raises(UsageError, match=message):
        with_schedule(world.config, schedule)


def test_orders_that_do_not_read_in_flight_are_refused(world):
    with pytest.raises(UsageError, match="do not read each other; set order.in_flight=4"):
        world.config.replace(schedule=PyramidConfig())
    for order in ({"in_flight": 4}, {"in_flight": 3, "forward": True}):
        with pytest.raises(
            UsageError, match="do not read the later ones; set order.forward=true and order.in_flight=4"
        ):
            world.config.replace(schedule=RollingConfig(), order=world.config.order.replace(**order))
    world.config.replace(schedule=RollingConfig(), order=world.config.order.replace(in_flight=4, forward=True))


def test_content_of_a_frame_in_flight_is_refused():
    """`doom` is given the frame before as channels; a world by scales has no frames in flight."""
    for schedule in (PyramidConfig(), ChunksConfig(length=2)):
        with pytest.raises(UsageError, match=r"from the code of an earlier one \(objective.hint\)"):
            with_schedule(world_doom(preset="tiny").method.world, schedule)
    with_schedule(world_doom(preset="tiny").method.world, PyramidConfig(delay=2))  # one in flight
    with pytest.raises(UsageError, match="scale by scale"):
        with_schedule(videoar_shapes(preset="tiny").method.world, PyramidConfig())
