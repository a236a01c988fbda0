"""Hints of blocks and of cells: which codes they show, and what a silent model does with them."""

import torch

from vidar.objectives.context import CleanConfig
from vidar.objectives.flow import FlowConfig
from vidar.objectives.hint import LastFrameHintConfig, PreviousHintConfig
from vidar.objectives.prediction import DataConfig
from vidar.orders.block import block_order
from vidar.orders.cell import cell_order
from vidar.rng import Rng
from vidar.types import Past


def test_last_frame_of_the_block_before_for_every_frame():
    hint, codes = LastFrameHintConfig(frames=3).build(2), torch.arange(24.0).reshape(12, 2)  # 3 frames of 4 sites
    seen = hint(5, {4: codes}.__getitem__, codes)
    assert all(torch.equal(seen[4 * f : 4 * f + 4], codes[8:]) for f in range(3)) and len(seen) == 12
    assert not hint(0, {}.__getitem__, codes).any()
    units = torch.arange(4)
    assert torch.equal(hint.needs(units[:, None], units[None]), torch.eye(4).roll(1, 0).tril(-1).bool())


def test_earlier_unit():
    hint, like = PreviousHintConfig(back=3).build(2), torch.ones(4, 2)
    assert torch.equal(hint(5, {2: 7 * like}.__getitem__, like), 7 * like)
    assert not hint(2, {}.__getitem__, like).any()
    units = torch.arange(9)
    found = torch.nonzero(hint.needs(units[:, None], units[None])).tolist()
    assert found == [[unit, unit - 3] for unit in range(3, 9)]


def test_a_silent_model_repeats_the_last_frame_that_is_known():
    """Blocks: the last one of the block before, for all of the block; cells: the cell at the same place."""
    systems = (
        (block_order(1, 2, 3, 2)[1], LastFrameHintConfig(frames=3), 1, 1, lambda code: code[-2:].repeat(3, 1)),
        (cell_order(2, 2, 1, 2, 1)[1], PreviousHintConfig(back=2), 2, 3, lambda code: code),
    )
    for grid, hint, back, unit, last in systems:
        config = FlowConfig(steps=3, hint=hint, prediction=DataConfig(), context=CleanConfig())
        flow = config.build(3, grid, torch.float64)
        code = torch.randn(grid.sites(0).shape[0], 3, dtype=torch.float64)
        x = flow.start(unit, Past({unit - back: code}, {}), Rng(1))
        for i in range(3):
            x = flow.update(unit, x, torch.zeros_like(code), i, Rng(1))
        torch.testing.assert_close(flow.finish(x), last(code), rtol=0, atol=1e-12)
