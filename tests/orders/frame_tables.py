"""Orders whose units are frames or hold several, written out by hand."""

from __future__ import annotations

from order_table import STYX, TYX, Mixer, Table, one_by_one, raster, runs

from vidar.orders.block import block_order
from vidar.orders.frame import frame_order
from vidar.orders.frame_scale import frame_scale_order
from vidar.orders.prefix import prefix_order

FRAMES = Table(
    "frames, window 2", frame_order, {"height": 1, "width": 2, "past": 2},
    {"main": Mixer("""
        x.....
        xx....
        xxx...
        .xxx..
        ..xxx.
        ...xxx""", capacity=4)},
    unit=list(range(6)), cell=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], sites=runs(2, 6), axes=TYX, coord=raster(6, 1, 2),
    waves=one_by_one(6), frames=6, reach=2, warmup=2,
)  # fmt: skip

ALL_FRAMES = Table(
    "all frames", frame_order, {"height": 2, "width": 1},
    {"main": Mixer("""
        x...
        xx..
        xxx.
        xxxx""")},
    unit=list(range(4)), cell=[0, 0, 1, 1, 2, 2, 3, 3], sites=runs(2, 4), axes=TYX, coord=raster(4, 2, 1),
    waves=one_by_one(4), frames=4, reach=4, warmup=4, endless=False,
)  # fmt: skip

SINKS = Table(
    "frames, window 1, two sinks", frame_order, {"height": 1, "width": 2, "past": 1, "sinks": 2},
    {"main": Mixer("""
        x.....
        xx....
        xxx...
        xxxx..
        xx.xx.
        xx..xx""", capacity=6, sinks=4)},
    unit=list(range(6)), cell=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], sites=runs(2, 6), axes=TYX, coord=raster(6, 1, 2),
    waves=one_by_one(6), frames=6, reach=1, warmup=3, endless=False,
)  # fmt: skip

IN_FLIGHT = Table(
    "frames, three in flight", frame_order, {"height": 1, "width": 1, "past": 2, "in_flight": 3},
    {"main": Mixer("""
        x.....
        xx....
        xxx...
        .xxx..
        ..xxx.
        ...xxx""", joint=True, capacity=2)},
    unit=list(range(6)), cell=list(range(6)), sites=runs(1, 6), axes=TYX, coord=raster(6, 1, 1),
    waves=one_by_one(6), frames=6, reach=2, warmup=2,
)  # fmt: skip

FORWARD = Table(
    "frames, three in flight, forward, a sink", frame_order,
    {"height": 1, "width": 1, "past": 1, "sinks": 1, "in_flight": 3, "forward": True, "scale": (0.5, 1.0, 1.0)},
    {"main": Mixer("""
        xxx....
        xxxx...
        xxxxx..
        x.xxxx.
        x..xxxx
        x...xxx
        x....xx""", """
        x......
        xx.....
        xxx....
        x.xx...
        x..xx..
        x...xx.
        x....xx""", joint=True, capacity=2, sinks=1)},
    unit=list(range(7)), cell=list(range(7)), sites=runs(1, 7), axes=TYX,
    coord=[(0, 0, 0), (0.5, 0, 0), (1, 0, 0), (1.5, 0, 0), (2, 0, 0), (2.5, 0, 0), (3, 0, 0)],
    waves=one_by_one(7), frames=7, reach=1, warmup=2, endless=False,
)  # fmt: skip

BLOCKS = Table(
    "blocks of two frames, window 1", block_order, {"height": 1, "width": 2, "frames": 2, "window": 1},
    {"main": Mixer("""
        xx......
        xx......
        xxxx....
        xxxx....
        ..xxxx..
        ..xxxx..
        ....xxxx
        ....xxxx""", capacity=4)},
    unit=[0, 0, 1, 1, 2, 2, 3, 3], cell=[n // 2 for n in range(16)], sites=runs(4, 4), axes=TYX, coord=raster(8, 1, 2),
    waves=one_by_one(4), frames=8, reach=1, warmup=1, unit_cells=2, period=2,
)  # fmt: skip

WIDE_BLOCKS = Table(
    "blocks of one frame, window 2, two in flight", block_order,
    {"height": 2, "width": 1, "frames": 1, "window": 2, "in_flight": 2},
    {"main": Mixer("""
        x.....
        xx....
        xxx...
        .xxx..
        ..xxx.
        ...xxx""", joint=True, capacity=4)},
    unit=list(range(6)), cell=[n // 2 for n in range(12)], sites=runs(2, 6), axes=TYX, coord=raster(6, 2, 1),
    waves=one_by_one(6), frames=6, reach=2, warmup=2,
)  # fmt: skip

ROLLING_BLOCKS = Table(
    "blocks of two frames, two in flight, forward", block_order,
    {"height": 1, "width": 1, "frames": 2, "window": 1, "in_flight": 2, "forward": True},
    {"main": Mixer("""
        xxxx....
        xxxx....
        xxxxxx..
        xxxxxx..
        ..xxxxxx
        ..xxxxxx
        ....xxxx
        ....xxxx""", """
        xx......
        xx......
        xxxx....
        xxxx....
        ..xxxx..
        ..xxxx..
        ....xxxx
        ....xxxx""", joint=True, capacity=2)},
    unit=[0, 0, 1, 1, 2, 2, 3, 3], cell=list(range(8)), sites=runs(2, 4), axes=TYX, coord=raster(8, 1, 1),
    waves=one_by_one(4), frames=8, reach=1, warmup=1, unit_cells=2, period=2,
)  # fmt: skip

FRAME_SCALES = Table(  # a frame: scale 0, scale 1, its memory unit; the ring keeps two of these
    "frames of two scales with memory units, window 2", frame_scale_order, {"sizes": [(1, 1), (1, 2)], "past": 2},
    {"main": Mixer("""
        x...........
        xx..........
        xxx.........
        ..xx........
        ..xxx.......
        ..xxxx......
        ..x..xx.....
        ..x..xxx....
        ..x..xxxx...
        .....x..xx..
        .....x..xxx.
        .....x..xxxx""", capacity=7)},
    unit=list(range(12)), cell=[c for f in range(4) for c in (3 * f, *[3 * f + 1] * 2, *[3 * f + 2] * 2)],
    sites=[s for f in range(4) for s in ([5 * f], [5 * f + 1, 5 * f + 2], [5 * f + 3, 5 * f + 4])], axes=STYX,
    coord=[
        place for f in range(4)
        for place in ((0, f, 0, 0.5), (1, f, 0, 0), (1, f, 0, 1), (2, f, 0, 0), (2, f, 0, 1))
    ],
    waves=one_by_one(12), frames=4, reach=9, warmup=9, period=3,
    needs="""
        ............
        x...........
        xx..........
        ............
        ...x........
        ...xx.......
        ............
        ......x.....
        ......xx....
        ............
        .........x..
        .........xx.""",
)  # fmt: skip

PREFIXES = Table(  # frames 0 | 1 2 | 3 4 | 5 6
    "chunks of two frames over a prefix of one", prefix_order,
    {"height": 1, "width": 1, "chunk": 2, "prefix": 1, "past": 3, "first": 1, "positions": 5},
    {
        "space": Mixer("""
            x......
            .x.....
            ..x....
            ...x...
            ....x..
            .....x.
            ......x""", fold=("t",), capacity=0),
        "prefix": Mixer("""
            x......
            xx.....
            x.x....
            ..xx...
            ..x.x..
            ....xx.
            ....x.x""", """
            x......
            .x.....
            ..x....
            ...x...
            ....x..
            .....x.
            ......x""", capacity=2, kept=1),
        "time": Mixer("""
            x......
            xx.....
            xxx....
            xxxx...
            xxxxx..
            ..xxxx.
            ..xxxxx""", joint=True, fold=("y", "x"), capacity=4, kept=3),
    },
    unit=list(range(7)), cell=list(range(7)), sites=runs(1, 7), axes=TYX,
    coord=[(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (0, 0, 0), (1, 0, 0)],
    waves=one_by_one(7), frames=7, reach=4, warmup=4, period=2,
)  # fmt: skip

FRAME_TABLES = [
    FRAMES,
    ALL_FRAMES,
    SINKS,
    IN_FLIGHT,
    FORWARD,
    BLOCKS,
    WIDE_BLOCKS,
    ROLLING_BLOCKS,
    FRAME_SCALES,
    PREFIXES,
]
