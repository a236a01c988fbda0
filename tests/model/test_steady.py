"""A late frame costs what an early one costs: the same calls of the same shapes, the same bytes held."""

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from vidar.configs.doom import world_doom
from vidar.configs.videoar import videoar_doom
from vidar.types import PAD


def held(streams):
    """Everything a stream keeps from frame to frame: bytes of tensors, and entries of its books."""
    rings = [t for ring in streams.state.rings.values() for t in (ring.k, ring.v, *vars(ring.slots).values())]
    tape = [streams.tape.values, streams.tape.unknown, streams.tape.next]
    rows = [leaf for row in streams.state.rows for leaf in tree_leaves((row.codes, row.outs, row.x))]
    sizes = [t.untyped_storage().nbytes() for t in (*rings, *tape, *rows) if isinstance(t, torch.Tensor)]
    books = [(len(r.codes), len(r.outs), len(r.x), len(r.committed), len(r.done)) for r in streams.state.rows]
    journal = [len(entries) for entries in streams.state.journal]
    return sum(sizes), len(sizes), books, journal, len(streams.state.marks), len(streams.state.trace)


def costs(world, numbers, guesses=False):
    """For each numbered frame: shapes of its calls, keys every slot sees, and what is held after it."""
    streams, told, calls = world.rollout(2), {}, []

    def note(module, args, kwargs, out):
        layout = args[1]
        view = layout.views["main"]
        seen = None if view.mask is None else int(view.mask.sum())
        calls.append((tuple(args[0].shape), view.k.cell.shape[1], int((view.k.cell != PAD).sum()), seen))

    streams.begin(0, np.zeros((4, 64, 80, 3), np.uint8), None, 1)
    streams.begin(1, np.zeros((4, 64, 80, 3), np.uint8), None, 2)
    hook = world.net.register_forward_hook(note, with_kwargs=True)
    keys = np.random.default_rng(0).integers(0, 2, (64, 2, world.config.actions.width)).astype(np.float32)
    for number in range(1, max(numbers) + 1):
        calls.clear()
        if guesses:
            snapshot = streams.snapshot()
            streams.frame(torch.from_numpy(keys[(number + 1) % 64]))
            streams.restore(snapshot)
            streams.release(snapshot)
        streams.frame(torch.from_numpy(keys[number % 64]))
        if number in numbers:
            told[number] = list(calls), held(streams)
    hook.remove()
    return told


@pytest.fixture(scope="module", params=[world_doom, videoar_doom], ids=["frames", "scales"])
def world(request):
    torch.manual_seed(0)
    return request.param(preset="tiny").method.world.build()


@pytest.mark.parametrize("guesses", [False, True])
def test_frame_160_costs_what_frame_60_costs(world, guesses):
    told = costs(world, (60, 61, 160), guesses)
    assert told[60] == told[61] == told[160]
    calls, (size, tensors, *_) = told[60]
    assert len(calls) == (2 if guesses else 1) * world.config.steps and size > 0 and tensors > 0


@pytest.mark.slow
def test_frame_10_000_costs_what_frame_100_costs(world):
    told = costs(world, (100, 10_000))
    assert told[100] == told[10_000]
