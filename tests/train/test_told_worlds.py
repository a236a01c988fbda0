"""Worlds that read a class or a caption beside their actions are trained on annotated clips."""

import numpy as np
import pytest
import torch

from vidar.conditioning.compose import ComposeConditionerConfig
from vidar.conditioning.label import LabelEmbedConfig
from vidar.conditioning.text import ByteEncoderConfig, TextConfig
from vidar.configs.shapes import world_shapes
from vidar.data.annotations import SHAPE_CLASSES, ShapeCaptionConfig, ShapeClassConfig
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.model.load import load
from vidar.nn.mixers import CrossAttentionConfig
from vidar.nn.pretrained import save_component
from vidar.rng import Rng
from vidar.train.fit import fit
from vidar.train.log import read_log
from vidar.types import UsageError, VidarError


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    record(ShapesConfig(), None, folder, episodes=4, frames=24)
    return str(folder)


def told_run(kind, shards, folder):
    """A tiny run of shapes that reads a class or a caption."""
    config = world_shapes(preset="tiny", data=shards, tokenizer=str(folder / "tokenizer"))
    world, width = config.method.world, config.method.world.net.backbone.width
    backbone, reader = world.net.backbone, LabelEmbedConfig(num_labels=len(SHAPE_CLASSES), width=width)
    if kind == "caption":
        reader = TextConfig(encoder=ByteEncoderConfig(width=16, depth=1), width=width, memory_width=16)
        backbone = backbone.replace(mixers=(*backbone.mixers, CrossAttentionConfig()), memory_width=16)
    parts = {"acts": world.net.conditioner, "what": reader}
    world = world.replace(net=world.net.replace(backbone=backbone, conditioner=ComposeConditionerConfig(parts=parts)))
    torch.manual_seed(0)
    save_component(world.tokenizer.build(), world.tokenizer, folder / "tokenizer")
    annotation = ShapeCaptionConfig() if kind == "caption" else ShapeClassConfig()
    data = config.data.replace(annotation=annotation, batch=2)
    return config.replace(method=config.method.replace(world=world), data=data)


@pytest.mark.parametrize("kind", ["class", "caption"])
def test_a_told_world_is_trained_exported_and_told(kind, shards, tmp_path, one_thread):
    config = told_run(kind, shards, tmp_path)
    config = config.replace(optim=config.optim.replace(steps=3, warmup_steps=1), minutes=None, sample_every=2)
    fit(config, tmp_path / "run", device="cpu")
    losses = [line["loss"] for line in read_log(tmp_path / "run" / "log.jsonl") if "loss" in line]
    assert losses and np.isfinite(losses).all()
    model, told = load(tmp_path / "run" / "model"), {"prompt": "a red ring"} if kind == "caption" else {"label": 3}
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    start = ShapesConfig().build().episode(0).frames[:4]
    asked = {"context": start, "num_frames": 2, "seed": 1}
    assert not np.array_equal(model.generate(**asked, **told).frames, model.generate(**asked).frames)


@pytest.mark.parametrize("kind", ["class", "caption"])
def test_each_clip_is_told_its_own_and_a_share_is_hidden(kind, shards, tmp_path):
    config = told_run(kind, shards, tmp_path)
    data = config.data.build()
    again = config.data.build()  # from the file that is kept beside the shards
    batch = data.batch(0)
    assert batch.told == again.batch(0).told and len(batch.told) == 2
    rngs = [Rng(0, number) for number in batch.number.tolist()]
    for share, hidden in ((0.0, [False, False]), (1.0, [True, True])):
        told = config.method.replace(p_unknown=share).told(batch, rngs)
        assert set(told) == {"acts", "what"} and told["what"].none.tolist() == hidden
        assert (told["acts"].unknown.all(1)).tolist() == hidden
        values = told["what"].values
        if kind == "caption" and not share:
            said = [bytes(row[mask].tolist()).decode() for row, mask in zip(values, told["what"].mask)]
            assert said == batch.told
        elif not share:
            assert values.tolist() == batch.told


def test_data_that_does_not_say_what_the_world_reads_is_refused(shards, tmp_path):
    config = told_run("class", shards, tmp_path)
    with pytest.raises(UsageError, match="reads label, data.annotation gives nothing"):
        config.method.check(config.data.replace(annotation=None))
    with pytest.raises(UsageError, match="reads label, data.annotation gives prompt"):
        config.method.check(config.data.replace(annotation=ShapeCaptionConfig()))
    plain = world_shapes(preset="tiny", data=shards, tokenizer=str(tmp_path / "tokenizer"))
    with pytest.raises(UsageError, match="reads actions only, data.annotation gives label"):
        plain.method.check(plain.data.replace(annotation=ShapeClassConfig()))
    long = config.data.replace(annotation=ShapeCaptionConfig(), most=3)
    with pytest.raises((UsageError, VidarError), match="set data.most to as many"):
        long.build()
