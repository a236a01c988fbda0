"""A causal video tokenizer on the synthetic world of shapes (32 x 32 pixels, 10 frames/s): several frames per latent.

It reproduces no paper: the losses are those of InfinityStar's tokenizer at the size of shapes.py, with hinge
adversaries on single frames and on clips and LeCAM regularisation. Data: `vidar record shapes --episodes 500 --out
runs/data/shapes`.
"""

from __future__ import annotations

from typing import Literal

from vidar.configs.recipe import recipe
from vidar.configs.shapes import CHANNELS, TOKENIZERS
from vidar.data.loader import ClipsConfig
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.tokenizers.discriminator import DiscriminatorConfig
from vidar.train.config import TrainConfig
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.optim import OptimConfig

Preset = Literal["demo", "tiny"]

TIME_STRIDE, LATENTS = 2, 5  # frames of a latent, latents of a clip
ADVERSARIES = {"demo": 16, "tiny": 8}  # width of the discriminators


@recipe(status="measured")
def tokenizer_video_shapes(
    preset: Preset = "demo", data: str = "runs/data/shapes", start: str | None = None, minutes: float = 10.0
) -> TrainConfig:
    """Causal video autoencoder for the world of shapes: 2 frames of 32 x 32 pixels to 4 x 4 latents; two adversaries.

    start: a `tokenizer_shapes` model to inflate. Choice: small weights for the adversaries, which train for minutes
    only on two cores.
    """
    tokenizer = AutoencoderConfig(
        widths=TOKENIZERS[preset],
        latent_channels=CHANNELS,
        space_stride=8,
        time_stride=TIME_STRIDE,
        time_kernel=3,
    )
    judge = DiscriminatorConfig(width=ADVERSARIES[preset], num_layers=2, weight=0.02, start=500, warmup=500, lecam=0.05)
    return TrainConfig(
        name="tokenizer_video_shapes",
        method=AutoencodeConfig(tokenizer=tokenizer, start=start, gan=judge, video_gan=judge),
        data=ClipsConfig(path=data, clip_frames=1 + TIME_STRIDE * (LATENTS - 1), batch=4, stride=4),
        optim=OptimConfig(lr=2e-3, steps=10_000, warmup_steps=100),
        minutes=minutes,
        sample_every=1000,
    )
