"""Every constructor of vidar/orders is what its table by hand says."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch
from frame_tables import FRAME_TABLES
from part_tables import PART_TABLES

import vidar.orders
from vidar.core.relation import Relation
from vidar.orders.block import BlockOrderConfig
from vidar.orders.cell import CellOrderConfig
from vidar.orders.frame import FrameOrderConfig
from vidar.orders.frame_scale import FrameScaleOrderConfig
from vidar.orders.plan import PlanOrderConfig, StepMap
from vidar.orders.prefix import PrefixOrderConfig
from vidar.orders.pyramid import PyramidOrderConfig
from vidar.orders.scale import ClipScaleOrderConfig, ScaleOrderConfig
from vidar.orders.subsample import SubsampleOrderConfig

TABLES = FRAME_TABLES + PART_TABLES
ENDLESS = [table for table in TABLES if table.frames and table.endless]
CONFIGS = [
    (FrameOrderConfig(window=None), (2, 1, 4), "all frames"),
    (FrameOrderConfig(window=1, sinks=2), (1, 2, 6), "frames, window 1, two sinks"),
    (FrameOrderConfig(window=2, in_flight=3), (1, 1, 6), "frames, three in flight"),
    (FrameOrderConfig(window=1, sinks=1, in_flight=3, forward=True), (1, 1, 7),
     "frames, three in flight, forward, a sink"),
    (BlockOrderConfig(frames=2, window=1), (1, 2, 8), "blocks of two frames, window 1"),
    (BlockOrderConfig(frames=2, window=1, in_flight=2, forward=True), (1, 1, 8),
     "blocks of two frames, two in flight, forward"),
    (FrameScaleOrderConfig(sides=((1, 1), (1, 2)), window=2), (1, 2, 4),
     "frames of two scales with memory units, window 2"),
    (CellOrderConfig(rows=1, columns=2, window=1), (2, 2, 4), "frames of 1 x 2 cells, window 1"),
    (SubsampleOrderConfig(rows=1, columns=2, window=0), (1, 4, 3), "frames of 1 x 2 sub-samples, window 0"),
    (PyramidOrderConfig(sides=((1, 1), (1, 2)), window=1), (1, 2, 4), "frames of two scales, window 1"),
    (PrefixOrderConfig(chunk=2, window=3, prefix=1), (1, 1, 7), "chunks of two frames over a prefix of one"),
    (PlanOrderConfig(map=StepMap(steps=(0, 2, 1, 3, 1))), (1, 1, 10), "two segments of plan and fills"),
    (ScaleOrderConfig(), ([(1, 1), (1, 2), (2, 4)], 1), "scales of an image"),
    (ClipScaleOrderConfig(clip=2), ([(1, 1), (1, 2)], 5), "scales of an image and of two clips"),
]  # fmt: skip
WITHOUT = {"__init__", "config", "depth"}  # files of vidar/orders that construct no order
FAR = 40  # periods later


def built(table, endless=False):
    tensors = {"part": torch.tensor, "place": lambda x: torch.tensor(x, dtype=torch.float64)}
    given = {name: tensors.get(name, lambda x: x)(value) for name, value in table.given.items()}
    if table.frames:
        given["num_frames"] = None if endless else table.frames
    return table.make(**given)


def lines(drawing):
    return [line.strip() for line in drawing.split("\n") if line.strip()]


def pairs(drawing):
    """(reader, key) of every x."""
    return {(q, k) for q, line in enumerate(lines(drawing)) for k, mark in enumerate(line) if mark == "x"}


def read(rule, cells, first=0):
    """The same of a rule, for the cells from `first` on."""
    at = torch.arange(first, first + cells)
    return {(q, k) for q, k in torch.nonzero(rule(at[:, None], at[None, :])).tolist()}


def rules_of(relation: Relation):
    """Of readers in flight, and of committed ones."""
    return relation.sees, relation.sees if relation.memory is None else relation.memory


@pytest.fixture(params=TABLES, ids=lambda table: table.name)
def table(request):
    return request.param


def test_who_reads_whom(table):
    order, _ = built(table)
    assert set(order.relations) == set(table.mixers)
    for name, mixer in table.mixers.items():
        for rule, drawing in zip(rules_of(order.relations[name]), (mixer.sees, mixer.memory or mixer.sees)):
            assert {len(line) for line in lines(drawing)} == {len(table.unit)} == {len(lines(drawing))}
            assert read(rule, len(table.unit)) == pairs(drawing), name


@pytest.mark.parametrize("table", ENDLESS, ids=lambda table: table.name)
def test_an_endless_stream_reads_the_same_and_so_for_ever(table):
    """The first cells as of a clip; the last ones as `FAR` periods later, where they read nobody before those."""
    order, cells, shift = built(table, endless=True)[0], len(table.unit), FAR * table.period
    for name, mixer in table.mixers.items():
        for rule, drawing in zip(rules_of(order.relations[name]), (mixer.sees, mixer.memory or mixer.sees)):
            assert read(rule, cells) == pairs(drawing), name
            later = {(q - shift, k - shift) for q, k in read(rule, shift + cells) if q >= shift + cells - table.period}
            assert later == {(q, k) for q, k in pairs(drawing) if q >= cells - table.period}, name


def test_mixers_and_their_rings(table):
    for endless in (False, True) if table in ENDLESS else (False,):
        order, _ = built(table, endless)
        for name, mixer in table.mixers.items():
            made = order.relations[name]
            capacity = mixer.kept if endless and mixer.kept else mixer.capacity
            assert (made.joint, made.fold, made.capacity, made.sinks) == (
                mixer.joint,
                mixer.fold,
                capacity,
                mixer.sinks,
            )


def places_of(relation, sites):
    """Where the ring keeps each site, -1: not at all."""
    site = torch.tensor([sites], dtype=torch.long)
    return sites if relation.places is None else relation.places(site, torch.ones_like(site), None)[0].tolist()


def test_a_ring_still_holds_what_is_read(table):
    """Units are committed wave after wave; nothing that one reads was overwritten by then."""
    order, _ = built(table)
    for name, mixer in table.mixers.items():
        relation = order.relations[name]
        drawn, held, done = pairs(mixer.sees) | pairs(mixer.memory or mixer.sees), {}, set()
        for units in table.waves:
            cells = {k for q, k in drawn if table.unit[q] in units and table.unit[k] in done}
            for site in (site for site, cell in enumerate(table.cell) if cell in cells):
                assert held[places_of(relation, [site])[0]] == site, (name, units, site)
            done.update(units)
            sites = [site for unit in units for site in table.sites[unit]] if relation.capacity != 0 else []
            places = places_of(relation, sites)
            assert relation.capacity is None or all(place < relation.capacity for place in places)
            held |= dict(zip(places, sites))


def test_cells_units_and_waves(table):
    order, _ = built(table)
    cells = torch.arange(len(table.unit))
    assert order.unit(cells).tolist() == table.unit and order.num_units == len(table.sites)
    assert (order.num_units if order.num_cells is None else order.num_cells) == len(table.unit)
    assert order.waves() == table.waves
    assert {(u, v) for u, v in torch.nonzero(order.needs_table).tolist()} == pairs(table.needs)
    assert (order.reach, order.warmup, order.unit_cells) == (table.reach, table.warmup, table.unit_cells)
    assert not order.approximate
    if table.frames and table.endless:
        assert order.period is not None and order.period * order.unit_cells == table.period


def test_sites_and_places(table):
    for endless in (False, True) if table in ENDLESS else (False,):
        _, grid = built(table, endless)
        assert [grid.sites(unit).tolist() for unit in range(len(table.sites))] == table.sites
        sites = torch.arange(len(table.cell))
        assert grid.cell(sites).tolist() == table.cell and grid.axes == table.axes
        assert [tuple(place) for place in grid.coord(sites).tolist()] == [tuple(map(float, c)) for c in table.coord]
        assert grid.num_sites == (None if endless else len(table.cell))


@pytest.mark.parametrize(("config", "size", "name"), CONFIGS, ids=[name for _, _, name in CONFIGS])
def test_configs_build_what_their_tables_say(config, size, name):
    table = next(table for table in TABLES if table.name == name)
    made = config.build(*size) if len(size) > 2 else config.over(size[0]).build(*size[0][-1], size[1])
    order, cells = made[0], len(table.unit)
    for relation, mixer in table.mixers.items():
        for rule, drawing in zip(rules_of(order.relations[relation]), (mixer.sees, mixer.memory or mixer.sees)):
            assert read(rule, cells) == pairs(drawing), relation
        found = order.relations[relation]
        assert (found.joint, found.capacity, found.sinks) == (mixer.joint, mixer.capacity, mixer.sinks)
    assert [made[1].sites(unit).tolist() for unit in range(len(table.sites))] == table.sites


def constructors():
    """By file of vidar/orders, the functions that make an order and its grid."""
    folder = Path(vidar.orders.__file__).parent
    found = {}
    for name in sorted(file.stem for file in folder.glob("*.py")):
        module = import_module("vidar.orders" if name == "__init__" else f"vidar.orders.{name}")
        found[name] = {
            made for made in vars(module).values()
            if inspect.isfunction(made) and made.__module__ == module.__name__
            and made.__annotations__.get("return") == "tuple[Order, Grid]"
        }  # fmt: skip
    return found


def test_every_constructor_has_a_table():
    """A new file, or a new function in an old one, needs a table by hand."""
    found = constructors()
    assert {name for name, made in found.items() if not made} == WITHOUT
    assert set().union(*found.values()) == {table.make for table in TABLES}
    assert len({table.name for table in TABLES}) == len(TABLES)
