import resource
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch

from vidar.core.block_mask import BLOCK, block_mask, block_table
from vidar.core.layout import compile_layout
from vidar.core.relation import Relation
from vidar.core.step import Row, single, twin
from vidar.orders.frame import frame_order
from vidar.orders.frame_scale import frame_scale_order
from vidar.orders.plan import plan_order, thin
from vidar.orders.prefix import prefix_order
from vidar.orders.token import token_order
from vidar.types import MEMORY, QUERY


def everything():
    """All frames see all: the last block of keys is fully visible as far as it goes."""
    order, grid = frame_order(5, 6, 10)
    return replace(order, relations={"main": Relation(lambda q, k: (q >= 0) & (k >= 0))}), grid


VIEWS = {
    "everything visible, last block short": (everything(), single(range(10)), "main"),
    "token raster": (token_order(3, 10, 10), single(range(300)), "main"),
    "frames, twin": (frame_order(5, 9, 12, 4, 1), twin(range(12)), "main"),
    "frames, the copies of each side by side": (
        frame_order(5, 9, 12, 4, 1),
        tuple(row for u in range(12) for row in (Row(u, MEMORY, None), Row(u, QUERY, 0))),
        "main",
    ),
    "frames, exact blocks": (frame_order(8, 16, 6, 2), twin(range(6)), "main"),
    "frame x scale": (frame_scale_order([(1, 1), (3, 3), (6, 7)], 6, 2), single(range(24)), "main"),
    "plan": (plan_order(3, thin(8), 3, 5), twin(range(12)), "main"),
    "time fold": (prefix_order(4, 5, 12, 3, 2, 6), twin(range(12)), "time"),
    "space fold": (prefix_order(4, 5, 12, 3, 2, 6), twin(range(12)), "space"),
    "chunk in flight": (
        prefix_order(4, 5, 12, 3, 2, 6),
        (*(Row(u, MEMORY, None) for u in range(6)), *(Row(u, QUERY, 0) for u in (6, 7, 8))),
        "prefix",
    ),
}


def slow(view, b=0):
    """Blocks of the dense mask."""
    dense = view.dense[min(b, view.dense.shape[0] - 1)]
    q, k = (-(-n // BLOCK) for n in dense.shape)
    some, every = torch.zeros(q, k, dtype=torch.bool), torch.zeros(q, k, dtype=torch.bool)
    for i in range(q):
        for j in range(k):
            block = dense[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
            some[i, j], every[i, j] = block.any(), block.all() and block.numel() == BLOCK * BLOCK
    return some, every


@pytest.mark.parametrize("name", VIEWS)
def test_closed_form_equals_dense(name):
    (order, grid), rows, relation = VIEWS[name]
    view = compile_layout(rows, order, [grid]).views[relation]
    for made, expected in zip(block_table(view), slow(view)):
        assert torch.equal(made, expected)
    size = view.dense.shape[-1]
    i, j = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    zero = torch.zeros((), dtype=torch.long)
    assert torch.equal(block_mask(view).mask_mod(zero, zero, i, j), view.dense[0])


def test_block_mask_means_the_dense_mask():
    """Full blocks and partial blocks with their rule, put together again."""
    (order, grid), rows, relation = VIEWS["frames, twin"]
    view = compile_layout(rows, order, [grid]).views[relation]
    mask = block_mask(view)
    some, every = slow(view)
    assert torch.equal(mask.to_dense()[0, 0].bool(), some)
    full = torch.zeros_like(every)
    for q in range(every.shape[0]):
        full[q, mask.full_kv_indices[0, 0, q, : mask.full_kv_num_blocks[0, 0, q]].long()] = True
    assert torch.equal(full, every)


@pytest.mark.parametrize("shape", [(3, 12, 12), (3, 2, 12, 12)], ids=["for all", "by role"])
def test_keep_of_every_batch_row(shape):
    (order, grid), rows, relation = VIEWS["frames, twin"]
    generator = torch.Generator().manual_seed(0)
    keep = (torch.rand(shape, generator=generator) < 0.7) | torch.eye(12, dtype=torch.bool)
    view = compile_layout(rows, order, [grid]).with_keep(keep).views[relation]
    assert view.dense.shape[0] == 3
    mask = block_mask(view)
    i, j = torch.meshgrid(torch.arange(view.q.site.shape[1]), torch.arange(view.q.site.shape[1]), indexing="ij")
    for b in range(3):
        for made, expected in zip(block_table(view, b), slow(view, b)):
            assert torch.equal(made, expected)
        assert torch.equal(mask.mask_mod(torch.tensor(b), torch.tensor(0), i, j), view.dense[b])
    dropped = compile_layout(rows, order, [grid]).views[relation].dense & ~view.dense
    assert dropped.any(), "keep dropped nothing: the test shows nothing"


def test_flex_attention_with_the_block_mask_equals_dense_attention():
    from torch.nn.attention.flex_attention import flex_attention

    (order, grid), rows, relation = VIEWS["frames, twin"]
    view = compile_layout(rows, order, [grid]).views[relation]
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 2, view.q.site.shape[1], 16, generator=generator) for _ in range(3))
    out = flex_attention(q, k, v, block_mask=block_mask(view))
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=view.dense[:, None])
    torch.testing.assert_close(out, dense, rtol=1e-5, atol=1e-5)


def test_fifty_thousand_slots_stay_below_64_mib():
    """In a process of its own: growth of the resident peak while the BlockMask is made."""
    program = """
        import resource, torch
        from vidar.core.block_mask import block_mask
        from vidar.core.layout import compile_layout
        from vidar.core.step import twin
        from vidar.orders.frame import frame_order
        import torch.nn.attention.flex_attention
        order, grid = frame_order(20, 20, 63, 16, 1)
        view = compile_layout(twin(range(63)), order, [grid]).views["main"]
        small, g = frame_order(4, 4, 20, 4)
        block_mask(compile_layout(twin(range(20)), small, [g]).views["main"])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mask = block_mask(view)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(view.q.site.shape[1], (after - before) / 1024)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    slots, mib = done.stdout.split()
    assert int(slots) == 50_400 and float(mib) < 64
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
