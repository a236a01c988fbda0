import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.data.video import write_video
from vidar.model.load import load, save
from vidar.model.model import VideoModel
from vidar.rng import Rng
from vidar.types import UsageError, VidarError


@pytest.fixture(scope="module")
def world() -> VideoModel:
    torch.manual_seed(0)
    made = world_doom(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


@pytest.fixture(scope="module")
def context():
    return np.random.default_rng(0).integers(0, 255, (5, 64, 80, 3), dtype=np.uint8)


def actions(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (count, 5)).astype(np.float32)


def test_a_stream_is_a_function_of_its_seed_and_actions(world, context):
    first = world.generate(context, actions(5), seed=3).frames
    assert first.shape == (1, 5, 64, 80, 3) and first.dtype == np.uint8
    assert np.array_equal(first, world.generate(context, actions(5), seed=3).frames)
    assert not np.array_equal(first, world.generate(context, actions(5), seed=4).frames)
    other = actions(5).copy()
    other[2] = 1 - other[2]
    changed = world.generate(context, other, seed=3).frames
    assert np.array_equal(first[:, :2], changed[:, :2]) and not np.array_equal(first[:, 2], changed[:, 2])


def test_a_batch_of_rows_equals_each_row_alone(world, context):
    """Rows of one forward keep their own noise and actions (float32: equal up to the order of sums)."""
    codes = world.encode(torch.from_numpy(context)[None]).expand(2, -1, -1, -1)
    steps = torch.from_numpy(np.stack([actions(4, 1), actions(4, 2)]))
    both = list(world.codes(codes, iter(steps.unbind(1)), rngs=[Rng(5, 0), Rng(6, 0)]))
    for b, seed in ((0, 5), (1, 6)):
        alone = list(world.codes(codes[:1], iter(steps[b : b + 1].unbind(1)), rngs=[Rng(seed, 0)]))
        for x, y in zip(both, alone, strict=True):
            torch.testing.assert_close(x[b], y[0], rtol=1e-3, atol=1e-4)


def test_actions_are_asked_for_one_by_one(world, context):
    asked = []

    def source():
        for n in range(4):
            asked.append(n)
            yield actions(1)[0]

    stream = world.stream(context, source())
    for n in range(3):
        next(stream)
        assert asked == list(range(n + 1))


def test_save_and_load_give_the_same_frames(world, context, tmp_path):
    save(world, tmp_path / "w", dtype=torch.float32)
    again = load(tmp_path / "w", dtype=torch.float32)
    assert again.config == world.config
    assert np.array_equal(world.generate(context, actions(3)).frames, again.generate(context, actions(3)).frames)


def test_a_damaged_world_is_one_line(world, tmp_path):
    save(world, tmp_path / "w")
    with pytest.raises(UsageError, match="no such world"):
        load("dom")
    weights = tmp_path / "w/transformer/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(VidarError, match="damaged or truncated"):
        load(tmp_path / "w")
    (tmp_path / "w/model_index.json").unlink()
    with pytest.raises(VidarError, match="not a complete world"):
        load(tmp_path / "w")
    (tmp_path / "w/model_index.json").write_text(json.dumps({}))


def test_bad_input_is_one_line(world, context):
    with pytest.raises(VidarError, match="80x60, this model is 80x64"):
        world.generate(context[:, :60], num_frames=1)
    with pytest.raises(VidarError, match=r"expected T x 5"):
        world.generate(context, np.zeros((3, 4)))
    with pytest.raises(UsageError, match="2 actions are too few for 3 frames"):
        world.generate(context, actions(2), num_frames=3)
    with pytest.raises(UsageError, match="num_frames >= 1"):
        world.generate(context)
    with pytest.raises(UsageError, match="height 60 does not divide by 16; use 48 or 64"):
        _ = world.config.replace(height=60).sites


def test_a_world_starts_from_its_own_clip(world, context, tmp_path):
    write_video(tmp_path / "start.mp4", context, 17.5)
    save(world, tmp_path, dtype=torch.float32)
    own = load(tmp_path, dtype=torch.float32).generate(num_frames=2).frames
    given = world.generate(tmp_path / "start.mp4", num_frames=2).frames
    assert np.array_equal(own, given)
    with pytest.raises(UsageError, match="ships no start"):
        world.generate(num_frames=1)


def test_one_frame_of_context_is_enough(world, context):
    assert world.generate(context[-1], actions(2)).frames.shape[1] == 2


def test_an_endless_stream_is_constant_in_memory():
    """In a process of its own: ring addresses, resident memory at frame 200 and 2,000, calls by the formula."""
    program = """
        import gc, os, torch, numpy as np
        torch.set_num_threads(1)
        from vidar.configs.doom import world_doom
        from vidar.cache.ring import RingState
        world = world_doom(preset="tiny").method.world.build()
        states, create = [], RingState.create.__func__
        RingState.create = classmethod(lambda cls, *a, **k: states.append(create(cls, *a, **k)) or states[-1])
        calls = 0
        def count(*_):
            global calls
            calls += 1
        world.net.register_forward_hook(count)
        resident = lambda: int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        pointers = lambda: [t.data_ptr() for r in states[0].rings.values() for t in (r.k, r.v)]
        for n, frame in enumerate(world.stream(np.zeros((4, 64, 80, 3), np.uint8), steps=2), 1):
            if n == 200:
                gc.collect(); first, where, before = resident(), pointers(), calls
            if n == 2000:
                gc.collect(); print(resident() / first, pointers() == where, calls - before, before); break
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    growth, same, calls, before = done.stdout.split()
    assert float(growth) < 1.01 and same == "True"
    assert int(calls) == 1800 * 2 and int(before) == 1 + 200 * 2  # one prefill, then 2 fused calls a frame
