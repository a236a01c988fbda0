"""FlexAttention: block-sparse masks on CUDA. On a CPU it supports the forward pass only, and is slow."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from vidar.core.layout import View
from vidar.nn.attention import Attention, AttentionConfig, heads_first


class FlexConfig(AttentionConfig):
    """torch.nn.attention.flex_attention with the BlockMask of the view; on CUDA compiled once for all views.

    No slots x slots mask is built, and the kernel itself returns zero for readers that see nothing.
    """

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        from vidar.core.block_mask import block_mask

        blocks = block_mask(view, device)
        kernel = _kernel(device.type == "cuda")

        def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return heads_first(kernel(heads_first(q), heads_first(k), heads_first(v), block_mask=blocks))

        return attention


@cache
def _kernel(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention
