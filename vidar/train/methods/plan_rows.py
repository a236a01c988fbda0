"""Training rows of a planned segment (MMPL, arXiv 2508.03334): TWIN without rows that have no loss and no reader."""

from __future__ import annotations

from pydantic import Field

from vidar.core.step import Row
from vidar.train.methods.rows import RowsConfig
from vidar.types import MEMORY, QUERY


class PlanTwinConfig(RowsConfig):
    """Every unit occurs noisy (QUERY) except the first ones, which are given, and clean (MEMORY) except the last.

    first: number of units that a segment starts from.
    """

    first: int = Field(default=1, ge=1)

    def rows(self, units: int) -> tuple[Row, ...]:
        """The training rows of one segment."""
        seen = tuple(Row(u, MEMORY, None) for u in range(units - 1))
        return seen + tuple(Row(u, QUERY, 0) for u in range(self.first, units))
