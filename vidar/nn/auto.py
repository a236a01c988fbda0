"""The form of attention a view gets when nobody chooses."""

from __future__ import annotations

import torch

from vidar.core.layout import View
from vidar.nn.attention import Attention, AttentionConfig, SDPAConfig
from vidar.nn.flex import FlexConfig
from vidar.nn.folded import FoldedConfig
from vidar.nn.precision import fast_dtype
from vidar.nn.runs import Group, groups
from vidar.nn.slices import by_slices

SHORTEST = 8  # slots of a group, on average, below which one masked product beats many small ones
FEW = 512  # slots of a call up to which it beats them on a CPU that multiplies bf16 natively


class AutoAttentionConfig(AttentionConfig):
    """The fastest exact form for the view, the device and the pass.

    Folds -> folded. No mask needed -> SDPA. CUDA -> FlexAttention. CPU: training by slices where groups are long
    enough and something is saved, else SDPA. Choice by measurement: 16 clips of 16 frames of 20 slots, one thread,
    bf16, forward and backward: slices 125 ms and SDPA 190 (one copy), 130 and 500 (two copies). With AMX, 12 frames in
    two copies (480 slots): 24 ms and 20, a whole training step of world_doom 0.63 s and 0.57; from 640 slots on, even.
    """

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        if view.relation.fold:
            return FoldedConfig().build(view, device, grad)
        found = groups(view)
        if device.type == "cuda" and (found is None or saved(found, view)):
            return FlexConfig().build(view, device, grad)
        slots = view.q.cell.shape[1]
        few = slots <= FEW and fast_dtype() == torch.bfloat16
        if grad and found and saved(found, view) and slots >= SHORTEST * len(found) and not few:
            return by_slices(found)
        return SDPAConfig().build(view, device, grad)


def saved(found: list[Group], view: View) -> int:
    """Pairs of slots that need not meet."""
    seen = sum((g.slots[1] - g.slots[0]) * sum(last - first for first, last in g.keys) for g in found)
    return view.q.cell.shape[1] * view.k.cell.shape[1] - seen
