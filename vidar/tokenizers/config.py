"""Base of the configs of tokenizers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

from vidar.config import Config

Side = tuple[int, int]  # height, width


class QuantiserConfig(Config):
    """Base class of the configs of quantisers."""

    @abstractmethod
    def build(self) -> Any:
        """A `vidar.types.Quantiser` with fresh weights."""


class TokenizerConfig(Config):
    """Base of the configs of tokenizers: the properties that a model needs.

    codes: the kinds of codes that orders and objectives can use, see `vidar.objectives.protocols.ObjectiveConfig`.
    """

    codes: ClassVar[tuple[str, ...]] = ("latents",)

    @property
    def sides(self) -> tuple[Side, ...]:
        """Height and width of every scale; empty without scales."""
        return ()

    @property
    @abstractmethod
    def strides(self) -> tuple[int, int]:
        """Temporal and spatial stride: frames per latent frame, and pixels per latent along a side."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Number of channels of a latent."""

    @property
    @abstractmethod
    def pixel_channels(self) -> int:
        """Channels of a pixel."""

    @property
    @abstractmethod
    def memory(self) -> int:
        """Number of earlier latent frames that a decoded picture depends on; 0: every frame is decoded by itself."""

    @property
    def pyramid_config(self) -> Any:
        """The config of its multi-scale quantiser, or None."""
        return None

    @abstractmethod
    def image(self) -> TokenizerConfig:
        """The config of the image tokenizer that differs from this one only in time (kernels and strides of 1)."""

    def rescaled(self, sides: tuple[Side, ...]) -> Self:
        """This config with other sizes of its scales, if their number is the same: no weight depends on the sizes."""
        return self

    @abstractmethod
    def build(self) -> Any:
        """A tokenizer with fresh weights."""
