"""Chunks over a clean prefix: who reads whom, borders, positions."""

import pytest
import torch

from vidar.core.layout import compile_layout
from vidar.core.step import Row, twin
from vidar.objectives.prefix_hint import PrefixHintConfig
from vidar.orders.prefix import PrefixOrderConfig, cyclic, prefix_order
from vidar.types import MEMORY, QUERY, UsageError

CONFIG = PrefixOrderConfig(chunk=4, window=9)


def by_hand(frame, role, relation):
    """Frames that a frame of CONFIG reads in a relation, by the words of the paper."""
    if relation == "space" or (relation == "prefix" and role == MEMORY):
        return {frame}
    chunk = [0] if frame == 0 else list(range((frame - 1) // 4 * 4 + 1, (frame - 1) // 4 * 4 + 5))
    before = chunk[0] if frame else 0
    if relation == "prefix":
        return {k for k in range(before - 3, before) if k >= 0} | {frame}
    return {k for k in range(before - 9, before) if k >= 0} | {k for k in chunk if k <= frame}


@pytest.mark.parametrize("relation", ["space", "prefix", "time"])
def test_who_reads_whom(relation):
    order, _ = CONFIG.build(1, 2, 25)
    rule = order.relations[relation]
    cells = torch.arange(25)
    for role, sees in ((QUERY, rule.sees), (MEMORY, rule.memory or rule.sees)):
        table = sees(cells[:, None], cells[None])
        for frame in range(25):
            found = set(torch.nonzero(table[frame])[:, 0].tolist())
            assert found == by_hand(frame, role, relation), (relation, frame, role)


def test_training_has_no_row_twice_and_frames_in_flight_read_the_prefix_and_themselves():
    """P = 5, l = 4, one site a frame: 9 slots, and not 18."""
    order, grid = CONFIG.build(1, 1, 13)
    rows = [Row(u, MEMORY, None) for u in range(5)] + [Row(u, QUERY, 0) for u in range(5, 9)]
    layout = compile_layout(rows, order, [grid])
    assert layout.num_slots == 9 < compile_layout(twin(range(9)), order, [grid]).num_slots
    masks = {name: view.dense[0] for name, view in layout.views.items()}
    assert masks["time"].equal(torch.ones(9, 9).tril().bool())
    expected = torch.eye(9, dtype=torch.bool)
    expected[5:, 2:5] = True
    assert masks["prefix"].equal(expected) and masks["space"].equal(torch.eye(9, dtype=torch.bool))


def test_positions_go_round_and_no_reader_meets_one_twice():
    order, grid = CONFIG.build(2, 2)
    coord = grid.coord(torch.arange(4 * 40))
    assert coord[:, 0].tolist() == [n // 4 % 13 for n in range(160)] and CONFIG.positions == 13
    assert torch.equal(coord[:, 1:], prefix_order(2, 2, None, 4, 3, 9)[1].coord(torch.arange(160))[:, 1:])
    for frame in range(9, 60):
        seen = by_hand(frame, QUERY, "time")
        assert len({k % 13 for k in seen}) == len(seen)
    last = max(range(9, 60), key=lambda f: len(by_hand(f, QUERY, "time")))
    assert len({k % 12 for k in by_hand(last, QUERY, "time")}) < 13  # one position fewer: two frames share one
    assert cyclic(grid, 5).coord(torch.tensor([4 * 7]))[0, 0] == 2


def test_borders_of_a_context():
    """P in {1, 1 + l, ..}: the last frames up to a border count."""
    assert [CONFIG.whole(n) for n in range(12)] == [0, 1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9]
    assert [PrefixOrderConfig(chunk=2, window=3, first=3).whole(n) for n in range(7)] == [0, 0, 0, 3, 3, 5, 5]


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"window": 8}, "use 5 or 9"), ({"window": 2, "first": 3}, "use 3 or 7"), ({"prefix": 10}, "prefix 10 reaches")],
)
def test_a_window_must_hold_whole_chunks(changes, named):
    with pytest.raises(UsageError, match=named):
        CONFIG.replace(**changes)


def test_the_hint_is_the_last_frame_before_the_chunk():
    hint, like = PrefixHintConfig(chunk=4).build(2), torch.zeros(3, 2)
    for frame in range(1, 14):
        last = (frame - 1) // 4 * 4
        assert hint(frame, lambda v: torch.full((3, 2), float(v)), like).eq(last).all()
        assert [k for k in range(14) if hint.needs(torch.tensor(frame), torch.tensor(k))] == [last]
    assert not hint(0, lambda v: pytest.fail("asked"), like).any()
