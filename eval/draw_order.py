"""Pictures and explanations of an Order: units on the grid, waves, masks of every relation, and why U sees V."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vidar.configs.catalog import find_model, recipes
from vidar.core.grid import Grid
from vidar.core.layout import compile_layout
from vidar.core.order import Order
from vidar.core.relation import Relation
from vidar.core.step import twin
from vidar.core.system import System
from vidar.data.atomic import replacing
from vidar.data.outputs import WRITER, check_outputs
from vidar.orders.frame import frame_order
from vidar.orders.frame_scale import frame_scale_order
from vidar.orders.plan import plan_order, thin
from vidar.orders.prefix import prefix_order
from vidar.orders.ring import ring_order
from vidar.orders.scale import clip_scale_order, scale_order
from vidar.orders.token import token_order
from vidar.types import MEMORY, QUERY, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ordered = tuple[Order, Grid]
SIZES = [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
EXAMPLES: dict[str, Callable[[], Ordered]] = {
    "token": lambda: token_order(2, 2, 3),
    "ring": lambda: ring_order(2, 3, 4),
    "frame": lambda: frame_order(2, 2, 5, past=2, sinks=1),
    "scale": lambda: scale_order(SIZES),
    "clip_scale": lambda: clip_scale_order([SIZES, SIZES]),
    "frame_scale": lambda: frame_scale_order([(1, 1), (2, 2)], 3, past=1),
    "prefix": lambda: prefix_order(2, 2, 6, chunk=2, prefix=2, past=2),
    "plan": lambda: plan_order(2, thin(6), 1, 2),
}
MOST_SITES = 2048  # a mask has (2 N) ^ 2 pairs


def find_order(name: str, frames: int = 4) -> Ordered:
    """An example order by name, the first frames of a recipe's world, or its image order. Raises UsageError.

    frames: number of frames of the world, rounded up to whole units of several frames.
    """
    if name in EXAMPLES:
        return EXAMPLES[name]()
    known = recipes()
    if name not in known:
        near = difflib.get_close_matches(name, [*EXAMPLES, *known], n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"valid: {', '.join([*EXAMPLES, *known])}"
        raise UsageError(f"no order {name!r}; {hint}")
    config = known[name]()
    model = find_model(config)
    if model is None:
        raise UsageError(f"{name} has no order: only worlds have one")
    if model.clips:
        return _order(model.system())
    if frames < 1:
        raise UsageError(f"{frames} units cannot be drawn; give 1 or more")
    whole = -(-frames // model.order.unit_frames) * model.order.unit_frames
    return _order(model.system(whole))


def _order(system: System[Any]) -> tuple[Order, Grid]:
    return system.order, system.grid


def draw(order: Order, grid: Grid, out: str | os.PathLike[str], title: str = "") -> None:
    """Write a PNG: the sites of each frame with unit and wave, and below each relation's mask of TWIN training.

    Raises UsageError for an endless or a very large order, and VidarError for an unsuitable output.
    """
    check_outputs([out])
    if order.num_units is None or (grid.num_sites or 0) > MOST_SITES:
        raise UsageError(f"only finite orders of at most {MOST_SITES} sites can be drawn")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = planes(grid, order.num_units)
    columns = max(len(places), 2 * len(order.relations))
    figure = Figure(figsize=(2.0 * columns, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}: {order.num_units} units in {len(order.waves())} waves; number = unit, colour = wave")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 2])[:, 0]
    for axes, (label, plane) in zip(above.subplots(1, len(places), squeeze=False)[0], places.items()):
        _draw_plane(axes, label, plane, order.wave_of)
    layout = compile_layout(twin(range(order.num_units)), order, [grid])
    for axes, (name, view) in zip(below.subplots(1, len(order.relations), squeeze=False)[0], layout.views.items()):
        _draw_mask(axes, name, view.dense[0], layout.slots.unit[0], layout.slots.role[0])
    with replacing(out) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": WRITER})


def planes(grid: Grid, units: int) -> dict[str, np.ndarray]:
    """The unit at each place, by frame (and scale): int [H, W], -1 where there is no site."""
    sites = [grid.sites(unit) for unit in range(units)]
    owner = torch.cat([torch.full((len(s),), unit) for unit, s in enumerate(sites)])
    coord = grid.coord(torch.cat(sites))
    leading = [n for n, axis in enumerate(grid.axes) if axis not in ("y", "x")]
    y, x = (coord[:, grid.axes.index(axis)] for axis in ("y", "x"))
    made: dict[str, np.ndarray] = {}
    for group in torch.unique(coord[:, leading], dim=0):
        inside = (coord[:, leading] == group).all(dim=1)
        rows, row = torch.unique(y[inside], return_inverse=True)
        cols, col = torch.unique(x[inside], return_inverse=True)
        plane = np.full((len(rows), len(cols)), -1)
        plane[row.numpy(), col.numpy()] = owner[inside].numpy()
        made[" ".join(f"{grid.axes[n]}={value:g}" for n, value in zip(leading, group.tolist()))] = plane
    return made


def _draw_plane(axes: Axes, label: str, plane: np.ndarray, wave_of: Tensor) -> None:
    waves = np.where(plane >= 0, wave_of.numpy()[plane.clip(0)], np.nan)
    axes.imshow(waves, cmap="viridis", vmin=0, vmax=max(int(wave_of.max()), 1))
    axes.set_title(label, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    if plane.size <= 64:
        for (row, column), unit in np.ndenumerate(plane):
            light = waves[row, column] < wave_of.max() / 2
            axes.text(column, row, str(unit), ha="center", va="center", fontsize=7, color="white" if light else "black")


def _draw_mask(axes: Axes, name: str, mask: Tensor, unit: Tensor, role: Tensor) -> None:
    axes.imshow(mask.numpy(), cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    change = torch.nonzero((unit[1:] != unit[:-1]) | (role[1:] != role[:-1]))[:, 0] + 0.5
    for edge in change.tolist():
        axes.axhline(edge, color="tab:blue", linewidth=0.3)
        axes.axvline(edge, color="tab:blue", linewidth=0.3)
    half = int((role == MEMORY).sum()) - 0.5
    axes.axhline(half, color="tab:red", linewidth=1)
    axes.axvline(half, color="tab:red", linewidth=1)
    axes.set_title(f"{name}: rows read columns; committed | in flight", fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])


def explain(order: Order, grid: Grid, unit: int, other: int) -> list[str]:
    """Why a unit does or does not see, and need, another: relation, rule, folds, cells.

    Raises UsageError without such a unit.
    """
    for number in (unit, other):
        if not order.exists(number):
            raise UsageError(f"there is no unit {number}; units are 0 .. {(order.num_units or 1) - 1}")
    lines = [_when(order, unit, other)]
    for name, relation in order.relations.items():
        lines += [f"{name}: {line}" for line in _sees(relation, order, grid, unit, other)]
    needed = order.need(unit, other)
    why = "the rule `needs` names it" if order.needs is not None else "a unit needs what it sees"

    reason = why if needed else "no content edge: its input is built without the code of that unit"
    return [*lines, f"needs: unit {unit} {'needs' if needed else 'does not need'} unit {other} ({reason})"]


def _when(order: Order, unit: int, other: int) -> str:
    if order.num_units is None:
        return f"unit {unit}, unit {other}: units are visited in order"
    waves = order.wave_of
    return f"unit {unit} is in wave {int(waves[unit])}, unit {other} in wave {int(waves[other])}"


def _sees(relation: Relation, order: Order, grid: Grid, unit: int, other: int) -> list[str]:
    """One line for each role of the reader."""
    readers, keys = grid.sites(unit), grid.sites(other)
    cell_q, cell_k = grid.cell(readers), grid.cell(keys)
    folded = torch.ones(len(readers), len(keys), dtype=torch.bool)
    for axis in relation.fold:
        column = grid.axes.index(axis)
        folded &= grid.coord(readers)[:, None, column] == grid.coord(keys)[None, :, column]
    lines = []
    for role, word, rule in (
        (QUERY, "in flight", relation.sees),
        (MEMORY, "committed", relation.memory or relation.sees),
    ):
        pairs = rule(cell_q[:, None], cell_k[None, :]) & (cell_q >= 0)[:, None] & (cell_k >= 0)[None, :]
        which = "memory" if role == MEMORY and relation.memory is not None else "sees"
        lines.append(f"unit {unit} {word} {_verdict(relation, order, pairs, folded, (unit, other), role, which)}")
        if (pairs & folded).any():
            lines[-1] += f", through cells {_edges(pairs & folded, cell_q, cell_k)}"
    return lines


def _verdict(
    relation: Relation, order: Order, pairs: Tensor, folded: Tensor, units: tuple[int, int], role: int, which: str
) -> str:
    unit, other = units
    fold = f" at equal {', '.join(relation.fold)}" if relation.fold else ""
    if not pairs.any():
        return f"does not see unit {other}: the rule `{which}` forbids it"
    if not (pairs & folded).any():
        return (
            f"does not see unit {other}: the rule `{which}` allows it, but no sites agree in {', '.join(relation.fold)}"
        )
    if unit == other:
        return f"sees itself{fold} (rule `{which}`)"
    if other > unit:
        if role == QUERY and relation.joint:
            return f"sees unit {other}{fold} only while both are in flight (rule `{which}`, joint)"
        return f"sees unit {other}{fold} only where it is committed before (rule `{which}` allows it)"
    copies = (
        "its committed copy, or while both are in flight" if role == QUERY and relation.joint else "its committed copy"
    )
    return f"sees unit {other}{fold}: {copies} (rule `{which}`)"


def _edges(pairs: Tensor, cell_q: Tensor, cell_k: Tensor, most: int = 6) -> str:
    q, k = torch.nonzero(pairs, as_tuple=True)
    edges = list(dict.fromkeys(zip(cell_q[q].tolist(), cell_k[k].tolist())))
    shown = ", ".join(f"{a} -> {b}" for a, b in edges[:most])
    return shown + (f", ... ({len(edges)} in all)" if len(edges) > most else "")
