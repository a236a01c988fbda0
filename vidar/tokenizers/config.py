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
    """What a model must know of the tokenizer that makes its codes.

    codes: what an order and an objective may make of them, see `vidar.objectives.protocols.ObjectiveConfig`.
    """

    codes: ClassVar[tuple[str, ...]] = ("latents",)

    @property
    def sides(self) -> tuple[Side, ...]:
        """Height and width of every scale; empty where it has none."""
        return ()

    @property
    @abstractmethod
    def strides(self) -> tuple[int, int]:
        """Frames of a latent, and pixels of a latent along a side."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Of a latent."""

    @property
    @abstractmethod
    def pixel_channels(self) -> int:
        """Channels of a pixel."""

    @property
    @abstractmethod
    def memory(self) -> int:
        """Latents before its own that the picture of a latent depends on; 0: every frame is decoded by itself."""

    @property
    def pyramid_config(self) -> Any:
        """The config of its multi-scale quantiser, None: it has none."""
        return None

    @abstractmethod
    def image(self) -> TokenizerConfig:
        """The tokenizer of single frames that differs from this one in time alone."""

    def rescaled(self, sides: tuple[Side, ...]) -> Self:
        """This one with other sizes of its scales, where they are as many: no weight depends on them."""
        return self

    @abstractmethod
    def build(self) -> Any:
        """A tokenizer with fresh weights."""
