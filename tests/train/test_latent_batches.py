"""Clips of latents: every window once an epoch in a new order, and of the first action of a clip nothing is told."""

import dataclasses

import pytest
import torch

import vidar
from vidar.configs.shapes import tokenizer_shapes, world_shapes
from vidar.data.synthetic import ShapesConfig
from vidar.nn.pretrained import save_component
from vidar.rng import Rng
from vidar.train.latents import LatentClipsConfig

EPISODES, FRAMES, CLIP, BATCH = 3, 8, 4, 4
WINDOWS = EPISODES * (FRAMES - CLIP + 1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    vidar.record(ShapesConfig(frames=FRAMES), None, folder / "data", episodes=EPISODES)
    made = tokenizer_shapes(preset="tiny").method.tokenizer
    torch.manual_seed(0)
    save_component(made.build(), made, folder / "tokenizer")
    config = LatentClipsConfig(
        path=str(folder / "data"),
        tokenizer=str(folder / "tokenizer"),
        clip_frames=CLIP,
        batch=BATCH,
        patch=world_shapes(preset="tiny").method.world.patch,
        seed=3,
    )
    return config.build()


def test_every_epoch_has_every_window_once_in_a_new_order(clips):
    """Four epochs of 15 windows in batches of 4, so that batches lie across their borders."""
    names = [name for index in range(4 * WINDOWS // BATCH) for name in clips.batch(index).names]
    epochs = [names[n : n + WINDOWS] for n in range(0, 4 * WINDOWS, WINDOWS)]
    assert all(len(set(epoch)) == WINDOWS == len(epoch) and set(epoch) == set(epochs[0]) for epoch in epochs)
    assert all(one != other for n, one in enumerate(epochs) for other in epochs[:n])
    assert clips.batch(7).names == names[7 * BATCH : 8 * BATCH]  # out of turn the same
    windows = [f"{episode}@{start}" for episode in clips.names for start in range(FRAMES - CLIP + 1)]
    for number, epoch in enumerate(epochs):
        assert [windows[n] for n in Rng(3).permutation("shuffle", WINDOWS, number).tolist()] == epoch


def test_the_first_action_of_a_clip_is_unknown_and_never_told(clips):
    """It led to the first frame, which play never hears of; another one in its place changes nothing."""
    batch = clips.batch(1)
    assert batch.unknown[:, 0].all() and not batch.unknown[:, 1:].any()
    method = world_shapes(preset="tiny").method.build()
    torch.manual_seed(0)
    model, rngs = method.build_model(), [Rng(0, number) for number in batch.number.tolist()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)

    def loss(column):
        actions = batch.actions.clone()
        actions[:, column] = (actions[:, column] + 1) % 5
        return method.step(model, dataclasses.replace(batch, actions=actions), rngs).total

    plain = method.step(model, batch, rngs).total
    assert torch.equal(loss(0), plain) and not torch.equal(loss(1), plain)
