"""Environments of worlds in other processes, copied, closed, and with any seed."""

import copy
import multiprocessing
import pickle

import cloudpickle
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from vidar.configs.acdit import acdit_doom
from vidar.configs.doom import world_doom
from vidar.configs.mmpl import mmpl_doom
from vidar.configs.shapes import world_shapes
from vidar.data.video import write_video
from vidar.model.load import save
from vidar.model.model import VideoModel
from vidar.play.env import WorldEnv, WorldVectorEnv
from vidar.types import UsageError

ID = "Vidar/World-v0"
CONTEXT = 6


def looks_back():
    config = world_shapes(preset="tiny").method.world
    return config.replace(tokenizer=config.tokenizer.replace(time_kernel=3), context=4)


CONFIGS = {
    "frames": lambda: world_doom(preset="tiny").method.world.replace(context=4),
    "blocks": lambda: acdit_doom(preset="tiny").method.world,
    "plans": lambda: mmpl_doom(preset="tiny").method.world,
    "a tokenizer that looks back": looks_back,
}


@pytest.fixture(scope="module", params=CONFIGS)
def any_world(request):
    return opened(CONFIGS[request.param]())


def opened(config):
    torch.manual_seed(0)
    made = config.build()
    with torch.no_grad():
        for parameter in (*made.net.parameters(), *made.tokenizer.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def start(world, seed=0):
    shape = (CONTEXT, world.config.height, world.config.width, 3)
    return {"context": np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)}


def pressed(env, count, seed=0):
    """Actions that a step of this environment takes."""
    space = env.action_space
    space.seed(seed)
    return [space.sample() for _ in range(count)]


def frames(env, actions):
    return [env.step(action)[0].copy() for action in actions]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


COPIES = {
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
    "cloudpickle": lambda env: pickle.loads(cloudpickle.dumps(env)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_goes_on_with_the_same_frames(any_world, way):
    env = WorldVectorEnv(2, any_world, capacity=3)
    env.reset(seed=4, options=start(any_world))
    actions = pressed(env, 6)
    frames(env, actions[:3])
    other = COPIES[way](env)
    again = COPIES[way](other)
    assert other.streams is not env.streams and other.streams.capacity == 3
    want = frames(env, actions[3:])
    assert not same(want[:1], want[1:2])
    assert same(frames(other, actions[3:]), want)  # and what one does does not move the other
    assert same(frames(again, actions[3:]), want)
    more = [one.reset(options=start(any_world, 1))[1]["seed"].tolist() for one in (env, other)]
    assert more[0] == more[1]  # the generator went along


def test_a_new_environment_and_a_single_one_are_copied(world):
    for way in COPIES.values():
        env = way(gymnasium.make(ID, model=world, render_mode="rgb_array").unwrapped)
        first = env.reset(seed=3, options=start(world))[0]
        actions = pressed(env, 3)
        frames(env, actions[:1])
        other = way(env)
        assert np.array_equal(other.render(), env.render()) and not np.array_equal(first, env.render())
        assert same(frames(env, actions[1:]), frames(other, actions[1:]))
        assert env.step(actions[0])[4] == other.step(actions[0])[4] == {"seed": 3, "frame": 4}


def test_what_is_over_stays_over_in_a_copy(world):
    env = WorldVectorEnv(2, world, horizon=2, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=1, options=start(world))
    frames(env, pressed(env, 2))
    with pytest.raises(UsageError, match="call reset"):
        pickle.loads(pickle.dumps(env)).step(pressed(env, 1)[0])


def test_a_copy_in_the_same_process_shares_the_weights(world):
    env = WorldEnv(world)
    env.reset(seed=0, options=start(world))
    other = copy.deepcopy(env)
    assert other.rows.world is world and other.rows.streams.rows is not env.rows.streams.rows


def test_a_world_is_pickled_before_and_after_its_first_frames(any_world):
    for _ in range(2):
        other = pickle.loads(pickle.dumps(any_world))
        assert isinstance(other, VideoModel) and other.config == any_world.config
        actions = np.tile(any_world.config.actions.noop(), (4, 1))
        clip = start(any_world)["context"]
        want = any_world.generate(clip, actions, seed=2).frames
        assert np.array_equal(other.generate(clip, actions, seed=2).frames, want)


def test_a_compiled_world_is_pickled(tmp_path, world):
    """Its functions are compiled anew where it arrives."""
    compiled = pickle.loads(pickle.dumps(world)).compile(AsItIs())
    other = pickle.loads(pickle.dumps(compiled))
    actions = np.ones((2, 5), np.float32)
    clip = start(world)["context"]
    assert np.array_equal(other.generate(clip, actions).frames, compiled.generate(clip, actions).frames)
    assert other.model.net is other.net and other.model.backbone.functions


class AsItIs:
    """A Build that compiles nothing."""

    def __call__(self, module, example):
        return module


def test_an_environment_in_use_goes_over_to_a_spawned_process(world):
    env = gymnasium.make(ID, model=world)
    env.reset(seed=3, options=start(world))
    actions = pressed(env, 3)
    frames(env, actions[:1])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        got = pool.apply(stepped, (pickle.dumps(env), actions[1:]))
    want = frames(env, actions[1:])
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(got, want)) <= 1  # threads may round otherwise


def stepped(pickled, actions):
    return frames(pickle.loads(pickled), actions)


def test_worlds_run_in_processes_of_gymnasium(world, tmp_path):
    save(world, tmp_path / "model", dtype=torch.float32)
    clip = start(world)

    def make():
        import vidar  # noqa: F401  # registers the environment

        return gymnasium.make(ID, model=tmp_path / "model")

    vector = AsyncVectorEnv([make, make], context="spawn")
    try:
        first, info = vector.reset(seed=7, options=clip)
        assert info["seed"].tolist() == [7, 8] and first.shape == (2, 64, 80, 3)
        seen = vector.step(np.zeros((2, 5), np.int8))[0]
    finally:
        vector.close()
    own = gymnasium.make(ID, model=tmp_path / "model")
    own.reset(seed=8, options=clip)
    assert np.abs(seen[1].astype(int) - own.step(np.zeros(5, np.int8))[0]).max() <= 1


@pytest.mark.parametrize("seed", [0, 2**31, 2**63, 2**64, 10**40, np.int64(5), np.uint64(2**64 - 1), np.int32(7), True])
def test_any_whole_number_is_a_seed(world, seed, tmp_path):
    write_video(tmp_path / "start.mp4", start(world)["context"], 20)
    world = VideoModel(world.config, world.tokenizer, world.net, tmp_path / "start.mp4")
    env = gymnasium.make(ID, model=world)
    runs = [env.reset(seed=seed), *(env.step(a) for a in pressed(env, 2))]
    assert [run[-1]["seed"] for run in runs] == [int(seed)] * 3 and type(runs[0][1]["seed"]) is int
    vector = gymnasium.make_vec(ID, num_envs=2, model=world, horizon=2)
    assert vector.reset(seed=seed)[1]["seed"].tolist() == [int(seed), int(seed) + 1]
    drawn = [vector.step(a)[4] for a in pressed(vector, 2)][-1]
    assert drawn["final_info"]["seed"].tolist() == [int(seed), int(seed) + 1]


def test_every_bit_of_a_seed_counts(world):
    env = WorldEnv(world)
    made = []
    for seed in (1, 2**64 + 1, 2**100 + 1):
        env.reset(seed=seed, options=start(world))
        made.append(env.step(np.zeros(5, np.int8))[0])
    assert not np.array_equal(made[0], made[1]) and not np.array_equal(made[1], made[2])


@pytest.mark.parametrize("seed", [-1, 1.5, "7", [1, -2], [1, 2, 3], [1, 2.5], {1: 2}])
def test_other_seeds_are_refused_in_one_line(world, seed):
    env = WorldVectorEnv(2, world)
    with pytest.raises(UsageError, match="a seed is a whole number, 0 or more|3 seeds for 2 dreams") as error:
        env.reset(seed=seed, options=start(world))
    assert "\n" not in str(error.value)


def test_a_closed_environment_says_so(world):
    env, vector = gymnasium.make(ID, model=world, render_mode="rgb_array").unwrapped, WorldVectorEnv(2, world)
    for one, rest in ((env, np.zeros(5, np.int8)), (vector, np.zeros((2, 5), np.int8))):
        one.reset(seed=0, options=start(world))
        one.close()
        one.close()
        for again in (one, pickle.loads(pickle.dumps(one))):
            for call in (lambda a=again: a.reset(), lambda a=again, r=rest: a.step(r), again.render):
                with pytest.raises(UsageError, match="this environment is closed; make a new one"):
                    call()
