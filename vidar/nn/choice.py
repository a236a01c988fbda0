"""The choice of an attention form for a case: by rule, or by one short timing on this machine.

The choice must be stable, because another form gives other last digits:
- A config other than AutoAttentionConfig fixes the form; nothing is timed.
- Small cases, float64 and devices other than the CPU follow `rule`, a function of the case and the kind of processor.
- So does play (keys of a ring) in float32, and in bfloat16 with AMX, where torch's attention is native; and small
  rows of play in bfloat16, so that the frames of a small world are the same on every kind of processor.
- Everything else takes the first answer on this machine, see `vidar.nn.timing`; if no answer can be stored, `rule`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from vidar.data.cache import cache_folder
from vidar.nn.attention import Attention, Dense, Masked, sdpa, wide
from vidar.nn.case import Case
from vidar.nn.precision import has_tiles
from vidar.nn.product import by_product, product
from vidar.nn.runs import Group
from vidar.nn.slices import by_slices
from vidar.nn.timing import Kept, Times, times

SHORTEST = 8  # average slots per group below which one masked product is faster than many small products
FEW = 512  # slots of a call up to which the same holds on a CPU with AMX
LEAST = 2**26  # operations of a forward pass below which timing is not worth it
LEAST_OF_ROW = 2**28  # the same for one row in play; smaller rows keep the bits of torch's attention on every machine
DENSE: dict[str, Dense] = {"sdpa": sdpa, "wide": wide, "product": product}
SLICES = "slices"


def choose(case: Case) -> str:
    """The name of the form, one of `DENSE` or `SLICES`."""
    if case.device != "cpu" or case.work < LEAST or case.dtype == torch.float64:
        return rule(case)
    if case.ring:
        case = replace(case, batch=1)  # the bits of a row do not depend on the number of other rows
        if case.dtype == torch.float32 or has_tiles() or case.work < LEAST_OF_ROW:
            return rule(case)
    return _measured(case.enough(torch.get_num_threads()), torch.get_num_threads())


def rule(case: Case) -> str:
    """Training: slices if the groups are long enough and some pairs are hidden; otherwise torch's attention.

    Choice by measurement: docs/notes/network.md.
    """
    found = case.groups
    few = case.slots <= FEW and case.dtype == torch.bfloat16 and has_tiles()
    if case.backward and found and case.saved and case.slots >= SHORTEST * len(found) and not few:
        return SLICES
    return sdpa.__name__


def forms(case: Case) -> list[str]:
    """The forms that may be timed against one another."""
    names = ["sdpa", "product"]
    if case.backward and case.dtype != torch.float32:
        names.append("wide")
    return names + ([SLICES] if case.groups and case.saved else [])


@cache
def _measured(case: Case, threads: int) -> str:
    names = forms(case)
    return Kept(cache_folder()).answer(str(case), names, rule(case), lambda: measure(case, names))


def measure(case: Case, names: Collection[str]) -> Times:
    """The best time in seconds of one pass of each form, on random inputs."""
    with torch.inference_mode(False), torch.set_grad_enabled(case.backward), torch.autocast("cpu", enabled=False):
        run = trial(case)
        return times({name: lambda name=name: run(name) for name in names})


def trial(case: Case) -> Callable[[str], list[Tensor]]:
    """A function that runs a pass by the name of a form and returns the result, with the gradients if needed."""
    generator = torch.Generator().manual_seed(0)

    def normal(slots: int) -> Tensor:
        return torch.randn(case.batch, slots, case.heads, case.width, generator=generator).to(case.dtype)

    leaves = [normal(slots).requires_grad_(case.backward) for slots in (case.slots, case.keys, case.keys)]
    d_out, masked = normal(case.slots), Masked(_mask(case), None)

    def run(name: str) -> list[Tensor]:
        out = form(name, case, lambda: masked)(*leaves)
        return [out, *torch.autograd.grad(out, leaves, d_out)] if case.backward else [out]

    return run


def form(name: str, case: Case, masked: Callable[[], Masked]) -> Attention:
    """The form of this name."""
    if name == SLICES and case.groups is not None:
        return by_slices(case.groups)
    if name == product.__name__:
        return by_product(masked(), case.backward)
    return masked().attention(DENSE[name])


def _mask(case: Case) -> Tensor | None:
    """bool [1, 1, S, T] with the visibility of the groups, or with half of all pairs if there are no groups."""
    if not case.masked:
        return None
    mask = torch.zeros(case.slots, case.keys, dtype=torch.bool)
    for group in case.groups or (Group((0, case.slots), ((0, -(-case.keys // 2)),)),):
        for first, last in group.keys or ((0, case.keys),):  # slots that see nothing are open; zeroed afterwards
            mask[slice(*group.slots), first:last] = True
    return mask[None, None]
