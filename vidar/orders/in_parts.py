"""The orders whose frames are several units, made one after another."""

from __future__ import annotations

from vidar.orders.cell import CellOrderConfig
from vidar.orders.pyramid import PyramidOrderConfig
from vidar.orders.subsample import SubsampleOrderConfig

InParts = CellOrderConfig | SubsampleOrderConfig | PyramidOrderConfig
