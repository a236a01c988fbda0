"""Order: which sites are generated together, what each group may see, and what must be generated first."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from vidar.core.relation import Relation, Rule
from vidar.types import PAD

FOREVER = sys.maxsize  # the last reader of a unit that is never forgotten
MOST_KNOWN = 4096  # maximum number of cached answers of an endless order


def _identity(cell: Tensor) -> Tensor:
    return cell


@dataclass(frozen=True)
class Order:
    """Relations between cells, units made of cells, and content edges between units.

    relations   by name; the blocks of a model name the relation of each mixer
    num_units   None: endless (stationary after `warmup` units; units are visited in order)
    num_cells   number of cells of a finite order
    unit        cell -> unit, PAD for padding
    needs       rule over units (u, v): the input of u can only be built when the code of v is known; None: as `sees`
    unit_cells  endless orders: number of consecutive cells of a unit
    reach       endless orders: the largest u - v for which `needs` or `sees` may hold
    approximate decoding with a cache differs from a forward without one (a cache policy drops keys)
    period      endless orders: number of units after which sites, cells and rules repeat, shifted; None: unknown
    """

    relations: Mapping[str, Relation]
    num_units: int | None = None
    num_cells: int | None = None
    unit: Callable[[Tensor], Tensor] = _identity
    needs: Rule | None = None
    unit_cells: int = 1
    reach: int = 0
    warmup: int = 0
    approximate: bool = False
    period: int | None = None

    def needing(self, more: Rule) -> Order:
        """A copy that adds the content edges of an objective to the order's own."""
        own = self.needs
        return replace(self, needs=more if own is None else lambda u, v: own(u, v) | more(u, v))

    @property
    def endless(self) -> bool:
        """True where there is no last unit."""
        return self.num_units is None

    def exists(self, unit: int) -> bool:
        """Whether a unit of this number exists."""
        return unit >= 0 and (self.num_units is None or unit < self.num_units)

    @cached_property
    def _cell_unit(self) -> Tensor:
        assert self.num_units is not None, "tables exist for finite orders only"
        cells = self.num_units if self.num_cells is None else self.num_cells
        return self.unit(torch.arange(cells))

    @cached_property
    def sees(self) -> Tensor:
        """bool [U, U]: whether any cell of u reads any cell of v, in any relation and either role.

        In a joint relation a forward edge exists only while both units are in flight; such edges belong to the
        schedule.
        """
        units = self._cell_unit
        cells = torch.arange(units.shape[0])
        table = torch.zeros(self.num_units or 0, self.num_units or 0, dtype=torch.bool)
        for relation in self.relations.values():
            for rule in (relation.sees, relation.memory):
                if rule is None:
                    continue
                q, k = torch.nonzero(rule(cells[:, None], cells[None, :]), as_tuple=True)
                u, v = units[q], units[k]
                real = (u >= 0) & (v >= 0) & ~((v > u) & relation.joint)
                table[u[real], v[real]] = True
        return table

    @cached_property
    def needs_table(self) -> Tensor:
        """bool [U, U]: content edges."""
        if self.needs is None:
            return self.sees & ~torch.eye(self.sees.shape[0], dtype=torch.bool)
        units = torch.arange(self.num_units or 0)
        return self.needs(units[:, None], units[None, :]).clone()

    @cached_property
    def before(self) -> Tensor:
        """bool [U, U]: `needs | sees` without the diagonal, that is whether v must precede u."""
        return (self.needs_table | self.sees) & ~torch.eye(self.sees.shape[0], dtype=torch.bool)

    @cached_property
    def wave_of(self) -> Tensor:
        """long [U]: the wave of each unit, the longest path over `needs | sees`.

        Raises ValueError if they contain a cycle.
        """
        before = self.before
        wave = torch.zeros(before.shape[0], dtype=torch.long)
        for _ in range(before.shape[0] + 1):
            longer = torch.where(before, wave[None, :] + 1, 0).amax(dim=1) if before.numel() else wave
            if torch.equal(longer, wave):
                return wave
            wave = longer
        raise ValueError("needs and sees together contain a cycle: none of its units can come first")

    def waves(self) -> list[list[int]]:
        """The units of each wave; the units of a wave may run together."""
        return [torch.nonzero(self.wave_of == w)[:, 0].tolist() for w in range(int(self.wave_of.max()) + 1)]

    def last_reader(self, unit: int) -> int:
        """The last wave (endless orders: unit) that reads this unit; PAD if there is none, FOREVER for sinks."""
        if self.num_units is None:
            later = unit + 2 * (self.reach + self.warmup) + 1
            far, cell = (torch.tensor(u * self.unit_cells) for u in (later, unit))
            rules = [rule for r in self.relations.values() for rule in (r.sees, r.memory) if rule is not None]
            return FOREVER if any(bool(rule(far, cell)) for rule in rules) else unit + self.reach
        readers = self.sees[:, unit].clone()
        readers[unit] = False
        return int(self.wave_of[readers].max()) if bool(readers.any()) else PAD

    @cached_property
    def _known(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """Cached answers of `needed` and `needers`, which are called several times per unit."""
        return {}

    def _once(self, name: str, unit: int, find: Callable[[int], tuple[int, ...]]) -> tuple[int, ...]:
        """Compute an answer once; in a stationary order the first units after the warm-up stand for all later ones."""
        steady = self.warmup + self.reach
        if self.period is not None and unit >= steady + self.period and self.num_units is None:
            first = steady + (unit - steady) % self.period
            return tuple(found + unit - first for found in self._once(name, first, find))
        if (name, unit) not in self._known:
            if self.num_units is None and len(self._known) > MOST_KNOWN:
                self._known.clear()
            self._known[name, unit] = find(unit)
        return self._known[name, unit]

    def needers(self, unit: int) -> tuple[int, ...]:
        """Later units whose input may need the code of this unit, in ascending order."""
        return self._once("needers", unit, self._needers)

    def needed(self, unit: int) -> tuple[int, ...]:
        """Units whose code `start`, `inputs` or `memory` of this unit may read, in ascending order."""
        return self._once("needed", unit, self._needed)

    def need(self, unit: int, other: int) -> bool:
        """Whether `start`, `inputs` or `memory` of `unit` may read the code of `other`."""
        return other in self.needed(unit)

    def _needers(self, unit: int) -> tuple[int, ...]:
        if self.num_units is None:
            later = torch.arange(unit + 1, unit + 1 + self.reach)
            if self.needs is not None:
                later = later[self.needs(later, torch.full_like(later, unit))]
            return tuple(later.tolist())
        column = self.needs_table[:, unit].clone()
        column[unit] = False
        return tuple(torch.nonzero(column)[:, 0].tolist())

    def _needed(self, unit: int) -> tuple[int, ...]:
        if self.num_units is not None:
            return tuple(torch.nonzero(self.needs_table[unit])[:, 0].tolist())
        earlier = torch.arange(max(0, unit - self.reach), unit)
        if self.needs is not None:
            hit = self.needs(torch.full_like(earlier, unit), earlier)
        else:
            cells, sees = self.unit_cells, next(iter(self.relations.values())).sees
            hit = sees(torch.full_like(earlier, unit * cells), earlier * cells)
        return tuple(earlier[hit].tolist())

    def cycle(self, period_sites: int) -> int | None:
        """Endless orders: number of units after which a Step has the same masks and ring places, shifted.

        None: unknown.

        period_sites: number of sites of `period` units.
        """
        if self.period is None:
            return None
        turns = 1
        for relation in self.relations.values():
            sites = 1 if not relation.capacity or relation.places is None else relation.places.cycle
            if sites is None:
                return None
            turns = math.lcm(turns, sites // math.gcd(sites, period_sites))
        return self.period * turns

    def tasks(self) -> list[list[int]]:
        """Connected components of `sees`: units that share keys. Only codes travel between components."""
        near = self.sees | self.sees.T
        label = torch.arange(near.shape[0])
        while True:
            lower = torch.minimum(label, torch.where(near, label[None, :], label[:, None]).amin(dim=1))
            if torch.equal(lower, label):
                break
            label = lower
        return [torch.nonzero(label == root)[:, 0].tolist() for root in label.unique().tolist()]

    def content_edges(self) -> list[tuple[int, int]]:
        """(u, v) for every unit u of one task that needs the code of unit v of another task."""
        label = {unit: n for n, task in enumerate(self.tasks()) for unit in task}
        pairs = torch.nonzero(self.needs_table).tolist()
        return [(u, v) for u, v in pairs if label[u] != label[v]]
