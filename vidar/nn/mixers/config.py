"""Base class of the configs of token mixers."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from vidar.config import Config


class MixerConfig(Config):
    """One sublayer of a block that mixes tokens."""

    @property
    def cached(self) -> str | None:
        """The relation whose keys a state keeps for this mixer; None: it keeps nothing."""
        return None

    @abstractmethod
    def build(
        self, width: int, heads: int, head_width: int, memory_width: int, gate_std: float, layer: int
    ) -> nn.Module:
        """The mixer. layer: its index among the mixers of the backbone that use the same relation.

        Raises ValueError if the backbone lacks a width that it needs.
        """
