"""Text -> modulation, the start of the first unit, and the memory that cross-attention reads (Infinity).

Features of the text, [B, J, W], come from an external encoder (T5-XL: W = 2048) or from a small encoder over bytes
that is trained with the model. One attention layer pools them into one vector per row; a two-layer MLP projects them
into the memory port. A row without text reads a learned table instead, whatever its text is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vidar.conditioning.config import ConditionerConfig, Told, pad
from vidar.config import Config
from vidar.core.grid import Grid, table_grid
from vidar.core.layout import Layout, compile_layout
from vidar.core.order import Order
from vidar.core.relation import Relation, own
from vidar.core.step import single
from vidar.nn.attention import heads_first, sdpa
from vidar.nn.backbone import BackboneConfig
from vidar.nn.embed import IndexEmbedConfig, linear, table
from vidar.nn.heads import LinearHeadConfig
from vidar.nn.norm import RMSNorm, rms_norm
from vidar.nn.rope import AxialRopeConfig
from vidar.types import Cond, UsageError

BYTES = 256


@dataclass(frozen=True)
class Text:
    """values: bytes long [B, J] or features float [B, J, W]; mask bool [B, J], True = real; none bool [B]: no text.

    memo: cached embeddings by conditioner, which the calls of a video share (without gradients); None: no cache.
    """

    values: Tensor
    mask: Tensor
    none: Tensor
    memo: dict[Any, tuple[Tensor, Tensor, Tensor]] | None = None

    def untold(self) -> Text:
        """The same rows without a text."""
        return Text(self.values, self.mask, torch.ones_like(self.none))

    def doubled(self) -> Text:
        """The same rows, followed by the rows without a text (the unconditional branch of guidance)."""
        values, mask = torch.cat([self.values] * 2), torch.cat([self.mask] * 2)
        return Text(values, mask, torch.cat([self.none, torch.ones_like(self.none)]), None if self.memo is None else {})

    def to(self, device: torch.device) -> Text:
        """A copy on a device."""
        return Text(self.values.to(device), self.mask.to(device), self.none.to(device), self.memo)


def utf8(prompts: Sequence[str], most: int) -> tuple[Tensor, Tensor]:
    """Prompts -> bytes long [B, J] and mask bool [B, J]. Raises UsageError for an empty or too long prompt."""
    rows = [prompt.encode() for prompt in prompts]
    for prompt, row in zip(prompts, rows):
        if not row or len(row) > most:
            raise UsageError(f"prompt {prompt[:40]!r} has {len(row)} bytes; this model accepts 1 to {most}")
    longest = max(len(row) for row in rows)
    values = torch.tensor([[*row, *bytes(longest - len(row))] for row in rows])
    mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
    return values, mask


class EncoderConfig(Config):
    """Base of the configs of prompt encoders. width: W of a feature. most: maximum number of positions of a prompt."""

    width: int = Field(default=64, ge=1)
    most: int = Field(default=256, ge=1)

    @property
    def reads_words(self) -> bool:
        """Whether it reads words; otherwise it reads features."""
        return True

    @abstractmethod
    def build(self) -> nn.Module:
        """An encoder with fresh weights."""

    @abstractmethod
    def rows(self, prompts: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Prompts -> values [B, J, ..] and mask bool [B, J]. Raises UsageError for prompts of the wrong kind."""


class GivenFeaturesConfig(EncoderConfig):
    """The prompt is given as features of an external encoder."""

    width: int = Field(default=2048, ge=1)
    most: int = Field(default=512, ge=1)

    @property
    def reads_words(self) -> bool:
        """Always false."""
        return False

    def build(self) -> GivenFeatures:
        """An encoder without weights."""
        return GivenFeatures()

    def rows(self, prompts: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """See `EncoderConfig`. Prompts are pairs of features [J, W] and mask [J]; None becomes one zero position."""
        blank = torch.zeros(1, self.width), torch.ones(1, dtype=torch.bool)
        found = [blank if prompt is None else prompt for prompt in prompts]
        if any(isinstance(one, str) for one in found):
            raise UsageError("this model needs the features of a text encoder, float [B, J, W], not words")
        length = max(len(mask) for _, mask in found)
        return pad([values for values, _ in found], length), pad([mask for _, mask in found], length)


class GivenFeatures(nn.Module):
    """Return the features. Raises UsageError for anything else."""

    def forward(self, text: Text) -> Tensor:
        """Returns float [B, J, W]."""
        if text.values.ndim != 3:
            raise UsageError("this model needs the features of a text encoder, float [B, J, W], not words")
        return text.values


class ByteEncoderConfig(EncoderConfig):
    """A small transformer over UTF-8 bytes. most: maximum number of bytes of a prompt."""

    width: int = Field(default=64, ge=1)
    depth: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    most: int = Field(default=256, ge=1)

    def build(self) -> ByteEncoder:
        """An encoder with fresh weights."""
        return ByteEncoder(self)

    def rows(self, prompts: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """See `EncoderConfig`. Returns bytes; a missing prompt becomes one space."""
        if not all(isinstance(prompt, str | None) for prompt in prompts):
            raise UsageError("this model needs the bytes of its prompts, long [B, J], not features")
        return utf8([" " if prompt is None else prompt for prompt in prompts], self.most)


class ByteEncoder(nn.Module):
    """A backbone over one unit of J sites that all see one another, except for padding."""

    def __init__(self, config: ByteEncoderConfig) -> None:
        super().__init__()
        self.backbone = BackboneConfig(
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            head_width=config.width // config.heads,
            in_width=1,
            out_width=config.width,
            embed=IndexEmbedConfig(vocabulary=BYTES),
            rope=AxialRopeConfig(axes=("n",)),
            head=LinearHeadConfig(std=config.width**-0.5),
        ).build()

    def forward(self, text: Text) -> Tensor:
        """Returns float [B, J, W], arbitrary at padding. Raises UsageError for features instead of bytes."""
        if text.values.ndim != 2:
            raise UsageError("this model needs the bytes of its prompts, long [B, J], not features")
        length = text.mask.shape[1]
        unit = torch.zeros(length, dtype=torch.long)
        grid = table_grid(("n",), unit, unit, torch.arange(length)[:, None])
        grids: list[Grid] = [grid.padded(~row) for row in text.mask.cpu()]
        layout = compile_layout(single([0]), Order({"main": Relation(own)}, 1), grids, (0,) * len(grids))
        return self.backbone(text.values[..., None], layout)


class TextConfig(ConditionerConfig):
    """width: D of the backbone. memory_width: width of its memory port. heads: heads of the pooling attention.

    num_none: number of rows of the learned table that replaces a missing text.
    """

    accepts: ClassVar[tuple[str, ...]] = ("prompt",)

    encoder: EncoderConfig
    width: int = Field(ge=1)
    memory_width: int = Field(ge=1)
    heads: int = Field(default=4, ge=1)
    num_none: int = Field(default=8, ge=1)

    @model_validator(mode="after")
    def _check(self) -> TextConfig:
        if self.encoder.width % self.heads:
            raise ValueError(f"features of width {self.encoder.width} cannot be split into {self.heads} heads")
        return self

    @property
    def reads_words(self) -> bool:
        """See `ConditionerConfig`."""
        return self.encoder.reads_words

    def build(self) -> TextConditioner:
        """A conditioner with fresh weights."""
        return TextConditioner(self)

    def check(self, told: Told, name: str) -> None:
        """See `ConditionerConfig`. Also raises UsageError for a prompt that the encoder does not read."""
        super().check(told, name)
        if told.prompt is not None:
            self.encoder.rows([told.prompt])

    def whole(self, told: Sequence[Told]) -> dict[str, Text]:
        """See `ConditionerConfig`."""
        values, mask = self.encoder.rows([one.prompt for one in told])
        return {"prompt": Text(values, mask, torch.tensor([one.prompt is None for one in told]), {})}

    def blank(self, batch: int, most: int) -> dict[str, Text]:
        """See `ConditionerConfig`. A mask of words is read on the CPU."""
        shape, words = (batch, min(most, self.encoder.most)), self.reads_words
        kind, width = (torch.long, ()) if words else (torch.float32, (self.encoder.width,))
        mask = torch.ones(shape, dtype=torch.bool, device="cpu" if words else "meta")
        values = torch.empty(*shape, *width, dtype=kind, device="meta")
        return {"prompt": Text(values, mask, torch.zeros(batch, dtype=torch.bool, device="meta"))}

    def record(self, values: Tensor, mask: Tensor, hidden: Tensor) -> Text:
        """See `ConditionerConfig`."""
        return Text(values, mask, hidden)


class TextConditioner(nn.Module):
    """The pooled text modulates every row and, through a second map, is added to the slots of unit 0 (the start)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        features = config.encoder.width
        self.encoder = config.encoder.build()
        self.none = table(config.num_none, features, std=1.2 * features**-0.5)
        self.query = nn.Parameter(torch.randn(features) * features**-0.5)
        self.key_value = linear(features, 2 * features)
        self.q_norm, self.k_norm = RMSNorm(features), RMSNorm(features)
        self.pooled = linear(features, config.width, bias=True)
        self.start = linear(config.width, config.width)
        self.first = linear(features, config.memory_width, bias=True)
        self.second = linear(config.memory_width, config.memory_width, bias=True)

    def forward(self, conditions: Text, layout: Layout) -> Cond:
        """Modulation [B, M, D], add [B, S, D], memory [B, J, memory_width] with its mask."""
        pooled, memory, mask = self._embedded(conditions)
        first = (layout.slots.unit == 0).to(pooled.device)[..., None]
        return Cond(
            modulation=pooled[:, None].expand(-1, layout.num_rows, -1),
            add=torch.where(first, self.start(pooled)[:, None], 0.0),
            memory=memory,
            memory_mask=mask,
        )

    def _embedded(self, text: Text) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled [B, D], memory [B, J, memory_width] and its mask."""
        if text.memo is not None and not torch.is_grad_enabled() and self in text.memo:
            return text.memo[self]
        features, mask = self._read(text)
        made = self._pool(features, mask), self.second(F.gelu(self.first(features))), mask
        if text.memo is not None and not torch.is_grad_enabled():
            text.memo[self] = made
        return made

    def _read(self, text: Text) -> tuple[Tensor, Tensor]:
        """Normalised features [B, J, W] and mask; rows without text contain the table."""
        made = self.encoder(text).to(self.none.weight.dtype)
        count = self.config.num_none
        extra = max(0, count - made.shape[1])
        made, mask = F.pad(made, (0, 0, 0, extra)), F.pad(text.mask.to(made.device), (0, extra))
        blank = F.pad(self.none.weight, (0, 0, 0, made.shape[1] - count))
        made = torch.where(text.none[:, None, None], blank, made)
        short = torch.arange(made.shape[1], device=mask.device) < count
        return rms_norm(made), torch.where(text.none[:, None], short, mask)

    def _pool(self, features: Tensor, mask: Tensor) -> Tensor:
        """Pool the features with one learned query: [B, D]."""
        heads = self.config.heads
        k, v = self.key_value(features).chunk(2, dim=-1)
        k = self.k_norm(k).unflatten(-1, (heads, -1))
        q = self.q_norm(self.query).expand(len(features), 1, -1).unflatten(-1, (heads, -1)).to(k.dtype)
        q, k, v = heads_first(q), heads_first(k), heads_first(v.unflatten(-1, (heads, -1)))
        mixed = sdpa(q, k, v, mask[:, None, None, :])
        return self.pooled(heads_first(mixed).flatten(1))
