"""The orders whose frames are several units, made one after another."""

from __future__ import annotations

from vidar.config import Config
from vidar.orders.cell import CellOrderConfig
from vidar.orders.parts import WHOLE, FrameSites
from vidar.orders.pyramid import PyramidOrderConfig
from vidar.orders.subsample import SubsampleOrderConfig

InParts = CellOrderConfig | SubsampleOrderConfig | PyramidOrderConfig


def frame_parts(order: Config, patch: int) -> tuple[int, FrameSites]:
    """Of any order: units of a frame, and how its code lies on their sites of patch x patch latents."""
    return (order.period, order.frames(patch)) if isinstance(order, InParts) else (1, WHOLE)
