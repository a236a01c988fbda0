"""Latent clips: data that cannot serve is refused before anything is encoded."""

import pytest
import torch

import vidar
from vidar.configs.shapes import tokenizer_shapes
from vidar.data.synthetic import ShapesConfig
from vidar.nn.pretrained import save_component
from vidar.train import latents
from vidar.train.latents import LatentClipsConfig
from vidar.types import UsageError, VidarError


def test_data_that_cannot_serve(tmp_path, monkeypatch):
    vidar.record(ShapesConfig(frames=6), None, tmp_path / "data", episodes=2)
    made = tokenizer_shapes(preset="tiny").method.tokenizer
    torch.manual_seed(0)
    save_component(made.build(), made, tmp_path / "tokenizer")
    config = LatentClipsConfig(
        path=str(tmp_path / "data"), tokenizer=str(tmp_path / "tokenizer"), clip_frames=6, batch=1
    )
    with monkeypatch.context() as patch:
        patch.setattr(latents, "codes", None)
        with pytest.raises(VidarError, match="episode of split 'train' has 6 frames, a clip needs 7; .* at most 6"):
            config.replace(clip_frames=7).build()
        with pytest.raises(VidarError, match="no split 'other'"):
            config.replace(split="other").build()
        with pytest.raises(UsageError, match="no tokenizer there"):
            config.replace(tokenizer=str(tmp_path)).build()
    assert config.build().batch(0).codes.shape[:2] == (1, 6)
