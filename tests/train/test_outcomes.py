"""Steps of recorded play: which reward stands beside which frames, what is not known, what cannot be learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidar.configs.outcome import outcome
from vidar.configs.shapes import world_shapes
from vidar.data.reader import episodes
from vidar.data.shards import ShardWriter
from vidar.data.synthetic import SPEC, ShapesConfig
from vidar.model.load import load, save
from vidar.train.fit import fit
from vidar.train.outcomes import OutcomeClipsConfig
from vidar.types import UsageError, VidarError

GAME = ShapesConfig(frames=9).build()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("world")
    save(world_shapes(preset="tiny").method.world.build(), folder)
    return str(folder)


def written(folder, *extras):
    """One episode for each set of extras, which go before those of the game; None leaves one out."""
    with ShardWriter(folder, "train", SPEC) as writer:
        for seed, changed in enumerate(extras):
            episode = GAME.episode(seed)
            kept = {name: value for name, value in {**episode.extras, **changed}.items() if value is not None}
            writer.write(replace(episode, extras=kept))
    return str(folder)


def marks(*ends):
    return np.isin(np.arange(9), ends)


def rewards(seed):
    return np.random.default_rng(seed).normal(size=9).astype(np.float32)


def test_a_step_has_the_reward_of_its_action(world, tmp_path):
    path = written(tmp_path, {"rewards": rewards(0), "ended": marks(8)}, {"rewards": rewards(1)})
    clips = OutcomeClipsConfig(path=path, world=world, batch=16).build()
    recorded = {e.name: e for e in episodes(path, "train")}
    batch, coder = clips.batch(0), load(world)
    assert len(set(batch.names)) == 16  # an epoch: every step of both episodes, once
    for i, name in enumerate(batch.names):
        episode, _, start = name.partition("@")
        e, now = recorded[episode], int(start) + 1
        assert batch.rewards[i] == e.extras["rewards"][now] and batch.ended[i] == e.extras["ended"][now]
        assert torch.equal(batch.actions[i], torch.from_numpy(e.actions[now]))
        codes = coder.encode(torch.from_numpy(e.frames[now - 1 : now + 1].copy())[None])[0]
        assert torch.allclose(batch.codes[i].float(), codes, atol=0.05)
    assert batch.ended.sum() == 1
    brought = np.concatenate([rewards(0)[1:], rewards(1)[1:]])
    assert np.isclose(clips.reward_scale, np.sqrt(np.mean(brought**2)))
    assert torch.equal(batch.rewards, OutcomeClipsConfig(path=path, world=world, batch=16).build().batch(0).rewards)


def test_what_was_not_recorded_is_not_known(world, tmp_path):
    """Data of before `ended`, beside newer data; and an import without rewards."""
    path = written(tmp_path, {"ended": None, "rewards": rewards(0)}, {"rewards": None, "ended": marks(8)})
    batch = OutcomeClipsConfig(path=path, world=world, batch=16).build().batch(0)
    first = torch.tensor(["0@" in name for name in batch.names])
    assert first.sum() == 8
    assert batch.ended[first].isnan().all() and batch.rewards[first].isfinite().all()
    assert batch.rewards[~first].isnan().all() and batch.ended[~first].isfinite().all()


@pytest.mark.parametrize(
    "extras",
    [{"rewards": None, "ended": None}, {"rewards": np.ones(9, np.float32)}, {"rewards": None}, {"rewards": marks(0)}],
    ids=["neither", "constant", "no end", "a reward before the first step"],
)
def test_nothing_to_learn_is_one_line(world, tmp_path, extras):
    with pytest.raises(VidarError, match="nothing to learn, its rewards do not vary and no game") as error:
        OutcomeClipsConfig(path=written(tmp_path, extras), world=world).build()
    assert "\n" not in str(error.value) and not list(tmp_path.glob("latents-*"))  # before anything is encoded


@pytest.mark.parametrize(
    "extras, scale",
    [({"rewards": np.full(9, -3.0), "ended": marks(8)}, 3.0), ({"rewards": np.zeros(9), "ended": marks(8)}, 1.0)],
    ids=["constant", "zero"],
)
def test_ends_alone_can_be_learned(world, tmp_path, extras, scale):
    assert OutcomeClipsConfig(path=written(tmp_path, extras), world=world).build().reward_scale == scale


def test_bad_data_is_one_line(world, tmp_path):
    broken = rewards(0)
    broken[3] = np.nan
    for name, extras in (("a", {"rewards": broken}), ("b", {"rewards": np.zeros((9, 2))})):
        with pytest.raises(VidarError, match="shapes-000000000: extra 'rewards' is not one finite number per frame"):
            OutcomeClipsConfig(path=written(tmp_path / name, extras), world=world).build()
    path = written(tmp_path / "c", {"rewards": rewards(0)})
    OutcomeClipsConfig(path=path, world=world).build()
    with ShardWriter(path, "train", SPEC) as writer:
        writer.write(GAME.episode(5))
    assert len(OutcomeClipsConfig(path=path, world=world).build().names) == 2  # the added episode is encoded
    with pytest.raises(VidarError, match="not those of world 'doom'"):
        OutcomeClipsConfig(path=path, world="doom").build()
    with pytest.raises(UsageError, match="no such world"):
        OutcomeClipsConfig(path=path, world="nowhere").build()


def test_the_recipe_end_to_end(world, tmp_path):
    path = written(tmp_path / "data", {"rewards": 40 * rewards(0), "ended": marks(8)})
    config = outcome(preset="tiny", data=path, world=world)
    config = config.replace(minutes=None, optim=config.optim.replace(steps=2), ema_decay=0.0)
    made = load(fit(config, tmp_path / "run", device="cpu").model)
    assert np.isclose(made.outcome.scale, np.sqrt(np.mean((40 * rewards(0)[1:]) ** 2)))
    assert made.outcome.config == config.method.head and made.outcome.out.weight.any()
