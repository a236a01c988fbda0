"""Base of the configs that choose the rows of a training call."""

from __future__ import annotations

from abc import abstractmethod

from vidar.config import Config
from vidar.core.step import Row


class RowsConfig(Config):
    """Base of the configs of training rows."""

    @abstractmethod
    def rows(self, units: int) -> tuple[Row, ...]:
        """The rows of a clip of `units` units, in the order of the call."""
