"""Training by stages: the next resolution and duration start from the weights of the last."""

import pytest
import torch

import vidar
from vidar.configs.videoar import tokenizer_videoar_shapes, videoar_shapes
from vidar.data.synthetic import ShapesConfig
from vidar.model.load import load
from vidar.nn.pretrained import load_component
from vidar.types import UsageError


def short(config, **changes):
    optim = config.optim.replace(steps=2, warmup_steps=0)
    return config.replace(optim=optim, minutes=None, data=config.data.replace(batch=2), **changes)


def weights(module):
    return dict(module.state_dict())


def test_a_larger_and_longer_stage_starts_from_a_smaller_one(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    for data, side in ((small, 32), (large, 48)):
        vidar.record(ShapesConfig(height=side, width=side, frames=16), None, data, episodes=2)
    tokens = vidar.fit(short(tokenizer_videoar_shapes("tiny", str(small))), tmp_path / "tokens").model
    world = vidar.fit(short(videoar_shapes("tiny", str(small), str(tokens))), tmp_path / "world").model
    second = short(tokenizer_videoar_shapes("tiny", str(large), str(tokens), height=48, width=48))
    begun, known = second.method.build().build_model(), load_component(tokens)
    assert begun.pyramid.sizes[-1] == (1, 6, 6) and known.pyramid.sizes[-1] == (1, 4, 4)
    assert all(torch.equal(value, weights(known)[name]) for name, value in weights(begun).items())
    more = vidar.fit(second, tmp_path / "more tokens").model
    third = short(videoar_shapes("tiny", str(large), str(more), str(world), height=48, width=48, clip_frames=7))
    net = third.method.build().build_model()
    assert all(torch.equal(value.float(), weights(net)[name]) for name, value in weights(load(world).net).items())
    final = load(vidar.fit(third, tmp_path / "more").model)
    assert (final.config.height, final.config.order.sides[-1]) == (48, (6, 6))


def test_another_number_of_scales_is_another_tokenizer(tmp_path):
    config = tokenizer_videoar_shapes("tiny").method
    config.tokenizer.build().save_pretrained(tmp_path)
    sizes = ((1, 1, 1), (1, 2, 2), (1, 4, 4))
    pyramid = config.tokenizer.pyramid.replace(sizes=sizes, gains=None)
    other = config.replace(tokenizer=config.tokenizer.replace(pyramid=pyramid), start=str(tmp_path))
    with pytest.raises(UsageError, match="does not fit the tokenizer of this run: its pyramid.sizes is"):
        other.build().build_model()
