"""The default form of attention of a view."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from vidar.core.layout import View
from vidar.nn.attention import Attention, AttentionConfig, Dense, Masked, SDPAConfig, heads_first
from vidar.nn.case import Case, effective, hides
from vidar.nn.choice import DENSE, choose, form
from vidar.nn.flex import FlexConfig
from vidar.nn.folded import folded
from vidar.nn.runs import groups


class AutoAttentionConfig(AttentionConfig):
    """The fastest exact form for the view, the device, the dtype and the pass.

    CPU: chosen by rule or by timing, see `vidar.nn.choice`; folds are gathered first. Meta tensors: chosen by rule.
    CUDA: FlexAttention if something is hidden or the batch rows differ, else torch's attention.
    """

    def build(self, view: View, device: torch.device, grad: bool) -> Attention:
        """See `AttentionConfig`."""
        if view.relation.fold:
            return folded(view, device, chosen_kernel(view))
        if device.type in ("cpu", "meta"):
            return chosen(view, device)
        found = groups(view) if device.type == "cuda" else []
        hidden = found is None or hides(found, view.k.cell.shape[1])
        return (FlexConfig() if hidden else SDPAConfig()).build(view, device, grad)

    def dense(self, case: Case) -> Dense:
        """See `AttentionConfig`."""
        return DENSE[choose(case)]


def chosen(view: View, device: torch.device) -> Attention:
    """The attention of a view without folds; its form is chosen at the first call of each shape."""
    ring = view.ring is not None
    found = None if ring else groups(view)
    runs = None if found is None else tuple(found)
    masked = cache(lambda: Masked.of(view, device))
    made: dict[tuple[object, ...], Attention] = {}

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        learned = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
        key = q.shape, k.shape[1], effective(q), learned
        if key not in made:
            with torch.inference_mode(False), torch.no_grad():  # the function outlives an inference_mode block
                hidden = masked().open is not None if runs is None else hides(runs, k.shape[1])
                case = Case.of(heads_first(q), heads_first(k), hidden, ring, learned, runs)
                made[key] = form(choose(case), case, masked)
        return made[key](q, k, v)

    return attention


def chosen_kernel(view: View) -> Dense:
    """As `chosen`, but for the gathered groups of a view with folds."""
    ring = view.ring is not None

    def kernel(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        learned = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
        return DENSE[choose(Case.of(q, k, mask is not None, ring, learned))](q, k, v, mask)

    return kernel
