import pytest
import torch

from vidar.core.layout import compile_layout
from vidar.core.step import twin
from vidar.orders.plan import I2V, T2V, FromMiddleConfig, PlanOrderConfig, StepMap, paired, plan_order, thin
from vidar.types import MEMORY, UsageError

MAPS = {"T2V": T2V, "I2V": I2V, "thin": thin(9), "paired": paired(12)}


def predicate(map, block_step, terminal):
    """Section 1.4 word by word: allowed [2 F, 2 F], clean frames first, then noisy ones."""
    frames = range(len(map.steps))
    sequence = [("clean", t) for t in frames] + [("noisy", t) for t in frames]
    table = torch.zeros(len(sequence), len(sequence), dtype=torch.bool)
    for i, (region_q, q) in enumerate(sequence):
        for j, (region_k, k) in enumerate(sequence):
            step_q, step_k = map.steps[q], map.steps[k]
            allowed = (
                i == j
                or (region_q == region_k == "clean" and step_k <= step_q)
                or (region_q == region_k == "noisy" and step_k == step_q)
                or (region_q == "noisy" and region_k == "clean" and step_k < step_q)
            )
            blocked = step_q == block_step and region_k == "clean" and k in terminal
            table[i, j] = allowed and not blocked
    return table


def mask(map, swap=None):
    """The same of TWIN training, a site a frame, in the order of the frames."""
    order, grid = plan_order(1, map, 1, 1)
    layout = compile_layout(twin(range(map.units)), order, [grid])
    slots = layout.slots
    place = slots.cell[0] + torch.where(slots.role[0] == MEMORY, 0, map.length)
    back = torch.argsort(place)
    return layout.views["main"].dense[0][back][:, back]


@pytest.mark.parametrize("name", MAPS)
def test_the_mask_is_the_predicate_for_every_pair_of_frames(name):
    """BLOCK by role: the first step after the plan."""
    map = MAPS[name]
    assert torch.equal(mask(map), predicate(map, map.plan + 1, set(map.terminal)))


def test_the_published_block_names_a_step_and_fits_t2v_alone():
    """Twin: the number 2 of the released code is fill 1 of T2V, but the plan of I2V."""
    assert torch.equal(mask(T2V), predicate(T2V, 2, {19, 20}))
    assert not torch.equal(mask(I2V), predicate(I2V, 2, {19, 20}))


def test_published_maps():
    """1.3: sizes of the groups in the order in which they run, anchors and fills."""
    assert [len(T2V.frames(step)) for step in range(4)] == [2, 7, 6, 6]
    assert [len(I2V.frames(step)) for step in range(5)] == [1, 1, 7, 6, 6]
    for map in (T2V, I2V):
        assert map.runs == ((2, 3), (10, 11, 12), (19, 20)) and (map.middle, map.terminal) == map.runs[1:]
        assert map.length == 21 and map.first == 2
        assert map.frames(map.plan + 1) == tuple(range(4, 10)) and map.frames(map.plan + 2) == tuple(range(13, 19))
    assert [T2V.before(t) for t in (0, 2, 10, 19, 4, 13, 18)] == [None, 1, 1, 1, 3, 12, 12]
    assert I2V.before(1) == 0


@pytest.mark.parametrize("length", [10, 11, 12, 16, 21])
def test_small_maps_have_all_parts(length):
    for map, first in ((paired(length), 2), (thin(length), 1)):
        assert map.length == length and map.first == first and len(map.runs) == 3 and map.units == 4
        assert map.terminal[-1] == length - 1 and map.runs[0] == (first,)
        assert map.middle[-1] == length // 2
        fills = map.frames(2), map.frames(3)
        assert max(fills[0]) < map.middle[0] and map.middle[-1] < min(fills[1]) <= max(fills[1]) < map.terminal[0]
    with pytest.raises(UsageError, match="nothing to fill; use 10"):
        paired(9)


def test_segments_are_chained_by_content_alone():
    order, grid = plan_order(3, I2V, 1, 2)
    assert order.tasks() == [list(range(5 * s, 5 * s + 5)) for s in range(3)]
    assert order.content_edges() == [(5 * s + u, 5 * s - 3) for s in (1, 2) for u in (0, 1)]
    assert len(order.waves()) == 3 * 3 + 2  # image, frame 1 and plan of each; two fills
    assert torch.equal(torch.cat([grid.sites(u) for u in range(15)]).sort().values, torch.arange(3 * 21 * 2))
    assert grid.cell(grid.sites(7)).unique().tolist() == [21 + t for t in I2V.frames(2)]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((0, 1, 3, 1), "without a gap"),
        ((0, 1, 1, 1), "with some after"),
        ((1, 0, 2, 1), "must come first"),
        ((0, 1, 2, 2), "must end with"),
        ((0, 0, 1, 2, 1), "must end with"),
    ],
)
def test_maps_that_are_none_are_refused(steps, message):
    with pytest.raises(UsageError, match=message):
        StepMap(steps=steps)


def test_bad_sizes_are_refused_in_one_line():
    with pytest.raises(UsageError, match="15 frames do not fill whole segments of 12"):
        PlanOrderConfig(map=paired(12)).build(1, 1, 15)
    short = StepMap(steps=(0, 0, 1, 2, 1, 3, 1, 1))
    with pytest.raises(UsageError, match="more than there are anchors"):
        PlanOrderConfig(map=short, onward=FromMiddleConfig())
