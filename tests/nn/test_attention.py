"""All forms of attention mean the same: outputs and gradients in float64, against the explicit one."""

from dataclasses import replace

import pytest
import torch

from vidar.cache.ring import RingState
from vidar.core.grid import frame_grid
from vidar.core.layout import View, compile_layout
from vidar.core.order import Order
from vidar.core.placement import RingShape
from vidar.core.relation import Relation, own, table_rule, window
from vidar.core.step import Row, Step, single, twin
from vidar.nn import attention
from vidar.nn.attention import AttentionConfig, ExplicitConfig, SDPAConfig, planned, sdpa
from vidar.nn.auto import AutoAttentionConfig
from vidar.nn.folded import FoldedConfig, fold_tables
from vidar.nn.product import ProductConfig
from vidar.nn.runs import groups
from vidar.nn.slices import SlicesConfig, _softmax_backward
from vidar.types import MEMORY, QUERY

FRAMES, H, W, K, E = 5, 2, 3, 2, 4
FORMS = [SDPAConfig(), SlicesConfig(), FoldedConfig(), ProductConfig(), AutoAttentionConfig()]


def view_of(relation: Relation, rows=None, held=None, clocks=(0,), padding=None) -> View:
    order = Order({"main": relation}, num_units=FRAMES)
    grid = frame_grid(H, W, FRAMES)
    grid = grid if padding is None else grid.padded(padding)
    return compile_layout(rows or twin(range(FRAMES)), order, [grid] * len(clocks), clocks, held).views["main"]


def half_full_ring(relation: Relation) -> View:
    order, grid = Order({"main": relation}, num_units=FRAMES), frame_grid(H, W, FRAMES)
    state = RingState.create(order, [grid], {"main": RingShape(1, K, E)}, torch.float64)
    for unit in range(2):
        step = Step((Row(unit, MEMORY, None),))
        layout = compile_layout(step.rows, order, [grid], [0], state.held())
        state.begin(layout, torch.zeros(1, H * W, 1))
        state.end(step)
    rows = (Row(2, MEMORY, None), Row(3, QUERY, 0))
    return compile_layout(rows, order, [grid], [0], state.held()).views["main"]


def random_table() -> torch.Tensor:
    table = torch.rand(FRAMES, FRAMES, generator=torch.Generator().manual_seed(3)) < 0.5
    table[2] = False  # nobody: a blind reader
    return table


PAD = torch.arange(FRAMES * H * W) % 7 == 1
VIEWS = {
    "all": lambda: view_of(Relation(lambda q, k: (q >= 0) & (k >= 0)), single(range(FRAMES))),
    "single": lambda: view_of(Relation(window(3)), single(range(FRAMES))),
    "twin": lambda: view_of(Relation(window(3))),
    "beside": lambda: view_of(Relation(window(3)), (Row(1, MEMORY, None), Row(1, QUERY, 0), Row(2, QUERY, 0))),
    "random": lambda: view_of(Relation(table_rule(random_table()), memory=table_rule(random_table().T))),
    "padded": lambda: view_of(Relation(window(2)), padding=PAD),
    "time": lambda: view_of(Relation(window(3), fold=("y", "x"))),
    "row": lambda: view_of(Relation(window(2), fold=("y",)), padding=PAD),
    "space": lambda: view_of(Relation(own, fold=("t",), joint=True)),
    "ring": lambda: half_full_ring(Relation(window(3), capacity=3 * H * W)),
    "folded ring": lambda: half_full_ring(Relation(window(3), fold=("y", "x"), capacity=3 * H * W)),
    "clocks": lambda: view_of(Relation(window(3)), (Row(0, MEMORY, None), Row(1, QUERY, 0)), clocks=(0, -1)),
    "keep": lambda: replace(
        view_of(Relation(window(3))),
        keep=(torch.rand(2, 1, FRAMES, FRAMES, generator=torch.Generator().manual_seed(5)) < 0.6).expand(-1, 2, -1, -1),
    ),
}


def attend(q, k, v, view: View, config: AttentionConfig) -> torch.Tensor:
    return planned(config, view, q.device, torch.is_grad_enabled() and q.requires_grad)(q, k, v)


def run(view: View, config: AttentionConfig, grad: bool = True) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [view.q.cell.shape[1], view.k.cell.shape[1], view.k.cell.shape[1], view.q.cell.shape[1]]
    q, k, v, weight = (torch.randn(2, s, K, E, generator=generator, dtype=torch.float64) for s in sizes)
    if not grad:
        return [attend(q, k, v, view, config)]
    leaves = [part.requires_grad_() for part in (q, k, v)]
    out = attend(q, k, v, view, config)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_forms_agree(name: str, form: AttentionConfig) -> None:
    view = VIEWS[name]()
    expected = run(view, ExplicitConfig())
    for got, want in zip(run(view, form), expected, strict=True):
        assert got.isfinite().all()
        assert (got - want).abs().max() <= 1e-12
    with torch.no_grad():
        assert (run(view, form, grad=False)[0] - expected[0]).abs().max() <= 1e-12


@pytest.mark.parametrize("name", VIEWS)
def test_explicit_equals_a_loop(name: str) -> None:
    """Reader by reader over the keys its row of the dense mask lists; blind readers give zero."""
    view = VIEWS[name]()
    generator = torch.Generator().manual_seed(0)
    sizes = [view.q.cell.shape[1], view.k.cell.shape[1], view.k.cell.shape[1]]
    q, k, v = (torch.randn(2, s, K, E, generator=generator, dtype=torch.float64) for s in sizes)
    out = attend(q, k, v, view, ExplicitConfig())
    for b in range(2):
        for s in range(0, sizes[0], 5):
            seen = view.dense[b % view.dense.shape[0], s]
            logits = torch.einsum("ke,tke->kt", q[b, s], k[b, seen]) / E**0.5
            want = torch.einsum("kt,tke->ke", logits.softmax(-1), v[b, seen]) if seen.any() else torch.zeros(K, E)
            assert (out[b, s] - want).abs().max() <= 1e-12


def test_views_are_what_they_are_meant_for() -> None:
    """Blind rows, per-row masks and short fold groups really occur; slices and folds are really used."""
    assert VIEWS["all"]().mask is None
    assert VIEWS["random"]().blind is not None and VIEWS["padded"]().blind is not None
    assert VIEWS["clocks"]().dense.shape[0] == 2 and groups(VIEWS["clocks"]()) is None
    assert groups(VIEWS["keep"]()) is None and groups(VIEWS["time"]()) is None
    q, k, _ = fold_tables(VIEWS["folded ring"]())
    assert q.shape == (6, 2) and k.shape == (6, 4)  # two frames in the ring, two fresh; empty places left out
    assert (fold_tables(VIEWS["row"]())[1] < 0).any()


@pytest.mark.parametrize("name", [name for name in VIEWS if groups(VIEWS[name]()) is not None])
def test_groups_rebuild_the_dense_mask(name: str) -> None:
    view = VIEWS[name]()
    mask = torch.zeros_like(view.dense[0])
    for group in groups(view):
        for first, last in group.keys:
            mask[slice(*group.slots), first:last] = True
    assert torch.equal(mask, view.dense[0])


def test_slice_gradients_by_finite_differences() -> None:
    view = VIEWS["twin"]()
    parts = [torch.randn(1, 60, 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *qkv: attend(*qkv, view, SlicesConfig()), parts, fast_mode=True)


def test_huge_dead_keys_do_not_leak() -> None:
    view = VIEWS["ring"]()
    dead = ~view.dense.any(dim=1)[0]
    assert dead.any()
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, n, K, E, generator=generator) for n in (12, dead.numel(), dead.numel()))
    for form in (ExplicitConfig(), *FORMS):
        filled = [torch.where(dead[None, :, None, None], 1e30, part) for part in (k, v)]
        assert torch.equal(attend(q, *filled, view, form), attend(q, k, v, view, form))


def test_memo_survives_inference_mode() -> None:
    for form in (SDPAConfig(), AutoAttentionConfig()):
        view = VIEWS["random"]()
        with torch.inference_mode():
            assert view.blind.any()
            run(view, form, grad=False)
        run(view, form)


@torch.no_grad()
def test_flex_agrees() -> None:
    from vidar.nn.flex import FlexConfig

    for name in ("twin", "random", "padded", "ring"):
        view = VIEWS[name]()
        q, k, v = (torch.randn(2, n, K, 16) for n in (view.q.cell.shape[1], *[view.k.cell.shape[1]] * 2))
        assert (attend(q, k, v, view, FlexConfig()) - attend(q, k, v, view, ExplicitConfig())).abs().max() <= 1e-5


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("slots", "width", "wide"), [(129, 32, True), (128, 64, True), (129, 64, False)])
def test_bfloat16_trains_in_the_faster_form(monkeypatch, autocast, slots, width, wide):
    """Out and gradients are those of float64 within the 2^-8 of a bfloat16, and its dtype; without gradients as is."""
    generator, seen = torch.Generator().manual_seed(0), []
    given = [torch.randn(1, 2, slots, width, generator=generator).bfloat16() for _ in range(3)]
    plain = torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v, attn_mask=None):
        seen.append(torch.bfloat16 if torch.is_autocast_enabled("cpu") else q.dtype)
        return plain(q, k, v, attn_mask=attn_mask)

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", spy)
    mask = torch.ones(slots, slots, dtype=torch.bool).tril()
    leaves = [x.float().requires_grad_() if autocast else x.clone().requires_grad_() for x in given]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = sdpa(*leaves, mask)
        with torch.no_grad():
            sdpa(*leaves, mask)
    assert out.dtype == torch.bfloat16 and seen == [torch.float32 if wide else torch.bfloat16, torch.bfloat16]
    exact = [x.double().requires_grad_() for x in given]
    target = plain(*exact, attn_mask=mask)
    out.float().square().sum().backward()
    target.square().sum().backward()
    for mine, true in ((out, target), *((a.grad, b.grad) for a, b in zip(leaves, exact))):
        assert float((mine.double() - true).detach().abs().max()) < 4 * 2**-8 * float(true.detach().abs().max())


def off(got: list[torch.Tensor], exact: list[torch.Tensor]) -> list[float]:
    """Root mean square errors."""
    return [float((a.double() - b).square().mean().sqrt()) for a, b in zip(got, exact, strict=True)]


@pytest.mark.parametrize("width", [16, 32, 64, 100, 128])
@pytest.mark.parametrize("name", VIEWS)
def test_no_form_is_less_exact_than_the_plain_one_allows(name: str, width: int) -> None:
    """In bfloat16, out and every gradient: at most twice the error of the plain form, against float64.

    Measured on these views: products 0.9 to 1.3 times the error of the plain form, slices at most 1.3 (their gradients
    of keys and values are added up in float32), torch's own, whose logits stay in float32, 0.3 to 0.75.
    """
    view = VIEWS[name]()
    generator = torch.Generator().manual_seed(0)
    sizes = [view.q.cell.shape[1], view.k.cell.shape[1], view.k.cell.shape[1], view.q.cell.shape[1]]
    q, k, v, weight = (torch.randn(2, n, K, width, generator=generator).bfloat16() for n in sizes)

    def passed(form: AttentionConfig, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [part.to(dtype).requires_grad_() for part in (q, k, v)]
        out = attend(*leaves, view, form)
        assert out.dtype == dtype
        return [out.detach(), *torch.autograd.grad(out, leaves, weight.to(dtype))]

    exact = passed(ExplicitConfig(), torch.float64)
    plain = off(passed(ExplicitConfig(), torch.bfloat16), exact)
    for form in FORMS:
        got = passed(form, torch.bfloat16)
        assert all(part.isfinite().all() for part in got)
        for mine, theirs in zip(off(got, exact), plain, strict=True):
            assert mine <= 2 * theirs, type(form).__name__
        with torch.no_grad():
            assert off([attend(q, k, v, view, form)], exact[:1])[0] <= 2 * plain[0], type(form).__name__


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("keys", [1, 7, 160, 1297])
def test_a_softmax_of_narrow_numbers_is_computed_in_float32(dtype: torch.dtype, keys: int) -> None:
    """Bit for bit the softmax of widened logits, rounded once; its gradient is off by less than two roundings."""
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(3, 20, keys, generator=generator)).to(dtype)
    logits[:, :, keys // 2 + 1 :] = float("-inf")
    got = torch.softmax(logits, dim=-1)
    assert torch.equal(got, torch.softmax(logits.float(), dim=-1).to(dtype))
    d_p = torch.randn(3, 20, keys, generator=generator).to(dtype)
    p, d = got.double(), d_p.double()
    exact = p * (d - (p * d).sum(-1, keepdim=True))
    close = torch.finfo(dtype).eps * exact.abs() + 2**-20 * p * d.abs().amax(-1, keepdim=True)
    assert ((_softmax_backward(d_p, got).double() - exact).abs() <= close + torch.finfo(dtype).smallest_normal).all()
