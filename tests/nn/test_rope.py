import math

import pytest
import torch

from vidar.nn.rope import (
    AxialRopeConfig,
    LengthRopeConfig,
    MMRopeConfig,
    NoRopeConfig,
    even_split,
    mm_rope,
    rope_nd,
    rotate,
)

WIDE = torch.float64


def rope_1d(position: torch.Tensor, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """RoFormer, eq. 15."""
    angles = position.to(WIDE)[..., None] * 10000.0 ** (-torch.arange(0, width, 2, dtype=WIDE) / width)
    return angles.cos().to(dtype).repeat(1, 2), angles.sin().to(dtype).repeat(1, 2)


def angles(tables: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return torch.atan2(tables[1], tables[0])


def test_mm_rope_worked_example() -> None:
    """discrete: E = 32, (t, h, w) = (7, 3, 19): angles 7, 1.2448, 0.3, 0.6008, 0.03 at 0, 3, 4, 6, 8."""
    cos, sin = mm_rope(torch.tensor([[7.0, 3.0, 19.0]]), 32, dtype=WIDE)
    for i, angle in {0: 7.0, 3: 7 * 10000 ** (-6 / 32), 4: 0.3, 6: 19 * 10000 ** (-12 / 32), 8: 0.03}.items():
        for channel in (i, i + 16):
            assert abs(cos[0, channel] - torch.tensor(angle, dtype=WIDE).cos()) < 1e-12
            assert abs(sin[0, channel] - torch.tensor(angle, dtype=WIDE).sin()) < 1e-12
    assert abs(angles((cos, sin))[0, 3] - 1.2448) < 1e-4 and abs(angles((cos, sin))[0, 6] - 0.6008) < 1e-4


@pytest.mark.parametrize("width", [32, 64, 128])
def test_mm_rope_owners(width: int) -> None:
    """Moving one axis moves its frequencies and no other; t:h:w own 4:6:6 of every 16."""
    still = mm_rope(torch.zeros(1, 3), width)[0]
    moved = [mm_rope(torch.eye(3)[a : a + 1], width, dtype=WIDE)[1][0] != 0 for a in range(3)]
    assert (still == 1).all()
    assert [int(m.sum()) * 16 // width for m in moved] == [4, 6, 6]
    assert (torch.stack(moved).sum(0) == 1).all()
    assert moved[1][:16].nonzero()[:, 0].tolist() == [4, 5, 8, 9, 12, 13]


def test_mm_rope_of_equal_coordinates_is_1d_in_bits() -> None:
    position = torch.arange(50, dtype=WIDE) * 3
    coords = position[:, None].expand(50, 3)
    for dtype in (torch.float32, WIDE):
        for ours, plain in zip(mm_rope(coords, 64, dtype=dtype), rope_1d(position, 64, dtype=dtype), strict=True):
            assert torch.equal(ours, plain)
        for ours, plain in zip(rope_nd(position[:, None], 64, (64,), dtype=dtype), rope_1d(position, 64, dtype=dtype)):
            assert torch.equal(ours, plain)


@pytest.mark.parametrize("width", [16, 48, 65])
def test_mm_rope_names_a_bad_width(width: int) -> None:
    with pytest.raises(ValueError, match=f"head_width {width}"):
        mm_rope(torch.zeros(1, 3), width)


def logits(config, coords: torch.Tensor) -> torch.Tensor:
    axes = ("t", "y", "x", "s")[: coords.shape[-1]]
    cos, sin = config.build(axes, 64)(coords, WIDE)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, coords.shape[0], 1, 64, generator=generator, dtype=WIDE) for _ in range(2))
    return torch.einsum("bske,btke->bst", rotate(q, cos[None], sin[None]), rotate(k, cos[None], sin[None]))


@pytest.mark.parametrize(
    "config, axes",
    [
        (MMRopeConfig(), 3),
        (AxialRopeConfig(), 3),
        (AxialRopeConfig(axes=("t",)), 1),
        (LengthRopeConfig(lengths=(16, 32, 256)), 3),
        (AxialRopeConfig(axes=("t", "y", "x", "s"), split=(16, 16, 16, 16)), 4),
    ],
)
def test_logits_depend_on_differences_only(config, axes: int) -> None:
    coords = torch.randint(0, 9, (6, axes), generator=torch.Generator().manual_seed(1)).to(WIDE)
    base = logits(config, coords)
    assert (
        logits(config, coords + torch.tensor([100.0, 7.0, 31.0, 3.0], dtype=WIDE)[:axes]) - base
    ).abs().max() < 1e-11
    for axis in range(axes):  # twin: moving one site along any one axis shows
        moved = coords.clone()
        moved[0, axis] += 1
        assert (logits(config, moved)[0, 1:] - base[0, 1:]).abs().max() > 1e-3


def test_bases_by_length() -> None:
    """8 L / pi is 40, 81 and 651: bases 100, 100 and 700; each axis runs from 1 to 1 / base in its own channels."""
    assert [int(8 * length / math.pi) for length in (16, 32, 256)] == [40, 81, 651]
    rope = LengthRopeConfig(lengths=(16, 32, 256)).build(("t", "y", "x"), 64)
    cos, sin = rope(torch.eye(3, dtype=WIDE), WIDE) or (WIDE, WIDE)
    angles = torch.atan2(sin, cos)[:, :32]  # of one step along each axis
    for axis, (start, end, base) in enumerate([(0, 8, 100.0), (8, 20, 100.0), (20, 32, 700.0)]):
        want = torch.zeros(32, dtype=WIDE)
        count = end - start
        want[start:end] = torch.tensor([base ** (-i / (count - 1)) for i in range(count)], dtype=WIDE)
        torch.testing.assert_close(angles[axis], want, rtol=1e-12, atol=1e-15)


def test_rotation_keeps_lengths_and_dtype() -> None:
    cos, sin = rope_nd(torch.tensor([[[0.0], [5.0]]]), 8, (8,))
    x = torch.randn(1, 2, 3, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, cos, sin)
    assert torch.equal(turned[:, 0], x[:, 0])
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert rotate(x.bfloat16(), cos, sin).dtype == torch.bfloat16


def test_far_positions_stay_exact() -> None:
    """Angles are float64: at position 10^7 a float32 angle would be wrong by radians."""
    position = torch.tensor([10_000_019.0], dtype=WIDE)
    exact = torch.remainder(position, 2 * torch.pi)
    assert abs(rope_nd(position[:, None], 8, (8,))[0][0, 0] - exact.cos().float()) < 1e-6


def test_families_check_axes_and_splits() -> None:
    assert even_split(64, 3) == (24, 20, 20) and even_split(12, 1) == (12,)
    assert NoRopeConfig().build(("t",), 7)(torch.zeros(2, 1), WIDE) is None
    with pytest.raises(ValueError, match="'y'"):
        AxialRopeConfig().build(("t",), 64)
    with pytest.raises(ValueError, match="add up to head_width 64"):
        AxialRopeConfig(split=(16, 24, 25)).build(("t", "y", "x"), 64)
    for wrong in (LengthRopeConfig(lengths=(4, 4)), LengthRopeConfig(lengths=(4, 4, 4), parts=(2, 3, 4))):
        with pytest.raises(ValueError, match="must be a multiple of"):
            wrong.build(("t", "y", "x"), 64)
    with pytest.raises(ValueError, match="odd"):
        AxialRopeConfig(split=(21, 21, 22)).build(("t", "y", "x"), 64)
