"""A plain transformer over space-time patches (ViT), as VideoMAE V2 (Wang et al. 2023) and V-JEPA (Bardes et al. 2024).

Names of the weights are those of the published checkpoints, so that these load by name. Only inference is here.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from vidar.config import Config

EPSILON = 1e-6  # of the layer norms


class VideoTransformerConfig(Config):
    """Sizes: `side` pixels per side of a frame, `patch` per side of a patch; a token is `tubelet` frames deep."""

    width: int = Field(ge=2)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    hidden: int = Field(ge=1)
    patch: int = Field(ge=1)
    side: int = Field(default=224, ge=1)
    frames: int = Field(default=16, ge=1)
    tubelet: int = Field(default=2, ge=1)

    @property
    def tokens(self) -> int:
        """Number of tokens N of a clip."""
        return (self.frames // self.tubelet) * (self.side // self.patch) ** 2

    def build(self) -> VideoTransformer:
        """The network with the weights of torch's initialisation."""
        return VideoTransformer(self)


GIANT = VideoTransformerConfig(width=1408, depth=40, heads=16, hidden=6144, patch=14)  # VideoMAE V2, ViT-g/14
HUGE = VideoTransformerConfig(width=1280, depth=32, heads=16, hidden=5120, patch=16)  # V-JEPA, ViT-H/16


class Attention(nn.Module):
    """Self-attention over all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        q, k, v = rearrange(self.qkv(x), "B N (P K E) -> P B K N E", P=3, K=self.heads)
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "B K N E -> B N (K E)"))


class Mlp(nn.Module):
    """Two layers with GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention, then the MLP, each behind a norm and with a residual."""

    def __init__(self, config: VideoTransformerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=EPSILON)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=EPSILON)
        self.mlp = Mlp(config.width, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VideoTransformer(nn.Module):
    """Patches plus fixed positions `pos_embed` [1, N, D], then the blocks; `norm` is for whoever uses the tokens."""

    def __init__(self, config: VideoTransformerConfig) -> None:
        super().__init__()
        self.config = config
        kernel = (config.tubelet, config.patch, config.patch)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, config.width, kernel, stride=kernel)})
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, config.width), requires_grad=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=EPSILON)

    def forward(self, video: Tensor) -> Tensor:
        """float [B, 3, T, side, side] -> tokens [B, N, D], before `norm`."""
        x = rearrange(self.patch_embed["proj"](video), "B D t h w -> B (t h w) D") + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x


class AttentivePooler(nn.Module):
    """One learned query that reads all tokens by cross-attention, then an MLP (the probe of V-JEPA, section 4)."""

    def __init__(self, config: VideoTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.query_tokens = nn.Parameter(torch.zeros(1, 1, width))
        self.cross_attention_block = CrossBlock(width, config.heads, config.hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, D] -> [B, D]."""
        return self.cross_attention_block(self.query_tokens.expand(len(tokens), -1, -1), tokens)[:, 0]


class CrossBlock(nn.Module):
    """Cross-attention and MLP of `AttentivePooler`; its norms have torch's default epsilon."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        parts = {"q": nn.Linear(width, width), "kv": nn.Linear(width, 2 * width), "proj": nn.Linear(width, width)}
        self.xattn = nn.ModuleDict(parts)
        self.mlp = Mlp(width, hidden)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """[B, 1, D], [B, N, D] -> [B, 1, D]."""
        q = rearrange(self.xattn["q"](query), "B N (K E) -> B K N E", K=self.heads)
        k, v = rearrange(self.xattn["kv"](self.norm1(tokens)), "B N (P K E) -> P B K N E", P=2, K=self.heads)
        read = rearrange(F.scaled_dot_product_attention(q, k, v), "B K N E -> B N (K E)")
        query = query + self.xattn["proj"](read)
        return query + self.mlp(self.norm2(query))


def sine_positions(count: int, width: int) -> Tensor:
    """The table of Attention Is All You Need, 3.5, over the running number of the token: float32 [1, count, width]."""
    angle = np.arange(count)[:, None] / 10000.0 ** (2 * (np.arange(width) // 2) / width)
    table = np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle))
    return torch.from_numpy(table).float()[None]
