"""The calls of a frame as functions of tensors, and compiled: the frames stay those of the world."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from vidar.configs.doom import world_doom
from vidar.configs.videoar import videoar_shapes
from vidar.nn import ahead
from vidar.nn.ahead import AheadOfTime, digest
from vidar.nn.graphed import Graphed
from vidar.sampling.guidance import GuidanceConfig
from vidar.types import UsageError


def built(config):
    torch.manual_seed(0)
    made = config.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def as_it_is(module, example):
    """Not compiled: the function that would be."""
    return module


def doom():
    return world_doom(preset="tiny").method.world


def guided():
    return doom().replace(guidance=GuidanceConfig(first=2.0, last=3.0))


def scales():
    return videoar_shapes(preset="tiny").method.world


def played(world, model=None, frames=6):
    """Codes of two rows, the second one begun two frames later with a shorter context."""
    streams, config = world.rollout(2), world.config
    streams.model = model or streams.model
    rng = np.random.default_rng(0)
    size = (config.height, config.width, 3)
    streams.begin(0, rng.integers(0, 256, (5, *size), dtype=np.uint8), None, 1)
    made = []
    for frame in range(frames):
        if frame == 2:
            streams.begin(1, rng.integers(0, 256, (2, *size), dtype=np.uint8), None, 2)
        draw = [rng.integers(a.lowest, a.highest + 1, 2) for a in config.actions.actions]
        made.append(streams.frame(torch.from_numpy(np.stack(draw, 1).astype(np.float32))))
    return torch.stack(made)


@pytest.mark.parametrize("config", [doom, guided, scales])
def test_the_function_of_tensors_is_the_backbone(config):
    """float64: equal but for the order of sums. Masks and tables of later frames must be arguments, not constants."""
    world = built(config()).to(dtype=torch.float64)
    model = world.compiled(as_it_is)
    torch.testing.assert_close(played(world, model), played(world), rtol=1e-6, atol=1e-6)


def test_every_call_of_a_world_meets_few_functions():
    """One for the call that also commits the frame before, one for the other calls; whoever plays, for however long."""
    world = built(doom())
    made = []
    played(world, world.compiled(lambda module, example: made.append(example) or module), frames=12)
    assert len(made) == 2


def again(run):
    """What a graph is on the CPU: computed anew, into the same memory."""
    made = run()

    def replay():
        for old, new in zip(tree_leaves(made), tree_leaves(run()), strict=True):
            old.copy_(new)

    return made, replay


@pytest.mark.parametrize("config", [doom, guided, scales])
def test_memory_that_is_used_again_leaves_no_trace(config):
    """Arguments are copied in, answers are not changed by the next call."""
    world = built(config())
    assert torch.equal(played(world, world.compiled(Graphed(again))), played(world, world.compiled(as_it_is)))
    function = Graphed(again)(torch.nn.Flatten(), (torch.zeros(2, 3, 4),))
    first, second = function(torch.ones(2, 3, 4)), function(torch.zeros(2, 3, 4))
    assert torch.equal(first, torch.ones(2, 12)) and torch.equal(second, torch.zeros(2, 12))


@pytest.mark.gpu
@pytest.mark.parametrize("config", [doom, guided, scales])
def test_graphs_are_the_world_on_a_gpu(config):
    world = built(config()).to(device="cuda")
    torch.testing.assert_close(played(world, world.compiled()), played(world), rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_frames_are_the_world_s_and_the_second_start_only_loads(tmp_path, monkeypatch):
    world = built(doom().replace(net=shallow(doom().net)).with_steps(1))
    want = played(world)
    torch.testing.assert_close(played(world, world.compiled(AheadOfTime(tmp_path))), want, rtol=1e-3, atol=1e-4)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 1 and files[0].suffix == ".pt2"
    monkeypatch.setattr(ahead, "package", None)
    torch.testing.assert_close(played(world, world.compiled(AheadOfTime(tmp_path))), want, rtol=1e-3, atol=1e-4)


def shallow(net):
    """The same net with one block."""
    return net.replace(backbone=net.backbone.replace(depth=1))


def test_a_function_is_named_after_all_that_it_is_made_of():
    world = built(doom())
    module, example = world.net.backbone.head, (torch.zeros(2, 3), {"a": torch.zeros(1)}, None)
    names = {digest(module, example)}
    names.add(digest(module, (torch.zeros(2, 4), {"a": torch.zeros(1)}, None)))
    names.add(digest(module, (torch.zeros(2, 3), {"b": torch.zeros(1)}, None)))
    with torch.no_grad():
        next(module.parameters()).add_(1)
    names.add(digest(module, example))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    names.add(digest(module, example))
    torch.set_num_threads(threads)
    assert len(names) == 5


def test_without_a_compiler_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    world = built(doom())
    with pytest.raises(UsageError, match="needs a C\\+\\+ compiler"):
        played(world, world.compiled(AheadOfTime(tmp_path / "cache")))
    assert not (tmp_path / "cache").exists()


def test_folds_are_refused():
    world = built(doom())
    model = world.compiled(as_it_is)

    def folded(inputs, layout, cond, state):
        views = {
            name: dataclasses.replace(view, relation=dataclasses.replace(view.relation, fold=("t",)))
            for name, view in layout.views.items()
        }
        return model(inputs, dataclasses.replace(layout, views=views), cond, state)

    with pytest.raises(UsageError, match="folds"):
        played(world, folded)
