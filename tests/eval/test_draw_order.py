"""Words and pictures of an order agree with the mask."""

import numpy as np
import pytest
from PIL import Image

from vidar.core.layout import compile_layout
from vidar.core.step import twin
from vidar.eval.draw_order import EXAMPLES, draw, explain, find_order, planes
from vidar.types import MEMORY, QUERY, UsageError, VidarError


@pytest.mark.parametrize("name", EXAMPLES)
def test_words_agree_with_the_mask(name):
    order, grid = find_order(name)
    layout = compile_layout(twin(range(order.num_units)), order, [grid])
    unit, role = layout.slots.unit[0], layout.slots.role[0]
    for u in range(order.num_units):
        for v in range(order.num_units):
            lines = explain(order, grid, u, v)
            for relation, view in layout.views.items():
                for kind, word in ((QUERY, "in flight"), (MEMORY, "committed")):
                    dense = view.dense[0][(unit == u) & (role == kind)][:, unit == v]
                    line = next(text for text in lines if text.startswith(f"{relation}: unit {u} {word}"))
                    assert ("does not see" not in line) == bool(dense.any()), line
            assert ("does not need" not in lines[-1]) == bool(order.needs_table[u, v])


def test_words_name_rule_fold_and_cells():
    order, grid = find_order("prefix")
    lines = explain(order, grid, 3, 2)  # one chunk
    time = next(line for line in lines if line.startswith("time: unit 3 in flight"))
    assert "sees unit 2 at equal y, x: its committed copy, or while both are in flight" in time
    assert any("prefix: unit 3 in flight does not see unit 2: the rule `sees` forbids it" in line for line in lines)
    lines = explain(*find_order("plan"), 1, 2)
    assert any("the rule `sees` forbids it" in line for line in lines)
    lines = explain(*find_order("plan"), 3, 1)
    assert any("through cells 4 -> 1, 4 -> 3, 4 -> 5" in line for line in lines)


@pytest.mark.parametrize("name", EXAMPLES)
def test_planes_hold_every_site_once(name):
    order, grid = find_order(name)
    counts = np.bincount(np.concatenate([p[p >= 0].ravel() for p in planes(grid, order.num_units).values()]))
    sizes = [len(grid.sites(unit)) for unit in range(order.num_units)]
    if name == "frame_scale":  # the memory unit lies on the place of the finest scale, at a scale of its own
        assert len(planes(grid, order.num_units)) == 3 * 3
    assert counts.tolist() == sizes


def test_frames_are_filled_up_to_whole_units():
    assert [find_order(name, 3)[0].num_units for name in ("world_shapes", "acdit_doom")] == [3, 2]
    assert find_order("mmpl_shapes")[0].tasks()


@pytest.mark.parametrize("name", ["prefix", "clip_scale"])
def test_draws_without_a_display(tmp_path, name):
    draw(*find_order(name), tmp_path / "x.png", title=name)
    picture = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
    assert picture.std() > 10 and len(list(tmp_path.iterdir())) == 1


def test_refuses(tmp_path):
    order, grid = find_order("frame")
    with pytest.raises(VidarError, match="does not exist"):
        draw(order, grid, tmp_path / "none" / "x.png")
    from vidar.orders.frame import frame_order

    with pytest.raises(UsageError, match="only finite orders"):
        draw(*frame_order(2, 2, None, past=3), tmp_path / "x.png")
    with pytest.raises(UsageError, match="no unit 7"):
        explain(order, grid, 7, 0)
    assert not list(tmp_path.iterdir())
