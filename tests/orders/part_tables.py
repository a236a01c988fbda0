"""Orders of tokens, scales, parts of frames and plans, written out by hand."""

from __future__ import annotations

from order_table import STYX, TYX, Mixer, Table, one_by_one, raster, runs

from vidar.orders.cell import cell_order
from vidar.orders.parts import parts_order
from vidar.orders.plan import StepMap, plan_order
from vidar.orders.pyramid import pyramid_order
from vidar.orders.ring import ring_order
from vidar.orders.scale import clip_scale_order, scale_order
from vidar.orders.subsample import subsample_order
from vidar.orders.token import token_order

TOKENS = Table(
    "tokens of 2 frames of 1 x 2", token_order, {"num_frames": 2, "height": 1, "width": 2},
    {"main": Mixer("""
        x...
        xx..
        xxx.
        xxxx""")},
    unit=[0, 1, 2, 3], cell=[0, 1, 2, 3], sites=[[0], [1], [2], [3]], axes=TYX,
    coord=[(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)], waves=one_by_one(4),
    needs="""
        ....
        x...
        xx..
        xxx.""",
)  # fmt: skip

RINGS = Table(
    "rings of 1 frame of 2 x 3", ring_order, {"num_frames": 1, "height": 2, "width": 3},
    {"main": Mixer("""
        x...
        xx..
        xxx.
        xxxx""")},
    unit=[0, 1, 2, 3], cell=[0, 1, 1, 2, 2, 3], sites=[[0], [1, 2], [3, 4], [5]], axes=TYX,
    coord=[(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 0, 2), (0, 1, 1), (0, 1, 2)], waves=one_by_one(4),
    needs="""
        ....
        x...
        .x..
        ..x.""",
)  # fmt: skip

RINGS_OF_FRAMES = Table(
    "rings of 2 frames of 1 x 2", ring_order, {"num_frames": 2, "height": 1, "width": 2},
    {"main": Mixer("""
        x..
        xx.
        xxx""")},
    unit=[0, 1, 2], cell=[0, 1, 1, 2], sites=[[0], [1, 2], [3]], axes=TYX,
    coord=[(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)], waves=one_by_one(3),
    needs="""
        ...
        x..
        .x.""",
)  # fmt: skip

SCALES = Table(
    "scales of an image", scale_order, {"sizes": [(1, 1, 1), (1, 1, 2), (1, 2, 4)]},
    {"main": Mixer("""
        x..
        xx.
        xxx""")},
    unit=[0, 1, 2], cell=[0, 1, 1, *[2] * 8], sites=[[0], [1, 2], [3, 4, 5, 6, 7, 8, 9, 10]], axes=STYX,
    coord=[
        (0, 0, 0.5, 1.5),
        (1, 0, 0.5, 0.5), (1, 0, 0.5, 2.5),
        *[(2, 0, y, x) for y in range(2) for x in range(4)],
    ],
    waves=one_by_one(3),
    needs="""
        ...
        x..
        xx.""",
)  # fmt: skip

CLIP_SCALES = Table(
    "scales of an image and of two clips", clip_scale_order,
    {"clips": [[(1, 1, 1), (1, 1, 2)], [(2, 1, 1), (2, 1, 2)], [(2, 1, 1), (2, 1, 2)]]},
    {"main": Mixer("""
        x.....
        .x....
        .xx...
        .x.x..
        ...xx.
        ...x.x""")},
    unit=[0, 1, 2, 3, 4, 5], cell=[0, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5],
    sites=[[0], [1, 2], [3, 4], [5, 6, 7, 8], [9, 10], [11, 12, 13, 14]], axes=STYX,
    coord=[
        (0, 0, 0, 0.5), (1, 0, 0, 0), (1, 0, 0, 1),
        (0, 1, 0, 0.5), (0, 2, 0, 0.5), (1, 1, 0, 0), (1, 1, 0, 1), (1, 2, 0, 0), (1, 2, 0, 1),
        (0, 3, 0, 0.5), (0, 4, 0, 0.5), (1, 3, 0, 0), (1, 3, 0, 1), (1, 4, 0, 0), (1, 4, 0, 1),
    ],
    waves=one_by_one(6),
    needs="""
        ......
        x.....
        ......
        ..x...
        ......
        ....x.""",
)  # fmt: skip

PARTS_SEE = """
    x.......
    xx......
    xxx.....
    xxxx....
    ..xxx...
    ..xxxx..
    ....xxx.
    ....xxxx"""

PARTS = Table(  # of three sites, the first and the last are part 1
    "any parts of frames, window 1", parts_order,
    {"part": [1, 0, 1], "place": [(5, 0, 0), (5, 0, 1), (5, 0, 2)], "axes": ("y", "t", "x"), "window": 1},
    {"main": Mixer(PARTS_SEE, capacity=6)},
    unit=list(range(8)), cell=[1, 0, 1, 3, 2, 3, 5, 4, 5, 7, 6, 7],
    sites=[[1], [0, 2], [4], [3, 5], [7], [6, 8], [10], [9, 11]], axes=("y", "t", "x"),
    coord=[(5, t, x) for t in range(4) for x in range(3)],
    waves=one_by_one(8), frames=4, reach=3, warmup=3, period=2,
)  # fmt: skip

CELLS = Table(
    "frames of 1 x 2 cells, window 1", cell_order, {"height": 2, "width": 2, "rows": 1, "columns": 2, "window": 1},
    {"main": Mixer(PARTS_SEE, capacity=8)},
    unit=list(range(8)), cell=[0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7],
    sites=[[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11], [12, 14], [13, 15]], axes=TYX, coord=raster(4, 2, 2),
    waves=one_by_one(8), frames=4, reach=3, warmup=3, period=2,
)  # fmt: skip

SUBSAMPLES = Table(
    "frames of 1 x 2 sub-samples, window 0", subsample_order,
    {"height": 1, "width": 4, "rows": 1, "columns": 2, "window": 0},
    {"main": Mixer("""
        x.....
        xx....
        ..x...
        ..xx..
        ....x.
        ....xx""", kept=4)},
    unit=list(range(6)), cell=[0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5],
    sites=[[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11]], axes=TYX, coord=raster(3, 1, 4),
    waves=[[0, 2, 4], [1, 3, 5]], frames=3, reach=3, warmup=3, period=2,
)  # fmt: skip

WHOLE_CELLS = Table(  # a frame of one part needs no room for itself
    "frames of one cell, window 2", cell_order, {"height": 1, "width": 2, "rows": 1, "columns": 1, "window": 2},
    {"main": Mixer("""
        x....
        xx...
        xxx..
        .xxx.
        ..xxx""", capacity=4)},
    unit=list(range(5)), cell=[n // 2 for n in range(10)], sites=runs(2, 5), axes=TYX, coord=raster(5, 1, 2),
    waves=one_by_one(5), frames=5, reach=2, warmup=2,
)  # fmt: skip

PYRAMIDS = Table(
    "frames of two scales, window 1", pyramid_order, {"sides": [(1, 1), (1, 2)], "window": 1},
    {"main": Mixer(PARTS_SEE, capacity=6)},
    unit=list(range(8)), cell=[0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7],
    sites=[[0], [1, 2], [3], [4, 5], [6], [7, 8], [9], [10, 11]], axes=STYX,
    coord=[place for t in range(4) for place in ((0, t, 0, 0.5), (1, t, 0, 0), (1, t, 0, 1))],
    waves=one_by_one(8), frames=4, reach=3, warmup=3, period=2,
)  # fmt: skip

PLAN = Table(  # step 0: given, 1: anchors (middle and terminal), 2: fill 1, which is blind to the terminal, 3: fill 2
    "two segments of plan and fills", plan_order,
    {"num_segments": 2, "map": StepMap(steps=(0, 2, 1, 3, 1)), "height": 1, "width": 1},
    {"main": Mixer("""
        x.........
        xxx.......
        x.x.x.....
        xxxxx.....
        x.x.x.....
        .....x....
        .....xxx..
        .....x.x.x
        .....xxxxx
        .....x.x.x""")},
    unit=[0, 2, 1, 3, 1, 4, 6, 5, 7, 5], cell=list(range(10)), sites=[[0], [2, 4], [1], [3], [5], [7, 9], [6], [8]],
    axes=TYX, coord=raster(10, 1, 1), waves=[[0], [1], [2, 4], [3, 5], [6], [7]],
    needs="""
        ........
        ........
        ........
        ........
        .x......
        ........
        ........
        ........""",
)  # fmt: skip

PART_TABLES = [
    TOKENS,
    RINGS,
    RINGS_OF_FRAMES,
    SCALES,
    CLIP_SCALES,
    PARTS,
    CELLS,
    SUBSAMPLES,
    WHOLE_CELLS,
    PYRAMIDS,
    PLAN,
]
