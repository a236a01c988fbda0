"""Models of pictures: what they take, what they give, alone and in batches, guided, saved, continued."""

import numpy as np
import pytest
import torch

import vidar
from vidar.conditioning.config import Told
from vidar.configs.infinity import infinity, infinity_shapes
from vidar.configs.infinitystar import infinitystar_shapes
from vidar.configs.var import var_shapes
from vidar.data.synthetic import ShapesConfig
from vidar.model.load import load_world, save
from vidar.rng import Rng
from vidar.sampling.guidance import GuidanceConfig, ProjectedGuidanceConfig
from vidar.tokenizers.pixels import to_float
from vidar.tokenizers.vq import VQConfig
from vidar.types import UsageError, VidarError

RECIPES = {"var": var_shapes, "infinity": infinity_shapes, "infinitystar": infinitystar_shapes}
ASKED = {
    "var": {"label": [3, 20, 3]},
    "infinity": {"prompt": ["a red ring", "blue", "a red ring"]},
    "infinitystar": {"prompt": ["a red ring", "blue", "a red ring"]},
}


def built(name, **changes):
    torch.manual_seed(0)
    made = RECIPES[name](preset="tiny").method.pictures.replace(**changes).build()
    with torch.no_grad():
        for module in (made.net, made.tokenizer):
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def codes(model, guidance=None, seeds=(1, 2, 3), **asked):
    return rows(model.units(told(**asked), [Rng(seed) for seed in seeds], guidance=guidance)[0])


def told(prompt=(), label=()):
    return [Told(prompt=one) for one in prompt] or [Told(label=one) for one in label]


def rows(codes):
    return [{unit: labels[row] for unit, labels in codes.items()} for row in range(len(codes[0]))]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[u], b[u]) for u in a)


@pytest.mark.parametrize("name", RECIPES)
def test_pictures_have_the_size_and_every_seed_its_own(name):
    model = built(name)
    made = model.generate(**ASKED[name], seed=[1, 1, 2])
    frames = model.config.frames
    assert made.frames.shape == (3, frames, 32, 32, 3) and made.frames.dtype == np.uint8
    assert len(made.seconds) == (1 if frames == 1 else 3) * len(model.config.tokenizer.pyramid.sizes)
    again = model.generate(**ASKED[name], seed=[1, 1, 2])
    assert np.array_equal(made.frames, again.frames)
    assert not np.array_equal(made.frames[0], made.frames[2])  # another seed
    job = model.generate(**ASKED[name], seed=7)
    assert not np.array_equal(job.frames[0], job.frames[2])  # two videos of one job


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("guidance", [None, GuidanceConfig(first=2.0, last=3.0), ProjectedGuidanceConfig()])
def test_a_row_does_not_know_the_others(name, guidance):
    """Also where their texts are longer."""
    model = built(name)
    both = codes(model, guidance, **ASKED[name])
    for row in range(3):
        alone = {key: values[row : row + 1] for key, values in ASKED[name].items()}
        assert same(codes(model, guidance, seeds=(row + 1,), **alone)[0], both[row])


@pytest.mark.parametrize("name", RECIPES)
def test_weight_one_is_no_guidance_and_weight_zero_hears_nothing(name):
    model = built(name, guidance=None)
    plain = codes(model, **ASKED[name])
    one = codes(model, GuidanceConfig(first=1, last=1), **ASKED[name])
    assert all(same(a, b) for a, b in zip(plain, one))
    deaf = GuidanceConfig(first=0, last=0)
    zero, swapped = (
        codes(model, deaf, **{key: values[i:] + values[:i] for key, values in ASKED[name].items()}) for i in (0, 1)
    )
    assert all(same(a, b) for a, b in zip(zero, swapped))
    assert not all(same(a, b) for a, b in zip(plain, zero))


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_saved_is_what_is_loaded(name, tmp_path):
    model = built(name)
    save(model, tmp_path / "m", torch.float32)
    again = vidar.load(tmp_path / "m", dtype=torch.float32)
    assert type(again) is type(model) and again.config == model.config
    assert all(same(a, b) for a, b in zip(codes(model, **ASKED[name]), codes(again, **ASKED[name])))
    with pytest.raises(VidarError, match=r"world.json: makes images or clips of a fixed length, so .* is not a world"):
        load_world(tmp_path / "m")


def shapes(frames, count=3):
    world = ShapesConfig().build()
    return np.stack([world.episode(seed, actions=np.ones((frames, 1), np.float32)).frames for seed in range(count)])


@pytest.mark.parametrize("known", [1, 9])
def test_context_stays(known):
    """One frame (image to video) or a frame and a clip (continuation): their labels are kept, and so their pixels."""
    model = built("infinitystar")
    video = shapes(known)
    scales = len(model.config.tokenizer.pyramid.sizes)
    kept = model.known(torch.from_numpy(video), 3)
    assert set(kept) == set(range(scales * (1 if known == 1 else 2)))
    made = model.generate(**ASKED["infinitystar"], seed=[1, 2, 3], context=video)
    other = model.generate(**ASKED["infinitystar"], seed=[4, 5, 6], context=video)
    with torch.no_grad():
        latent = model.tokenizer.encode(to_float(torch.from_numpy(video)))[0]
        seen = model.tokenizer.decode(latent)[0]
    back = ((seen.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 4, 1).numpy()
    assert np.abs(made.frames[:, :known].astype(float) - back).max() <= 1
    assert np.array_equal(made.frames[:, :known], other.frames[:, :known])
    assert not np.array_equal(made.frames[:, known:], other.frames[:, known:])


@pytest.mark.parametrize("guidance", [None, GuidanceConfig(first=2.0, last=3.0), ProjectedGuidanceConfig()])
def test_what_follows_a_context_is_what_would_have_followed_it(guidance):
    """Labels of a free run, given back as its first pyramids, lead to the rest of it; other ones do not."""
    model = built("infinitystar")
    free = codes(model, guidance, **ASKED["infinitystar"])
    said = told(**ASKED["infinitystar"])
    scales, rngs = len(model.config.tokenizer.pyramid.sizes), [Rng(seed) for seed in (1, 2, 3)]
    for count in (scales, 2 * scales):
        known = {unit: torch.stack([row[unit] for row in free]) for unit in range(count)}
        again = rows(model.units(said, rngs, known, guidance=guidance)[0])
        assert all(same(a, b) for a, b in zip(free, again))
        turned = {unit: 1 - labels for unit, labels in known.items()}
        other = rows(model.units(said, rngs, turned, guidance=guidance)[0])
        assert not any(torch.equal(a[len(a) - 1], b[len(a) - 1]) for a, b in zip(free, other))


def test_longer_clips():
    """One clip more than in training: the image and the first clips are as before."""
    model = built("infinitystar")
    short, long = (rows(model.units(told(["blue"]), [Rng(3)], frames=frames)[0])[0] for frames in (17, 25))
    assert len(long) == len(short) * 4 // 3 and same(short, {u: long[u] for u in short})


@pytest.mark.parametrize(
    "name, asked, named",
    [
        ("var", {"label": [28]}, "label 28 is out of range; model 'var_shapes' has 0 .. 27"),
        ("var", {"label": [-1]}, "label -1 is out of range"),
        ("var", {"prompt": ["red"]}, "model 'var_shapes' takes a label 0 .. 27, and no prompt"),
        ("var", {}, "takes a label"),
        ("infinity", {"label": [1]}, "model 'infinity_shapes' takes a prompt, and no label"),
        ("infinity", {}, "takes a prompt"),
        ("infinity", {"prompt": [""]}, "prompt '' has 0 bytes"),
        ("infinity", {"prompt": ["red"], "num_frames": 9}, "an image model generates one latent frame, not 9"),
        ("infinity", {"prompt": ["red"], "seed": [1, 2]}, "2 seeds for 1 videos"),
        ("infinitystar", {"prompt": ["red"], "num_frames": 5}, "2 latent frames are less than one clip"),
        (
            "infinitystar",
            {"prompt": ["red"], "num_frames": 13},
            "not the first frame plus whole clips of 2; use 3 or 5",
        ),
        ("infinitystar", {"prompt": ["red"], "num_frames": 10}, "10 frames do not fit a time stride of 4; use 9 or"),
        ("infinitystar", {"prompt": ["red"], "context": shapes(17, 1)}, "17 context frames leave nothing to generate"),
        ("infinitystar", {"prompt": ["red"], "context": shapes(5, 1)}, "2 latent frames are less than one clip"),
        ("infinitystar", {"prompt": ["red"], "context": shapes(1, 2)}, "expected uint8 1 x T x 32 x 32 x 3"),
    ],
)
def test_what_a_model_does_not_take(name, asked, named):
    with pytest.raises(UsageError) as error:
        built(name).generate(**asked)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_configs_that_do_not_fit():
    config = var_shapes(preset="tiny").method.pictures
    with pytest.raises(UsageError, match="64 x 32 pixels make latents of 8 x 4, the last scale of the tokenizer is 4"):
        config.replace(height=64)
    with pytest.raises(UsageError, match="3 names of classes"):
        config.replace(classes=("a", "b", "c"))
    with pytest.raises(UsageError, match="a class or a text"):
        config.replace(net=config.net.replace(conditioner=None))
    backbone = config.net.backbone.replace(out_width=17)
    with pytest.raises(UsageError, match="net.backbone.out_width is 17, this model needs 16"):
        config.replace(net=config.net.replace(backbone=backbone)).system()
    larger = config.tokenizer.pyramid.replace(quantiser=VQConfig(channels=4, size=32))
    with pytest.raises(UsageError, match=r"pyramid \(VQ of 32 codes, 3 scales\) differs from .* \(VQ of 16 codes, 3"):
        config.system(pyramid=larger.build())


def test_outside_features_stand_in_for_words():
    model = infinity(preset="tiny").method.pictures.build()
    features, mask = torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
    asked = [*zip(features, mask)]
    assert model.generate(prompt=asked).frames.shape == (2, 1, 32, 32, 3)
    with pytest.raises(UsageError, match="needs the features of a text encoder"):
        model.generate(prompt=["red"])
