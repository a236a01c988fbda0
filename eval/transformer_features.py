"""Features of VideoMAE V2 for content-debiased FVD, and of V-JEPA for JEDi, from local weights, in float32.

CD-FVD   Ge et al., "On the Content Bias in Frechet Video Distance", 2024 (package cd-fvd 0.1.1)
JEDi     Luo et al., "Beyond FVD", 2024 (package videojedi 1.1.0)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vidar.eval.extractors import to_square
from vidar.eval.local_weights import digest, existing, fill, read_weights, tensors_of
from vidar.eval.video_transformer import GIANT, HUGE, AttentivePooler, VideoTransformerConfig, sine_positions
from vidar.types import VidarError

ENCODER, PROBE = "vith16.pth.tar", "ssv2-probe.pth.tar"  # names of V-JEPA's published files
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for V-JEPA


class VideoMAE:
    """fc_norm of the mean of all tokens of VideoMAE V2 ViT-g/14: 1,408 numbers.

    file: vit_g_hybrid_pt_1200e_ssv2_ft.pth, or its tensors as .safetensors. Clips have exactly 16 frames, are resized
    to 224 x 224 and scaled to [0, 1]. Raises VidarError for other weights.
    """

    multiple = 1

    def __init__(self, file: str | Path, device: str = "cpu", config: VideoTransformerConfig = GIANT) -> None:
        tensors = videomae_weights(tensors_of(read_weights(file), ("model", "module")), config)
        with torch.device("meta"):
            net = config.build()
        fill(net, tensors, file)
        self.name, self.dim, self.frames = f"videomae-{digest(file)}", config.width, (config.frames, config.frames)
        self.net, self.device, self.side = net.to(device), device, config.side

    @torch.inference_mode()
    def __call__(self, video: np.ndarray) -> np.ndarray:
        """See `Extractor`."""
        tokens = self.net((to_square(video, self.side) / 255.0).to(self.device))
        return self.net.norm(tokens.mean(1)).cpu().numpy()


class VJepa:
    """V-JEPA ViT-H/16 tokens, pooled: 1,280 numbers.

    path: a folder with vith16.pth.tar and ssv2-probe.pth.tar, whose probe pools the tokens (the published JEDi), or
    one file of the encoder, whose tokens are averaged (videojedi's `finetuned=False`). Clips have exactly 16 frames,
    are resized to 224 x 224 and normalised with the mean and deviation of ImageNet. Raises VidarError for other
    weights.
    """

    multiple = 1

    def __init__(self, path: str | Path, device: str = "cpu", config: VideoTransformerConfig = HUGE) -> None:
        folder = Path(path)
        encoder, probe = (folder / ENCODER, folder / PROBE) if folder.is_dir() else (folder, None)
        if probe is not None:
            existing(probe)
        tensors = tensors_of(read_weights(encoder), ("target_encoder", "encoder"), ("module.", "backbone."))
        with torch.device("meta"):
            net, pooler = config.build(), AttentivePooler(config)
        fill(net, tensors, encoder)
        self.net, self.device, self.side = net.to(device), device, config.side
        self.pooler: nn.Module | None = None
        if probe is not None:
            fill(pooler, probe_weights(probe), probe)
            self.pooler = pooler.to(device)
        pooled = "mean" if probe is None else "probe"
        files = [encoder] if probe is None else [encoder, probe]
        self.name, self.dim = f"vjepa-{pooled}-{digest(*files)}", config.width
        self.frames = (config.frames, config.frames)

    @torch.inference_mode()
    def __call__(self, video: np.ndarray) -> np.ndarray:
        """See `Extractor`."""
        mean, deviation = (torch.tensor(v).view(3, 1, 1, 1) for v in (MEAN, DEVIATION))
        x = (to_square(video, self.side) / 255.0 - mean) / deviation
        tokens = self.net.norm(self.net(x.to(self.device)))
        return (tokens.mean(1) if self.pooler is None else self.pooler(tokens)).cpu().numpy()


def videomae_weights(tensors: dict[str, Tensor], config: VideoTransformerConfig) -> dict[str, Tensor]:
    """VideoMAE V2's names -> `VideoTransformer`'s.

    Its queries and values have a bias and its keys have none; the positions are computed; the classifier is left out.
    """
    found = {name: value for name, value in tensors.items() if not name.startswith("head.")}
    for name in [name for name in found if name.endswith(".attn.q_bias")]:
        block = name.removesuffix("q_bias")
        q, v = found.pop(name), found.pop(f"{block}v_bias", torch.zeros(0))
        found[f"{block}qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    for name in [name for name in found if name.startswith("fc_norm.")]:
        found[name.replace("fc_norm.", "norm.")] = found.pop(name)
    return {**found, "pos_embed": sine_positions(config.tokens, config.width)}


def probe_weights(file: Path) -> dict[str, Tensor]:
    """The pooler of an attentive classifier. Raises VidarError if the file holds none."""
    tensors = tensors_of(read_weights(file), ("classifier",), ("module.",))
    found = {name.removeprefix("pooler."): value for name, value in tensors.items() if name.startswith("pooler.")}
    if not found:
        raise VidarError(f"{file}: holds no pooler; JEDi takes {PROBE} of V-JEPA")
    return found
