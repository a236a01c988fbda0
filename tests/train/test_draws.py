"""No two draws of a training step share a key: two steps of every recipe, tiny, with every branch that draws taken."""

import pytest
import torch
from made_up import made_up

from vidar.configs.catalog import recipes
from vidar.objectives.context import ContextNoiseConfig
from vidar.objectives.flow import FlowConfig
from vidar.rng import DRAWS, Rng
from vidar.train.config import TrainConfig
from vidar.train.fit import build
from vidar.train.loop import train_step
from vidar.train.methods.adversary import AdversaryConfig
from vidar.train.methods.distribution_matching import MatchingConfig
from vidar.train.methods.world import OwnContextConfig
from vidar.train.methods.worn import WornContextConfig

RECIPES = {name: recipe for name, recipe in recipes().items() if isinstance(recipe(preset="tiny"), TrainConfig)}
DATA = {"dreamed_share", "dreamed_start", "dreamed_clip", "shown_share", "shown_level"}
ELSEWHERE = {"token", "init", "policy", "shuffle", "weights", "codebook", *DATA}  # not drawn by a step
BATCH = 4


def with_tokenizer(tokenizer):
    """Scales are dropped, codes die at once."""
    pyramid = getattr(tokenizer, "pyramid", None)
    if pyramid is None:
        return tokenizer
    quantiser = pyramid.quantiser
    if "revive_after" in type(quantiser).model_fields:
        quantiser = quantiser.replace(revive_after=1)
    return tokenizer.replace(pyramid=pyramid.replace(p_drop=0.5, quantiser=quantiser))


def with_world(world, has_levels):
    """Context is noised, and where the method draws levels itself some units stand at that of context."""
    if not isinstance(world.objective, FlowConfig):
        return world
    objective = world.objective.replace(context=ContextNoiseConfig(), p_context=0.5 if has_levels else 0.0)
    return world.replace(objective=objective)


def forced(method):
    """The config of a method with every branch that draws taken: what is left to chance is so for a half."""
    fields, changes = type(method).model_fields, {}
    if "tokenizer" in fields and not isinstance(method.tokenizer, str):
        changes["tokenizer"] = with_tokenizer(method.tokenizer)
    if "world" in fields and not isinstance(method.world, str):
        changes["world"] = with_world(method.world, "teacher" not in fields)
    if "matching" in fields:
        changes["matching"] = MatchingConfig(critic_steps=1)
    elif "own_context" in fields:
        changes["own_context"] = OwnContextConfig(share=1.0, generations=3)
    if "worn" in fields:
        changes["worn"] = WornContextConfig(share=1.0)
    if "adversary" in fields:
        changes["adversary"] = AdversaryConfig(blocks=(0,), width=method.world.net.backbone.width)
    if "share" in fields:
        changes["share"] = 0.5
    if "wear" in fields:
        changes["wear"] = method.wear.replace(intact=0.0)
    return method.replace(**changes)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """By recipe, the keys of two steps in the order in which they were drawn."""
    known = {}

    def keys(name):
        if name not in known:
            known[name] = steps(RECIPES[name], tmp_path_factory.mktemp(name))
        return known[name]

    return keys


def steps(recipe, folder):
    made = made_up(recipe, folder / "tokenizer")
    data = made.data.replace(like=made.data.like.replace(batch=BATCH))
    job, keys, raw = (
        build(made.replace(method=forced(made.method), data=data), folder, torch.device("cpu")),
        [],
        Rng.raw,
    )
    job.model.train()
    first, *batches = [job.data.batch(index) for index in range(3)]
    assert train_step(job, first, 1e-3) is not None  # reads the tokenizer, which draws what it then forgets

    def noted(rng, name, unit, step, count):
        keys.append((rng.seed, rng.video, rng.attempt, name, unit, step))
        return raw(rng, name, unit, step, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rng, "raw", noted)
        for batch in batches:
            assert train_step(job, batch, 1e-3) is not None
            job.counters.cursor += 1
    return keys


@pytest.mark.parametrize("name", RECIPES)
def test_no_key_is_drawn_twice(name, drawn, one_thread):
    keys = drawn(name)
    assert len(keys) > 2
    twice = sorted({key for key in keys if keys.count(key) > 1})
    assert not twice, f"{len(twice)} keys (seed, video, attempt, name, unit, step) drawn twice, the first: {twice[0]}"


def test_every_draw_of_training_is_made_here(drawn, one_thread):
    """Else the test above would pass where it draws nothing."""
    made = {key[3] for name in RECIPES for key in drawn(name)}
    assert made == set(DRAWS) - ELSEWHERE


def test_a_kept_key_is_drawn_once_and_a_renamed_one_under_its_other_name(monkeypatch):
    asked, raw = [], Rng.raw
    monkeypatch.setattr(Rng, "raw", lambda rng, name, *rest: asked.append((name, *rest)) or raw(rng, name, *rest))
    rng, plain = Rng(3, 4, 5).renamed(start="own_start").kept("start"), Rng(3, 4, 5)
    first, again = rng.normal("start", 2, 1, (3,)), rng.normal("start", 2, 1, (3,))
    assert asked == [("own_start", 2, 1, 4)]
    assert torch.equal(first, again) and torch.equal(first, plain.normal("own_start", 2, 1, (3,)))
    assert torch.equal(rng.uniform("level"), plain.uniform("level")) and asked[-2:] == 2 * [("level", 0, 0, 1)]
    other = rng.normal("start", 3, 1, (3,))
    assert not torch.equal(other, first) and torch.equal(other, plain.normal("own_start", 3, 1, (3,)))
