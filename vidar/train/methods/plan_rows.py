"""Training rows of a planned segment (MMPL): TWIN without what nobody asks for and nobody reads."""

from __future__ import annotations

from pydantic import Field

from vidar.core.step import Row
from vidar.train.methods.rows import RowsConfig
from vidar.types import MEMORY, QUERY


class PlanTwinConfig(RowsConfig):
    """Every unit as what is asked but the first ones, which are given; as what others see but the last one.

    first: units that a segment starts from.
    """

    first: int = Field(default=1, ge=1)

    def rows(self, units: int) -> tuple[Row, ...]:
        """Training rows of one segment."""
        seen = tuple(Row(u, MEMORY, None) for u in range(units - 1))
        return seen + tuple(Row(u, QUERY, 0) for u in range(self.first, units))
