"""Training on pictures: the data set, and that a class or text learned by heart is obeyed."""

import numpy as np
import pytest
import torch

import vidar.train.pictures as data
from vidar.conditioning.config import Told
from vidar.configs.infinity import infinity_shapes
from vidar.configs.infinitystar import infinitystar_shapes, tokenizer_infinitystar_shapes
from vidar.configs.var import var_shapes
from vidar.data.annotations import ShapeCaptionConfig, ShapeClassConfig
from vidar.data.reader import read_episode
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.nn.pretrained import load_component, save_component
from vidar.rng import Rng
from vidar.sampling.filters import TopKConfig
from vidar.tokenizers.pixels import to_float
from vidar.train.pictures import PictureBatch, PictureClipsConfig, told_tensors
from vidar.types import UsageError, VidarError


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    record(ShapesConfig(), None, folder, episodes=2, frames=14)
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The folder of a tiny one, 4 frames to a latent."""
    config = tokenizer_infinitystar_shapes(preset="tiny").method.tokenizer
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokenizer")
    save_component(config.build(), config, folder)
    return str(folder)


def test_clips_are_encoded_each_from_its_first_frame(shards, tokenizer, monkeypatch):
    config = PictureClipsConfig(
        path=shards, tokenizer=tokenizer, annotation=ShapeCaptionConfig(), frames=9, stride=5, batch=3
    )
    clips = config.build()
    known = load_component(tokenizer)
    assert clips.names == [f"shapes-{n:09d}@{start}" for n in (0, 1) for start in (0, 5)]
    for number, name in enumerate(clips.names):
        key, start = name.split("@")
        episode = read_episode(shards, "train", key)
        part = slice(int(start), int(start) + 9)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=data.fast_dtype() == torch.bfloat16):
            latent = known.latents(to_float(torch.from_numpy(episode.frames[part])[None]))[0].data
        assert clips.codes[number].shape == (3, 16, 4)
        difference = clips.codes[number].float() - latent[0].permute(1, 2, 3, 0).flatten(1, 2)
        assert difference.abs().max() < 0.02 * latent.abs().max()  # kept in bfloat16
        assert clips.told[number] == ShapeCaptionConfig().build()(episode, part)
    monkeypatch.setattr(data, "latents", None)  # what is stored is not encoded again
    again, other = config.build(), config.replace(seed=1).build()
    seen = [again.batch(n) for n in range(4)]
    assert [name for b in seen for name in b.names][:4] != [name for b in seen for name in b.names][4:8]
    for epoch in (0, 4, 8):
        assert sorted([name for b in seen for name in b.names][epoch : epoch + 4]) == clips.names
    for a, b in zip((again.batch(1), other.batch(1)), (clips.batch(1), clips.batch(1))):
        assert a.number.tolist() == b.number.tolist() == [3, 4, 5]
    assert torch.equal(again.batch(1).codes, clips.batch(1).codes) and torch.equal(again.batch(1).told, seen[1].told)
    for told, mask, name in zip(seen[0].told, seen[0].mask, seen[0].names):
        assert bytes(told[mask].tolist()).decode() == clips.told[clips.names.index(name)]


def test_data_that_cannot_serve(shards, tokenizer, tmp_path, monkeypatch):
    config = PictureClipsConfig(path=shards, tokenizer=tokenizer, annotation=ShapeClassConfig(), batch=1)
    with monkeypatch.context() as patch, pytest.raises(VidarError, match="14 frames, a clip needs 17; .* data.frames"):
        patch.setattr(data, "latents", None)  # said before anything is encoded
        config.replace(frames=17).build()
    with pytest.raises(UsageError, match="no tokenizer there"):
        config.replace(tokenizer=str(tmp_path)).build()
    assert config.build().batch(0).told.shape == (1,)


def heart(recipe, told, folder, steps, **changes):
    """A tiny model trained until it knows two pictures by heart, each under what it is told: (model, their labels)."""
    config = recipe(preset="tiny", tokenizer=str(folder)).method
    objective = config.pictures.objective.replace(filters=(TopKConfig(count=1),), by_pyramid=(), **changes)
    pictures = config.pictures.replace(objective=objective, guidance=None)
    torch.manual_seed(0)
    save_component(pictures.tokenizer.build(), pictures.tokenizer, folder)
    method = config.replace(pictures=pictures).build()
    model = method.build_model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    frames = pictures.latent_frames(pictures.frames)
    latents = torch.randn(2, frames, 16, pictures.channels, generator=torch.Generator().manual_seed(5))
    values, mask = told_tensors(told, 64)
    for step in range(steps):
        numbers = torch.arange(2 * step, 2 * step + 2)
        batch = PictureBatch(latents.bfloat16(), values, mask, numbers, ["a", "b"])
        loss = method.step(model, batch, [Rng(0, n) for n in numbers.tolist()])
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
    clean = method.objective.prepare(latents.bfloat16().flatten(1, 2), method.layout, [Rng(0)] * 2, play=True)[1]
    return method.product(model), method.layout, clean.value


CASES = {
    "class": (var_shapes, [3, 20], 150, {}),
    "text": (infinity_shapes, ["a red ring", "a blue square"], 150, {"flip": 0.1}),
    "clip": (infinitystar_shapes, ["a red ring", "a blue square"], 300, {"flip": 0.1}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_learned_by_heart_obeys_its_condition(name, tmp_path, one_thread):
    """Each picture comes back under its own class or text, and under the other one the other picture does."""
    recipe, told, steps, changes = CASES[name]
    model, layout, labels = heart(recipe, told, tmp_path, steps, **changes)
    shares = np.zeros((2, 2))
    said = [Told(label=one) if isinstance(one, int) else Told(prompt=one) for one in told]
    made, _ = model.units(said, [Rng(9), Rng(9)])
    for asked in range(2):
        for picture in range(2):
            right = [made[u][asked] == labels[picture, layout.slots.unit[0] == u] for u in made]
            shares[asked, picture] = float(torch.cat([x.flatten() for x in right]).double().mean())
    assert shares.diagonal().min() > 0.95 and shares[0, 1] < 0.8 and shares[1, 0] < 0.8, shares


@pytest.mark.parametrize("p_none", [0.0, 0.25, 1.0])
def test_a_share_of_classes_is_hidden(p_none, tmp_path):
    """By each picture's own draw, whatever the batch."""
    config = var_shapes(preset="tiny", tokenizer=str(tmp_path)).method.replace(p_none=p_none)
    save_component(config.pictures.tokenizer.build(), config.pictures.tokenizer, tmp_path)
    method, heard = config.build(), []

    class Listener(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, seen, layout, conditions):
            heard.append(conditions)
            return self.weight.expand(*seen.shape[:2], 16)

    codes = torch.zeros(40, 1, 16, 4, dtype=torch.bfloat16)
    batch = PictureBatch(codes, *told_tensors(list(range(28)) + list(range(12)), 0), torch.arange(40), [""] * 40)
    rngs = [Rng(3, n) for n in range(40)]
    method.step(Listener(), batch, rngs)
    hidden = [float(rng.uniform("hidden_label")) < p_none for rng in rngs]
    assert heard[0].none.tolist() == hidden and heard[0].values.tolist() == batch.told.tolist()
    assert sum(hidden) == {0.0: 0, 1.0: 40}.get(p_none, sum(hidden)) and abs(sum(hidden) - 40 * p_none) < 9
